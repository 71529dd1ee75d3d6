"""Many inputs at once: a unit's result is its own, whatever runs beside it, and a layer is compiled once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from conftest import ask

from stjax import (
    FAST,
    MAHENDRAN,
    Clip,
    Direction,
    Model,
    Request,
    Statistics,
    TwoStream,
    UsageError,
    probe,
    visualize_units,
)
from stjax.atlas import plan
from stjax.atlas.plan import Job
from stjax.atlas.run import Advance, run_jobs
from stjax.convert.store import parameter_shapes
from stjax.convert.tree import unflatten

SEED = 3
RECORDED_KEY = (975041323, 3557026692)
STEPS = 4
QUICK = dataclasses.replace(MAHENDRAN, steps=STEPS)
# Another program, a loop with plain convolutions, sums in another order: 1e-6 of a gradient a step. Four steps, in
# which the update divides by the gradient's own size, multiply that by about ten; the canvas spans some 50 grey levels.
GREY_LEVELS = 2e-3
RTOL = 1e-4
CHUNK = 4
LAYER = "conv3_fusion"
DEVICE = jax.devices()[:1]


def run(network, params, ahat, layer=LAYER, devices=DEVICE, progress=None, **changes):
    # One device: tests/test_sharding.py spreads the same work over all.
    settings = {"recipe": QUICK, "seed": SEED, "chunk": CHUNK} | changes
    return visualize_units(ask(network, params, ahat, layer, **settings), devices=devices, progress=progress)


def same(actual, expected):
    """Two results of the same jobs, to the last bit."""
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def alike(actual, expected):
    """Two results of the same jobs, by two programs."""
    for a, e in zip(jax.tree.leaves(actual[0]), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(a, e, atol=GREY_LEVELS)
    for a, e in zip(jax.tree.leaves(actual[1]), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(a, e, rtol=RTOL, atol=RTOL)


def window_of(name, network):
    """The side of what a unit of a layer is shown, which is square here."""
    (side,) = {each.length(axis) for each in probe(network, name).inputs for axis in ("height", "width")}
    return side


def pick(results, rows, columns):
    return jax.tree.map(lambda a: a[np.ix_(rows, columns)], results)


@pytest.fixture(scope="module")
def reference(network, params, ahat):
    return run(network, params, ahat, units=range(5), chi=(10, 1, 0))


@pytest.mark.parametrize(
    ("changes", "rows", "columns"),
    [
        ({"units": [3], "chi": (1,)}, [3], [1]),
        ({"units": [4, 0, 2], "chi": (0, 10)}, [4, 0, 2], [2, 0]),
        ({"units": [2, 3], "chi": (10, 1, 0), "devices": jax.devices()[:2]}, [2, 3], [0, 1, 2]),
        ({"units": [3, 3, 0], "chi": (1, 10, 1)}, [3, 3, 0], [1, 0, 1]),
    ],
    ids=["alone", "another order, a part of chi", "two devices, padded", "asked for twice: in both places"],
)
def test_a_result_is_its_unit_s_own(network, params, ahat, reference, changes, rows, columns):
    same(run(network, params, ahat, **changes), pick(reference, rows, columns))


def test_a_mate_that_explodes_hurts_nobody(network, params, ahat, reference):
    """Nothing is shared: not a norm, not a draw, not even where a neighbour's weight overflows."""
    tiny = ahat[LAYER].copy()
    tiny[1] = 1e-37
    results = run(network, params, {LAYER: tiny}, units=range(5), chi=(10, 1, 0))
    assert not np.isfinite(results[1].value[1]).any()
    same(pick(results, [0, 2, 3, 4], [0, 1, 2]), pick(reference, [0, 2, 3, 4], [0, 1, 2]))


def test_seed_and_layer_and_unit_make_the_start():
    keys = {
        (seed, layer, unit): tuple(jax.random.key_data(plan.unit_key(plan.seed_key(seed), layer, unit)).tolist())
        for seed in (0, 1) for layer in ("fc4", "classes") for unit in (0, 1)
    }  # fmt: skip
    keys |= {
        ("start", start): tuple(jax.random.key_data(plan.unit_key(jax.random.key(0), "fc4", 0, start)).tolist())
        for start in (1, 2)
    }
    assert len(set(keys.values())) == len(keys)
    # Frozen: another key for the same (seed, layer, unit) would make every stored result irreproducible.
    assert keys[0, "fc4", 0] == RECORDED_KEY


def test_units_chi_kappa_and_ahat_cost_no_second_compilation(network, params, ahat):
    log: list[int] = []
    run(toys.Counting(network, log), params, ahat, units=[0, 1, 2], chi=(10,), chunk=2)
    traces = len(log)
    for sweep in (
        {"units": [4, 5, 6, 7], "chi": (3, 0), "chunk": 2},
        {"units": [1, 2], "chi": (0,), "kappa": 0.5, "chunk": 2},
    ):
        run(toys.Counting(network, log), params, {LAYER: 2 * ahat[LAYER]}, seed=9, **sweep)
    again = jax.tree.map(lambda a: a * 1.01, params)
    run(toys.Counting(network, log), again, ahat, units=[0, 1], chi=(1,), chunk=2)
    # Once for the step's gradient, once for the measurement.
    assert (traces, len(log)) == (2, 2)


def test_a_layer_that_sees_no_motion_runs_once(network, params, ahat):
    clips, summary = run(network, params, ahat, "appearance/conv1_2", units=[0, 1], chi=(10, 5, 1, 0))
    assert clips.motion is None
    assert clips.appearance.shape[:2] == summary.activation.shape == (2, 1)
    assert summary.penalties["temporal"].max() == 0


def test_results_have_axes_units_and_chi(network, reference):
    clips, summary = reference
    window = window_of(LAYER, network)
    assert window < network.input_size
    assert clips.appearance.shape == (5, 3, 1, window, window, 3)
    assert clips.motion.shape == (5, 3, 1, 3, window, window, 2)
    assert all(leaf.shape == (5, 3) for leaf in jax.tree.leaves(summary))
    assert {x.dtype for x in clips} == {np.dtype("float32")}


def test_chi_slows(network, params, ahat):
    recipe = dataclasses.replace(FAST, steps=15)
    clips, _ = run(network, params, ahat, recipe=recipe, units=range(4), chi=(100, 0))
    change = np.abs(np.diff(clips.motion, axis=3)).mean(axis=(0, 2, 3, 4, 5, 6))
    assert change[0] < 0.7 * change[1]


def test_a_unit_without_gradient_is_told(network, params, ahat):
    layer = params["conv3_fusion"]
    still = {"kernel": layer["kernel"].at[:, 2].set(0.0), "bias": layer["bias"]}
    _, summary = run(network, {**params, "conv3_fusion": still}, ahat, units=[1, 2, 3], chi=(1, 0))
    for largest in summary.gradient_max:
        assert (largest > 0).tolist() == [[True, True], [False, False], [True, True]]
    np.testing.assert_allclose(summary.activation[1], layer["bias"][2], rtol=1e-6)


@pytest.mark.parametrize("layer", ["conv3_fusion", "classes"], ids=["cone", "whole input, with jitter"])
def test_what_is_told_is_of_the_stored_array(network, params, ahat, reference, layer):
    """Anyone who runs the network on the array must get the number beside it: no jitter, no last-but-one step."""
    own = probe(network, layer)
    results = reference if layer == LAYER else run(network, params, ahat, layer, units=range(5), chi=(10, 1, 0))
    clips, summary = pick(results, [1, 4], [1])
    assert clips.appearance.shape[2:] == own.canvas().appearance.shape
    weights = QUICK.weights(rho=own.rho, ahat=1.0, chi=1.0)
    apply = jax.jit(own.network.apply)
    for row, unit in enumerate((1, 4)):
        clip = Clip(*(jnp.asarray(x[row, 0]) for x in clips))
        a = float(apply({"params": params}, clip)[1][layer][0, 0, 0, unit])
        assert float(summary.activation[row, 0]) == pytest.approx(a, rel=1e-4)
        for r in QUICK.regularizers:
            expected = float(weights.penalties[r.name] * r(own.inputs, clip))
            assert float(summary.penalties[r.name][row, 0]) == pytest.approx(expected, rel=1e-4)
        value = 1e4 / (own.rho**2 * ahat[layer][unit]) * a - sum(float(p[row, 0]) for p in summary.penalties.values())
        assert float(summary.value[row, 0]) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("layer", "on_cpu", "elsewhere"),
    [
        ("appearance/conv1_1", 64, 32),
        ("motion/conv3_1", 16, 32),
        ("appearance/conv3_3", 8, 32),
        ("motion/conv4_3", 8, 32),
        ("appearance/conv5_3", 4, 8),
        ("motion/conv5_3", 4, 8),
        ("conv5_fusion", 2, 4),
        ("classes", 1, 4),
    ],
)
def test_a_chunk_is_the_layer_s_own(layer, on_cpu, elsewhere, monkeypatch):
    """Frozen: another chunk would make every stored result of that layer irreproducible."""
    network = TwoStream(num_classes=10)
    shapes = unflatten({n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in parameter_shapes(network).items()})
    ones = {each.name: np.ones(each.units) for each in network.layers}

    def size(**changes):
        return ask(network, shapes, ones, layer, recipe=dataclasses.replace(FAST, steps=1), **changes).chunk_size

    assert size() == on_cpu
    assert size(chunk=5) == 5
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert size() == elsewhere


def test_starts_are_one_more_axis_and_the_first_is_the_seed_s_own(network, params, ahat, reference):
    results = run(network, params, ahat, units=[3, 1], chi=(1, 0), starts=3)
    clips, summary = results
    window = window_of(LAYER, network)
    assert clips.motion.shape == (2, 2, 3, 1, 3, window, window, 2)
    assert {leaf.shape for leaf in jax.tree.leaves(summary)} == {(2, 2, 3)}
    same(jax.tree.map(lambda a: a[:, :, 0], results), pick(reference, [3, 1], [1, 2]))
    begun = summary.activation_start
    np.testing.assert_array_equal(begun[:, 0], begun[:, 1])  # all chi of a start begin alike
    assert len(np.unique(begun)) == 6
    # As many as are asked for make no difference to one of them.
    fewer = run(network, params, ahat, units=[3, 1], chi=(1, 0), starts=2)
    same(jax.tree.map(lambda a: a[:, :, :2], results), fewer)


def test_progress_counts_every_step_once_and_ends_at_the_total(network, params, ahat):
    log: list[Advance] = []
    run(network, params, ahat, units=range(3), chi=(1, 0), chunk=4, progress=log.append)
    steps = [at.unit_steps for at in log]
    assert steps == sorted(steps)
    assert log[-1] == Advance(6, 6, 6 * STEPS, 6 * STEPS)
    # Linear: two chunks of three jobs, each reported before its steps and once at its end.
    assert len(log) == 2 * (STEPS + 1)


def test_jobs_are_asked_for_once(network):
    own = probe(network, LAYER)
    assert plan.jobs(own, [2, 0, 2], [1, 1.0, 0]) == [Job(2, 1.0), Job(2, 0.0), Job(0, 1.0), Job(0, 0.0)]
    assert plan.jobs(own, [2], [1, 0], 2) == [Job(2, 1.0), Job(2, 1.0, 1), Job(2, 0.0), Job(2, 0.0, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": [8]}, r"must be in 0\.\.7: got 8; nearest: 7"),
        ({"units": [-1]}, r"must be in 0\.\.7: got -1; nearest: 0"),
        ({"units": []}, "at least one unit and one chi"),
        ({"chi": ()}, "at least one unit and one chi"),
        ({"chi": (-1,)}, "chi must be a number >= 0"),
        ({"chi": (float("nan"),)}, "chi must be a number >= 0"),
        ({"chi": (float("inf"),)}, "chi must be a number >= 0"),
        ({"kappa": -1.0}, "kappa must be >= 0"),
        ({"kappa": float("nan")}, "kappa must be >= 0"),
        ({"kappa": float("inf")}, "kappa must be >= 0"),
        ({"recipe": dataclasses.replace(QUICK, objective=Direction(LAYER))}, "a direction is none"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"seed": -1}, r"the seed must be in 0\.\.2\^64-1, the bits of a key: got -1; nearest: 0"),
        ({"seed": 1 << 64}, r"got 18446744073709551616; nearest: 18446744073709551615"),
        ({"starts": 0}, "starts must be at least 1: got 0; nearest: 1"),
        ({"ahat": np.zeros(8)}, "ahat must be a number > 0"),
        ({"ahat": np.ones(9)}, r"one number for each of the 8 units of conv3_fusion: got the shape \(9,\)"),
        ({"ahat": np.ones((8, 1))}, r"got the shape \(8, 1\); nearest: one of shape \(8,\)"),
        ({"ahat": 1.0}, r"got the shape \(\); nearest: one of shape \(8,\)"),
        (
            {"ahat": None},
            r"must have recorded statistics \(ahat\): slim has none for conv3_fusion; nearest",
        ),
        ({"ahat": np.full(8, np.nan)}, "ahat must be a number > 0"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused_before_it_starts(network, params, changes, message):
    ahat = changes.get("ahat", np.ones(8))
    known = {} if ahat is None else {LAYER: ahat}
    changes = {name: value for name, value in changes.items() if name != "ahat"}
    with pytest.raises(UsageError, match=message) as refused:
        ask(network, params, known, LAYER, **{"chi": (1,), "recipe": QUICK} | changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (8, r"must be in 0\.\.7: got 8; nearest: 7"),
        (-1, r"must be in 0\.\.7: got -1; nearest: 0"),
        (5, "ahat must be a number > 0: conv3_fusion unit 5 has 0"),
    ],
)
def test_jobs_that_the_request_does_not_have_are_checked_as_well(network, params, unit, message):
    ahat = np.ones(8)
    ahat[5] = 0.0
    request = ask(network, params, {LAYER: ahat}, LAYER, recipe=QUICK, chunk=1)
    with pytest.raises(UsageError, match=message):
        list(run_jobs(request, [Job(unit, 1.0)], devices=DEVICE))


def test_a_request_is_of_one_layer_and_says_what_it_needs(network):
    with pytest.raises(TypeError, match="units"):
        Request(model=Model(name="", network=network, params={}, statistics=Statistics({}, "")), layer=LAYER)
    with pytest.raises(UsageError, match="'conv3_fusio' is not; nearest: conv3_fusion"):
        ask(network, {}, {}, "conv3_fusio")


def test_without_a_recipe_the_role_of_the_layer_chooses(network, params, ahat):
    chosen = {
        name: ask(network, params, ahat, name).unbound.name for name in ("motion/conv2_1", LAYER, "fc4", "classes")
    }
    assert chosen == {"motion/conv2_1": "fast", LAYER: "fast", "fc4": "global", "classes": "global"}


@pytest.mark.parametrize(
    "within",
    [
        jax.jit,
        jax.vmap,
        lambda find: jax.grad(lambda scale: find(scale)[1].value.sum()),
        lambda find: jax.jit(lambda _: find(1.0)),
    ],
    ids=["jit", "vmap", "grad", "jit, nothing traced"],
)
def test_a_call_from_within_a_transformation_is_refused(network, params, ahat, within):
    def find(scale):
        scaled = jax.tree.map(lambda a: a * scale, params)
        return visualize_units(ask(network, scaled, ahat, LAYER, recipe=QUICK))

    with pytest.raises(UsageError, match="outside jit, vmap and grad"):
        within(find)(np.float32(1.0) if within is not jax.vmap else np.ones(2, np.float32))


@pytest.mark.parametrize(
    "within",
    [jax.jit, jax.vmap, lambda find: jax.grad(lambda ahat: find(ahat)[1].value.sum())],
    ids=["jit", "vmap", "grad"],
)
def test_a_traced_ahat_is_refused_alike(network, params, within):
    def find(ahat):
        return visualize_units(ask(network, params, {LAYER: ahat}, LAYER, recipe=QUICK))

    with pytest.raises(UsageError, match="outside jit, vmap and grad"):
        within(find)(np.ones((8, 8), np.float32) if within is jax.vmap else np.ones(8, np.float32))


def test_an_accelerator_runs_many_steps_in_one_call_and_finds_the_same(network, params, ahat, monkeypatch):
    """No accelerator is at hand in tests: its loop and its plain convolutions run on the CPU instead."""
    quick = dataclasses.replace(QUICK, steps=5)
    expected = run(network, params, ahat, recipe=quick, units=range(3), chi=(1,))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr("stjax.atlas.run.STEPS_PER_CALL", 2)
    jax.clear_caches()
    seen: list[Advance] = []
    actual = run(network, params, ahat, recipe=quick, units=range(3), chi=(1,), progress=seen.append)
    jax.clear_caches()
    alike(actual, expected)
    assert [at.unit_steps for at in seen] == [0, 6, 12, 15]


def test_rounded_arithmetic_is_for_the_way_up_alone(network, params, ahat):
    """bfloat16 has 8 bits: the optimum moves a little, and its stated activation is still exact."""
    clip, summary = run(network, params, ahat, units=range(2), chi=(1,), precision=jnp.bfloat16)
    one = Clip(*(jnp.asarray(x[1, 0]) for x in clip))
    _, activations = probe(network, LAYER).network.apply({"params": params}, one)
    np.testing.assert_allclose(summary.activation[1, 0], activations["conv3_fusion"][0, 0, 0, 1], rtol=1e-4)
