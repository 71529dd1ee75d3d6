"""What is on disk: an array file for each finished job, then its line in the manifest.

The line is written last, after the file is complete, so whatever the manifest names is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stjax.atlas.run import Found
from stjax.errors import UsageError
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


def array_name(layer: str, found: Found) -> str:
    """The array file of a job, relative to the output folder.

    For unit 7 of motion/conv4_3 at chi = 0.5: arrays/motion/conv4_3/unit0007_chi0.5.npz.
    """
    # As many digits as tell two values apart: no two jobs share a file.
    chi = "" if found.job.chi is None else f"_chi{np.format_float_positional(found.job.chi, trim='-')}"
    return f"arrays/{layer}/unit{found.job.unit:04d}{chi}.npz"


def record(
    view: View, found: Found, ahat: float, settings: Mapping[str, Any], class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """The manifest line of a job; `settings` are those shared by the run.

    `window` and `padding` say how its activation was measured: a forward pass over the stored arrays with
    convolutions of that padding, at the centre of the layer's map (1x1 where padding is VALID).
    """
    summary, (unit, chi) = found.summary, found.job
    named = view.layer.endswith("classes") and unit < len(class_names)
    return {
        "layer": view.layer,
        "unit": unit,
        "name": class_names[unit] if named else None,
        "chi": chi,
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


def write(directory: Path, line: Mapping[str, Any], found: Found) -> None:
    """Stores a job: its arrays under a temporary name, renamed when whole; then its line, flushed to disk."""
    path = directory / line["arrays"]
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = {name: x for name, x in found.clip._asdict().items() if x is not None}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **streams)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with open(directory / MANIFEST, "ab+") as file:
        # A line that an earlier run left cut short must not swallow this one.
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        ending = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(ending + json.dumps(line, allow_nan=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(directory: Path) -> list[dict[str, Any]]:
    """The manifest, one record a job: the last line counts, since later runs replace earlier results.

    A line cut short, by a power failure say, is passed over: its job counts as not done.
    """
    path = directory / MANIFEST
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            latest[line["layer"], line["unit"], line["chi"]] = line
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return list(latest.values())
