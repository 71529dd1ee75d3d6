"""A clip of frames cut along time: x-t and y-t slices, in which speed is slant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stjax.figures import layout

EDGE = 8
"""One part in so many at either side of a clip is not asked for the row or column that changes most."""


def place(x: NDArray[np.floating]) -> tuple[int, int]:
    """The row and the column that change most from frame to frame, apart from the clip's edges.

    A fixed row would often cut what stands still. Rows and columns count with their two neighbours.

    Args:
      x: (time >= 2, height, width, channels).

    >>> clip = np.zeros((3, 9, 9, 3))
    >>> clip[1, 5, 2] = 1
    >>> place(clip)
    (5, 2)
    """
    change = (np.diff(x.astype(np.float32), axis=0) ** 2).sum(axis=(0, -1))
    return _most(change.sum(axis=1)), _most(change.sum(axis=0))


def _most(change: NDArray[np.float32]) -> int:
    edge = len(change) // EDGE
    near = np.convolve(change, [1, 2, 1], "same")[edge : len(change) - edge]
    return edge + int(near.argmax())


def x_t(frames: layout.Picture, row: int) -> layout.Picture:
    """A row of a clip over time: x to the right, as in the frames, and time downward, stretched to their height.

    Args:
      frames: (time, height, width, rgb=3) uint8.
      row: of the frames.
    Returns:
      (1, height, width, 3) uint8.
    """
    return layout.scale(frames[None, :, row], *frames.shape[1:3])


def y_t(frames: layout.Picture, column: int) -> layout.Picture:
    """A column of a clip over time: y downward, as in the frames, and time to the right, stretched to their width."""
    return layout.scale(frames[None, :, :, column].swapaxes(1, 2), *frames.shape[1:3])
