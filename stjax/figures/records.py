"""One line of a run's manifest, and the array it names, as something that can be drawn.

A record is such a line as a mapping; a directory is the folder that holds the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stjax import arrays as files
from stjax.endings import NOTHING_TO_SEE
from stjax.errors import UsageError
from stjax.figures import color, layout

Record = Mapping[str, Any]
"""Keys read here: layer, unit, name, chi, start, kappa, seed, steps, recipe, model, activation_start, activation_end,
ahat, rough, ending, gradient_max, arrays, sha256. Only layer, unit, chi, ending and arrays must be there."""

CONVENTIONS = ("direction", "components")
"""The two ways to draw motion, by the names of their functions in `color`."""


def bare(layer: str) -> str:
    """A layer's name without its stream.

    >>> bare("motion/conv3_3"), bare("fc6")
    ('conv3_3', 'fc6')
    """
    return layer.rsplit("/", 1)[-1]


def chis_of(records: Sequence[Record]) -> list[float]:
    """The chi that occur, in the order of the columns: falling, slow motion to the left."""
    return sorted({float(record["chi"]) for record in records if record["chi"] is not None}, reverse=True)


def starts(records: Sequence[Record]) -> list[int]:
    """The starts that occur: each has columns of its own, beside those of the one before."""
    return sorted({record.get("start", 0) for record in records})


def identity(record: Record) -> tuple[Any, ...]:
    """What tells a record from others: layer, unit, chi, start."""
    return record["layer"], record["unit"], record["chi"], record.get("start", 0)


def array_path(directory: str | Path, record: Record) -> Path:
    """Where a record's array is. Raises UsageError if the name leads out of the run's folder."""
    relative = Path(record["arrays"])
    if relative.is_absolute() or ".." in relative.parts:
        raise UsageError(f"a manifest names files below its own folder, not {record['arrays']!r}")
    return Path(directory) / relative


def picture_paths(directory: str | Path, record: Record) -> dict[str, Path]:
    """Where `draw_record` puts (or would put) pictures: kind -> path.

    Kinds are "appearance", the two conventions of motion (clips), and one field of each: "direction still" and
    "components still".
    """
    path = array_path(directory, record)
    name = path.name.removesuffix(".npz")
    ends = {"appearance": "appearance.png"}
    ends |= {convention: f"{convention}.gif" for convention in CONVENTIONS}
    ends |= {f"{convention} still": f"{convention}.png" for convention in CONVENTIONS}
    return {kind: path.with_name(f"{name}-{end}") for kind, end in ends.items()}


def kinds(record: Record) -> tuple[str, ...]:
    """The kinds of pictures that there are of a record: those of the streams that its layer sees.

    >>> kinds({"layer": "appearance/conv3_3"}), len(kinds({"layer": "motion/conv3_3"})), len(kinds({"layer": "fc6"}))
    (('appearance',), 4, 5)
    """
    stream = record["layer"].partition("/")[0]
    motion = tuple(f"{convention}{end}" for convention in CONVENTIONS for end in ("", " still"))
    return {"appearance": ("appearance",), "motion": motion}.get(stream, ("appearance", *motion))


def gain(record: Record) -> str:
    """What a unit reached, as a multiple of ahat, with ~ where that is rough; the number itself where it is not known.

    >>> gain({"activation_end": 26.0, "ahat": 5.0}), gain({"activation_end": 26.0, "ahat": None}), gain({})
    ('5.2 x ahat', 'a = 26', '')
    >>> gain({"activation_end": 26.0, "ahat": 5.0, "rough": "over two clips"})
    '~5.2 x ahat'
    """
    end, ahat = record.get("activation_end"), record.get("ahat")
    if end is None or not isfinite(end):
        return ""
    if ahat is None or not isfinite(ahat) or ahat <= 0:
        return f"a = {end:.3g}"
    ratio = end / ahat
    return f"{'~' if record.get('rough') else ''}{ratio:.{1 if abs(ratio) < 99.95 else 0}f} x ahat"


class Look(NamedTuple):
    """What is drawn of one record: pictures, not the array they came from. `word` says why there are none."""

    appearance: color.Picture | None = None
    motion: Mapping[str, color.Picture] = MappingProxyType({})
    fastest: float = 0.0
    side: int = layout.SMALLEST
    word: str = ""


def look(directory: str | Path, record: Record, mean: ArrayLike) -> Look:
    """Reads a record's array and colours it, at the size of its canvas.

    Args:
      directory: the run's folder.
      record: one manifest line. Its file holds `appearance` (time, height, width, 3),
        `motion` (time, fields, height, width, 2), or both, in grey levels.
      mean: (rgb=3,) or a number, grey levels.
    Returns:
      What there is to see. Temporal samples of motion follow one another; of appearance it is the middle one.
    Raises:
      UsageError: the file is missing, or an array has other axes.
    """
    if record["ending"] in NOTHING_TO_SEE:
        return Look(word=record["ending"].partition(" from ")[0])
    path = array_path(directory, record)
    try:
        arrays = files.load(path, record.get("sha256"))
    except FileNotFoundError as error:
        raise UsageError(f"the manifest names {path}, which is not there") from error
    except files.Damaged:
        return Look(word="damaged")
    arrays = {key: arrays[key] for key in ("appearance", "motion") if key in arrays}
    for key, axes in (("appearance", "time, side, side, rgb=3"), ("motion", "time, fields, side, side, uv=2")):
        shape = arrays[key].shape if key in arrays else None
        # A canvas is square: a long line would be drawn as the square over it.
        if shape and (len(shape) != axes.count(",") + 1 or 0 in shape or shape[-3] != shape[-2]):
            raise UsageError(f"{path}: {key} must have axes ({axes}): got {shape}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        return Look(word="not finite")
    seen = Look(side=max((array.shape[-2] for array in arrays.values()), default=layout.SMALLEST))
    if "appearance" in arrays:
        samples = arrays["appearance"]
        seen = seen._replace(appearance=color.appearance(samples[[len(samples) // 2]], mean))
    if "motion" in arrays:
        flow = arrays["motion"].reshape(-1, *arrays["motion"].shape[2:])
        drawn = {convention: getattr(color, convention)(flow) for convention in CONVENTIONS}
        fastest = float(np.hypot(flow[..., 0], flow[..., 1]).max()) / color.GREY_LEVELS_PER_PIXEL
        seen = seen._replace(motion=drawn, fastest=fastest)
    return seen
