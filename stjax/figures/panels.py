"""What stands beside a clip of frames on a sheet: its slices and its own flow, put together with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stjax.figures import layout
from stjax.figures.layout import Picture


class Panels(NamedTuple):
    """Beside one clip of frames.

    x_t, y_t: slices, (1, side, side, 3) uint8.
    flow: (time, side, side, 3) uint8, or None and a `word` that says why.
    place: the row and the column of the slices, as parts of the clip's height and width.
    shape: height and width of the clip.
    """

    x_t: Picture
    y_t: Picture
    flow: Picture | None
    word: str
    place: tuple[float, float]
    shape: tuple[int, int]


LEAST, MOVING = 3, (2, 2)
"""Tiles across a still cell, however few frames there are; tiles across and down a moving one."""
Placed = tuple[int, int, Picture]
"""Where a picture stands in its cell, x and y in pixels, and its frames (time, height, width, 3)."""


def moving(frames: Picture, panels: Panels, side: int) -> list[Placed]:
    """The clip, its y-t slice at its right, its x-t slice below, and its flow; a line in the slices tells the time.

    Rows of the clip go on in the y-t slice, and columns in the x-t slice.
    """
    step, times = side + layout.TILE_GAP, len(frames)
    high, wide = layout.inside(panels.shape, side)
    top, left = (side - high) // 2, (side - wide) // 2
    x_t, y_t = (np.repeat(layout.resize(each, side), times, axis=0) for each in (panels.x_t, panels.y_t))
    for t in range(times):
        _pale(x_t[t, top + int((t + 0.5) / times * high), left : left + wide])
        _pale(y_t[t, top : top + high, left + int((t + 0.5) / times * wide)])
    return [
        (0, 0, _marked(layout.resize(frames, side), panels)),
        (step, 0, y_t),
        (0, step, x_t),
        (step, step, _flow(panels, side)),
    ]


def still(frames: Picture, panels: Panels, side: int, tiles: Sequence[int]) -> list[Placed]:
    """Some frames of the clip; below the first the x-t slice, below the last the y-t slice, between them the flow.

    Args:
      frames: of the clip.
      panels: beside it.
      side: of a tile.
      tiles: numbers of the frames, in order; flow stands below the frame that it starts from.
    """
    step, last = side + layout.TILE_GAP, max(len(tiles), LEAST) - 1
    shown = _marked(layout.resize(frames[np.minimum(tiles, len(frames) - 1)], side), panels)
    placed = [(place * step, 0, shown[[place]]) for place in range(len(tiles))]
    flow, middle = _flow(panels, side), tiles[1:-1] or tiles[:1]
    if panels.flow is None:
        placed.append((step, step, layout.placeholder(side, panels.word)[None]))
    else:
        placed += [(place * step, step, flow[[min(t, len(flow) - 1)]]) for place, t in enumerate(middle, 1)]
    return [*placed, (0, step, layout.resize(panels.x_t, side)), (last * step, step, layout.resize(panels.y_t, side))]


def size(tiles: Sequence[int]) -> tuple[int, int]:
    """How many tiles a still cell is wide and high."""
    return max(len(tiles), LEAST), 2


def _flow(panels: Panels, side: int) -> Picture:
    if panels.flow is None:
        return layout.placeholder(side, panels.word)[None]
    return layout.resize(panels.flow, side)


def _marked(frames: Picture, panels: Panels) -> Picture:
    """Square frames with a mark at each edge, where the row and the column of the slices are."""
    side = frames.shape[1]
    high, wide = layout.inside(panels.shape, side)
    top, left = (side - high) // 2, (side - wide) // 2
    row, column = top + int(panels.place[0] * high), left + int(panels.place[1] * wide)
    frames, length = frames.copy(), max(3, side // 20)
    for start in (0, wide - length):
        frames[:, row, left + start : left + start + length] = 255
    for start in (0, high - length):
        frames[:, top + start : top + start + length, column] = 255
    return frames


def _pale(line: Picture) -> None:
    """Half way to white, in place."""
    line[:] = 128 + line // 2
