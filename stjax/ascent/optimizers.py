"""From a gradient to a step uphill. An optimiser holds numbers only, so equal settings compare equal.

`update` gets the progress of the run, (step + 1) / steps in 0..1, for its schedule, and the weights of the
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
from jax import Array

from stjax.ascent.spectrum import smooth_gradient
from stjax.types import Clip, Input, Moments, Scalar, streams

Inputs = tuple[Input, ...]

_ROOT = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
NATURAL_COLOUR = (_ROOT @ _ROOT.T) / np.linalg.norm(_ROOT, axis=0).max() ** 2
"""How red, green and blue vary together in ImageNet's photographs: the covariance whose root Olah, Mordvintsev and
Schubert (Feature Visualization, Distill 2017) publish with lucid, its largest axis scaled to one."""


class Weights(NamedTuple):
    """The traced weights of equation (1).

    activation: objective_weight / (rho^2 ahat).
    penalties: name of a regulariser -> its lambda.
    moments: layer -> what is natural activity of its units, for `Naturalness`; None where not asked or not known.
    """

    activation: Any
    penalties: dict[str, Any]
    moments: dict[str, Moments] | None = None


@runtime_checkable
class Optimizer(Protocol):
    """A rule for steps uphill."""

    def init(self, clip: Clip) -> Any: ...

    def update(
        self, inputs: Inputs, gradient: Clip, state: Any, progress: Scalar, weights: Weights
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
        self, inputs: Inputs, gradient: Clip, state: Memory, progress: Scalar, weights: Weights
    ) -> tuple[Clip, Memory]:
        del inputs, progress, weights

        def step(g: Array, squares: Array, m: Array) -> Array:
            area = g.shape[-3] * g.shape[-2]
            return self.decay * m + g / (1.0 / (self.rate * area) + jnp.sqrt(squares))

        squares = jax.tree.map(lambda G, g: self.decay * G + g * g, state.squares, gradient)
        momentum = jax.tree.map(step, gradient, squares, state.momentum)
        return momentum, Memory(squares, momentum)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam on the pixels (Kingma & Ba, ICLR 2015), its rate led to `final` of itself by a cosine.

    Args:
      rate: length of a step in grey levels, at the start.
      final: the rate's last value, as a share of the first.
      b1, b2: decay of the first and second moment.
    """

    rate: float = 10.0
    final: float = 1.0
    b1: float = 0.9
    b2: float = 0.999

    def init(self, clip: Clip) -> Any:
        return optax.scale_by_adam(self.b1, self.b2).init(clip)

    def update(
        self, inputs: Inputs, gradient: Clip, state: Any, progress: Scalar, weights: Weights
    ) -> tuple[Clip, Any]:
        del inputs, weights
        moved, state = optax.scale_by_adam(self.b1, self.b2).update(gradient, state)
        rate = self.rate * fading(progress, self.final)
        return jax.tree.map(lambda x: rate * x, moved), state


class Trail(NamedTuple):
    """State of `Sobolev`: running mean of steps, and their number."""

    momentum: Clip
    count: Scalar


@dataclass(frozen=True, kw_only=True)
class Sobolev:
    """Momentum on the Sobolev gradient, every step of one length (Neuberger, 1985; Renka, 2009).

        d = (1 + smoothing (L_y + L_x + chi L_t))^-1 g
        m <- momentum m + (1 - momentum) d / rms(d);   x <- x + rate m / (1 - momentum^t)

    The penalty of equation (3) makes (1) stiff: fine structure feels it thousands of times more than coarse
    structure. Dividing by its own operator gives all scales one pace. And unlike Adam's, the length of a step
    is one number for a stream, so pixels that hardly matter are left alone, where Adam moves them as fast as
    all others and fills them with noise that the penalties then have to clear away.

    Args:
      rate: rms length of a step in grey levels, at the start.
      final: the rate's last value, as a share of the first; a cosine leads there.
      momentum: 0..1.
      smoothing: >= 0; structure finer than about its root in pixels is damped; 0 for plain normalised momentum.
      finest: of pictures, what smoothing falls to, by one factor in each step: coarse structure first; None to stay.
      flow_rate, flow_smoothing: of flow, if they differ.
      colour: whether colours of pictures grow as they vary together in nature, see `NATURAL_COLOUR`.
    """

    rate: float = 20.0
    final: float = 0.05
    momentum: float = 0.8
    smoothing: float = 3.0
    finest: float | None = None
    flow_rate: float | None = None
    flow_smoothing: float | None = None
    colour: bool = False

    def init(self, clip: Clip) -> Trail:
        return Trail(jax.tree.map(jnp.zeros_like, clip), jnp.zeros((), jnp.int32))

    def update(
        self, inputs: Inputs, gradient: Clip, state: Trail, progress: Scalar, weights: Weights
    ) -> tuple[Clip, Trail]:
        spatial, temporal = (weights.penalties.get(name, 0.0) for name in ("spatial", "temporal"))
        # Where nothing is smoothed in space, kappa = 0, nothing is in time either.
        chi = jnp.where(spatial > 0, temporal / jnp.where(spatial > 0, spatial, 1.0), 0.0)

        def direction(given: Input, g: Array) -> Array:
            if self.colour and given.kind == "rgb":
                g = g @ jnp.asarray(NATURAL_COLOUR, g.dtype)
            smoothing: Any = _own(given, self.smoothing, self.flow_smoothing)
            if self.finest is not None and given.kind == "rgb":
                smoothing = smoothing * (self.finest / self.smoothing) ** progress
            d = smooth_gradient(g, smoothing, given.slow_axis, chi)
            return d / jnp.sqrt(jnp.mean(d * d) + jnp.finfo(d.dtype).tiny)

        directions = gradient._replace(**{each.name: direction(each, g) for each, g in streams(inputs, gradient)})
        count = state.count + 1
        mean = jax.tree.map(lambda m, d: self.momentum * m + (1.0 - self.momentum) * d, state.momentum, directions)
        share = fading(progress, self.final) / (1.0 - self.momentum**count)

        rates = {each.name: _own(each, self.rate, self.flow_rate) * share for each in inputs}
        steps = mean._replace(**{each.name: rates[each.name] * m for each, m in streams(inputs, mean)})
        return steps, Trail(mean, count)


def _own(given: Input, rgb: float, flow: float | None) -> float:
    """The number for an input's kind; that of rgb is everybody's where flow has none of its own."""
    return rgb if given.kind == "rgb" or flow is None else flow


def fading(progress: Scalar | float, final: float) -> Scalar:
    """A cosine from 1 at progress 0 to `final` at progress 1.

    >>> [float(fading(p, 0.5)) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.75, 0.5]
    """
    return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
