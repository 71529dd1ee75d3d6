"""How much of what changes from frame to frame is displacement: by block matching, without a network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from stjax.errors import UsageError

BLOCK, REACH = 16, 8
"""Pixels: the side of a block, and how far it may go between two frames."""


class BlockMatch(NamedTuple):
    """Where each block of each frame is found in the next one, and what that explains.

    shift: (u, v) of the best match, whole pixels; u right, v down.
    left: sum over the block of (next(x + shift) - this(x))^2.
    change: sum over the block of (next(x) - this(x))^2.
    """

    shift: Int[np.ndarray, "n-1 rows columns uv=2"]
    left: Float[np.ndarray, "n-1 rows columns"]
    change: Float[np.ndarray, "n-1 rows columns"]


def match_blocks(
    frames: Real[np.ndarray, "n height width channels"], *, block: int = BLOCK, reach: int = REACH
) -> BlockMatch:
    """The best whole shift of each block of pixels, among all up to `reach`, by full search.

    Only blocks whose whole search lies inside the frame are asked, so that none loses for having moved out of it:
    those of the frame without `reach` pixels on each side, as many as there is room for, about its middle.

    Args:
      frames: consecutive, any unit and any mean; channels are summed over.
      block: side, pixels.
      reach: the largest shift along either axis, pixels.
    Raises:
      UsageError: fewer than two frames, or frames smaller than block + 2 reach.
    """
    x = np.asarray(frames, np.float64)
    window = block + 2 * reach
    if x.ndim != 4 or len(x) < 2 or min(x.shape[1:3]) < window:
        raise UsageError(f"frames must be (n >= 2, height >= {window}, width >= {window}, channels): got {x.shape}")
    # Large means would cost digits below.
    x = x - x.mean(axis=(0, 1, 2))
    counts = [(side - 2 * reach) // block for side in x.shape[1:3]]
    corners = [(side - 2 * reach - count * block) // 2 for side, count in zip(x.shape[1:3], counts, strict=True)]

    def cut(those: np.ndarray, side: int, margin: int) -> np.ndarray:
        """(n-1, rows, columns, channels, side, side): squares at the blocks' places."""
        views = np.lib.stride_tricks.sliding_window_view(those, (side, side), axis=(1, 2))
        top, left = (corner + margin for corner in corners)
        return views[:, top::block, left::block][:, : counts[0], : counts[1]]

    this, there = cut(x[:-1], block, reach), cut(x[1:], window, 0)
    # |there - this|^2 = |there|^2 - 2 <there, this> + |this|^2 at all shifts at once. The correlation is circular over
    # the window, and never wraps: block + 2 reach is all it needs.
    size, places = (window, window), 2 * reach + 1
    spectrum = (np.fft.rfft2(there) * np.fft.rfft2(this, size).conj()).sum(axis=3)
    inner = np.fft.irfft2(spectrum, size)[..., :places, :places]
    total = np.pad((there**2).sum(axis=3), [(0, 0)] * 3 + [(1, 0)] * 2).cumsum(-1).cumsum(-2)
    energy = total[..., block:, block:] - total[..., :-block, block:] - total[..., block:, :-block]
    energy = energy + total[..., :-block, :-block]
    left = (energy - 2 * inner + (this**2).sum(axis=(3, 4, 5))[..., None, None]).clip(min=0)
    change = left[..., reach, reach]
    flat = left.reshape(*left.shape[:3], -1)
    best = flat.argmin(axis=-1)
    # Where nothing is better than standing still, to round-off, the block stands still.
    least = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    best = np.where(least < change, best, reach * places + reach)
    shift = np.stack([best % places, best // places], axis=-1) - reach
    return BlockMatch(shift, np.minimum(least, change), change)


def explained_by_displacement(
    frames: Real[np.ndarray, "n height width channels"], *, block: int = BLOCK, reach: int = REACH
) -> float:
    """The share of the change from frame to frame that moving blocks of pixels explains: 1 all, 0 none of it.

        1 - sum_blocks min_d sum_x (next(x + d) - this(x))^2  /  sum_blocks sum_x (next(x) - this(x))^2

    d runs over the whole shifts up to `reach` along either axis. Sums run over all blocks of all pairs of frames, so
    that what changes most counts most. Not affected by contrast or by a mean.

    What it says beside what it means: noise is explained a little, since the best of 289 shifts is taken (a tenth or
    two, less the more pixels and channels a block has); motion below half a pixel a frame is not explained at all.
    For slow clips give every k-th frame: `frames[::4]`.

    Args:
      frames: consecutive, any unit and any mean; at least 32 x 32 pixels at the defaults.
      block: side, pixels.
      reach: the largest shift along either axis, pixels.
    Returns:
      0..1; NaN if nothing changes at all.
    Raises:
      UsageError: fewer than two frames, or frames smaller than block + 2 reach.

    >>> noise = np.random.default_rng(0).normal(size=(48, 96, 3))
    >>> explained_by_displacement(np.stack([noise[:, 3 * t : 3 * t + 64] for t in range(5)])).__round__(3)
    1.0
    """
    match = match_blocks(frames, block=block, reach=reach)
    change = float(match.change.sum())
    return 1.0 - float(match.left.sum()) / change if change > 0 else float("nan")
