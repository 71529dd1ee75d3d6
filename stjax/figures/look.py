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
from stjax.figures import color, slices
from stjax.figures.movement import Movement, clips, load_movement
from stjax.figures.views import array_path, views
from stjax.record import Record
from stjax.types import Input

EXTREME = 0.002
"""The share of a clip's values at either end that is drawn black or white."""


class Look(NamedTuple):
    """What is drawn of one record: pictures, not the array they came from.

    pictures: view -> (time, height, width, rgb=3) uint8; without the flow of a clip of RGB where it is not known.
    fastest: stream of flow -> its largest displacement, in pixels.
    places: stream of RGB -> the row and the column of its slices.
    movements: stream of RGB -> what is known of its movement.
    word: why there are no pictures; "" if there are.
    """

    pictures: Mapping[str, color.Picture] = MappingProxyType({})
    fastest: Mapping[str, float] = MappingProxyType({})
    word: str = ""
    places: Mapping[str, tuple[int, int]] = MappingProxyType({})
    movements: Mapping[str, Movement] = MappingProxyType({})


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
    places: dict[str, tuple[int, int]] = {}
    movements = load_movement(path, record.inputs)
    for each in clips(record.inputs):
        places[each.name] = row, column = slices.place(arrays[each.name])
        frames, xt, yt, flow = (view.name for view in views(each))
        pictures[xt], pictures[yt] = slices.x_t(pictures[frames], row), slices.y_t(pictures[frames], column)
        seen = movements.get(each.name, Movement())
        if seen.flow is not None and seen.explained is not None:
            drawn = color.own_flow(seen.flow, seen.explained, seen.speed)
            # Of the last frame nothing is known: it keeps the flow that led to it.
            pictures[flow] = np.concatenate([drawn, drawn[-1:]])
    return Look(pictures, fastest, places=places, movements=movements)


def _pictures(input: Input, x: NDArray[np.float32], mean: tuple[float, ...]) -> dict[str, color.Picture]:
    if input.kind == "flow":
        fields = x.reshape(-1, *x.shape[2:])
        return {view.name: getattr(color, view.convention)(fields) for view in views(input)}
    # One stretch of grey for the whole clip, so that frames compare.
    frames = x if input.slow else x[[len(x) // 2]]
    return {input.name: color.frames(frames, mean, EXTREME if len(frames) > 1 else 0.0)}
