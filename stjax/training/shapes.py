"""Outlines, poses and textures: the pure geometry that generated clips are drawn with.

Pictures are (height, width) grids of pixel centres; x to the right, y downward, angles from x towards y.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

SHAPES = ("disc", "square", "star", "ring")


class Pose(NamedTuple):
    """Where a shape is: centre (x, y) in pixels, angle in radians, radius in pixels; any batch axes."""

    x: Any
    y: Any
    angle: Any
    radius: Any


def disc(x: Array, y: Array) -> Array:
    """Signed distance to the unit circle, negative inside."""
    return jnp.hypot(x, y) - 1.0


def square(x: Array, y: Array) -> Array:
    """Distance to the sides of a square as large as the disc: side sqrt(pi)."""
    return jnp.maximum(jnp.abs(x), jnp.abs(y)) - np.sqrt(np.pi) / 2


def ring(x: Array, y: Array) -> Array:
    """A disc with a hole of 0.55 of its radius."""
    return jnp.abs(jnp.hypot(x, y) - 0.8) - 0.25


def star(x: Array, y: Array) -> Array:
    """Distance to the sides of a five-pointed star, tips at 1.3, notches at 0.62.

    Folded into one half of one tip by reflections, so that one straight side is left (after the star of
    I. Quilez, 2D distance functions).
    """
    c, s = np.cos(np.pi / 5), np.sin(np.pi / 5)
    x, y = jnp.abs(x), -y
    for nx, ny in ((c, -s), (-c, -s)):
        over = 2.0 * jnp.maximum(nx * x + ny * y, 0.0)
        x, y = x - over * nx, y - over * ny
    x = jnp.abs(x)
    tip, notch = (0.0, 1.3), (0.62 * s, 0.62 * c)
    dx, dy = notch[0] - tip[0], notch[1] - tip[1]
    return (dx * (y - tip[1]) - dy * (x - tip[0])) / np.hypot(dx, dy)


_OUTLINES = (disc, square, star, ring)


def grid(side: int) -> tuple[Float[Array, "side side"], Float[Array, "side side"]]:
    """x and y of every pixel centre, 0 .. side-1."""
    y, x = jnp.mgrid[:side, :side].astype(jnp.float32)
    return x, y


def local(pose: Pose, x: Array, y: Array) -> tuple[Array, Array]:
    """Pixels in a shape's own coordinates: turned back, its radius the unit."""
    c, s = jnp.cos(pose.angle) / pose.radius, jnp.sin(pose.angle) / pose.radius
    dx, dy = x - pose.x, y - pose.y
    return c * dx + s * dy, c * dy - s * dx


def inside(shape: Any, pose: Pose, x: Array, y: Array) -> Array:
    """Depth of each pixel below a shape's outline, in pixels; positive inside.

    Args:
      shape: traced index into `SHAPES`.
      pose: scalars.
      x, y: pixel centres.

    >>> x, y = grid(5)
    >>> bool(inside(0, Pose(2.0, 2.0, 0.0, 1.5), x, y)[2, 2] == 1.5)
    True
    """
    u, v = local(pose, x, y)
    return -pose.radius * jax.lax.select_n(shape, *(outline(u, v) for outline in _OUTLINES))


def displacement(now: Pose, then: Pose, x: Array, y: Array) -> Float[Array, "*grid uv=2"]:
    """The exact flow of the points of a rigid, growing shape from one pose to another.

        f(p) = c' + r'/r R(angle' - angle) (p - c) - p

    >>> x, y = grid(3)
    >>> displacement(Pose(1, 1, 0, 1), Pose(2, 1, 0, 2), x, y)[1].tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    """
    turn, grown = then.angle - now.angle, then.radius / now.radius
    c, s = grown * jnp.cos(turn), grown * jnp.sin(turn)
    dx, dy = x - now.x, y - now.y
    return jnp.stack([then.x + c * dx - s * dy - x, then.y + s * dx + c * dy - y], -1)


def pattern(kind: Any, u: Array, v: Array, frequency: Any) -> Array:
    """A texture that turns with its shape, -1..1: plain, stripes, checks or rings.

    Args:
      kind: traced index 0..3.
      u, v: a shape's own coordinates.
      frequency: radians per radius.
    """
    stripes = jnp.sin(frequency * u)
    checks = jnp.sign(stripes * jnp.sin(frequency * v))
    return jax.lax.select_n(kind, jnp.zeros_like(u), stripes, checks, jnp.sin(frequency * jnp.hypot(u, v)))


@cache
def _interpolation(coarse: int, side: int) -> np.ndarray:
    """Linear interpolation from `coarse` samples to `side` as a matrix (side, coarse)."""
    at = np.linspace(0, coarse - 1, side)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(coarse)[None])).astype(np.float32)


def enlarge(coarse: Array, side: int) -> Array:
    """Enlarges (..., n, n, channels) to (..., side, side, channels), linearly."""
    matrix = jnp.asarray(_interpolation(coarse.shape[-2], side))
    return jnp.einsum("yi,...ijc,xj->...yxc", matrix, coarse, matrix)


def white(key: Array, shape: tuple[int, ...]) -> Array:
    """White noise of unit variance, bell-shaped (the sum of four bytes), -3.5..3.5.

    An integer hash of the position, salted by the key, does for pictures what threefry does in 2.5 ms for the
    flow of one clip on CPU; this takes 0.05.

    >>> noise = white(jax.random.key(0), (100, 100))
    >>> round(float(noise.std()), 1)
    1.0

    C. Wellons, Prospecting for hash functions (2018): the constants of lowbias32.
    """
    salt = jax.random.bits(key, (2,))
    h = jax.lax.iota(jnp.uint32, int(np.prod(shape))) * jnp.uint32(0x9E3779B9) + salt[0]
    h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
    h = (h ^ (h >> 15) ^ salt[1]) * jnp.uint32(0x846CA68B)
    h ^= h >> 16
    pairs = (h & jnp.uint32(0x00FF00FF)) + ((h >> 8) & jnp.uint32(0x00FF00FF))
    total = ((pairs & 0xFFFF) + (pairs >> 16)).astype(jnp.float32)
    return ((total - 510.0) / 147.8).reshape(shape)


def clouds(key: Array, side: int, channels: int, roughness: Any) -> Float[Array, "side side channels"]:
    """Noise over scales from a quarter of the picture to one pixel, unit variance on average.

    Args:
      roughness: 0..1.2, the ratio of one octave's amplitude to the next coarser one's.
    """
    sizes = [n for n in (4, 8, 16, 32) if n < side] + [side]
    weights = jnp.stack([jnp.asarray(roughness) ** i for i in range(len(sizes))])
    weights /= jnp.sqrt((weights**2).sum())
    noise = white(key, (sum(n * n for n in sizes), channels))
    total, start = jnp.zeros((side, side, channels)), 0
    for weight, n in zip(weights, sizes, strict=True):
        total += weight * enlarge(noise[start : start + n * n].reshape(n, n, channels), side)
        start += n * n
    return total
