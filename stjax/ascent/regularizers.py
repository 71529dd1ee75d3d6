"""The penalties of equations (2) and (3): local energy, smoothness in space, smoothness in time.

Each is unweighted and divided by the area H*W of the canvas, one convention for all layers. The weights
are traced: lambda = 80^-alpha for the energy, kappa in space, kappa * chi in time (chi = 1: isotropic).
Both streams are penalised alike; time and flow fields are summed over, as in the equations.

Borders are open: nothing wraps round, the difference across the last row, column and field is 0. Other
definitions differ: for [[0,0,0],[0,2,0],[0,0,1]] the squared variation is 18 here, 16 where the last
row and column are trimmed from both differences, 20 where borders wrap, 10 in L1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from stjax.types import Clip, Scalar

ALPHA = 6
"""Exponent of the local energy, and 80 grey levels its scale: Mahendran & Vedaldi, IJCV 2016."""
SCALE = 80.0
KAPPA = 6.5**2 / SCALE**2
"""Weight of the spatial variation, same source: 6.602e-3."""


def _streams(clip: Clip) -> list[Array]:
    return [x for x in clip if x is not None]


def _area(x: Array) -> int:
    return x.shape[-3] * x.shape[-2]


@dataclass(frozen=True, kw_only=True)
class LocalEnergy:
    """N_B(x) = 1/(H W) sum_ijk (sum_d x(i,j,k,d)^2)^(alpha/2): keeps pixel vectors short.

    d runs over rgb or uv, k over time and fields. The bound B itself is a hard projection, `project`.

    Args:
      alpha: exponent, >= 2.

    >>> round(float(LocalEnergy()(Clip(appearance=jnp.full((1, 2, 2, 3), 80 / 3**0.5)))) / 80**6, 4)
    1.0
    """

    alpha: int = ALPHA
    name: str = "norm"

    def __call__(self, clip: Clip) -> Scalar:
        # (s + 0)^(alpha/2) through integer powers where possible: the gradient at s = 0 stays finite.
        half = self.alpha // 2 if self.alpha % 2 == 0 else self.alpha / 2
        return sum((jnp.sum(jnp.sum(x * x, axis=-1) ** half) / _area(x) for x in _streams(clip)), start=jnp.zeros(()))

    def weight(self, kappa: Any, chi: Any) -> Any:
        del kappa, chi
        return SCALE**-self.alpha


@dataclass(frozen=True, kw_only=True)
class SpatialVariation:
    """1/(H W) sum_ijkd (D_x x)^2 + (D_y x)^2: the kappa part of R_TV.

    >>> x = jnp.asarray([[0.0, 0, 0], [0, 2, 0], [0, 0, 1]]).reshape(1, 3, 3, 1)
    >>> float(9 * SpatialVariation()(Clip(appearance=x)))
    18.0
    """

    name: str = "spatial"

    def __call__(self, clip: Clip) -> Scalar:
        return sum(
            (
                (jnp.sum(jnp.diff(x, axis=-3) ** 2) + jnp.sum(jnp.diff(x, axis=-2) ** 2)) / _area(x)
                for x in _streams(clip)
            ),
            start=jnp.zeros(()),
        )

    def weight(self, kappa: Any, chi: Any) -> Any:
        del chi
        return kappa


@dataclass(frozen=True, kw_only=True)
class TemporalVariation:
    """1/(H W) sum_ijkd (D_t x)^2 over the flow fields of each sample: the chi part of R_TV.

    Appearance is a still and has no part in it. Nor have several temporal samples among themselves (T > 1): they are
    taken many frames apart, so a difference between them says nothing of the slowness of what happens in between.

    >>> x = jnp.asarray([0.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1)
    >>> float(TemporalVariation()(Clip(motion=x)))
    5.0
    """

    name: str = "temporal"

    def __call__(self, clip: Clip) -> Scalar:
        if clip.motion is None:
            return jnp.zeros(())
        return jnp.sum(jnp.diff(clip.motion, axis=-4) ** 2) / _area(clip.motion)

    def weight(self, kappa: Any, chi: Any) -> Any:
        return kappa * chi


def project(clip: Clip, bound: float | Clip) -> Clip:
    """The nearest clip with sqrt(sum_d x(i,j,k,d)^2) <= B everywhere: the infinite branch of equation (2).

    Args:
      clip: grey levels.
      bound: B > 0, for both streams or, as a Clip of two numbers, for each.

    >>> project(Clip(motion=jnp.asarray([[[[[[3.0, 4.0]]]]]])), 2.5).motion.round(4).ravel().tolist()
    [1.5, 2.0]
    """
    bounds = bound if isinstance(bound, Clip) else Clip(bound, bound)

    def shorten(x: Array, limit: float) -> Array:
        # A millionth inside the ball: rounding must not carry a pixel out of it again.
        inside = limit * (1.0 - 1e-6)
        squared = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * jnp.where(squared > inside**2, inside / jnp.sqrt(jnp.maximum(squared, inside**2)), 1.0)

    return Clip(*(None if x is None else shorten(x, limit) for x, limit in zip(clip, bounds, strict=True)))
