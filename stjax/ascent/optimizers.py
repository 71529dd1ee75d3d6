"""From a gradient to a step uphill. An optimiser holds numbers only, so equal settings compare equal.

`update` gets the progress of the run, (step + 1) / steps in 0..1, for its schedule, and the strengths of the
penalties, for its preconditioner. All of it acts on one clip; many units are vmapped from outside, so that
no unit's step depends on another's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from stjax.types import Clip, Scalar


class Strengths(NamedTuple):
    """The traced weights of equation (1).

    activation: 1e4 / (rho^2 ahat).
    penalties: name of a regulariser -> its lambda.
    """

    activation: Any
    penalties: dict[str, Any]


@runtime_checkable
class Optimizer(Protocol):
    """A rule for steps uphill."""

    def init(self, clip: Clip) -> Any: ...

    def update(
        self, gradient: Clip, state: Any, progress: Scalar, strengths: Strengths
    ) -> tuple[Clip, Any]: ...


class Memory(NamedTuple):
    """State of `Momentum`: running sums of squared gradients, and of steps."""

    squares: Clip
    momentum: Clip


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """The parent code's update, for an objective that is to grow (Mahendran & Vedaldi, IJCV 2016).

        G <- decay G + g^2;   m <- decay m + g / (1/(rate H W) + sqrt(G));   x <- x + m

    Nearly scale-free: with `rate` H W large, each step is about 0.3 to 1 grey level a pixel, times momentum.

    Args:
      rate: per pixel of the canvas.
      decay: of both sums, 0..1.
    """

    rate: float = 53.33
    decay: float = 0.9

    def init(self, clip: Clip) -> Memory:
        return Memory(*(jax.tree.map(jnp.zeros_like, clip) for _ in Memory._fields))

    def update(
        self, gradient: Clip, state: Memory, progress: Scalar, strengths: Strengths
    ) -> tuple[Clip, Memory]:
        del progress, strengths

        def step(g: Array, squares: Array, m: Array) -> Array:
            area = g.shape[-3] * g.shape[-2]
            return self.decay * m + g / (1.0 / (self.rate * area) + jnp.sqrt(squares))

        squares = jax.tree.map(lambda G, g: self.decay * G + g * g, state.squares, gradient)
        momentum = jax.tree.map(step, gradient, squares, state.momentum)
        return momentum, Memory(squares, momentum)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba, ICLR 2015), on the pixels or on smoothed cosine coefficients.

    With `smoothing` c > 0 it steps in z, x = C^T S z, where C is the orthonormal cosine transform (DCT-II) of
    a stream over y, x and fields, and S = 1 / sqrt(1 + c (l_y + l_x + chi l_t)), l = 2 - 2 cos(pi k / n).
    Those are the eigenvectors and eigenvalues of R_TV itself, open borders included, so coarse structure,
    which the penalty hardly sees, moves as fast as fine structure, and one step crosses the canvas.

    Args:
      rate: length of a step in grey levels a pixel (in z), at the start.
      final: the rate's last value, as a share of the first; a cosine leads there.
      b1, b2: decay of the first and second moment.
      smoothing: c >= 0; 0 is plain Adam.
    """

    rate: float = 10.0
    final: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    smoothing: float = 0.0

    def init(self, clip: Clip) -> Any:
        return self._moments().init(clip)

    def update(
        self, gradient: Clip, state: Any, progress: Scalar, strengths: Strengths
    ) -> tuple[Clip, Any]:
        scales = Clip(None, None)
        if self.smoothing:
            penalties = strengths.penalties
            chi = penalties.get("temporal", 0.0) / jnp.maximum(penalties.get("spatial", 1.0), 1e-30)
            scales = jax.tree.map(lambda g: self._scale(g, chi), gradient)
            gradient = jax.tree.map(lambda g, s: s * cosine(g), gradient, scales)
        moved, state = self._moments().update(gradient, state)
        share = self.final + (1.0 - self.final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        moved = jax.tree.map(lambda z: self.rate * share * z, moved)
        if self.smoothing:
            moved = jax.tree.map(lambda z, s: cosine(s * z, inverse=True), moved, scales)
        return moved, state

    def _moments(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.b1, self.b2)

    def _scale(self, x: Array, chi: Any) -> Array:
        weights = {x.ndim - 3: 1.0, x.ndim - 2: 1.0} | ({x.ndim - 4: chi} if _is_motion(x) else {})
        total = jnp.zeros(())
        for axis, weight in weights.items():
            n = x.shape[axis]
            eigenvalue = 2.0 - 2.0 * np.cos(np.pi * np.arange(n) / n)
            shape = [n if a == axis else 1 for a in range(x.ndim)]
            total = total + weight * jnp.asarray(eigenvalue.reshape(shape), x.dtype)
        return 1.0 / jnp.sqrt(1.0 + self.smoothing * total)


def _is_motion(x: Array) -> bool:
    return x.shape[-1] == 2


def cosine(x: Array, inverse: bool = False) -> Array:
    """The orthonormal DCT-II of a stream over y and x, and over fields for motion; or its inverse.

    Written as products with the transform's matrix: sides are small, and products are what machines do best.

    >>> x = jnp.arange(12.0).reshape(1, 2, 2, 3)
    >>> bool(jnp.allclose(cosine(cosine(x), inverse=True), x, atol=1e-5))
    True
    """
    axes = (x.ndim - 3, x.ndim - 2) + ((x.ndim - 4,) if _is_motion(x) else ())
    for axis in axes:
        n = x.shape[axis]
        k, i = np.arange(n)[:, None], np.arange(n)[None]
        matrix = np.sqrt(np.where(k == 0, 1, 2) / n) * np.cos(np.pi * (i + 0.5) * k / n)
        matrix = jnp.asarray(matrix.T if inverse else matrix, x.dtype)
        # (n, n) x (..., n, ...): contracted in full precision, also where products are rounded by default.
        product = lax.dot_general(matrix, x, (((1,), (axis,)), ((), ())), precision=lax.Precision.HIGHEST)
        x = jnp.moveaxis(product, 0, axis)
    return x
