"""Where one shot ends and the next begins: flow across a cut means nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

AHEAD = 4
"""Frames that are read beyond one before it is known whether a shot begins with it."""

Item = TypeVar("Item")


def numbered_shots(
    frames: Iterable[Item], rgb: Callable[[Item], Any] = lambda frame: frame
) -> Iterator[tuple[int, Item]]:
    """Each frame with the number of its shot, as they come; four frames are read ahead, and no more are held.

        d_t = mean |I_t - I_{t-1}|;  a cut where d_t > 10 and d_t > 2.5 median(d_{t-4} .. d_{t+4})

    Args:
      frames: of one size.
      rgb: a frame -> (height, width, 3), 0..255; every fourth pixel is read.

    >>> [shot for shot, _ in numbered_shots(np.repeat([0.0, 200.0], 3).reshape(6, 1, 1, 1) + np.zeros((8, 8, 3)))]
    [0, 0, 0, 1, 1, 1]
    """
    shot, before = 0, None
    waiting: deque[tuple[int, Item]] = deque()
    changes: deque[tuple[int, Any]] = deque(maxlen=2 * AHEAD + 1)

    def decided(t: int, frame: Item) -> tuple[int, Item]:
        nonlocal shot
        near = [change for at, change in changes if abs(at - t) <= AHEAD]
        own = [change for at, change in changes if at == t]
        if own and own[0] > 10.0 and own[0] > 2.5 * np.median(near):
            shot += 1
        return shot, frame

    for t, frame in enumerate(frames):
        small = np.asarray(rgb(frame))[::4, ::4].astype(np.float32)
        if before is not None:
            changes.append((t, np.abs(small - before).mean()))
        before = small
        waiting.append((t, frame))
        if len(waiting) > AHEAD:
            yield decided(*waiting.popleft())
    while waiting:
        yield decided(*waiting.popleft())


def shots(frames: Any) -> list[slice]:
    """The runs of frames between cuts, of a whole video; see `numbered_shots`.

    Args:
      frames: (n, height, width, 3), 0..255.

    >>> shots(np.repeat([0.0, 200.0], 6).reshape(12, 1, 1, 1) + np.zeros((8, 8, 3)))
    [slice(0, 6, None), slice(6, 12, None)]
    """
    numbers = [shot for shot, _ in numbered_shots(np.asarray(frames))]
    edges = [0, *(t for t, (a, b) in enumerate(pairwise(numbers), start=1) if a != b), len(numbers)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
