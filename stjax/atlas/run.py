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

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from stjax.ascent import step
from stjax.ascent.optimizers import Weights
from stjax.ascent.recipes import Recipe
from stjax.ascent.step import AscentState
from stjax.ascent.transforms import centre
from stjax.atlas import plan, sharding
from stjax.atlas.plan import Job
from stjax.atlas.request import Request, outermost
from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.types import Clip, Input, Params, Probe, shapes

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


class Advance(NamedTuple):
    """How far a run has come, in jobs and in steps of jobs."""

    done: int
    total: int
    unit_steps: int
    total_unit_steps: int


class Result(NamedTuple):
    """One finished job, on the host."""

    job: Job
    clip: Clip
    summary: Summary


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a compiled step of a chunk is made of, besides the shapes of its arguments: static.

    Args:
      probe: of the layer.
      recipe: bound to it.
      mesh: the devices that a chunk is spread over; None for one.
    """

    probe: Probe
    recipe: Recipe
    mesh: Mesh | None = None


class Chunk(NamedTuple):
    """The jobs that are stepped together, as arrays: units, starts, and the weights of equation (1) of each."""

    units: Array
    starts: Array
    weights: Weights


class ChunkState(NamedTuple):
    """A chunk under way: its keys, the states of its ascents, and the largest gradient of each stream so far."""

    keys: Array
    states: AscentState
    gradient_max: Clip


@functools.partial(jit, static_argnames=("program",))
def start_chunk(program: Program, key: Array, chunk: Chunk, initial: Clip) -> ChunkState:
    """A chunk before its first step."""
    probe, recipe = program.probe, program.recipe

    def here(own: Any, whole: Any) -> ChunkState:
        (units, starts), (key, initial) = own, whole
        keys = jax.vmap(lambda unit, start: plan.unit_key(key, probe.layer.name, unit, start))(units, starts)
        states = jax.vmap(lambda k: step.start_ascent(recipe, k, probe.canvas(recipe.margin), initial))(keys)
        return ChunkState(keys, states, jax.tree.map(lambda _: jnp.zeros(units.shape), shapes(recipe.inputs)))

    return sharding.on_each(program.mesh, here, (chunk.units, chunk.starts), (key, initial))


@functools.partial(jit, static_argnames=("program",), donate_argnames=("state",))
def step_chunk(program: Program, params: Params, chunk: Chunk, state: ChunkState, count: Array | None) -> ChunkState:
    """`count` steps of a chunk in a compiled loop, or one step where count is None."""
    probe, recipe = program.probe, program.recipe

    def here(own: Any, whole: Any) -> ChunkState:
        (units, weights, state), (params, count) = own, whole

        def once(_: Any, state: ChunkState) -> ChunkState:
            keys, states, gradient_max = state
            one = functools.partial(step.step_ascent, probe.network, recipe, params)
            states, info = jax.vmap(one)(keys, units, weights, states)
            return ChunkState(keys, states, jax.tree.map(jnp.maximum, gradient_max, info.gradient_max))

        return once(0, state) if count is None else jax.lax.fori_loop(0, count, once, state)

    return sharding.on_each(program.mesh, here, (chunk.units, chunk.weights, state), (params, count))


@functools.partial(jit, static_argnames=("program",))
def measure_chunk(program: Program, params: Params, chunk: Chunk, clips: Clip) -> tuple[Clip, Summary]:
    """The windows that are stored, and their numbers: at the centre of the canvas, without jitter."""
    probe, recipe = program.probe, program.recipe

    def one(params: Params, unit: Array, weights: Weights, clip: Clip) -> tuple[Clip, Summary]:
        window = centre(recipe.rendered(clip), recipe.margin)
        # Also where products are rounded by default (TPU, tf32): these numbers are what a result is checked by.
        with jax.default_matmul_precision("highest"):
            a, activation = step.read(probe.network, recipe, params, window, unit, weights.moments)
        # Of what is stored, or of the canvas where that is of another form.
        each = step.penalties(recipe, window if recipe.parametrization is None else clip, weights)
        value = weights.activation * a - sum(each.values(), start=jnp.zeros(()))
        return window, Summary(activation, activation, value, each, Clip())

    def here(own: Any, params: Params) -> tuple[Clip, Summary]:
        return jax.vmap(functools.partial(one, params))(*own)

    return sharding.on_each(program.mesh, here, (chunk.units, chunk.weights, clips), params)


def run_jobs(
    request: Request,
    jobs: Sequence[Job] | None = None,
    *,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Advance], None] | None = None,
) -> Iterator[list[Result]]:
    """Finds jobs, and yields them in their order, a chunk of each device once the next are under way.

    Args:
      request: what is asked for.
      jobs: those to find; all of the request if None.
      devices, progress: as for `visualize_units`.
    Raises:
      UsageError: a job of a unit that the layer does not have, or a chunk that does not fit the device's memory.
    """
    jobs = list(request.jobs if jobs is None else jobs)
    request.check_jobs(jobs)
    recipe, slots = request.bound, request.chunk_size
    line = sharding.unit_mesh(devices, most=-(-len(jobs) // slots))
    mesh = line if line.size > 1 else None
    # The numbers of the summary are those of `probe`; only the way up may be rounded.
    measuring = Program(probe=request.probe, recipe=recipe, mesh=mesh)
    ascending = Program(probe=request.rounded_probe, recipe=recipe, mesh=mesh)
    params, key, initial = sharding.everywhere(line, (request.model.params, request.key, request.initial or Clip()))
    in_loop = jax.default_backend() != "cpu"
    call = min(STEPS_PER_CALL, recipe.steps) if in_loop else 1
    finished: list[tuple[list[Job], Clip, Summary]] = []
    done = 0

    def report(steps: int, under_way: int) -> None:
        if progress:
            at = done * recipe.steps + steps * under_way
            progress(Advance(done, len(jobs), at, len(jobs) * recipe.steps))

    while done < len(jobs):
        part = jobs[done : done + slots * line.size]
        padded = part + [part[-1]] * (slots * line.size - len(part))
        try:
            chunk = sharding.spread(line, _chunk(request, padded))
            state = start_chunk(measuring, key, chunk, initial)
            _, first = measure_chunk(measuring, params, chunk, state.states.clip)
            for steps in range(0, recipe.steps, call):
                report(steps, len(part))
                count = jnp.asarray(min(call, recipe.steps - steps)) if in_loop else None
                state = step_chunk(ascending, params, chunk, state, count)
                while finished:
                    yield _fetch(*finished.pop())
                jax.block_until_ready(state.gradient_max)
            clips, last = measure_chunk(measuring, params, chunk, state.states.clip)
            last = last._replace(activation_start=first.activation, gradient_max=_of(recipe.shown, state.gradient_max))
            for array in jax.tree.leaves((clips, last)):
                array.copy_to_host_async()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            while finished:
                yield _fetch(*finished.pop())
            raise _too_large(request) from None
        finished.append((part, clips, last))
        done += len(part)
        report(0, 0)
    while finished:
        yield _fetch(*finished.pop())


def visualize_units(
    request: Request,
    *,
    devices: Sequence[Any] | None = None,
    progress: Callable[[Advance], None] | None = None,
) -> tuple[Clip, Summary]:
    """For many units at once, the input that excites each most: argmax of equation (1).

    On one kind of device a result's bytes depend on the weights, recipe, layer, unit, chi, start, seed, chunk and
    precision alone. Its own loop compiles and runs it: call it outside jit, vmap and grad.

    Args:
      request: of which layer and units, and how.
      devices: of this process, to spread the units over; None for all of them, as far as there is work for them.
      progress: called between steps.
    Returns:
      A Clip with axes (units, chi, ...), and a Summary with axes (units, chi), in the order asked: a unit or chi
      that is given twice is found once, and stands in both places. The axis of chi has length 1 for a layer none of
      whose inputs can be slow. With `starts` a third axis counts them: (units, chi, starts, ...). Arrays are NumPy,
      float32.
    Raises:
      UsageError: a chunk that does not fit the device's memory, or a call from within jit, vmap or grad.
    """
    outermost(request.model.params, request.initial)
    results = {
        one.job: (one.clip, one.summary)
        for part in run_jobs(request, devices=devices, progress=progress)
        for one in part
    }
    columns = [float(c) for c in request.chi] if request.probe.slows else [None]
    starts = range(request.starts or 1)
    order = [Job(int(unit), c, number) for unit in request.units for c in columns for number in starts]
    axes = (len(tuple(request.units)), len(columns), *(() if request.starts is None else (request.starts,)))
    stacked = jax.tree.map(lambda *a: np.stack(a), *(results[job] for job in order))
    return jax.tree.map(lambda a: a.reshape(*axes, *a.shape[1:]), stacked)


def _chunk(request: Request, jobs: Sequence[Job]) -> Chunk:
    """Jobs as arrays, with the weights of equation (1) of each."""
    recipe, probe = request.bound, request.probe
    given = {"rho": probe.rho, "kappa": request.kappa, "moments": request.model.moments}
    weights = [recipe.weights(ahat=float(request.ahat[job.unit]), chi=job.chi or 0.0, **given) for job in jobs]
    return Chunk(
        jnp.asarray([job.unit for job in jobs]),
        jnp.asarray([job.start for job in jobs]),
        jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *weights),
    )


def _of(inputs: tuple[Input, ...], clip: Clip) -> Clip:
    """The streams of a clip that are inputs; a canvas may have others."""
    return Clip(**{each.name: getattr(clip, each.name) for each in inputs})


def _fetch(part: list[Job], clips: Clip, summary: Summary) -> list[Result]:
    clips, summary = jax.device_get((clips, summary))
    return [Result(job, *jax.tree.map(lambda a, i=i: a[i], (clips, summary))) for i, job in enumerate(part)]


def _too_large(request: Request) -> UsageError:
    slots, layer = request.chunk_size, request.layer
    if slots == 1:
        return UsageError(f"one unit of {layer} must fit the device's memory: it does not")
    # Not tried again by itself: in smaller chunks the same units come out otherwise.
    return UsageError(
        f"a chunk must fit the device's memory: {slots} units of {layer} do not; nearest: a chunk of {slots // 2}, "
        "whose results are told apart from these"
    )
