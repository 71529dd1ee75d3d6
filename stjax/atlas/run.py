"""Drives many ascents: vmap over jobs, jit at this edge, one compilation a layer.

Units, chi, kappa and ahat are traced, so every chunk of a layer runs the same compiled step. Nothing in it
couples two jobs: what a unit becomes depends on (weights, recipe, layer, unit, chi, seed) alone. So a chunk may be
spread over devices, and results leave for the host while the next chunk is under way.

Every job takes the same number of steps, so all slots of a chunk end together: there is no freed slot to refill. Ending
a job that has converged would free few: of FAST's 60 steps, the middle 80 % of conv3_3's units come to stay within 1 %
of their last value after 49 to 54, of conv4_3's after 55 to 57.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from stjax.ascent import ascend
from stjax.ascent.ascend import State
from stjax.ascent.optimizers import Strengths
from stjax.ascent.recipes import FAST, Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.ascent.transforms import centre
from stjax.atlas import plan, sharding
from stjax.atlas.plan import Job
from stjax.compiled import jit
from stjax.errors import UsageError
from stjax.networks.geometry import View
from stjax.types import Clip, Params

STEPS_PER_CALL = 25
"""On accelerators: steps between two looks at the progress. On CPU a call is one step, since XLA's
convolutions run slower inside a loop there."""


class Summary(NamedTuple):
    """Of each found clip, as stored: its middle window, without jitter.

    activation_start: a(x) of the noise it started from.
    activation: a(x).
    value: of equation (1).
    penalties: name -> lambda_r R_r(x).
    slope: of each stream, the largest |d a / d x| of all steps; 0 where it never received a gradient.
    """

    activation_start: Any
    activation: Any
    value: Any
    penalties: dict[str, Any]
    slope: Clip


class Progress(NamedTuple):
    """How far a run has come, in jobs and in steps of jobs."""

    done: int
    total: int
    unit_steps: int
    total_unit_steps: int


class Found(NamedTuple):
    """One finished job, on the host."""

    job: Job
    clip: Clip
    summary: Summary


@functools.partial(jit, static_argnames=("view", "recipe"))
def begin(
    view: View, recipe: Recipe, params: Params, key: Array, units: Array, strengths: Strengths, start: Clip
) -> tuple[State, Array, Clip]:
    """States of a chunk before its first step, keys of its units, and their largest slopes so far."""
    keys = jax.vmap(lambda unit: plan.unit_key(key, view.layer, unit))(units)
    states = jax.vmap(lambda k: ascend.init(recipe, k, view.clip(recipe.margin), start))(keys)
    return states, keys, jax.tree.map(lambda _: jnp.zeros(units.shape), view.clip())


@functools.partial(jit, static_argnames=("view", "recipe"), donate_argnames=("states", "slope"))
def advance(
    view: View,
    recipe: Recipe,
    params: Params,
    keys: Array,
    units: Array,
    strengths: Strengths,
    states: State,
    slope: Clip,
    count: Array | None,
) -> tuple[State, Clip]:
    """`count` steps of a chunk in a compiled loop, or one step where count is None."""

    def once(_: Any, carry: tuple[State, Clip]) -> tuple[State, Clip]:
        states, slope = carry
        step = functools.partial(ascend.step, view.network, recipe, params)
        states, info = jax.vmap(step)(keys, units, strengths, states)
        return states, jax.tree.map(jnp.maximum, slope, info.slope)

    if count is None:
        return once(0, (states, slope))
    return jax.lax.fori_loop(0, count, once, (states, slope))


@functools.partial(jit, static_argnames=("view", "recipe"))
def measure(
    view: View, recipe: Recipe, params: Params, units: Array, strengths: Strengths, clips: Clip
) -> tuple[Clip, Summary]:
    """The windows that are stored, and their numbers: at the centre of the canvas, without jitter."""

    def one(unit: Array, strength: Strengths, clip: Clip) -> tuple[Clip, Summary]:
        window = centre(clip, recipe.margin)
        # Also where products are rounded by default (TPU, tf32): these numbers are what a result is checked by.
        with jax.default_matmul_precision("highest"):
            a = ascend.activation(view.network, recipe, params, window, unit)
        each = ascend.penalties(recipe, window, strength)
        value = strength.activation * a - sum(each.values(), start=jnp.zeros(()))
        return window, Summary(a, a, value, each, Clip())

    return jax.vmap(one)(units, strengths, clips)


def slots_for(
    view: View,
    recipe: Recipe,
    params: Params,
    jobs: int,
    devices: int,
    *,
    chunk: int | None = None,
    precision: Any = None,
) -> int:
    """How many of `jobs` each of `devices` steps together, the size of its chunks.

    Ask for all jobs of a run and all its devices, whatever is finished already and wherever it is computed: a
    convolution's form, and with it the last bits of a result, may depend on this number.

    Args:
      chunk: at most so many; None lets the memory budget choose.
      precision: as for `visualize_units`.
    """
    climbing = _rounded(view, precision)
    limit = chunk or plan.chunk_limit(climbing, _aimed(recipe, view), params)
    return plan.chunk_size(-(-jobs // devices), limit)


def climb(
    view: View,
    recipe: Recipe,
    params: Params,
    key: Array,
    asked: list[Job],
    *,
    ahat: Any,
    kappa: float = KAPPA,
    chunk: int | None = None,
    slots: int | None = None,
    start: Clip | None = None,
    precision: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[list[Found]]:
    """Finds every job, and yields each chunk in the order asked, once the next one is under way.

    Where a chunk does not fit the device after all, it is tried again at half its size, and so are those after it.

    Args are those of `visualize_units`, and
      slots: jobs stepped together on each device, exactly; the last chunk is padded. None plans for `asked` alone.
    """
    recipe = _aimed(recipe, view)
    ahat = np.asarray(ahat, np.float32)
    check(view, asked, ahat=ahat, kappa=kappa, chunk=chunk)
    # The numbers of the summary are those of `view`; only the way up may be rounded.
    climbing = _rounded(view, precision)
    mesh = sharding.unit_mesh(devices)
    slots = slots or slots_for(view, recipe, params, len(asked), mesh.size, chunk=chunk, precision=precision)
    params, key, start = sharding.everywhere(mesh, (params, key, start or Clip()))
    in_loop = jax.default_backend() != "cpu"
    call = min(STEPS_PER_CALL, recipe.steps) if in_loop else 1
    finished: list[tuple[list[Job], Clip, Summary]] = []
    done = 0

    def report(steps: int, jobs: int) -> None:
        if progress:
            at = Progress(done, len(asked), done * recipe.steps + steps * jobs, len(asked) * recipe.steps)
            progress(at)

    while done < len(asked):
        part = asked[done : done + slots * mesh.size]
        padded = part + [part[-1]] * (slots * mesh.size - len(part))
        try:
            units, strengths = sharding.spread(
                mesh, (np.asarray([job.unit for job in padded]), weigh(recipe, view.rho, ahat, kappa, padded))
            )
            begun = begin(view, recipe, params, key, units, strengths, start)
            states, keys, slope = sharding.spread(mesh, begun)
            _, first = measure(view, recipe, params, units, strengths, states.clip)
            for steps in range(0, recipe.steps, call):
                report(steps, len(part))
                count = jnp.asarray(min(call, recipe.steps - steps)) if in_loop else None
                states, slope = advance(climbing, recipe, params, keys, units, strengths, states, slope, count)
                while finished:
                    yield _fetch(*finished.pop())
                jax.block_until_ready(slope)
            clips, last = measure(view, recipe, params, units, strengths, states.clip)
            last = last._replace(activation_start=first.activation, slope=slope)
            for array in jax.tree.leaves((clips, last)):
                array.copy_to_host_async()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if slots == 1:
                raise UsageError(f"one unit of {view.layer} must fit the device's memory: it does not") from None
            slots //= 2
            continue
        finished.append((part, clips, last))
        done += len(part)
        report(0, 0)
    while finished:
        yield _fetch(*finished.pop())


def _fetch(part: list[Job], clips: Clip, summary: Summary) -> list[Found]:
    clips, summary = jax.device_get((clips, summary))
    return [Found(job, *jax.tree.map(lambda a, i=i: a[i], (clips, summary))) for i, job in enumerate(part)]


def visualize_units(
    view: View,
    recipe: Recipe = FAST,
    params: Params | None = None,
    key: Array | None = None,
    *,
    units: Iterable[int],
    chi: Iterable[float] = (10.0, 5.0, 1.0, 0.0),
    ahat: Any,
    kappa: float = KAPPA,
    chunk: int | None = None,
    start: Clip | None = None,
    precision: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Clip, Summary]:
    """For many units at once, the input that excites each most: argmax of equation (1).

    Args:
      view: of the layer, from `stjax.view(module, layer)`, or your own for another module.
      recipe: how; its objective is the layer's centre unit unless it is already aimed.
      params: of the network.
      key: `jax.random.key(seed)`; a unit's own key follows from it, the layer and the unit.
      units: channel numbers.
      chi: slownesses in units of kappa, each >= 0. A layer that sees no motion is run once.
      ahat: (channels,), the largest recorded activation of each unit, > 0.
      kappa: weight of the spatial variation, >= 0.
      chunk: units stepped together on each device; None lets the memory budget choose. It does not change results.
      start: streams to begin from instead of noise.
      precision: of the network's arithmetic while climbing, e.g. jnp.bfloat16, for a module with a `dtype`;
        canvas, penalties and the numbers of the summary stay float32. None leaves the module as it is.
      devices: of this process, to spread the units over; None for all of them.
      progress: called between steps.
    Returns:
      A Clip with axes (units, chi, ...), and a Summary with axes (units, chi). Arrays are NumPy, float32.
    Raises:
      UsageError: a unit, chi, kappa or chunk outside its range.
    """
    if params is None or key is None:
        raise UsageError("params and key must be given: net.params and jax.random.key(seed)")
    asked = plan.jobs(view, units, chi)
    found = [
        one
        for part in climb(
            view,
            recipe,
            params,
            key,
            asked,
            ahat=ahat,
            kappa=kappa,
            chunk=chunk,
            start=start,
            precision=precision,
            devices=devices,
            progress=progress,
        )
        for one in part
    ]
    rows = len({job.unit for job in asked})
    stacked = jax.tree.map(lambda *a: np.stack(a), *((one.clip, one.summary) for one in found))
    return jax.tree.map(lambda a: a.reshape(rows, -1, *a.shape[1:]), stacked)


def check(view: View, asked: list[Job], *, ahat: Any, kappa: float = KAPPA, chunk: int | None = None) -> None:
    """Refuses what cannot be run, before anything is compiled.

    Raises:
      UsageError: a unit, ahat, kappa or chunk outside its range.
    """
    if not kappa >= 0:
        raise UsageError(f"kappa must be >= 0: got {kappa:g}; nearest: 0")
    if chunk is not None and chunk < 1:
        raise UsageError(f"chunk must be at least 1: got {chunk}; nearest: 1")
    ahat = np.asarray(ahat)
    for unit, _ in asked:
        if not 0 <= unit < len(ahat):
            near = min(max(unit, 0), len(ahat) - 1)
            raise UsageError(f"a unit of {view.layer} must be in 0..{len(ahat) - 1}: got {unit}; nearest: {near}")
        if not (ahat[unit] > 0 and np.isfinite(ahat[unit])):
            raise UsageError(f"ahat must be a number > 0: {view.layer} unit {unit} has {ahat[unit]:g}")


def _aimed(recipe: Recipe, view: View) -> Recipe:
    return recipe.aim(view.layer, view.stride) if recipe.objective is None else recipe


def _rounded(view: View, precision: Any) -> View:
    if precision is None:
        return view
    network: Any = view.network
    if not hasattr(network, "dtype"):
        raise UsageError(f"precision needs a module with a dtype: {type(network).__name__} has none; leave it out")
    return dataclasses.replace(view, network=network.clone(dtype=jnp.dtype(precision)))


def weigh(recipe: Recipe, rho: int, ahat: np.ndarray, kappa: float, padded: list[Job]) -> Strengths:
    """The weights of equation (1) of each job of a chunk."""
    each = [recipe.strengths(rho=rho, ahat=float(ahat[job.unit]), kappa=kappa, chi=job.chi or 0.0) for job in padded]
    return jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *each)
