"""What is on disk: an array file for each finished job, then its line in a manifest.

The line is written last, after the file is complete, so whatever a manifest names is whole.

A run of one process writes DIR/manifest.jsonl. Each process of a distributed run writes a manifest of its own,
DIR/manifest-<index>.jsonl, since no file system appends well for two machines at once. Whoever reads merges
DIR/manifest*.jsonl, so a folder may be filled by either kind of run in turn.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stjax import arrays
from stjax.atlas.hosts import ALONE, Process
from stjax.atlas.plan import Job
from stjax.atlas.request import Request
from stjax.atlas.run import Result
from stjax.endings import ending
from stjax.errors import UsageError
from stjax.files import claim, replacing
from stjax.record import Coordinates, OtherSchema, Record, Settings, Unfinished

MANIFEST = "manifest.jsonl"
NAMES = re.compile(r"manifest(-\d+)?\.jsonl")


def manifest_name(process: Process = ALONE) -> str:
    """The manifest that a process writes.

    >>> manifest_name(), manifest_name(Process(3, 16))
    ('manifest.jsonl', 'manifest-3.jsonl')
    """
    return MANIFEST if process.count == 1 else f"manifest-{process.index}.jsonl"


def array_name(layer: str, job: Job) -> str:
    """The array file of a job, relative to the output folder.

    For unit 7 of tower/deep at chi = 0.5: arrays/tower/deep/unit0007_chi0.5.npz; from its third start, number 2:
    arrays/tower/deep/unit0007_chi0.5_start2.npz.

    Raises:
      UsageError: the layer has a name that no folder can have, or that leads elsewhere.
    """
    if not (layer.isprintable() and all(part not in ("", ".", "..") for part in layer.split("/"))) or "\\" in layer:
        raise UsageError(f"a layer must have a name that folders can have: got {layer!r}; nearest: block1/conv")
    # As many digits as tell two values apart: no two jobs share a file.
    chi = "" if job.chi is None else f"_chi{np.format_float_positional(job.chi, trim='-')}"
    start = f"_start{job.start}" if job.start else ""
    return f"arrays/{layer}/unit{job.unit:04d}{chi}{start}.npz"


def write(
    directory: Path,
    request: Request,
    settings: Settings,
    result: Result,
    process: Process = ALONE,
    *,
    guarded: bool = False,
) -> Record:
    """Stores a job: its arrays under a temporary name, renamed when whole; then its line. Both are on the disk after.

    Args:
      directory: of results.
      request: that the job is part of.
      settings: of the request, from `resume.identify`.
      result: of the job.
      process: whose manifest is written.
      guarded: `folder.guard` has seen to it that nobody else's files have these names.
    Returns:
      The record as written.
    Raises:
      OSError: there is no room, say; then there is no line.
      UsageError: a link leads out of the folder, or somebody else's file is in the way.
    """
    if not guarded:
        read(directory)
    name = array_name(request.layer, result.job)
    path = claim(directory, directory / name, known=guarded)
    sha256 = arrays.save(path, {stream: x for stream, x in result.clip._asdict().items() if x is not None})
    record = _record(request, settings, result, sha256)
    with open(claim(directory, directory / manifest_name(process), known=True), "ab+") as file:
        # A line that an earlier run left cut short must not swallow this one.
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        newline = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(newline + record.to_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return record


def compact(directory: Path, process: Process = ALONE) -> None:
    """Leaves one line a job in a process's manifest, where lines were cut short or jobs done again."""
    path = claim(directory, directory / manifest_name(process), known=True)
    if not path.exists():
        return
    lines = [record.to_json() for record in _merged([path])]
    if len(lines) < path.read_bytes().count(b"\n"):
        with replacing(path, durable=True) as temporary:
            temporary.write_text("\n".join([*lines, ""]))


def read(directory: str | Path) -> list[Record]:
    """All manifests merged, one record a job: of its lines the last counts.

    A line cut short, by a power failure say, is passed over: its job counts as not done.

    Raises:
      UsageError: a manifest cannot be read, or holds what stjax has not written, or another version of it.
    """
    paths = [path for path in Path(directory).glob("manifest*.jsonl") if NAMES.fullmatch(path.name)]
    return _merged(sorted(paths))


def _record(request: Request, settings: Settings, result: Result, sha256: str) -> Record:
    summary, (unit, chi, start), layer = result.summary, result.job, request.probe.layer
    names, statistics = request.model.class_names, request.model.statistics
    gradient_max = {stream: float(g) for stream, g in summary.gradient_max._asdict().items() if g is not None}
    activation, ahat = float(summary.activation), float(request.ahat[unit])
    return Record(
        layer=layer.name,
        role=layer.role,
        unit=unit,
        name=names[unit] if layer.role == "classes" and unit < len(names) else None,
        chi=chi,
        start=start,
        inputs=request.probe.inputs,
        settings=settings,
        ahat=ahat,
        rho=request.probe.rho,
        whole=request.probe.whole,
        activation_start=float(summary.activation_start),
        activation_end=activation,
        value=float(summary.value),
        penalties={name: float(p) for name, p in summary.penalties.items()},
        gradient_max=gradient_max,
        ending=ending(gradient_max, activation, ahat, unit in statistics.floored.get(layer.name, ())),
        arrays=array_name(layer.name, result.job),
        sha256=sha256,
    )


def _merged(paths: Iterable[Path]) -> list[Record]:
    latest: dict[Coordinates, Record] = {}
    for path in paths:
        for number, text in enumerate(_lines(path), 1):
            try:
                record = Record.from_json(text)
            except Unfinished:
                continue
            except OtherSchema as error:
                raise UsageError(
                    f"a folder must be filled by one version of stjax: {path.parent} holds results of one that is "
                    f"{error.age} than this; they stay as they are; choose another folder with --out"
                ) from None
            except UsageError as error:
                raise _foreign(path, f"line {number}: {error}") from None
            latest[record.coordinates] = record
    return list(latest.values())


def _lines(path: Path) -> list[bytes]:
    try:
        # Asked before it is opened: opening a pipe waits for whoever writes to it.
        if path.is_symlink() or not path.is_file():
            raise _foreign(path, "it is no file")
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise _foreign(path, error.strerror or str(error)) from None


def _foreign(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"a manifest must hold what stjax wrote: {path}: {reason}; move it, or choose another folder with --out"
    )
