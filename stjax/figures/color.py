"""Arrays in grey levels -> pictures in uint8. Pure NumPy; no picture is read or written here.

Flow is (u, v): u to the right, v DOWNWARD, 6.375 grey levels per pixel of displacement.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stjax.errors import UsageError

Picture = NDArray[np.uint8]

GREY_LEVELS_PER_PIXEL = 6.375
"""255 / 40: flow of -20..20 px was coded in 0..255 when the networks were trained (method.md, section 3)."""


def frames(x: ArrayLike, mean: ArrayLike, beyond: float = 0.0) -> Picture:
    """RGB as one sees it: the mean put back, then stretched to the full range of grey.

    p = 255 * (x + mean - min) / (max - min),    min and max over pixels and channels

    Args:
      x: (..., height, width, rgb=3), grey levels minus the mean. Leading axes share one stretch.
      mean: (rgb=3,) or a number, grey levels; what preprocessing took away.
      beyond: the share of all values at either end that may be cut off: of a whole clip, a few extreme ones would
        leave no contrast to the others.
    Returns:
      (..., height, width, 3) uint8, 0..255. A constant picture is mid-grey.
    Raises:
      UsageError: wrong shape, or values that are not finite.

    >>> frames([[[0, 0, 0], [0, 0, 1]]], mean=[0, 1, 2])
    array([[[  0,  85, 170],
            [  0,  85, 255]]], dtype=uint8)

    As in Feichtenhofer et al., CVPR 2018. Each picture or clip has its own stretch: greys compare between the frames
    of a clip, not between clips.
    """
    values = _checked(x, 3) + np.asarray(mean, np.float32)
    low, high = (values.min(), values.max()) if not beyond else np.quantile(values, [beyond, 1 - beyond])
    return _stretch(values, float(low), float(high))


def components(flow: ArrayLike) -> Picture:
    """Flow as three channels: red = u, green = v, blue = speed, on one scale for the whole clip.

    p = 255 * ((u, v, sqrt(u^2 + v^2)) - min) / (max - min),    min and max over all three, all fields, and 0

    One affine map for three channels: zero is the same grey in all of them. Zero always belongs to the range
    (in an optimised clip u and v take both signs anyway), so that still pixels are never clipped.

    Args:
      flow: (..., fields, height, width, uv=2), any unit; u right, v down. All leading axes share one scale.
    Returns:
      (..., fields, height, width, 3) uint8, 0..255. A clip without any motion is mid-grey.
    Raises:
      UsageError: wrong shape, or values that are not finite.

    >>> components([[[0, 0], [3, 4], [-5, 0]]])
    array([[[128, 128, 128],
            [204, 230, 255],
            [  0, 128, 255]]], dtype=uint8)

    The "x, y, magnitude" convention of Feichtenhofer et al., CVPR 2018.
    """
    uv = _checked(flow, 2)
    values = np.concatenate([uv, np.hypot(uv[..., 0], uv[..., 1])[..., None]], axis=-1)
    return _stretch(values, min(0.0, float(values.min())), max(0.0, float(values.max())))


def direction(flow: ArrayLike) -> Picture:
    """Flow on the Middlebury colour wheel: hue is direction, white still, full colour the fastest pixel.

    p = 255 * (1 - r * (1 - wheel(angle))),    r = sqrt(u^2 + v^2) / max over the clip

    With v down: right is red, down yellow, left cyan, up violet.

    Args:
      flow: (..., fields, height, width, uv=2), any unit; u right, v down. All leading axes share one scale.
    Returns:
      (..., fields, height, width, 3) uint8. A clip without any motion is white.
    Raises:
      UsageError: wrong shape, or values that are not finite.

    >>> direction([[[2, 0], [0, 2], [-2, 0], [0, -2], [0, 0]]])
    array([[[255,   0,   0],
            [255, 229,   0],
            [  0, 208, 255],
            [ 88,   0, 255],
            [255, 255, 255]]], dtype=uint8)

    Baker et al., A Database and Evaluation Methodology for Optical Flow, ICCV 2007; colours of D.
    Scharstein's `colorcode.cpp`. Published ports scale each frame by itself; here a clip has one scale, so
    that one sees speed change over time.
    """
    uv = _checked(flow, 2)
    return _on_wheel(uv, max(float(np.hypot(uv[..., 0], uv[..., 1]).max()), float(np.finfo(np.float32).tiny)))


def _on_wheel(uv: NDArray[np.float32], longest: float) -> Picture:
    u, v = uv[..., 0], uv[..., 1]
    r = (np.hypot(u, v) / longest)[..., None]
    # The wheel's seam lies at "right", where arctan2 is -pi or pi by the sign of a zero: rightward is always
    # red.
    turn = np.where((v == 0) & (u >= 0), 0.0, np.arctan2(-v, -u) / (2 * np.pi) + 0.5)
    fine = _fine_wheel()
    hue = fine[np.rint(turn * (len(fine) - 1)).astype(np.int32)]
    return np.floor(255 * (1 - r * (1 - hue)) + 1e-3).astype(np.uint8)


def own_flow(flow: ArrayLike, explained: ArrayLike, speed: float) -> Picture:
    """The flow that is seen in a clip, on the wheel of `direction`, and grey where it does not explain what changes.

        p = c * direction(w) + (1 - c) * 128,    c = (explained - 0.3) / 0.4 within 0..1

    White stands still, colour moves, and grey changes without moving, or moves in a way that is not seen: it is never
    taken for motion. Full colour from `speed` on.

    Args:
      flow: (..., fields, height, width, uv=2), pixels per frame.
      explained: (..., fields, height, width), 0..1; of noise 0.1 to 0.3.
      speed: pixels per frame; 0 where nothing is seen to move, NaN for the fastest pixel.
    Returns:
      (..., fields, height, width, 3) uint8.
    Raises:
      UsageError: wrong shape, or values that are not finite.

    >>> own_flow([[[2, 0], [8, 0], [8, 0]]], [[1, 1, 0]], 4)
    array([[[255, 127, 127],
            [255,   0,   0],
            [128, 128, 128]]], dtype=uint8)
    """
    uv = _checked(flow, 2)
    pace = np.hypot(uv[..., 0], uv[..., 1])
    if np.isnan(speed):
        speed = float(pace.max())
    longest = speed if speed > 0 else np.inf
    uv = (uv / np.maximum(pace, longest)[..., None]).astype(np.float32)
    sure = ((np.asarray(explained, np.float32) - 0.3) / 0.4).clip(0, 1)[..., None]
    return np.rint(sure * _on_wheel(uv, 1.0) + (1 - sure) * 128).astype(np.uint8)


def legend(convention: str, side: int = 96) -> Picture:
    """The key to `direction` or `components`: a disc, each point coloured by its own displacement.

    Args:
      convention: "direction" or "components".
      side: of the picture, in pixels.
    Returns:
      (side, side, 3) uint8: the disc, with a soft edge, on white.
    Raises:
      UsageError: another convention.

    >>> legend("direction", 9)[4, 8], legend("components", 9)[4, 4]
    (array([255,   0,   0], dtype=uint8), array([128, 128, 128], dtype=uint8))
    """
    if convention not in ("direction", "components"):
        raise UsageError(f"flow is drawn as direction or components: got {convention!r}; nearest: direction")
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = (side - 1) / 2
    distance = np.hypot(x, y)
    shrink = np.minimum(1, radius / np.maximum(distance, 1e-6)) / radius
    flow = np.stack([x * shrink, y * shrink], axis=-1)
    colours = (direction if convention == "direction" else components)(flow)
    inside = np.clip(radius + 1 - distance, 0, 1)[..., None]
    return np.rint(inside * colours + (1 - inside) * 255).astype(np.uint8)


@cache
def _fine_wheel() -> NDArray[np.float32]:
    """The wheel's 55 colours interpolated to 6481 angles, half a grey level apart: (6481, 3) in 0..1."""
    arcs = (15, 6, 4, 11, 13, 6)  # how well eyes tell hues apart: red-yellow-green-cyan-blue-magenta-red
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], float)
    coarse = np.concatenate(
        [
            start + (stop - start) * np.arange(n)[:, None] / n
            for n, start, stop in zip(arcs, corners, corners[1:], strict=False)
        ]
    )
    knots = np.arange(len(coarse))
    angles = np.linspace(0, len(coarse) - 1, 120 * (len(coarse) - 1) + 1)
    return np.stack([np.interp(angles, knots, coarse[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _stretch(values: NDArray[np.float32], low: float, high: float) -> Picture:
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    return np.floor((values - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8)


def _checked(x: ArrayLike, channels: int) -> NDArray[np.float32]:
    values = np.asarray(x, np.float32)
    if values.ndim < 3 or values.shape[-1] != channels or not values.size:
        raise UsageError(f"expected (..., height, width, {channels}), got {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError("a picture needs finite numbers; this array has some that are not")
    return values
