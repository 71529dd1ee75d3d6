"""A record's array, read and coloured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stjax import arrays as files
from stjax.endings import NOTHING_TO_SEE
from stjax.errors import UsageError
from stjax.figures import color
from stjax.figures.views import array_path, views
from stjax.record import Record
from stjax.types import Input


class Look(NamedTuple):
    """What is drawn of one record: pictures, not the array they came from.

    pictures: view -> (time, height, width, rgb=3) uint8.
    fastest: stream of flow -> its largest displacement, in pixels.
    word: why there are none; "" if there are.
    """

    pictures: Mapping[str, color.Picture] = MappingProxyType({})
    fastest: Mapping[str, float] = MappingProxyType({})
    word: str = ""


def look(directory: str | Path, record: Record) -> Look:
    """Reads a record's array and colours it, at the size of its canvas.

    Args:
      directory: the run's folder.
      record: whose file holds an array for each of its inputs, of that input's shape.
    Returns:
      What there is to see. Temporal samples of flow follow one another; of RGB that cannot be slow the middle one is
      shown.
    Raises:
      UsageError: the file is missing, or an array is, or has another shape.
    """
    if record.ending in NOTHING_TO_SEE:
        return Look(word=record.ending.partition(" from ")[0])
    path = array_path(directory, record)
    try:
        arrays = files.load(path, record.sha256)
    except FileNotFoundError as error:
        raise UsageError(f"the manifest names {path}, which is not there") from error
    except files.Damaged:
        return Look(word="damaged")
    for each in record.inputs:
        shape = arrays[each.name].shape if each.name in arrays else None
        if shape != each.shape:
            raise UsageError(f"{path}: {each.name} must have the shape of its record, {each.shape}: got {shape}")
    if not all(np.isfinite(arrays[each.name]).all() for each in record.inputs):
        return Look(word="not finite")
    pictures: dict[str, color.Picture] = {}
    fastest: dict[str, float] = {}
    for each in record.inputs:
        pictures |= _pictures(each, arrays[each.name], record.settings.mean)
        if each.kind == "flow":
            u, v = arrays[each.name][..., 0], arrays[each.name][..., 1]
            fastest[each.name] = float(np.hypot(u, v).max()) / color.GREY_LEVELS_PER_PIXEL
    return Look(pictures, fastest)


def _pictures(input: Input, x: NDArray[np.float32], mean: tuple[float, ...]) -> dict[str, color.Picture]:
    if input.kind == "flow":
        fields = x.reshape(-1, *x.shape[2:])
        return {view.name: getattr(color, view.convention)(fields) for view in views(input)}
    # One stretch of grey for the whole clip, so that frames compare.
    frames = x if input.slow else x[[len(x) // 2]]
    return {view.name: color.frames(frames, mean) for view in views(input)}
