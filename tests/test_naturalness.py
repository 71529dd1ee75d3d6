"""What is natural activity: moments that files bring, a penalty as a plain loop gives it, optima that keep near it."""

from __future__ import annotations

import dataclasses

import bundles
import jax
import jax.numpy as jnp
import numpy as np
import published_i3d as theirs
import pytest
import toys

import stjax
from stjax.ascent.naturalness import Naturalness
from stjax.ascent.objectives import BEYOND, LogOdds
from stjax.convert import folding, store
from stjax.convert.conversion import convert_files
from stjax.errors import UsageError
from stjax.model import Statistics
from stjax.networks.discovery import describe
from stjax.types import Clip, Moments

FIRST = "appearance/Conv3d_1a_7x7"


@pytest.fixture(scope="module")
def made():
    return theirs.stream()


@pytest.fixture(scope="module")
def model(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.ckpt"
    return convert_files([bundles.write(bundles.bundle(theirs.tensorflow(made)), path)]).model


def endpoint(layer: str) -> list[str]:
    """The convolutions whose outputs, side by side, an endpoint is; written out, as the authors name them."""
    ends = ("Branch_0/Conv3d_0a_1x1", "Branch_1/Conv3d_0b_3x3", "Branch_2/Conv3d_0b_3x3", "Branch_3/Conv3d_0b_1x1")
    return [f"{layer}/{end}" for end in ends] if layer.startswith("Mixed") else [layer]


def test_moments_are_those_of_the_normalisations(made, model):
    layers = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *(f"Mixed_{name}" for name in theirs.ENDPOINTS)]
    assert list(model.moments) == [f"appearance/{layer}" for layer in layers]
    for layer in layers:
        parts = [made[name] for name in endpoint(layer)]
        beta, variance = (np.concatenate([part[i] for part in parts]).astype("f8") for i in (1, 3))
        own = model.moments[f"appearance/{layer}"]
        np.testing.assert_allclose(own.mean, beta, rtol=1e-6)
        np.testing.assert_allclose(own.deviation, np.sqrt(variance / (variance + 0.001)), rtol=1e-6)


def test_they_are_the_moments_of_what_a_normalisation_gives():
    """Drawn with the mean and variance that a batch normalisation kept, normalised as it does in use."""
    scale, shift, mean, variance = np.asarray([[-2.0, 0.5], [0.3, -1.0], [7.0, -3.0], [4.0, 0.002]], np.float32)
    drawn = np.random.default_rng(0).normal(mean, np.sqrt(variance), (200_000, 2))
    normalised = scale * (drawn - mean) / np.sqrt(variance + 0.001) + shift
    vectors = zip(folding.NORMALISATION, (scale, shift, mean, variance), strict=True)
    (own,) = folding.moments({f"a/{leaf}": vector for leaf, vector in vectors}, 0.001).values()
    # The spread of a mean and of a deviation over 200,000 draws.
    np.testing.assert_allclose(normalised.mean(0), own.mean, atol=0.02)
    np.testing.assert_allclose(normalised.std(0), own.deviation, atol=0.02)


@pytest.fixture(scope="module")
def toy():
    """A network of the user's that sees video, and moments of its layers over noise that is smooth in space."""
    with jax.numpy_rank_promotion("allow"):
        module, params, clip = toys.video()
        network = describe(module, params, clip)
        draw = jax.random.normal(jax.random.key(5), (20, *clip.appearance.shape))
        smooth = 150 * sum(jnp.roll(draw, (i, j), (2, 3)) for i in range(5) for j in range(5)) / 25
        many = jax.vmap(lambda x: network.apply({"params": params}, Clip(x))[1])(smooth)
    places = {layer: np.asarray(a).reshape(-1, a.shape[-1]) for layer, a in many.items() if layer != "classes"}
    moments = {layer: Moments(a.mean(0), a.std(0)) for layer, a in places.items()}
    ahat = {layer.name: np.full(layer.units, 0.3, np.float32) for layer in network.layers}
    statistics = Statistics(ahat, "made up")
    return stjax.Model(name="toy", network=network, params=params, statistics=statistics, moments=moments)


@pytest.fixture
def as_flax_has_it():
    """flax adds biases by rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield


def departure(model, frames) -> tuple[float, float]:
    """N of a clip, as the program has it and in a plain loop."""
    _, activations = model.network.apply({"params": model.params}, Clip(jnp.asarray(frames)))
    expected = 0.0
    for layer, (mean, deviation) in model.moments.items():
        a = np.asarray(activations[layer], "f8")
        for c in range(a.shape[-1]):
            expected += ((a[..., c].mean() - mean[c]) ** 2 + (a[..., c].std() - deviation[c]) ** 2) / a.shape[-1]
    return float(Naturalness(weight=1.0)(activations, model.moments)), expected


@pytest.mark.usefixtures("as_flax_has_it")
def test_the_penalty_is_a_plain_loop(toy):
    frames = np.random.default_rng(1).normal(0, 40, toy.network.inputs[0].shape).astype(np.float32)
    found, expected = departure(toy, frames)
    # Sums of thousands of float32.
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01


@pytest.mark.usefixtures("as_flax_has_it")
def test_optima_of_classes_keep_near_what_is_natural(toy):
    recipe = dataclasses.replace(stjax.MOVING, steps=20)
    request = stjax.Request(model=toy, layer="classes", units=[1], chi=[1.0], recipe=recipe)
    bare = dataclasses.replace(request, model=dataclasses.replace(toy, moments={}))
    near, far = (departure(toy, stjax.visualize_units(each)[0].appearance[0, 0])[0] for each in (request, bare))
    assert near < 0.5 * far


@pytest.mark.usefixtures("as_flax_has_it")
def test_a_window_of_what_a_unit_sees_has_too_few_places_for_moments(toy):
    recipe = dataclasses.replace(stjax.MOVING, steps=3)
    request = stjax.Request(model=toy, layer="stem", units=[1], chi=[1.0], recipe=recipe)
    bare = dataclasses.replace(request, model=dataclasses.replace(toy, moments={}))
    assert recipe.bind(request.probe).naturalness is None
    jax.tree.map(np.testing.assert_array_equal, *(stjax.visualize_units(each)[0] for each in (request, bare)))


@pytest.mark.usefixtures("as_flax_has_it")
def test_what_is_natural_counts_in_the_value(toy):
    recipe = dataclasses.replace(stjax.MOVING, steps=2)
    clips, summary = stjax.visualize_units(
        stjax.Request(model=toy, layer="classes", units=[2], chi=[1.0], recipe=recipe)
    )
    frames = jnp.asarray(clips.appearance[0, 0])
    scores = np.asarray(toy.network.apply({"params": toy.params}, Clip(frames))[0], "f8")
    odds = scores[2] - np.log(np.exp(np.delete(scores, 2)).sum())
    # Log-odds that are enough stand in the place of ahat.
    weight = recipe.objective_weight / (stjax.probe(toy.network, "classes").rho ** 2 * recipe.enough)
    penalty = sum(float(p[0, 0]) for p in summary.penalties.values())
    expected = weight * (odds - 10.0 * departure(toy, frames)[1]) - penalty
    assert float(summary.value[0, 0]) == pytest.approx(expected, rel=1e-3)


def test_enough_log_odds_are_as_good_as_more():
    scores = {"classes": jnp.asarray([[[[9.0, 1.0, 1.0]]]])}
    odds = 9.0 - (1.0 + np.log(2))
    assert float(LogOdds(enough=10.0)(scores, 0)) == pytest.approx(odds, rel=1e-6)
    assert float(LogOdds(enough=5.0)(scores, 0)) == pytest.approx(5.0 + BEYOND * (odds - 5.0), rel=1e-6)
    assert float(LogOdds(enough=5.0).reading(scores, 0)) == 9.0


def test_moments_stay_with_the_weights(model, tmp_path):
    store.save(tmp_path / "a.safetensors", model)
    again = stjax.load(tmp_path / "a.safetensors")
    assert again.moments.keys() == model.moments.keys()
    jax.tree.map(np.testing.assert_array_equal, dict(again.moments), dict(model.moments))


BAD = {
    "of no layer": ({"appearance/Mixed_9z": Moments(np.zeros(2), np.ones(2))}, "of the network's layers"),
    "of too few units": ({"appearance/Mixed_3b": Moments(np.zeros(2), np.ones(2))}, "of each unit"),
    "a deviation below zero": (
        {"appearance/Conv3d_1a_7x7": Moments(np.zeros(4), -np.ones(4))},
        "a mean and a deviation",
    ),
    "not a number": ({"appearance/Conv3d_1a_7x7": Moments(np.full(4, np.nan), np.ones(4))}, "a mean and a deviation"),
}


@pytest.mark.parametrize("case", BAD)
def test_moments_of_others_are_refused(model, tmp_path, case):
    moments, message = BAD[case]
    store.save(tmp_path / "a.safetensors", dataclasses.replace(model, moments=moments))
    with pytest.raises(UsageError, match=message):
        stjax.load(tmp_path / "a.safetensors")


def test_half_of_a_moment_is_refused(model, tmp_path):
    path = tmp_path / "a.safetensors"
    store.save(path, model)
    arrays, metadata = store.read_tensors(path)
    del arrays["moments/appearance/Mixed_3b/mean"]
    store.write_tensors(path, arrays, metadata)
    with pytest.raises(UsageError, match="has or lacks appearance/Mixed_3b/mean"):
        stjax.load(path)


def test_a_network_without_normalisation_has_none():
    assert stjax.load("embedded").moments == {}
