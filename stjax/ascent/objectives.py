"""What is to grow: a(x) in equation (1), see `stjax.ascent`. Larger is better.

An objective reads endpoints, maps (time, height, width, channels) of one clip, before the ReLU for
convolutions and before the softmax for classes. The layer is static; the target (which unit, which
direction) is traced, so that one compilation serves every unit of a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from stjax.errors import UsageError, nearest
from stjax.types import Activations, Objective, Scalar

Map = Float[Array, "time height width channels"]
BEYOND = 0.1
"""The share that counts of log-odds beyond those that are enough."""


class _Arithmetic:
    """`2 * a + b` and `-a` build new objectives; the operands stay as they are."""

    @property
    def whole(self) -> bool:
        """Whether it reads more of a map than one position, so that a window of what one unit sees is not enough."""
        return False

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it reads."""
        return (self.layer,)  # type: ignore[attr-defined]

    def __add__(self, other: Objective) -> Sum:
        return Sum(terms=(*_terms(self), *_terms(other)))

    def __sub__(self, other: Objective) -> Sum:
        return self + -1.0 * other  # type: ignore[operator]

    def __mul__(self, factor: float) -> Sum:
        return Sum(terms=tuple((factor * weight, term) for weight, term in _terms(self)))

    __rmul__ = __mul__

    def __neg__(self) -> Sum:
        return self * -1.0


def _terms(objective: Any) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Sum) else ((1.0, objective),)


def _endpoint(activations: Activations, layer: str) -> Map:
    if layer not in activations:
        raise UsageError(f"an objective's layer must be an endpoint: {layer!r} is not; {nearest(layer, activations)}")
    return activations[layer].astype(jnp.float32)


@dataclass(frozen=True)
class Neuron(_Arithmetic):
    """One unit at one position: a_l(x)[t, y, x, c].

    Args:
      layer: endpoint name.
      position: (t, y, x) on the map; None for its centre, ((T-1)//2, (H-1)//2, (W-1)//2).

    The target is the unit's index c.

    >>> a = {"conv1_1": jnp.arange(8.0).reshape(1, 1, 2, 4)}
    >>> float(Neuron("conv1_1")(a, 3)), float(Neuron("conv1_1", position=(0, 0, 1))(a, 3))
    (3.0, 7.0)
    """

    layer: str
    position: tuple[int, int, int] | None = None

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        return _at(_endpoint(activations, self.layer), self.position)[target]


@dataclass(frozen=True)
class ChannelMean(_Arithmetic):
    """One unit everywhere: the mean of a_l(x)[..., c] over its map, so it needs the whole input.

    >>> float(ChannelMean("fc6")({"fc6": jnp.arange(4.0).reshape(1, 1, 2, 2)}, 1))
    2.0
    """

    layer: str

    @property
    def whole(self) -> bool:
        return True

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        return jnp.mean(_endpoint(activations, self.layer), axis=(-4, -3, -2))[target]


@dataclass(frozen=True)
class ClassScore(_Arithmetic):
    """The score of one class before the softmax, averaged over the positions of the class map.

    >>> float(ClassScore()({"classes": jnp.asarray([[[[1.0, 5.0]]]])}, 1))
    5.0
    """

    layer: str = "classes"

    @property
    def whole(self) -> bool:
        return True

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        return ChannelMean(self.layer)(activations, target)


@dataclass(frozen=True)
class LogOdds(_Arithmetic):
    """How sure a network is of one class: log p_c / (1 - p_c) = s_c - log sum_{j != c} exp(s_j).

    s are the scores before the softmax, averaged over the positions of the class map. A softmax does not see what
    all scores share, so an optimum of s_c alone may raise other classes as much; and unlike log p_c, the log-odds
    do not flatten once the class has won. With a single class there are none, and its score is taken.

    Args:
      layer: endpoint name.
      enough: log-odds from which on more of them counts a tenth: real clips reach no more, and what drives a network
        beyond them is of no clip.

    >>> odds = LogOdds()({"classes": jnp.log(jnp.asarray([[[[0.8, 0.15, 0.05]]]]))}, 0)
    >>> round(float(jnp.exp(odds)), 4)
    4.0
    """

    layer: str = "classes"
    enough: float = math.inf

    @property
    def whole(self) -> bool:
        return True

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        scores = jnp.mean(_endpoint(activations, self.layer), axis=(-4, -3, -2))
        if scores.size == 1:
            return scores[target]
        others = jnp.where(jnp.arange(scores.size) == target, -jnp.inf, scores)
        odds = scores[target] - jax.nn.logsumexp(others)
        return odds - (1.0 - BEYOND) * jnp.maximum(odds - self.enough, 0.0)

    def reading(self, activations: Activations, target: Any) -> Scalar:
        """What is reported of a result, and compared with ahat: the class's own score."""
        return ChannelMean(self.layer)(activations, target)


@dataclass(frozen=True)
class Direction(_Arithmetic):
    """<a_l(x), e> at one position, for any vector e: is a single unit special? (Szegedy et al., 2014)

    The target is e, (channels,), used as given: scale it to unit length to compare with single units. It is handed to
    `stjax.step_ascent`; a `stjax.Request` asks for units.

    >>> round(float(Direction("fc6")({"fc6": jnp.asarray([[[[1.0, 5.0]]]])}, jnp.asarray([0.6, 0.8]))), 3)
    4.6
    """

    layer: str
    position: tuple[int, int, int] | None = None

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        # A sum of products, not a matrix product: accelerators would round the latter's operands.
        return jnp.sum(_at(_endpoint(activations, self.layer), self.position) * target)


@dataclass(frozen=True)
class Sum(_Arithmetic):
    """sum_i w_i f_i(x): built by arithmetic on objectives, which read one layer where a recipe is bound to it.

    The target is shared by all terms, or a tuple with one target a term.

    >>> a = {"fc6": jnp.asarray([[[[1.0, 5.0]]]])}
    >>> float((2 * Neuron("fc6") - ChannelMean("fc6"))(a, (0, 1)))
    -3.0
    """

    terms: tuple[tuple[float, Objective], ...]

    @property
    def whole(self) -> bool:
        return any(getattr(term, "whole", False) for _, term in self.terms)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer for _, term in self.terms for layer in getattr(term, "layers", ())))

    def __call__(self, activations: Activations, target: Any) -> Scalar:
        targets = target if isinstance(target, tuple) else (target,) * len(self.terms)
        if len(targets) != len(self.terms):
            raise UsageError(f"a sum takes one target, or one a term: {len(self.terms)} terms, {len(targets)} targets")
        return sum(
            (weight * term(activations, t) for (weight, term), t in zip(self.terms, targets, strict=True)),
            start=jnp.zeros(()),
        )


def _at(a: Map, position: tuple[int, int, int] | None) -> Float[Array, " channels"]:
    t, y, x = position or ((n - 1) // 2 for n in a.shape[:3])
    return a[t, y, x]
