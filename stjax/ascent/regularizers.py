"""The penalties of equations (2) and (3), see `stjax.ascent`: local energy, smoothness in space, smoothness in time.

Each is unweighted and divided by the area H*W of the canvas, one convention for all layers. The weights
are traced: lambda = 80^-alpha for the energy, kappa in space, kappa * chi in time (chi = 1: isotropic).
All inputs are penalised alike; frames and flow fields are summed over, as in the equations.

Borders are open: nothing wraps round, the difference across the last row, column and field is 0. Other
definitions differ: for [[0,0,0],[0,2,0],[0,0,1]] the squared variation is 18 here, 16 where the last
row and column are trimmed from both differences, 20 where borders wrap, 10 in L1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from stjax.types import Clip, Input, Scalar, streams

ALPHA = 6
"""Exponent of the local energy, and 80 grey levels its scale: Mahendran & Vedaldi, IJCV 2016."""
SCALE = 80.0
KAPPA = 6.5**2 / SCALE**2
"""Weight of the spatial variation, same source: 6.602e-3."""


class Bound(NamedTuple):
    """B of each kind of input, in grey levels: how long a pixel's vector may be."""

    rgb: float
    flow: float


def _area(x: Array) -> int:
    return x.shape[-3] * x.shape[-2]


@dataclass(frozen=True, kw_only=True)
class LocalEnergy:
    """N_B(x) = 1/(H W) sum_ijk (sum_d x(i,j,k,d)^2)^(alpha/2): keeps pixel vectors short.

    d runs over rgb or uv, k over time and fields. The bound B itself is a hard projection, `project`.

    Args:
      alpha: exponent, >= 2.

    >>> still = Input(name="appearance", kind="rgb", shape=(1, 2, 2, 3))
    >>> round(float(LocalEnergy()((still,), Clip(appearance=jnp.full((1, 2, 2, 3), 80 / 3**0.5)))) / 80**6, 4)
    1.0
    """

    alpha: int = ALPHA
    name: str = "norm"

    def __call__(self, inputs: tuple[Input, ...], clip: Clip) -> Scalar:
        # (s + 0)^(alpha/2) through integer powers where possible: the gradient at s = 0 stays finite.
        half = self.alpha // 2 if self.alpha % 2 == 0 else self.alpha / 2
        return sum(
            (jnp.sum(jnp.sum(x * x, axis=-1) ** half) / _area(x) for _, x in streams(inputs, clip)), start=jnp.zeros(())
        )

    def weight(self, kappa: Any, chi: Any) -> Any:
        del kappa, chi
        return SCALE**-self.alpha


@dataclass(frozen=True, kw_only=True)
class SpatialVariation:
    """1/(H W) sum_ijkd (D_x x)^2 + (D_y x)^2: the kappa part of R_TV.

    >>> still = Input(name="appearance", kind="rgb", shape=(1, 3, 3, 3))
    >>> x = jnp.zeros((1, 3, 3, 3)).at[0, :, :, 0].set(jnp.asarray([[0.0, 0, 0], [0, 2, 0], [0, 0, 1]]))
    >>> float(9 * SpatialVariation()((still,), Clip(appearance=x)))
    18.0
    """

    name: str = "spatial"

    def __call__(self, inputs: tuple[Input, ...], clip: Clip) -> Scalar:
        return sum(
            (
                (jnp.sum(jnp.diff(x, axis=-3) ** 2) + jnp.sum(jnp.diff(x, axis=-2) ** 2)) / _area(x)
                for _, x in streams(inputs, clip)
            ),
            start=jnp.zeros(()),
        )

    def weight(self, kappa: Any, chi: Any) -> Any:
        del chi
        return kappa


@dataclass(frozen=True, kw_only=True)
class TemporalVariation:
    """1/(H W) sum_ijkd (D_t x)^2 along the axis that each input declares as slow: the chi part of R_TV.

    The flow fields of a sample, or frames that follow one another. A still has no part in it. Nor have several temporal
    samples among themselves: they are taken many frames apart, so a difference between them says nothing of the
    slowness of what happens in between.

    >>> flow = Input(name="motion", kind="flow", shape=(1, 3, 1, 1, 2), slow="fields")
    >>> x = jnp.asarray([[0.0, 0.0], [2.0, 0.0], [3.0, 0.0]]).reshape(1, 3, 1, 1, 2)
    >>> float(TemporalVariation()((flow,), Clip(motion=x)))
    5.0
    """

    name: str = "temporal"

    def __call__(self, inputs: tuple[Input, ...], clip: Clip) -> Scalar:
        each = [
            jnp.sum(jnp.diff(x, axis=given.slow_axis) ** 2) / _area(x)
            for given, x in streams(inputs, clip)
            if given.slow_axis is not None
        ]
        return sum(each, start=jnp.zeros(()))

    def weight(self, kappa: Any, chi: Any) -> Any:
        return kappa * chi


def project(inputs: tuple[Input, ...], clip: Clip, bound: float | Bound) -> Clip:
    """The nearest clip with sqrt(sum_d x(i,j,k,d)^2) <= B everywhere: the infinite branch of equation (2).

    Args:
      inputs: what the clip's streams are.
      clip: grey levels.
      bound: B > 0, for all inputs or for each kind of them.

    >>> flow = Input(name="motion", kind="flow", shape=(1, 1, 1, 1, 2))
    >>> project((flow,), Clip(motion=jnp.asarray([[[[[3.0, 4.0]]]]])), 2.5).motion.round(4).ravel().tolist()
    [1.5, 2.0]
    """

    def shorten(x: Array, limit: float) -> Array:
        # A millionth inside the ball: rounding must not carry a pixel out of it again.
        inside = limit * (1.0 - 1e-6)
        squared = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * jnp.where(squared > inside**2, inside / jnp.sqrt(jnp.maximum(squared, inside**2)), 1.0)

    def limit(given: Input) -> float:
        return getattr(bound, given.kind) if isinstance(bound, Bound) else bound

    return clip._replace(**{given.name: shorten(x, limit(given)) for given, x in streams(inputs, clip)})
