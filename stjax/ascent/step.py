"""One input climbs: `start_ascent` and `step_ascent` are pure functions of one clip; the loop belongs to the caller.

    x <- project(x + update(d/dx [ w a(T(x)) - sum_r lambda_r R_r(x) ])),    w = objective_weight / (rho^2 ahat)

T is a random view (jitter). Nothing here is jitted, and nothing knows of other units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from stjax.ascent.optimizers import Weights
from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import project
from stjax.errors import UsageError
from stjax.types import Clip, Input, Moments, Network, Params, Scalar, shapes


class AscentState(NamedTuple):
    """What the next step needs. It holds no key: randomness is fold_in(key, step)."""

    step: Scalar
    clip: Clip
    optimizer: Any


class AscentInfo(NamedTuple):
    """What one may look at, all of it before the step was taken.

    value: of equation (1).
    activation: a(T(x)), unweighted.
    penalties: name -> lambda_r R_r(x).
    gradient_max: of each stream, the largest |d activation / d x|; 0 where the stream received no gradient.
    """

    value: Scalar
    activation: Scalar
    penalties: dict[str, Scalar]
    gradient_max: Clip


def start_ascent(recipe: Recipe, key: Array, canvas: Clip, initial: Clip | None = None) -> AscentState:
    """Uniform noise over the canvas, scaled so that the 95 % quantile of x, signed, is `recipe.noise`.

        x = noise / 0.9 * u,    u ~ uniform(-1, 1)

    As in the parent code (Mahendran & Vedaldi, IJCV 2016): 95 % of such u lie below 0.9. The quantile is that of the
    distribution, not of the draw, so that a pixel's start does not depend on the size of the canvas.

    Args:
      recipe: how the input will be found.
      key: of this unit; a stream's noise depends on it and on the stream alone.
      canvas: shapes, as `Probe.canvas` gives them; None for a stream the layer does not see.
      initial: streams to begin from instead of noise; pixels longer than the recipe's bound are shortened to it.
    """
    _bound(recipe)
    initial = initial or Clip()
    if recipe.parametrization is not None:
        if initial != Clip():
            raise UsageError("a recipe with a parametrization must begin from noise: got an initial clip; leave it out")
        canvas = shapes(recipe.inputs)
    levels = {each.name: _noise(recipe, each) for each in recipe.inputs}

    def noise(number: int, shape: Any, given: Any) -> Any:
        if given is not None or shape is None:
            return given
        draw = jax.random.uniform(jax.random.fold_in(key, number), shape.shape, shape.dtype, -1.0, 1.0)
        return draw * (levels[Clip._fields[number]] / 0.9)

    clip = Clip(*(noise(i, *pair) for i, pair in enumerate(zip(canvas, initial, strict=True))))
    # Also a stream that is fixed: outside the ball equation (2) is infinite.
    clip = project(recipe.inputs, clip, recipe.bound)
    return AscentState(jnp.zeros((), jnp.int32), clip, recipe.optimizer.init(clip))


def activation(network: Network, recipe: Recipe, params: Params, seen: Clip, target: Any) -> Scalar:
    """The recipe's objective on what the network makes of a probe."""
    return read(network, recipe, params, seen, target)[0]


def read(
    network: Network,
    recipe: Recipe,
    params: Params,
    seen: Clip,
    target: Any,
    moments: Mapping[str, Moments] | None = None,
) -> tuple[Scalar, Scalar]:
    """The recipe's objective, and what is reported beside ahat: its `reading`, or itself where it has none.

    Where the moments of natural activity are known and the recipe asks, the objective is less what departs from them.
    """
    if recipe.objective is None:
        raise UsageError("a recipe must have an objective before it runs: use recipe.bind(probe)")
    _, activations = network.apply({"params": params}, seen)
    objective = recipe.objective(activations, target)
    reading = getattr(recipe.objective, "reading", None)
    reported = reading(activations, target) if reading else objective
    if recipe.naturalness is not None and moments:
        objective -= recipe.naturalness.weight * recipe.naturalness(activations, moments)
    return objective, reported


def penalties(recipe: Recipe, clip: Clip, weights: Weights) -> dict[str, Scalar]:
    """lambda_r R_r(x) of each regulariser, by name."""
    return {r.name: weights.penalties[r.name] * r(recipe.inputs, clip) for r in recipe.regularizers}


def step_ascent(
    network: Network,
    recipe: Recipe,
    params: Params,
    key: Array,
    target: Any,
    weights: Weights,
    state: AscentState,
) -> tuple[AscentState, AscentInfo]:
    """One step uphill.

    Args:
      network: static; `apply({"params": params}, clip) -> (scores, activations)`.
      recipe: static; bound to a probe of the network, which says what the clip's streams are.
      params: of the network, never changed.
      key: of this unit; each step folds its number in.
      target: unit index or direction, as the objective expects.
      weights: weights of equation (1), from `recipe.weights`.
      state: from `start_ascent` or an earlier step.
    """
    _bound(recipe)
    key = jax.random.fold_in(key, state.step)

    def grows(clip: Clip) -> Scalar:
        clip = recipe.rendered(clip)
        for number, transform in enumerate(recipe.transforms):
            clip = transform(recipe.shown, jax.random.fold_in(key, number), clip)
        return read(network, recipe, params, clip, target, weights.moments)[0]

    def shrinks(clip: Clip) -> tuple[Scalar, dict[str, Scalar]]:
        each = penalties(recipe, clip, weights)
        return sum(each.values(), start=jnp.zeros(())), each

    a, uphill = jax.value_and_grad(grows)(state.clip)
    (penalty, each), downhill = jax.value_and_grad(shrinks, has_aux=True)(state.clip)
    gradient = jax.tree.map(lambda up, down: weights.activation * up - down, uphill, downhill)
    gradient_max = jax.tree.map(lambda g: jnp.max(jnp.abs(g)), uphill)
    if recipe.fixed:
        still = getattr(gradient, recipe.fixed)
        gradient = gradient._replace(**{recipe.fixed: jax.tree.map(jnp.zeros_like, still)})
    progress = (state.step + 1) / recipe.steps
    moved, optimizer = recipe.optimizer.update(recipe.inputs, gradient, state.optimizer, progress, weights)
    clip = project(recipe.inputs, jax.tree.map(jnp.add, state.clip, moved), recipe.bound)
    if recipe.fixed:
        clip = clip._replace(**{recipe.fixed: getattr(state.clip, recipe.fixed)})
    info = AscentInfo(weights.activation * a - penalty, a, each, gradient_max)
    return AscentState(state.step + 1, clip, optimizer), info


def _noise(recipe: Recipe, given: Input) -> float:
    """What a stream begins with; the displacements of a parametrization are in pixels, and begin with less."""
    parametrization = recipe.parametrization
    return recipe.noise if parametrization is None or given.kind == "rgb" else parametrization.noise


def _bound(recipe: Recipe) -> None:
    # It would know no streams, and go without penalties and bound.
    if not recipe.layer:
        raise UsageError("a recipe must be bound to a layer before it runs: this one is not; use recipe.bind(probe)")
