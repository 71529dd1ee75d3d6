"""A picture that moves: what it shows is its formula, in NumPy; and it climbs as other canvases do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from conftest import ask

from stjax import Clip, Input, UsageError, probe, start_ascent, visualize_units
from stjax.ascent.parametrization import MovingPicture, Parametrization
from stjax.ascent.recipes import MOVING, RECIPES, recipe_named, suited
from stjax.networks.discovery import describe
from stjax.networks.i3d import I3D
from stjax.types import Network

LAYER = "classes"
QUICK = dataclasses.replace(MOVING, steps=3)
ONE = jax.devices()[:1]
CHUNK = 2


@pytest.fixture(autouse=True)
def as_flax_has_it():
    """flax adds biases by rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield


def video(frames: int, height: int, width: int) -> tuple[Input, ...]:
    return (Input(name="appearance", kind="rgb", shape=(frames, height, width, 3), slow="time"),)


def draw(inputs: tuple[Input, ...], reach: float, seed: int = 0) -> Clip:
    """Noise for a picture, and displacements of up to `reach` pixels."""
    random = np.random.default_rng(seed)
    spreads = {"appearance": 90.0, "motion": reach}
    return Clip(**{i.name: jnp.asarray(random.uniform(-1, 1, i.shape) * spreads[i.name], jnp.float32) for i in inputs})


# The formula


def interpolated(x: np.ndarray, axis: int, length: int) -> np.ndarray:
    """More values along an axis, by Keys's cubic; knots in the middle of equal parts, none beyond the ends."""
    x, count = np.moveaxis(x, axis, 0), x.shape[axis]
    out = np.zeros((length, *x.shape[1:]))
    for i in range(length):
        away = np.abs((i + 0.5) * count / length - 0.5 - np.arange(count))
        near = 1.5 * away**3 - 2.5 * away**2 + 1
        far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
        weights = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
        out[i] = np.tensordot(weights / weights.sum(), x, 1)
    return np.moveaxis(out, 0, axis)


def plain(window: tuple[Input, ...], clip: Clip, border: int) -> np.ndarray:
    """P(p + D(t, p)), a pixel at a time."""
    frames, height, width, _ = window[0].shape
    picture, knots = (np.asarray(x, np.float64) for x in (clip.appearance[0], clip.motion[:, 0]))
    for axis, length in enumerate((frames, height, width)):
        knots = interpolated(knots, axis, length)
    out = np.zeros(window[0].shape)
    for t, i, j in np.ndindex(frames, height, width):
        u, v = knots[t, i, j]
        y = np.clip(border + i + v, 0, len(picture) - 1)
        x = np.clip(border + j + u, 0, picture.shape[1] - 1)
        for k in range(len(picture)):
            for m in range(picture.shape[1]):
                out[t, i, j] += max(1 - abs(y - k), 0) * max(1 - abs(x - m), 0) * picture[k, m]
    return out


@pytest.mark.parametrize("reach", [0.0, 2.5, 30.0], ids=["still", "within the border", "beyond the picture"])
def test_a_clip_is_its_formula(reach):
    window, picture = video(7, 9, 12), MovingPicture(knots=4, spacing=4, border=3)
    inputs = picture.inputs(window)
    assert {each.name: each.shape for each in inputs} == {"appearance": (1, 15, 18, 3), "motion": (4, 1, 3, 4, 2)}
    clip = draw(inputs, reach)
    shown = jax.jit(lambda clip: picture.render(window, clip))(clip)
    assert shown.motion is None
    assert shown.appearance.shape == window[0].shape
    # A place is known to some 2^-23 of its size in pixels, and neighbours differ by up to 180.
    np.testing.assert_allclose(shown.appearance, plain(window, clip, 3), atol=180 * 2**-22 * (15 + reach))


def test_what_is_displaced_moves():
    """D = (2 t, -t): a frame is taken from farther right and up, so that what is seen goes left and down."""
    window, picture = video(5, 6, 8), MovingPicture(knots=5, border=12)
    canvas = draw(picture.inputs(window), 0.0)
    t = jnp.arange(5.0).reshape(5, 1, 1, 1)
    moves = jnp.stack([jnp.broadcast_to(2 * t, (5, 1, 2, 2)), jnp.broadcast_to(-t, (5, 1, 2, 2))], -1)
    shown = np.asarray(picture.render(window, canvas._replace(motion=moves)).appearance)
    still = np.asarray(picture.render(window, canvas).appearance)
    assert np.abs(np.diff(still, axis=0)).max() == 0
    for k in range(1, 5):
        expected = canvas.appearance[0, 12 - k : 18 - k, 12 + 2 * k : 20 + 2 * k]
        np.testing.assert_allclose(shown[k], expected, atol=1e-3)


@pytest.mark.parametrize("reach", [0.0, 3.0, 100.0])
def test_its_gradient_is_finite(reach):
    window, picture = video(4, 8, 8), MovingPicture(knots=2, spacing=8, border=4)
    canvas = draw(picture.inputs(window), reach)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=window[0].shape), jnp.float32)
    gradient = jax.grad(lambda clip: jnp.vdot(picture.render(window, clip).appearance, weight))(canvas)
    assert all(bool(jnp.isfinite(g).all()) for g in gradient)
    assert float(jnp.abs(gradient.appearance).max()) > 0
    if reach < 100:
        assert float(jnp.abs(gradient.motion).max()) > 0


def test_a_displacement_s_gradient_is_that_of_finite_differences():
    window, picture = video(3, 8, 9), MovingPicture(knots=2, spacing=8, border=4)
    canvas = draw(picture.inputs(window), 1.0)
    weight = np.random.default_rng(1).normal(size=window[0].shape)
    loss = lambda motion: jnp.vdot(picture.render(window, Clip(canvas.appearance, motion)).appearance, weight)  # noqa: E731
    gradient = jax.grad(loss)(canvas.motion)
    # Within a cell the picture is bilinear: a step so small leaves few cells.
    direction = np.random.default_rng(2).normal(size=canvas.motion.shape)
    step = 1e-4

    def exact(sign):
        moved = np.asarray(canvas.motion, np.float64) + sign * step * direction
        return (plain(window, Clip(canvas.appearance, moved), 4) * weight).sum()

    slope = (exact(1) - exact(-1)) / (2 * step)
    assert float((np.asarray(gradient) * direction).sum()) == pytest.approx(slope, rel=1e-2)


FLOW = Input(name="motion", kind="flow", shape=(4, 1, 8, 8, 2), slow="time")
REFUSED = {
    "a still": (dataclasses.replace(video(1, 8, 8)[0], slow=None),),
    "flow": (FLOW,),
    "frames and flow": (*video(4, 8, 8), FLOW),
    "frames of the second stream": (dataclasses.replace(video(4, 8, 8)[0], name="motion"),),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_of_other_kinds_are_refused_in_one_line(case):
    with pytest.raises(UsageError, match="must be for a layer that sees consecutive RGB frames and nothing") as caught:
        MovingPicture().inputs(REFUSED[case])
    assert "\n" not in str(caught.value)
    assert "nearest: the recipe fast" in str(caught.value)


def test_a_recipe_with_it_refuses_what_it_does_not_fit(network):
    with pytest.raises(UsageError, match="this one sees appearance of kind rgb and motion of kind flow"):
        MOVING.bind(probe(network, "classes"))


# The recipe


@pytest.fixture(scope="module")
def moving() -> tuple[Network, Any, dict[str, np.ndarray]]:
    """A network of the user's that sees video: 8 frames of 28 x 32 pixels."""
    with jax.numpy_rank_promotion("allow"):
        module, params, clip = toys.video()
        network = describe(module, params, clip)
    return network, params, {LAYER: np.full(5, 0.3, np.float32)}


def run(moving, units, chi, recipe=QUICK, network=None):
    mine, params, ahat = moving
    request = ask(network or mine, params, ahat, LAYER, units=units, chi=chi, recipe=recipe, chunk=CHUNK)
    return visualize_units(request, devices=ONE)


@pytest.fixture(scope="module")
def climbed(moving):
    with jax.numpy_rank_promotion("allow"):
        return run(moving, [0, 2, 4], [10.0, 0.0], dataclasses.replace(MOVING, steps=10))


def test_it_is_the_recipe_of_classes_that_see_video_alone(moving, network):
    assert recipe_named("moving") is RECIPES["moving"] is MOVING
    assert isinstance(MOVING.parametrization, Parametrization)
    layers = {layer.name: layer for layer in moving[0].layers}
    assert suited(layers[LAYER], moving[0].inputs) is MOVING
    # They see 3 and 21 pixels.
    assert [suited(layers[name], moving[0].inputs).name for name in ("stem", "deep")] == ["fast", "moving"]
    i3d = {layer.name.partition("/")[2]: layer for layer in I3D(streams=("appearance",)).layers}
    expected = {"Conv3d_1a_7x7": "fast", "Conv3d_2b_1x1": "fast", "Conv3d_2c_3x3": "moving", "Mixed_5c": "moving"}
    given = I3D(streams=("appearance",)).inputs
    assert {name: suited(i3d[name], given).name for name in expected} == expected
    assert suited(network.layers[-1], network.inputs).name == "global"


def test_it_begins_within_its_noise_and_with_less_displacement(moving):
    recipe = MOVING.bind(probe(moving[0], LAYER))
    shapes = {each.name: each.shape for each in recipe.inputs}
    # The window, Zoom's margin of 16, and 16 pixels on either side.
    assert shapes == {"appearance": (1, 28 + 16 + 32, 32 + 16 + 32, 3), "motion": (8, 1, 4, 4, 2)}
    clip = start_ascent(recipe, jax.random.key(0), Clip()).clip
    assert 2.5 < float(jnp.abs(clip.appearance).max()) <= MOVING.noise / 0.9
    assert 0.05 < float(jnp.abs(clip.motion).max()) <= 0.1 / 0.9 + 1e-6
    with pytest.raises(UsageError, match="must begin from noise: got an initial clip"):
        start_ascent(recipe, jax.random.key(0), Clip(), Clip(jnp.zeros((8, 28, 32, 3))))


def test_it_climbs_and_gives_a_clip_of_the_network_s_window(climbed):
    clips, summary = climbed
    assert clips.motion is None
    assert clips.appearance.shape == (3, 2, 8, 28, 32, 3)
    assert np.isfinite(clips.appearance).all()
    assert (np.asarray(summary.activation) > np.asarray(summary.activation_start)).all()


def test_chi_slows(climbed):
    change = np.abs(np.diff(climbed[0].appearance, axis=2)).mean((2, 3, 4, 5))
    assert (change[:, 0] < change[:, 1]).all()


def test_a_result_is_its_unit_s_own(moving, climbed):
    recipe = dataclasses.replace(MOVING, steps=10)
    alone = run(moving, [2], [0.0], recipe)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0, 0], b[1, 1]), alone, climbed)


def test_units_and_chi_cost_no_second_compilation(moving):
    log: list[int] = []
    run(moving, [0, 1], [10.0], network=toys.Counting(moving[0], log))
    first = len(log)
    run(moving, [3, 4], [0.5], network=toys.Counting(moving[0], log))
    # Once for the step's gradient, once for the measurement.
    assert (first, len(log)) == (2, 2)
