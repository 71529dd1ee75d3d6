"""Drives many ascents: vmap over jobs, jit at this edge, one compilation a layer.

Units, chi, kappa and ahat are traced, so every chunk of a layer runs the same compiled step. Nothing in it
couples two jobs, and its shapes are fixed (see `plan`): on one kind of device, to the last bit, what a unit becomes
depends on (weights, recipe, layer, unit, chi, start, seed) alone. So chunks may be spread over devices, and results
leave for the host while the next chunk is under way.

Every job takes the same number of steps, so all slots of a chunk end together: there is no freed slot to refill. Ending
a job that has converged would free few: of the 60 steps of FAST (measured without its jitter), the middle 80 % of
conv3_3's units come to stay within 1 % of their last value after 49 to 54, of conv4_3's after 55 to 57.
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
from jax.core import Tracer
from jax.sharding import Mesh

from stjax.ascent import ascend
from stjax.ascent.ascend import State
from stjax.ascent.optimizers import Weights
from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.ascent.transforms import centre
from stjax.atlas import plan, sharding
from stjax.atlas.plan import Job
from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.networks.geometry import Probe
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
    gradient_max: of each stream, the largest |d a / d x| of all steps; 0 where it never received a gradient.
    """

    activation_start: Any
    activation: Any
    value: Any
    penalties: dict[str, Any]
    gradient_max: Clip


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


@functools.partial(jit, static_argnames=("probe", "recipe", "mesh"))
def begin(
    probe: Probe,
    recipe: Recipe,
    params: Params,
    key: Array,
    units: Array,
    weights: Weights,
    start: Clip,
    starts: Array | None = None,
    mesh: Mesh | None = None,
) -> tuple[State, Array, Clip]:
    """States of a chunk before its first step, keys of its units, and their largest gradients_max so far."""

    def here(own: Any, whole: Any) -> tuple[State, Array, Clip]:
        (units, starts), (key, start) = own, whole
        keys = jax.vmap(lambda unit, number: plan.unit_key(key, probe.layer, unit, number))(units, starts)
        states = jax.vmap(lambda k: ascend.init(recipe, k, probe.clip(recipe.margin), start))(keys)
        return states, keys, jax.tree.map(lambda _: jnp.zeros(units.shape), probe.clip())

    starts = jnp.zeros_like(units) if starts is None else starts
    return sharding.on_each(mesh, here, (units, starts), (key, start))


@functools.partial(jit, static_argnames=("probe", "recipe", "mesh"), donate_argnames=("states", "gradient_max"))
def advance(
    probe: Probe,
    recipe: Recipe,
    params: Params,
    keys: Array,
    units: Array,
    weights: Weights,
    states: State,
    gradient_max: Clip,
    count: Array | None,
    mesh: Mesh | None = None,
) -> tuple[State, Clip]:
    """`count` steps of a chunk in a compiled loop, or one step where count is None."""

    def here(own: Any, whole: Any) -> tuple[State, Clip]:
        (keys, units, weights, *begun), (params, count) = own, whole

        def once(_: Any, carry: tuple[State, Clip]) -> tuple[State, Clip]:
            states, gradient_max = carry
            step = functools.partial(ascend.step, probe.network, recipe, params)
            states, info = jax.vmap(step)(keys, units, weights, states)
            return states, jax.tree.map(jnp.maximum, gradient_max, info.gradient_max)

        return once(0, tuple(begun)) if count is None else jax.lax.fori_loop(0, count, once, tuple(begun))

    return sharding.on_each(mesh, here, (keys, units, weights, states, gradient_max), (params, count))


@functools.partial(jit, static_argnames=("probe", "recipe", "mesh"))
def measure(
    probe: Probe,
    recipe: Recipe,
    params: Params,
    units: Array,
    weights: Weights,
    clips: Clip,
    mesh: Mesh | None = None,
) -> tuple[Clip, Summary]:
    """The windows that are stored, and their numbers: at the centre of the canvas, without jitter."""

    def one(params: Params, unit: Array, strength: Weights, clip: Clip) -> tuple[Clip, Summary]:
        window = centre(clip, recipe.margin)
        # Also where products are rounded by default (TPU, tf32): these numbers are what a result is checked by.
        with jax.default_matmul_precision("highest"):
            a, activation = ascend.read(probe.network, recipe, params, window, unit)
        each = ascend.penalties(recipe, window, strength)
        value = strength.activation * a - sum(each.values(), start=jnp.zeros(()))
        return window, Summary(activation, activation, value, each, Clip())

    def here(own: Any, params: Params) -> tuple[Clip, Summary]:
        return jax.vmap(functools.partial(one, params))(*own)

    return sharding.on_each(mesh, here, (units, weights, clips), params)


def chunk_of(probe: Probe, recipe: Recipe, params: Params, *, chunk: int | None = None, precision: Any = None) -> int:
    """How many jobs each device steps together. A part of a result's identity, as are the programs that follow from it.

    Args:
      chunk: exactly so many; None for the layer's own number on this kind of device.
      precision: as for `visualize_units`.
    """
    return chunk or plan.chunk(_rounded(probe, precision), _aimed(recipe, probe), params)


def climb(
    probe: Probe,
    recipe: Recipe,
    params: Params,
    key: Array,
    asked: list[Job],
    *,
    ahat: Any,
    kappa: float = KAPPA,
    chunk: int | None = None,
    start: Clip | None = None,
    precision: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[list[Found]]:
    """Finds every job, and yields them in the order asked, a chunk of each device once the next are under way.

    Args are those of `visualize_units`.
    """
    recipe = _aimed(recipe, probe)
    ahat = np.asarray(ahat, np.float32)
    check(probe, params, asked, ahat=ahat, kappa=kappa, chunk=chunk)
    # The numbers of the summary are those of `probe`; only the way up may be rounded.
    climbing = _rounded(probe, precision)
    slots = chunk_of(probe, recipe, params, chunk=chunk, precision=precision)
    line = sharding.unit_mesh(devices, most=-(-len(asked) // slots))
    mesh = line if line.size > 1 else None
    params, key, start = sharding.everywhere(line, (params, key, start or Clip()))
    in_loop = jax.default_backend() != "cpu"
    call = min(STEPS_PER_CALL, recipe.steps) if in_loop else 1
    finished: list[tuple[list[Job], Clip, Summary]] = []
    done = 0

    def report(steps: int, jobs: int) -> None:
        if progress:
            at = Progress(done, len(asked), done * recipe.steps + steps * jobs, len(asked) * recipe.steps)
            progress(at)

    while done < len(asked):
        part = asked[done : done + slots * line.size]
        padded = part + [part[-1]] * (slots * line.size - len(part))
        try:
            units, starts, weights = sharding.spread(
                line,
                (
                    np.asarray([job.unit for job in padded]),
                    np.asarray([job.start for job in padded]),
                    weigh(recipe, probe.rho, ahat, kappa, padded),
                ),
            )
            states, keys, gradient_max = begin(probe, recipe, params, key, units, weights, start, starts, mesh)
            _, first = measure(probe, recipe, params, units, weights, states.clip, mesh)
            for steps in range(0, recipe.steps, call):
                report(steps, len(part))
                count = jnp.asarray(min(call, recipe.steps - steps)) if in_loop else None
                states, gradient_max = advance(
                    climbing, recipe, params, keys, units, weights, states, gradient_max, count, mesh
                )
                while finished:
                    yield _fetch(*finished.pop())
                jax.block_until_ready(gradient_max)
            clips, last = measure(probe, recipe, params, units, weights, states.clip, mesh)
            last = last._replace(activation_start=first.activation, gradient_max=gradient_max)
            for array in jax.tree.leaves((clips, last)):
                array.copy_to_host_async()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            while finished:
                yield _fetch(*finished.pop())
            if slots == 1:
                raise UsageError(f"one unit of {probe.layer} must fit the device's memory: it does not") from None
            # Not tried again by itself: in smaller chunks the same units come out otherwise.
            raise UsageError(
                f"a chunk must fit the device's memory: {slots} units of {probe.layer} do not; nearest: a chunk of "
                f"{slots // 2}, whose results are told apart from these"
            ) from None
        finished.append((part, clips, last))
        done += len(part)
        report(0, 0)
    while finished:
        yield _fetch(*finished.pop())


def _fetch(part: list[Job], clips: Clip, summary: Summary) -> list[Found]:
    clips, summary = jax.device_get((clips, summary))
    return [Found(job, *jax.tree.map(lambda a, i=i: a[i], (clips, summary))) for i, job in enumerate(part)]


def visualize_units(
    probe: Probe,
    recipe: Recipe,
    params: Params,
    key: Array,
    *,
    units: Iterable[int],
    chi: Iterable[float] = (10.0, 5.0, 1.0, 0.0),
    starts: int | None = None,
    ahat: Any,
    kappa: float = KAPPA,
    chunk: int | None = None,
    start: Clip | None = None,
    precision: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Clip, Summary]:
    """For many units at once, the input that excites each most: argmax of equation (1).

    On one kind of device a result's bytes depend on the weights, recipe, layer, unit, chi, start, key, chunk and
    precision alone. Its own loop compiles and runs it: call it outside jit, vmap and grad.

    Args:
      probe: of the layer, from `stjax.probe(module, layer)`, or your own for another module.
      recipe: how, e.g. `stjax.FAST`; its objective is the layer's centre unit unless it is already aimed.
      params: of the network.
      key: `jax.random.key(seed)`; a unit's own key follows from it, the layer, the unit and the start.
      units: channel numbers.
      chi: slownesses in units of kappa, each >= 0. A layer that sees no motion is run once.
      starts: so many optima of each unit, from as many seeds; the first is what a run without starts finds.
      ahat: (channels,), the largest recorded activation of each unit, > 0 for those that are asked for.
      kappa: weight of the spatial variation, >= 0.
      chunk: units that each device steps together, exactly; the last chunk is padded. None for the layer's own
        number, `atlas.run.chunk_of`. Another chunk finds another optimum, as close as another start's.
      start: streams to begin from instead of noise.
      precision: of the network's arithmetic while climbing, e.g. jnp.bfloat16, for a module with a `dtype`;
        canvas, penalties and the numbers of the summary stay float32. None leaves the module as it is.
      devices: of this process, to spread the units over; None for all of them, as far as there is work for them.
      progress: called between steps.
    Returns:
      A Clip with axes (units, chi, ...), and a Summary with axes (units, chi), in the order asked: a unit or chi
      that is given twice is found once, and stands in both places. The axis of chi has length 1 for a layer
      that sees no motion. With `starts` a third axis counts them: (units, chi, starts, ...). Arrays are NumPy,
      float32.
    Raises:
      UsageError: a unit, chi, starts, ahat, kappa or chunk outside its range, a chunk that does not fit the
        device's memory, or a call from within jit, vmap or grad.
    """
    _outermost(params, key, ahat, start)
    units, chi = list(units), list(chi)
    asked = plan.jobs(probe, units, chi, 1 if starts is None else starts)
    parts = climb(
        probe,
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
    found = {one.job: (one.clip, one.summary) for part in parts for one in part}
    columns = [float(c) for c in chi] if asked[0].chi is not None else [None]
    order = [Job(int(unit), c, number) for unit in units for c in columns for number in range(starts or 1)]
    axes = (len(units), len(columns), *(() if starts is None else (starts,)))
    stacked = jax.tree.map(lambda *a: np.stack(a), *(found[job] for job in order))
    return jax.tree.map(lambda a: a.reshape(*axes, *a.shape[1:]), stacked)


def check(
    probe: Probe, params: Params, asked: list[Job], *, ahat: Any, kappa: float = KAPPA, chunk: int | None = None
) -> None:
    """Refuses what cannot be run, before anything is compiled.

    Raises:
      UsageError: a unit, ahat, kappa or chunk outside its range.
    """
    if not kappa >= 0:
        raise UsageError(f"kappa must be >= 0: got {kappa:g}; nearest: 0")
    if chunk is not None and chunk < 1:
        raise UsageError(f"chunk must be at least 1: got {chunk}; nearest: 1")
    ahat, count = np.asarray(ahat), plan.num_units(probe, params)
    if ahat.shape != (count,):
        given = f"the shape {ahat.shape}" if ahat.ndim else f"the single number {ahat:g}"
        nearest = f"np.full({count}, {ahat:g})" if not ahat.ndim else f"one of shape ({count},)"
        raise UsageError(
            f"ahat must have one number for each of the {count} units of {probe.layer}: got {given}; nearest: {nearest}"
        )
    for unit, *_ in asked:
        if not 0 <= unit < count:
            near = min(max(unit, 0), count - 1)
            raise UsageError(f"a unit of {probe.layer} must be in 0..{count - 1}: got {unit}; nearest: {near}")
        if not (ahat[unit] > 0 and np.isfinite(ahat[unit])):
            raise UsageError(f"ahat must be a number > 0: {probe.layer} unit {unit} has {ahat[unit]:g}")


def _outermost(params: Any, key: Any, *others: Any) -> None:
    # Within a trace even a constant is traced.
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, key, others, jnp.zeros(())))):
        raise UsageError(
            "visualize_units must be called outside jit, vmap and grad, for it compiles and runs a loop of its own; "
            "nearest: stjax.step, which may be called anywhere"
        )


def _aimed(recipe: Recipe, probe: Probe) -> Recipe:
    return recipe.bind(probe.layer, probe.stride) if recipe.objective is None else recipe


def _rounded(probe: Probe, precision: Any) -> Probe:
    if precision is None:
        return probe
    network: Any = probe.network
    if not hasattr(network, "dtype"):
        raise UsageError(f"precision needs a module with a dtype: {type(network).__name__} has none; leave it out")
    return dataclasses.replace(probe, network=network.clone(dtype=jnp.dtype(precision)))


def weigh(recipe: Recipe, rho: int, ahat: np.ndarray, kappa: float, padded: list[Job]) -> Weights:
    """The weights of equation (1) of each job of a chunk."""
    each = [recipe.weights(rho=rho, ahat=float(ahat[job.unit]), kappa=kappa, chi=job.chi or 0.0) for job in padded]
    return jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *each)
