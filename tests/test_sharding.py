"""A chunk over eight devices: the same results, one compilation, and not a word between devices."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_params, slim

from stjax import FAST, PAPER, view, visualize_units
from stjax.atlas import plan, run, sharding

KEY = jax.random.key(3)
QUICK = dataclasses.replace(PAPER, steps=3)
# As in test_atlas.py: sums in another order, through three steps.
GREY_LEVELS, RTOL = 2e-3, 1e-4

DEVICES = jax.devices()
assert len(DEVICES) == 8, "conftest.py simulates eight"


def same(actual, expected):
    for (path, a), e in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=RTOL, atol=GREY_LEVELS, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(("layer", "chunk"), [("conv3_fusion", None), ("classes", 1)], ids=["padded", "two chunks"])
def test_eight_devices_find_what_one_finds(network, params, ahat, layer, chunk):
    shown = view(network, layer)
    asked = {"units": range(5), "chi": (10, 0), "ahat": ahat[layer], "chunk": chunk}
    one, all_of_them = (
        visualize_units(shown, QUICK, params, KEY, devices=devices, **asked) for devices in (DEVICES[:1], None)
    )
    same(all_of_them, one)


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


WIDE = {"widths": ((64,), (128,), (8,)), "input_size": 32}


@pytest.mark.parametrize(
    ("layer", "recipe", "changes", "backend"),
    [
        ("conv3_fusion", FAST, {}, "cpu"),
        ("conv3_fusion", PAPER, {}, "gpu"),
        ("classes", FAST, {}, "gpu"),
        ("classes", PAPER, {}, "cpu"),
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
    shown, params = view(network, layer), draw_params(network)
    quick = dataclasses.replace(recipe, steps=2)
    climbing = run.climb(shown, quick, params, KEY, plan.jobs(shown, [0, 1, 2], [1.0]), ahat=np.ones(8), slots=1)
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
    shown = view(network, "appearance/conv2_1")
    asked = plan.jobs(shown, range(8), [1.0])
    advance, states = run.advance, []

    def step(*arguments):
        states.append((arguments[6], advance(*arguments)))
        return states[-1][1]

    monkeypatch.setattr(run, "advance", step)
    with jax.log_compiles():
        climbing = run.climb(shown, QUICK, params, KEY, asked, ahat=ahat[shown.layer], slots=1, devices=DEVICES[:3])
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
    shown = view(network, "appearance/conv1_2")
    asked = plan.jobs(shown, range(3), [1.0])
    quick = dataclasses.replace(FAST, steps=2)
    list(run.climb(shown, quick, params, KEY, asked, ahat=ahat[shown.layer], slots=1, devices=DEVICES[:1]))
    assert events == ["step", "step", "step", "fetch", "step", "step", "fetch", "step", "fetch"]


def test_a_chunk_that_does_not_fit_the_device_is_halved(monkeypatch, network, params, ahat):
    """The memory model is an estimate; the device has the last word."""
    shown = view(network, "conv3_fusion")
    asked = plan.jobs(shown, range(5), [1.0])
    whole = [one for part in _climb(shown, params, asked, ahat, 8) for one in part]
    advance, sizes = run.advance, []

    def small(*arguments):
        sizes.append(len(arguments[4]))
        if len(arguments[4]) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        return advance(*arguments)

    monkeypatch.setattr(run, "advance", small)
    parts = list(_climb(shown, params, asked, ahat, 8))
    assert sizes[:3] == [8, 4, 2]
    assert [len(part) for part in parts] == [2, 2, 1]
    found = [one for part in parts for one in part]
    assert [one.job for one in found] == asked
    same([one.clip for one in found], [one.clip for one in whole])


def _climb(shown, params, asked, ahat, slots):
    return run.climb(shown, QUICK, params, KEY, asked, ahat=ahat[shown.layer], slots=slots, devices=DEVICES[:1])


@pytest.mark.parametrize(
    ("jobs", "devices", "chunk", "slots"), [(1, 1, 8, 1), (9, 1, 8, 5), (9, 8, 8, 2), (96, 4, 8, 8), (3, 8, None, 1)]
)
def test_slots_are_an_equal_part_of_all_jobs(network, params, jobs, devices, chunk, slots):
    shown = view(network, "conv3_fusion")
    assert run.slots_for(shown, FAST, params, jobs, devices, chunk=chunk) == slots
