"""Random views of a canvas: a deterministic core, a thin random shell. A transform sees one clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from stjax.types import Clip, Input, streams


def window_at(clip: Clip, top: Array | int, left: Array | int, margin: int) -> Clip:
    """The window that is `margin` pixels smaller and begins at row `top` and column `left`, of all streams alike.

    >>> clip = Clip(appearance=jnp.arange(27.0).reshape(1, 3, 3, 3))
    >>> window_at(clip, 1, 0, 1).appearance[..., 0].ravel().tolist()
    [9.0, 12.0, 18.0, 21.0]
    """

    def window(x: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(x, top, x.shape[-3] - margin, axis=x.ndim - 3)
        return jax.lax.dynamic_slice_in_dim(rows, left, x.shape[-2] - margin, axis=x.ndim - 2)

    return Clip(*(None if x is None else window(x) for x in clip))


def centre(clip: Clip, margin: int) -> Clip:
    """The middle window of a canvas that is `margin` pixels larger; an odd pixel is left at the end."""
    return window_at(clip, margin // 2, margin // 2, margin)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Shifts by 0..size-1 pixels in y and x, uniformly, the same for all streams and frames.

    The canvas is size - 1 pixels larger than the window, so nothing wraps round. What is stored is the middle of
    it, `centre`: the mean of all offsets where their number is odd, half a pixel before it where it is even.

    Args:
      size: number of offsets, >= 1.
      share: of the steps that are shifted at all, 0..1; the others see the middle, as it will be stored.
    """

    size: int
    share: float = 1.0

    @property
    def margin(self) -> int:
        return self.size - 1

    def __call__(self, inputs: tuple[Input, ...], key: Array, clip: Clip) -> Clip:
        del inputs
        offset = jax.random.randint(key, (2,), 0, self.size)
        if self.share < 1.0:
            # The key's own draw of offsets stays what it is for every share.
            shifts = jax.random.bernoulli(jax.random.fold_in(key, 1), self.share)
            offset = jnp.where(shifts, offset, self.margin // 2)
        return window_at(clip, offset[0], offset[1], self.margin)


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """Sees a canvas from nearer or farther, somewhere on it, the same for all streams and frames.

    What is found must then be recognised at several sizes, so it becomes an object and no texture. Scales are drawn
    evenly on a logarithmic axis. Where the view reaches beyond the canvas it is 0, grey. Flow vectors grow with the
    picture.

    Args:
      margin: pixels by which the canvas is larger than the window, >= 0.
      least, most: scale, > 0; 1.25 shows all a quarter larger.
    """

    margin: int = 16
    least: float = 0.95
    most: float = 1.25

    def __call__(self, inputs: tuple[Input, ...], key: Array, clip: Clip) -> Clip:
        near, place = jax.random.split(key)
        logs = jax.random.uniform(near, (), minval=math.log(self.least), maxval=math.log(self.most))
        scale, where = jnp.exp(logs), jax.random.uniform(place, (2,))
        for given, x in streams(inputs, clip):
            sides = jnp.asarray(x.shape[-3:-1], x.dtype)
            spare = sides * scale - (sides - self.margin)
            # Anywhere on the canvas; a view larger than the canvas has it in its middle.
            first = where * jnp.maximum(spare, 0.0) + jnp.minimum(spare, 0.0) / 2
            shape = (*x.shape[:-3], x.shape[-3] - self.margin, x.shape[-2] - self.margin, x.shape[-1])
            axes = (x.ndim - 3, x.ndim - 2)
            scales = jnp.stack([scale, scale])
            x = jax.image.scale_and_translate(x, shape, axes, scales, -first, "linear", antialias=False)
            clip = clip._replace(**{given.name: x * scale if given.kind == "flow" else x})
        return clip


@dataclass(frozen=True, kw_only=True)
class FieldDropout:
    """Drops some flow fields in each step: they show no motion. Pictures stay.

    What is left must show the motion on its own, so each field has to agree with the others; flicker, that excites
    a unit as one pattern of all fields together, is not found. Dropout of the input (Srivastava et al., JMLR 2014).

    Args:
      rate: chance of each field to be dropped, 0..1.
    """

    rate: float

    @property
    def margin(self) -> int:
        return 0

    def __call__(self, inputs: tuple[Input, ...], key: Array, clip: Clip) -> Clip:
        for given, x in streams(inputs, clip):
            if given.kind == "flow":
                kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape[:-3])
                clip = clip._replace(**{given.name: jnp.where(kept[..., None, None, None], x, 0.0)})
        return clip


@runtime_checkable
class JitterRule(Protocol):
    """Which jitter suits a layer. A frozen dataclass, so that its settings are part of a result's identity."""

    def __call__(self, stride: int) -> tuple[Jitter, ...]: ...


@dataclass(frozen=True, kw_only=True)
class QuarterStride:
    """The parent code's rule: J = max(round(stride / 4), 1) in every step, nothing where J is 1.

    >>> [QuarterStride()(stride) for stride in (4, 16)]
    [(), (Jitter(size=4, share=1.0),)]
    """

    def __call__(self, stride: int) -> tuple[Jitter, ...]:
        size = max(round(stride / 4), 1)
        return (Jitter(size=size),) if size > 1 else ()


@dataclass(frozen=True, kw_only=True)
class OnePixel:
    """One pixel each way, around what is stored, in a share of stride / 8 of the steps and at most `most`.

    The optimum of a share p is that of (1-p) a(x) + p mean_T a(T(x)): p sets how much of the value at one alignment
    with the pooling grid is given for what is left at the others. Nothing below a stride of 4: at conv2_2, where it is
    2, a quarter of the steps leaves 2 % more after a shift by one pixel and costs 4 % of the value.

    Args:
      most: the largest share, 0..1.

    >>> [rule.share for stride in (2, 4, 8, 16) for rule in OnePixel()(stride)]
    [0.5, 0.8, 0.8]
    """

    most: float = 0.8

    def __call__(self, stride: int) -> tuple[Jitter, ...]:
        return (Jitter(size=3, share=min(stride / 8, self.most)),) if stride >= 4 else ()
