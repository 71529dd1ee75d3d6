"""One input climbs: `init` and `step` are pure functions of one clip; the loop belongs to the caller.

    x <- project(x + update(d/dx [ strength a(T(x)) - sum_r lambda_r R_r(x) ]))

T is a random view (jitter). Nothing here is jitted, and nothing knows of other units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from stjax.ascent.optimizers import Weights
from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import project
from stjax.errors import UsageError
from stjax.types import Clip, Network, Params, Scalar


class State(NamedTuple):
    """What the next step needs. It holds no key: randomness is fold_in(key, step)."""

    step: Scalar
    clip: Clip
    optimizer: Any


class Info(NamedTuple):
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


def init(recipe: Recipe, key: Array, canvas: Clip, start: Clip | None = None) -> State:
    """Uniform noise over the canvas, scaled so that the 95 % quantile of x, signed, is `recipe.noise`.

        x = start / 0.9 * u,    u ~ uniform(-1, 1)

    As in the parent code (Mahendran & Vedaldi, IJCV 2016): 95 % of such u lie below 0.9. The quantile is that of the
    distribution, not of the draw, so that a pixel's start does not depend on the size of the canvas.

    Args:
      recipe: how the input will be found.
      key: of this unit; a stream's noise depends on it and on the stream alone.
      canvas: shapes, as `Probe.clip` gives them; None for a stream the layer does not see.
      start: streams to begin from instead of noise; pixels longer than the recipe's bound are shortened to it.
    """
    start = start or Clip()

    def noise(number: int, shape: Any, given: Any) -> Any:
        if given is not None or shape is None:
            return given
        draw = jax.random.uniform(jax.random.fold_in(key, number), shape.shape, shape.dtype, -1.0, 1.0)
        return draw * (recipe.noise / 0.9)

    clip = Clip(*(noise(i, *pair) for i, pair in enumerate(zip(canvas, start, strict=True))))
    # Also a stream that is held: outside the ball equation (2) is infinite.
    clip = project(clip, recipe.bound)
    return State(jnp.zeros((), jnp.int32), clip, recipe.optimizer.init(clip))


def activation(network: Network, recipe: Recipe, params: Params, seen: Clip, target: Any) -> Scalar:
    """a(x): the recipe's objective on what the network makes of a probe."""
    return read(network, recipe, params, seen, target)[0]


def read(network: Network, recipe: Recipe, params: Params, seen: Clip, target: Any) -> tuple[Scalar, Scalar]:
    """The recipe's objective, and what is reported beside ahat: its `reading`, or itself where it has none."""
    if recipe.objective is None:
        raise UsageError("a recipe must have an objective before it runs: use recipe.bind(layer, stride)")
    if getattr(recipe.objective, "whole", False) and getattr(network, "padding", "SAME") == "VALID":
        raise UsageError(
            f"{type(recipe.objective).__name__} needs a whole map, and a cone holds one position of it: "
            "use stjax.probe(module, layer, whole=True)"
        )
    _, activations = network.apply({"params": params}, seen)
    objective = recipe.objective(activations, target)
    reading = getattr(recipe.objective, "reading", None)
    return objective, reading(activations, target) if reading else objective


def penalties(recipe: Recipe, clip: Clip, weights: Weights) -> dict[str, Scalar]:
    """lambda_r R_r(x) of each regulariser, by name."""
    return {r.name: weights.penalties[r.name] * r(clip) for r in recipe.regularizers}


def step(
    network: Network,
    recipe: Recipe,
    params: Params,
    key: Array,
    target: Any,
    weights: Weights,
    state: State,
) -> tuple[State, Info]:
    """One step uphill.

    Args:
      network: static; `apply({"params": params}, clip) -> (scores, activations)`.
      recipe: static; aimed at an objective.
      params: of the network, never changed.
      key: of this unit; each step folds its number in.
      target: unit index or direction, as the objective expects.
      weights: weights of equation (1), from `recipe.weights`.
      state: from `init` or an earlier step.
    """
    key = jax.random.fold_in(key, state.step)

    def grows(clip: Clip) -> Scalar:
        for number, transform in enumerate(recipe.transforms):
            clip = transform(jax.random.fold_in(key, number), clip)
        return activation(network, recipe, params, clip, target)

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
    moved, optimizer = recipe.optimizer.update(gradient, state.optimizer, progress, weights)
    clip = project(jax.tree.map(jnp.add, state.clip, moved), recipe.bound)
    if recipe.fixed:
        clip = clip._replace(**{recipe.fixed: getattr(state.clip, recipe.fixed)})
    info = Info(weights.activation * a - penalty, a, each, gradient_max)
    return State(state.step + 1, clip, optimizer), info
