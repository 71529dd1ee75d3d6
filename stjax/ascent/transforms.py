"""Random views of a canvas: a deterministic core, a thin random shell. A transform sees one clip."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array

from stjax.types import Clip


def crop(clip: Clip, top: Array | int, left: Array | int, side: int) -> Clip:
    """The window of `side` pixels whose first row and column are `top` and `left`, of both streams alike.

    >>> import jax.numpy as jnp
    >>> crop(Clip(appearance=jnp.arange(9.0).reshape(1, 3, 3, 1)), 1, 0, 2).appearance.ravel().tolist()
    [3.0, 4.0, 6.0, 7.0]
    """

    def window(x: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(x, top, side, axis=x.ndim - 3)
        return jax.lax.dynamic_slice_in_dim(rows, left, side, axis=x.ndim - 2)

    return Clip(*(None if x is None else window(x) for x in clip))


def centre(clip: Clip, margin: int) -> Clip:
    """The middle window of a canvas that is `margin` pixels larger; an odd pixel is left at the end."""
    side = next(x.shape[-3] for x in clip if x is not None) - margin
    return crop(clip, margin // 2, margin // 2, side)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Shifts by 0..size-1 pixels in y and x, uniformly, the same for both streams and all frames.

    The canvas is size - 1 pixels larger than the window, so nothing wraps round.

    Args:
      size: number of offsets, >= 1.
    """

    size: int

    @property
    def margin(self) -> int:
        return self.size - 1

    def __call__(self, key: Array, clip: Clip) -> Clip:
        side = next(x.shape[-3] for x in clip if x is not None) - self.margin
        top, left = jax.random.randint(key, (2,), 0, self.size)
        return crop(clip, top, left, side)


def jitter(stride: int) -> tuple[Jitter, ...]:
    """The parent code's rule: J = max(round(stride / 4), 1), nothing where J is 1.

    >>> [jitter(stride) for stride in (4, 16)]
    [(), (Jitter(size=4),)]
    """
    size = max(round(stride / 4), 1)
    return (Jitter(size=size),) if size > 1 else ()
