"""One input climbs: every objective rises, a step is pure, and a run may stop and go on anywhere."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ask, draw_clip

from stjax import (
    FAST,
    MAHENDRAN,
    ChannelMean,
    ClassScore,
    Clip,
    Direction,
    Input,
    LogOdds,
    Neuron,
    TemporalVariation,
    UsageError,
    probe,
    start_ascent,
    step_ascent,
    visualize_units,
)
from stjax.ascent import recipes, step
from stjax.ascent.transforms import FieldDropout
from stjax.networks.discovery import describe

KEY = jax.random.key(7)
STEPS = 12


def bound(own, recipe, ahat, objective=None, unit=1, chi=1.0, steps=STEPS):
    recipe = dataclasses.replace(recipe, steps=steps, objective=objective).bind(own)
    weights = recipe.weights(rho=own.rho, ahat=float(ahat[own.layer.name][unit]), chi=chi)
    return recipe, jax.tree.map(lambda s: jnp.asarray(s, jnp.float32), weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def compiled(network, recipe, params, key, target, weights, state):
    return step_ascent(network, recipe, params, key, target, weights, state)


def climb(own, recipe, params, target, weights, state=None, steps=STEPS):
    state = state or start_ascent(recipe, KEY, own.canvas(recipe.margin))
    infos = []
    for _ in range(steps):
        state, info = compiled(own.network, recipe, params, KEY, target, weights, state)
        infos.append(info)
    return state, infos


OBJECTIVES = {
    "Neuron": ("conv3_fusion", None, 1),
    "Neuron of one stream": ("motion/conv2_1", None, 1),
    "ChannelMean": ("appearance/conv3_1", ChannelMean("appearance/conv3_1"), 1),
    "ClassScore": ("classes", ClassScore(), 1),
    "Direction": ("conv3_fusion", Direction("conv3_fusion"), jnp.asarray([0.6, -0.8] + [0.0] * 6)),
    "Sum": ("classes", ClassScore() + 0.1 * Neuron("classes") - 0.1 * ChannelMean("classes"), (1, 2, 3)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("recipe", [MAHENDRAN, FAST, recipes.GLOBAL], ids=lambda recipe: recipe.name)
def test_every_objective_rises(network, params, ahat, recipe, name):
    layer, objective, target = OBJECTIVES[name]
    objective = LogOdds() if recipe.odds and layer == "classes" and name != "Sum" else objective
    own = probe(network, layer, whole=getattr(objective, "whole", False))
    recipe, weights = bound(own, recipe, ahat, objective)
    start = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    _, infos = climb(own, recipe, params, target, weights, start)
    assert float(infos[-1].activation) > float(infos[0].activation)
    # Equation (1) as a whole: its best value comes after the start.
    values = [float(info.value) for info in infos]
    assert max(values[1:]) > values[0]
    assert all(np.isfinite(v) for v in values)
    # A step that drops every field of a short clip gives motion no gradient.
    often = any if recipe.name == "global" else all
    for largest in zip(*(info.gradient_max for info in infos), strict=True):
        assert largest[0] is None or often(float(gradient) > 0 for gradient in largest)


@pytest.mark.parametrize(
    "objective",
    [ChannelMean("conv3_fusion"), ClassScore("conv3_fusion"), Neuron("conv3_fusion") + ChannelMean("conv3_fusion")],
    ids=["ChannelMean", "ClassScore", "Sum"],
)
def test_an_objective_of_a_map_is_not_given_a_cone(network, params, ahat, objective):
    cone, whole = (probe(network, "conv3_fusion", whole=w) for w in (False, True))
    assert cone.inputs[0].shape[1] < whole.inputs[0].shape[1] == network.input_size
    with pytest.raises(UsageError, match=r"must be given the whole map of conv3_fusion.* whole=True"):
        bound(cone, FAST, ahat, objective)
    recipe, weights = bound(whole, FAST, ahat, objective)
    _, infos = climb(whole, recipe, params, 1, weights, steps=1)
    assert np.isfinite(infos[0].activation)


@pytest.mark.parametrize("whole", [False, True], ids=["a unit", "a map"])
def test_a_request_shows_as_much_as_its_objective_reads(network, params, ahat, whole):
    objective = Neuron("conv3_fusion") + ChannelMean("conv3_fusion") if whole else Neuron("conv3_fusion")
    recipe = dataclasses.replace(FAST, steps=1, objective=objective)
    request = ask(network, params, ahat, "conv3_fusion", chi=[0.0], recipe=recipe)
    assert request.probe == probe(network, "conv3_fusion", whole=whole)
    assert (request.bound.objective, request.bound.inputs) == (objective, request.probe.inputs)
    clips, summary = visualize_units(request)
    assert (clips.appearance.shape[3] == network.input_size) == whole
    # Of the map that is shown, not of another one.
    seen = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), clips)
    activations = request.probe.network.apply({"params": params}, seen)[1]
    np.testing.assert_allclose(summary.activation[0, 0], objective(activations, 0), rtol=1e-4)


def test_a_recipe_is_bound_once_and_to_what_fits_it(network):
    own = probe(network, "appearance/conv2_1")
    recipe = FAST.bind(own)
    assert (recipe.layer, recipe.inputs, recipe.objective) == ("appearance/conv2_1", own.inputs, Neuron(own.layer.name))
    assert recipe.transforms == FAST.jitter(own.stride)
    assert (FAST.layer, FAST.inputs, FAST.objective, FAST.transforms) == ("", (), None, ())
    with pytest.raises(UsageError, match="must be bound once: this one is bound to appearance/conv2_1"):
        recipe.bind(own)
    with pytest.raises(UsageError, match=r"must read the probe's layer, appearance/conv2_1: this one reads fc4"):
        dataclasses.replace(FAST, objective=Neuron("fc4")).bind(own)
    both = Neuron("appearance/conv2_1") + Neuron("appearance/conv1_1")
    with pytest.raises(UsageError, match="this one reads appearance/conv1_1"):
        dataclasses.replace(FAST, objective=both).bind(own)
    with pytest.raises(UsageError, match="must be one that the layer sees: appearance/conv2_1 sees appearance, not"):
        dataclasses.replace(FAST, fixed="motion").bind(own)
    assert dataclasses.replace(FAST, fixed="appearance").bind(own).fixed == "appearance"


def test_no_two_penalties_of_one_name():
    with pytest.raises(UsageError, match="two are named 'temporal'; rename one of them"):
        dataclasses.replace(FAST, regularizers=(*FAST.regularizers, TemporalVariation()))
    renamed = dataclasses.replace(FAST, regularizers=(*FAST.regularizers, TemporalVariation(name="slowness")))
    assert list(renamed.weights(rho=1.0, ahat=1.0).penalties) == ["norm", "spatial", "temporal", "slowness"]


def test_a_fixed_stream_outside_the_bound_is_brought_into_it(network):
    own = probe(network, "conv3_fusion")
    recipe = dataclasses.replace(FAST, fixed="motion", bound=10.0).bind(own)
    start = Clip(motion=jnp.full(own.canvas(1).motion.shape, 30.0))
    fixed = start_ascent(recipe, KEY, own.canvas(1), start).clip.motion
    np.testing.assert_allclose(jnp.linalg.norm(fixed, axis=-1), 10.0, rtol=1e-5)


@pytest.fixture(scope="module")
def fused(network, ahat):
    own = probe(network, "conv3_fusion")
    # Jitter, schedule and momentum all at once: whatever a step may depend on.
    recipe, weights = bound(own, FAST, ahat)
    return own, recipe, weights


def test_a_step_is_pure(fused, params):
    own, recipe, weights = fused
    state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    operands = (params, KEY, jnp.asarray(1), weights, state)
    copies = jax.tree.map(lambda a: np.array(a) if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a, operands)
    first, second = (compiled(own.network, recipe, *operands) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for a, b in zip(jax.tree.leaves(operands), jax.tree.leaves(copies), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)


def test_info_is_what_the_step_started_from(fused, params):
    own, recipe, weights = fused
    state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    _, info = compiled(own.network, recipe, params, KEY, 1, weights, state)
    expected = step.penalties(recipe, state.clip, weights)
    assert info.penalties.keys() == expected.keys() == {"norm", "spatial", "temporal"}
    for name, penalty in expected.items():
        np.testing.assert_allclose(info.penalties[name], penalty, rtol=1e-5)
    total = weights.activation * info.activation - sum(info.penalties.values())
    np.testing.assert_allclose(info.value, total, rtol=1e-5, atol=1e-5)


def test_a_run_may_stop_and_go_on(fused, params):
    own, recipe, weights = fused
    whole, _ = climb(own, recipe, params, 1, weights)
    half, _ = climb(own, recipe, params, 1, weights, steps=STEPS // 2)
    # Through NumPy and back, as through a file.
    stored = jax.tree.map(lambda a: jnp.asarray(np.array(a)), half)
    resumed, _ = climb(own, recipe, params, 1, weights, stored, steps=STEPS - STEPS // 2)
    assert int(resumed.step) == STEPS
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_a_fixed_stream_stays_exactly(fused, params, stream):
    own, recipe, weights = fused
    recipe = dataclasses.replace(recipe, fixed=stream)
    state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    # Some of it beyond the bound, which must not shorten what is fixed either.
    state = state._replace(clip=jax.tree.map(lambda x: 5 * x, state.clip))
    end, _ = climb(own, recipe, params, 1, weights, state, steps=4)
    for name in Clip._fields:
        same = np.array_equal(getattr(end.clip, name), getattr(state.clip, name))
        assert same == (name == stream)


@pytest.mark.parametrize("bound", [20.0, 160.0])
def test_no_pixel_is_longer_than_the_bound(fused, params, bound):
    own, recipe, weights = fused
    recipe = dataclasses.replace(recipe, bound=bound)
    # Without penalties and pulled hard: only the projection is left to stop it.
    weights = weights._replace(activation=weights.activation * 1e4)
    end, _ = climb(own, recipe, params, 1, weights)
    longest = max(float(jnp.sqrt((x * x).sum(-1)).max()) for x in end.clip)
    assert 0.9 * bound < longest <= bound * (1 + 1e-6)


# 120*120*3 draws: the quantile's own spread is below 0.2 %.
@pytest.mark.parametrize("recipe", [MAHENDRAN, FAST], ids=["mahendran", "fast"])
def test_the_start_has_the_stated_quantile(fused, recipe):
    state = start_ascent(recipe.bind(fused[0]), KEY, fused[0].canvas(100))
    for x in state.clip:
        # Signed, as the parent code takes it: of |x| it would be 0.95 of the largest, not 0.9.
        assert float(jnp.quantile(x, 0.95)) == pytest.approx(recipe.noise, rel=0.01)
        assert float(jnp.quantile(x, 0.05)) == pytest.approx(-recipe.noise, rel=0.01)
        assert float(jnp.abs(x).max()) == pytest.approx(recipe.noise / 0.9, rel=1e-3)
    assert pytest.approx(80 / 3**0.5) == MAHENDRAN.noise


def test_a_stream_starts_from_its_key_or_from_what_is_given(fused):
    own, recipe, _ = fused
    canvas = own.canvas(recipe.margin)
    given = jnp.full(canvas.motion.shape, 3.0)
    both, mixed = start_ascent(recipe, KEY, canvas), start_ascent(recipe, KEY, canvas, Clip(motion=given))
    alone = start_ascent(recipe, KEY, canvas._replace(motion=None))
    np.testing.assert_array_equal(mixed.clip.motion, given)
    np.testing.assert_array_equal(mixed.clip.appearance, both.clip.appearance)
    np.testing.assert_array_equal(alone.clip.appearance, both.clip.appearance)
    assert alone.clip.motion is None
    other = start_ascent(recipe, jax.random.key(8), canvas)
    assert not np.array_equal(other.clip.motion, both.clip.motion)


def test_jitter_follows_from_key_and_step_alone(network, params, ahat):
    own = probe(network, "classes")
    recipe, weights = bound(own, MAHENDRAN, ahat)
    assert recipe.margin > 0
    state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    later = state._replace(step=state.step + 1)
    seen = [float(compiled(own.network, recipe, params, KEY, 1, weights, s)[1].activation) for s in (state, later)]
    again = float(compiled(own.network, recipe, params, KEY, 1, weights, state)[1].activation)
    assert seen[0] == again
    others = [
        float(compiled(own.network, recipe, params, jax.random.key(k), 1, weights, state)[1].activation)
        for k in range(6)
    ]
    assert len({*seen, *others}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1: got 0"),
        ({"fixed": "colour"}, "a fixed input must be appearance or motion"),
    ],
)
def test_bad_recipes_are_refused_when_made(change, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(FAST, **change)


def test_a_recipe_without_an_objective_says_what_to_do(network, params):
    with pytest.raises(UsageError, match=r"use recipe\.bind\(probe\)"):
        step.activation(network, FAST, params, draw_clip(network), 0)


def test_an_unbound_recipe_with_an_objective_of_its_own_does_not_run_either(fused, params):
    """It does not know the streams: it would climb without penalties and without a bound, and say nothing."""
    own, recipe, weights = fused
    unbound = dataclasses.replace(FAST, steps=STEPS, objective=recipe.objective)
    with pytest.raises(UsageError, match=r"use recipe\.bind\(probe\)"):
        start_ascent(unbound, KEY, own.canvas(recipe.margin))
    state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
    with pytest.raises(UsageError, match=r"use recipe\.bind\(probe\)"):
        step_ascent(own.network, unbound, params, KEY, 1, weights, state)


class Plain(nn.Module):
    """Somebody else's network: nothing of ours but what it returns."""

    @nn.compact
    def __call__(self, clip):
        x = nn.relu(nn.Conv(6, (5, 5), strides=2, name="first", bias_init=nn.initializers.normal(1.0))(clip.appearance))
        x = nn.Conv(4, (3, 3), name="second", bias_init=nn.initializers.normal(1.0))(x)
        return None, {"second": x}


def test_another_flax_module_works_as_well():
    with jax.numpy_rank_promotion("allow"):  # flax adds biases by rank promotion
        module, clip = Plain(), Clip(appearance=jnp.zeros((1, 24, 24, 3)))
        params = module.init(KEY, clip)["params"]
        own = probe(describe(module, params, clip), "second")
        recipe = dataclasses.replace(FAST, steps=STEPS).bind(own)
        state = start_ascent(recipe, KEY, own.canvas(recipe.margin))
        weights = jax.tree.map(lambda s: jnp.asarray(s, jnp.float32), recipe.weights(rho=own.rho, ahat=100.0))
        values = []
        for _ in range(STEPS):
            state, info = compiled(own.network, recipe, params, KEY, 2, weights, state)
            values.append(float(info.activation))
    assert values[-1] > values[0]


def test_global_takes_the_log_odds_of_a_class_and_the_activation_of_a_unit(network):
    for name, recipe, objective in (
        ("classes", recipes.GLOBAL, LogOdds("classes")),
        ("motion/classes", recipes.GLOBAL, LogOdds("motion/classes")),
        ("fc4", recipes.GLOBAL, Neuron("fc4")),
        ("classes", MAHENDRAN, Neuron("classes")),
    ):
        assert recipe.bind(probe(network, name)).objective == objective


def test_log_odds_do_not_see_what_all_classes_share():
    scores = jnp.asarray([[[[1.0, 2.0, -3.0]]]])
    for unit in range(3):
        one, other = (LogOdds()({"classes": s}, unit) for s in (scores, scores + 7.0))
        assert float(one) == pytest.approx(float(other), abs=1e-5)
        share = float(jax.nn.softmax(scores.ravel())[unit])
        assert float(one) == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    assert float(LogOdds()({"classes": jnp.full((1, 1, 1, 1), 5.0)}, 0)) == 5.0


def test_of_a_class_its_own_score_is_reported_and_its_log_odds_count_in_the_value(network, params, ahat):
    own = probe(network, "classes")
    recipe = dataclasses.replace(recipes.GLOBAL, steps=2)
    request = ask(network, params, ahat, "classes", units=[1], chi=[0.0], recipe=recipe)
    clip, summary = visualize_units(request)
    seen = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), clip)
    scores = network.apply({"params": params}, seen)[1]["classes"].ravel()
    assert float(summary.activation[0, 0]) == pytest.approx(float(scores[1]), rel=1e-4)
    weights = recipe.weights(rho=own.rho, ahat=ahat["classes"][1], chi=0.0)
    odds = float(LogOdds()({"classes": scores.reshape(1, 1, 1, -1)}, 1))
    penalty = sum(float(p[0, 0]) for p in summary.penalties.values())
    assert float(summary.value[0, 0]) == pytest.approx(float(weights.activation) * odds - penalty, rel=1e-3)


def test_dropped_fields_show_no_motion_and_the_picture_stays():
    clip = Clip(jnp.ones((1, 4, 4, 3)), jnp.ones((2, 10, 4, 4, 2)))
    inputs = (
        Input(name="appearance", kind="rgb", shape=(1, 4, 4, 3)),
        Input(name="motion", kind="flow", shape=(2, 10, 4, 4, 2), slow="fields"),
    )
    kept = []
    for key in jax.random.split(KEY, 100):
        seen = FieldDropout(rate=0.6)(inputs, key, clip)
        np.testing.assert_array_equal(seen.appearance, clip.appearance)
        fields = np.asarray(seen.motion).reshape(20, -1)
        assert {tuple(np.unique(f)) for f in fields} <= {(0.0,), (1.0,)}
        kept.append(fields[:, 0])
    # Each field of each sample alone, 40 % of the time.
    np.testing.assert_allclose(np.mean(kept, 0), 0.4, atol=0.2)
    assert np.mean(kept) == pytest.approx(0.4, abs=0.05)
