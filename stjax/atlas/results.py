"""What is on disk: an array file for each finished job, then its line in a manifest.

The line is written last, after the file is complete, so whatever a manifest names is whole.

A run of one process writes DIR/manifest.jsonl. Each process of a distributed run writes a manifest of its own,
DIR/manifest-<process>.jsonl, since no file system appends well for two machines at once. Whoever reads merges
DIR/manifest*.jsonl, so a folder may be filled by either kind of run in turn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stjax.atlas.hosts import ALONE, Place
from stjax.atlas.run import Found
from stjax.errors import UsageError
from stjax.files import replacing
from stjax.networks.geometry import View

MANIFEST = "manifest.jsonl"


def prepare(directory: Path) -> None:
    """Makes the output folder and shows that it can be written to.

    Raises:
      UsageError: it cannot.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".stjax-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"the output folder must be writable: {directory}: {error.strerror}; choose another with --out"
        ) from None


def manifest_name(place: Place = ALONE) -> str:
    """The manifest that a process writes.

    >>> manifest_name(), manifest_name(Place(3, 16))
    ('manifest.jsonl', 'manifest-3.jsonl')
    """
    return MANIFEST if place.count == 1 else f"manifest-{place.index}.jsonl"


def array_name(layer: str, found: Found) -> str:
    """The array file of a job, relative to the output folder.

    For unit 7 of motion/conv4_3 at chi = 0.5: arrays/motion/conv4_3/unit0007_chi0.5.npz; from its third start,
    number 2: arrays/motion/conv4_3/unit0007_chi0.5_start2.npz.
    """
    # As many digits as tell two values apart: no two jobs share a file.
    chi = "" if found.job.chi is None else f"_chi{np.format_float_positional(found.job.chi, trim='-')}"
    start = f"_start{found.job.start}" if found.job.start else ""
    return f"arrays/{layer}/unit{found.job.unit:04d}{chi}{start}.npz"


def record(
    view: View, found: Found, ahat: float, settings: Mapping[str, Any], class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """The manifest line of a job; `settings` are those shared by the run.

    `window` and `padding` say how its activation was measured: a forward pass over the stored arrays with
    convolutions of that padding, at the centre of the layer's map (1x1 where padding is VALID).
    """
    summary, (unit, chi, start) = found.summary, found.job
    named = view.layer.endswith("classes") and unit < len(class_names)
    return {
        "layer": view.layer,
        "unit": unit,
        "name": class_names[unit] if named else None,
        "chi": chi,
        "start": start,
        **settings,
        "window": view.window,
        "padding": getattr(view.network, "padding", None),
        "activation_start": float(summary.activation_start),
        "activation_end": float(summary.activation),
        "value": float(summary.value),
        "ahat": ahat,
        "penalties": {name: float(p) for name, p in summary.penalties.items()},
        "dead": bool(summary.dead),
        "arrays": array_name(view.layer, found),
    }


def write(directory: Path, line: Mapping[str, Any], found: Found, place: Place = ALONE) -> None:
    """Stores a job: its arrays under a temporary name, renamed when whole; then its line. Both are on the disk after.

    Raises:
      OSError: there is no room, say; then there is no line.
    """
    path = directory / line["arrays"]
    streams = {name: x for name, x in found.clip._asdict().items() if x is not None}
    with replacing(path, durable=True) as temporary, open(temporary, "wb") as file:
        np.savez(file, **streams)
    with open(directory / manifest_name(place), "ab+") as file:
        # A line that an earlier run left cut short must not swallow this one.
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        ending = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(ending + json.dumps(line, allow_nan=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def tidy(directory: Path, place: Place = ALONE) -> None:
    """Leaves one line a job in a process's manifest, where lines were cut short or jobs done again."""
    path = directory / manifest_name(place)
    if not path.exists():
        return
    lines = [json.dumps(line) for line in _merged([path])]
    if len(lines) < len(path.read_text(errors="replace").splitlines()):
        with replacing(path, durable=True) as temporary:
            temporary.write_text("\n".join([*lines, ""]))


def read(directory: Path) -> list[dict[str, Any]]:
    """All manifests merged, one record a job: of its lines the last counts.

    A line cut short, by a power failure say, is passed over: its job counts as not done.
    """
    return _merged(sorted(directory.glob("manifest*.jsonl")))


def _merged(paths: Iterable[Path]) -> list[dict[str, Any]]:
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        for text in path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
                # Also a line that names no arrays is none.
                latest[line["layer"], line["unit"], line["chi"], line.get("start", 0)] = line | {
                    "arrays": str(line["arrays"])
                }
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
    return list(latest.values())
