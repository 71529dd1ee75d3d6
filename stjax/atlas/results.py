"""What is on disk: an array file for each finished job, then its line in a manifest.

The line is written last, after the file is complete, so whatever a manifest names is whole.

A run of one process writes DIR/manifest.jsonl. Each process of a distributed run writes a manifest of its own,
DIR/manifest-<process>.jsonl, since no file system appends well for two machines at once. Whoever reads merges
DIR/manifest*.jsonl, so a folder may be filled by either kind of run in turn.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stjax import arrays
from stjax.atlas.hosts import ALONE, Place
from stjax.atlas.plan import Job
from stjax.atlas.run import Result as Found
from stjax.endings import ending
from stjax.errors import UsageError
from stjax.files import claim, replacing
from stjax.types import Probe

MANIFEST = "manifest.jsonl"
NAMES = re.compile(r"manifest(-\d+)?\.jsonl")
BEGINNING = b'{"layer": '
"""Of every line; of one that was cut short as far as it goes."""

KINDS: dict[str, Callable[[Any], Any]] = {
    "a text": lambda x: isinstance(x, str) and x.isprintable(),
    "a text or null": lambda x: x is None or (isinstance(x, str) and x.isprintable()),
    "true or false": lambda x: isinstance(x, bool),
    "a whole number": lambda x: type(x) is int and 0 <= x < 2**31,
    "a number": lambda x: not isinstance(x, bool | str) and isinstance(float(x), float),
    "a number >= 0, or null": lambda x: x is None or (type(x) in (int, float) and 0 <= float(x) < math.inf),
    "numbers by name": lambda x: all(KINDS["a number"](y) for y in x.values()),
    "texts by name": lambda x: all(KINDS["a text"](y) for y in x.values()),
    "a file below arrays": lambda x: x.isprintable() and x.startswith("arrays/") and ".." not in x.split("/"),
    "a sha256": lambda x: re.fullmatch("[0-9a-f]{64}", x),
}
FIELDS = {
    "layer": "a text",
    "unit": "a whole number",
    "name": "a text or null",
    "chi": "a number >= 0, or null",
    "start": "a whole number",
    "ending": "a text",
    "gradient_max": "numbers by name",
    "arrays": "a file below arrays",
    "sha256": "a sha256",
    "work": "a text",
    "recipe": "a text",
    "model": "a text",
    "steps": "a whole number",
    "kappa": "a number",
    "ahat": "a number",
    "rho": "a whole number",
    "objective_weight": "a number",
    "prng": "a text",
    "activation_start": "a number",
    "activation_end": "a number",
    "value": "a number",
    "penalties": "numbers by name",
    "versions": "texts by name",
}
"""What a line holds that is read again, by this program's figures too."""
REQUIRED = ("layer", "unit", "chi", "ending", "arrays")


def manifest_name(place: Place = ALONE) -> str:
    """The manifest that a process writes.

    >>> manifest_name(), manifest_name(Place(3, 16))
    ('manifest.jsonl', 'manifest-3.jsonl')
    """
    return MANIFEST if place.count == 1 else f"manifest-{place.index}.jsonl"


def array_name(layer: str, job: Job) -> str:
    """The array file of a job, relative to the output folder.

    For unit 7 of motion/conv4_3 at chi = 0.5: arrays/motion/conv4_3/unit0007_chi0.5.npz; from its third start,
    number 2: arrays/motion/conv4_3/unit0007_chi0.5_start2.npz.
    """
    # As many digits as tell two values apart: no two jobs share a file.
    chi = "" if job.chi is None else f"_chi{np.format_float_positional(job.chi, trim='-')}"
    start = f"_start{job.start}" if job.start else ""
    return f"arrays/{layer}/unit{job.unit:04d}{chi}{start}.npz"


def record(
    probe: Probe,
    found: Found,
    ahat: float,
    settings: Mapping[str, Any],
    class_names: Sequence[str] = (),
    *,
    floored: bool = False,
) -> dict[str, Any]:
    """The manifest line of a job; `settings` are those shared by the run.

    `value` is equation (1) of the stored arrays x: objective_weight / (rho^2 ahat) activation_end - sum of `penalties`, which
    are 80^-6 N(x), kappa D_s(x) and kappa chi D_t(x), see `stjax.ascent.regularizers`; no pixel is longer than `bound`.
    `window` and `padding` say how its activation was measured: a forward pass over the stored arrays with
    convolutions of that padding, at the centre of the layer's map (1x1 where padding is VALID). `ending` is a word
    of `stjax.endings`; `floored` says whether ahat is the floor of a unit that hardly fires.
    """
    summary, (unit, chi, start) = found.summary, found.job
    gradients_max = {name: float(g) for name, g in summary.gradient_max._asdict().items() if g is not None}
    named = probe.layer.endswith("classes") and unit < len(class_names)
    return {
        "layer": probe.layer,
        "unit": unit,
        "name": class_names[unit] if named else None,
        "chi": chi,
        "start": start,
        **settings,
        "rho": probe.rho,
        "window": probe.window,
        "padding": getattr(probe.network, "padding", None),
        "activation_start": float(summary.activation_start),
        "activation_end": float(summary.activation),
        "value": float(summary.value),
        "ahat": ahat,
        "penalties": {name: float(p) for name, p in summary.penalties.items()},
        "gradient_max": gradients_max,
        "ending": ending(gradients_max, float(summary.activation), ahat, floored),
        "arrays": array_name(probe.layer, found.job),
    }


def write(
    directory: Path, line: Mapping[str, Any], found: Found, place: Place = ALONE, *, guarded: bool = False
) -> dict[str, Any]:
    """Stores a job: its arrays under a temporary name, renamed when whole; then its line. Both are on the disk after.

    Args:
      directory: of results.
      line: from `record`.
      found: the job, as found.
      place: of this process, whose manifest is written.
      guarded: `folder.guard` has seen to it that nobody else's files have these names.
    Returns:
      The line as written, with the checksum of the array file.
    Raises:
      OSError: there is no room, say; then there is no line.
      UsageError: a link leads out of the folder, or somebody else's file is in the way.
    """
    if not guarded:
        read(directory)
    path = claim(directory, directory / line["arrays"], known=guarded)
    digest = arrays.save(path, {name: x for name, x in found.clip._asdict().items() if x is not None})
    line = {**line, "sha256": digest}
    with open(claim(directory, directory / manifest_name(place), known=True), "ab+") as file:
        # A line that an earlier run left cut short must not swallow this one.
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        newline = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(newline + json.dumps(line, allow_nan=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return line


def tidy(directory: Path, place: Place = ALONE) -> None:
    """Leaves one line a job in a process's manifest, where lines were cut short or jobs done again."""
    path = claim(directory, directory / manifest_name(place), known=True)
    if not path.exists():
        return
    lines = [json.dumps(line) for line in _merged([path])]
    if len(lines) < path.read_bytes().count(b"\n"):
        with replacing(path, durable=True) as temporary:
            temporary.write_text("\n".join([*lines, ""]))


def read(directory: str | Path) -> list[dict[str, Any]]:
    """All manifests merged, one record a job: of its lines the last counts.

    A line cut short, by a power failure say, is passed over: its job counts as not done.

    Raises:
      UsageError: a manifest cannot be read, or holds what stjax has not written.
    """
    paths = [path for path in Path(directory).glob("manifest*.jsonl") if NAMES.fullmatch(path.name)]
    return _merged(sorted(paths))


def _merged(paths: Iterable[Path]) -> list[dict[str, Any]]:
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        for number, text in enumerate(_lines(path), 1):
            try:
                line = json.loads(text)
            # Also of bytes that are no text, and of numbers of thousands of digits.
            except (ValueError, RecursionError):
                if not (text.startswith(BEGINNING) or BEGINNING.startswith(text.strip(b"\0 \r"))):
                    raise _foreign(path, f"line {number} is none") from None
                continue
            if wrong := _misfit(line):
                raise _foreign(path, f"line {number} has {wrong}")
            latest[line["layer"], line["unit"], line["chi"], line.get("start", 0)] = line
    return list(latest.values())


def _lines(path: Path) -> list[bytes]:
    try:
        # Asked before it is opened: opening a pipe waits for whoever writes to it.
        if path.is_symlink() or not path.is_file():
            raise _foreign(path, "it is no file")
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise _foreign(path, error.strerror or str(error)) from None


def _misfit(line: Any) -> str | None:
    """What in a line is not as `record` makes it."""
    if not isinstance(line, dict):
        return "no names"
    for name, kind in FIELDS.items():
        if name in line or name in REQUIRED:
            try:
                fits = KINDS[kind](line.get(name))
            # Of what has another type altogether.
            except (TypeError, ValueError, AttributeError, OverflowError):
                fits = False
            if not fits:
                return f"{name} = {json.dumps(line.get(name))[:40]}, which must be {kind}"
    return None


def _foreign(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"a manifest must hold what stjax wrote: {path}: {reason}; move it, or choose another folder with --out"
    )
