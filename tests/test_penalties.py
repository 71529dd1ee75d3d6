"""The penalties of equations (2) and (3), and the projection, against plain NumPy loops in float64."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import Clip, Input
from stjax.ascent.regularizers import ALPHA, KAPPA, Bound, LocalEnergy, SpatialVariation, TemporalVariation, project

# float32 sums of a few hundred positive terms, each a power of up to six: 6 roundings a term, 2^-24 each, and
# the errors of the sum average out. 1e-5 leaves a factor of ten.
RTOL = 1e-5


def rgb(name, *shape, slow=None):
    return Input(name=name, kind="rgb", shape=(*shape, 3), slow=slow)


def flow(*shape, slow="fields"):
    return Input(name="motion", kind="flow", shape=(*shape, 2), slow=slow)


INPUTS = {
    "a still and flow": (rgb("appearance", 1, 5, 6), flow(1, 4, 5, 6)),
    "samples of a still": (rgb("appearance", 2, 4, 3),),
    "samples of flow": (flow(2, 3, 3, 4),),
    "flow of frames that follow one another": (flow(3, 1, 3, 4, slow="time"),),
    "one pixel": (rgb("appearance", 1, 1, 1), flow(1, 1, 1, 1)),
    "video": (rgb("appearance", 4, 5, 3, slow="time"),),
    "two videos": (rgb("appearance", 4, 5, 3, slow="time"), rgb("motion", 3, 5, 3, slow="time")),
}


@pytest.fixture(params=INPUTS, ids=str)
def inputs(request) -> tuple[Input, ...]:
    return INPUTS[request.param]


@pytest.fixture
def clip(inputs) -> Clip:
    rng = np.random.default_rng(3)
    return Clip(**{each.name: rng.uniform(-90, 90, each.shape).astype(np.float32) for each in inputs})


def on_device(clip: Clip) -> Clip:
    return jax.tree.map(jnp.asarray, clip)


def stills(clip: Clip):
    """Every still of a clip, (height, width, channels) in float64: over time, and over fields for motion."""
    for x in clip:
        if x is not None:
            yield from x.astype(np.float64).reshape(-1, *x.shape[-3:])


def energy(clip: Clip, alpha: float) -> float:
    total = 0.0
    for still in stills(clip):
        height, width, _ = still.shape
        for i, j in np.ndindex(height, width):
            total += np.sqrt(sum(v * v for v in still[i, j])) ** alpha / (height * width)
    return total


def spatial(clip: Clip) -> float:
    total = 0.0
    for still in stills(clip):
        height, width, depth = still.shape
        for i, j, d in np.ndindex(height, width, depth):
            across = still[i, j + 1, d] - still[i, j, d] if j + 1 < width else 0.0
            down = still[i + 1, j, d] - still[i, j, d] if i + 1 < height else 0.0
            total += (across**2 + down**2) / (height * width)
    return total


def temporal(inputs: tuple[Input, ...], clip: Clip) -> float:
    total = 0.0
    for each in inputs:
        x = getattr(clip, each.name).astype(np.float64)
        # The axes by name, in the order of the type's documentation.
        names = (
            ("time", "height", "width", "rgb") if each.kind == "rgb" else ("time", "fields", "height", "width", "uv")
        )
        if each.slow is None:
            continue
        for before, after in itertools.pairwise(np.moveaxis(x, names.index(each.slow), 0)):
            for index in np.ndindex(before.shape):
                total += (after[index] - before[index]) ** 2 / (x.shape[-3] * x.shape[-2])
    return total


@pytest.mark.parametrize("alpha", [2, 3, ALPHA])
def test_local_energy_equals_a_loop(inputs, clip, alpha):
    np.testing.assert_allclose(LocalEnergy(alpha=alpha)(inputs, on_device(clip)), energy(clip, alpha), rtol=RTOL)


def test_spatial_variation_equals_a_loop(inputs, clip):
    np.testing.assert_allclose(SpatialVariation()(inputs, on_device(clip)), spatial(clip), rtol=RTOL)


def test_temporal_variation_equals_a_loop(inputs, clip):
    np.testing.assert_allclose(TemporalVariation()(inputs, on_device(clip)), temporal(inputs, clip), rtol=RTOL)


def test_the_picture_on_which_definitions_differ():
    """18 with open borders, which is ours; 16 trimmed, 20 circular, 10 for L1 are those of others."""
    x = np.asarray([[0.0, 0, 0], [0, 2, 0], [0, 0, 1]])
    down, across = np.diff(x, axis=0), np.diff(x, axis=1)
    others = {
        "trimmed": (down[:, :-1] ** 2).sum() + (across[:-1] ** 2).sum(),
        "circular": sum(((np.roll(x, -1, axis) - x) ** 2).sum() for axis in (0, 1)),
        "L1": abs(down).sum() + abs(across).sum(),
    }
    assert others == {"trimmed": 16, "circular": 20, "L1": 10}
    clip = Clip(appearance=jnp.zeros((1, 3, 3, 3)).at[0, :, :, 0].set(x))
    assert 9 * float(SpatialVariation()((rgb("appearance", 1, 3, 3),), clip)) == pytest.approx(18)


def test_weights_are_the_constants_of_the_equations():
    chi, kappa = 5.0, 0.25
    assert LocalEnergy().weight(kappa, chi) == pytest.approx((1 / 80) ** 6)
    assert SpatialVariation().weight(kappa, chi) == kappa
    assert TemporalVariation().weight(kappa, chi) == kappa * chi
    assert pytest.approx(6.602e-3, rel=1e-4) == KAPPA


@pytest.mark.parametrize("alpha", [2, 3, ALPHA])
def test_the_gradient_at_rest_is_finite(alpha):
    inputs = (rgb("appearance", 1, 2, 2), flow(1, 2, 2, 2))
    clip = Clip(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 2, 2)))
    gradient = jax.grad(lambda clip: LocalEnergy(alpha=alpha)(inputs, clip))(clip)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("bound", [1e-3, 40.0, 160.0, Bound(rgb=160.0, flow=40.0)])
def test_projection_equals_a_loop(inputs, clip, bound):
    projected = project(inputs, on_device(clip), bound)
    assert {name for name, x in projected._asdict().items() if x is not None} == {each.name for each in inputs}
    for each in inputs:
        before, after = getattr(clip, each.name), getattr(projected, each.name)
        limit = {"rgb": bound.rgb, "flow": bound.flow}[each.kind] if isinstance(bound, Bound) else bound
        expected = before.astype(np.float64).reshape(-1, before.shape[-1])
        for i, vector in enumerate(expected):
            length = np.sqrt(sum(v * v for v in vector))
            expected[i] = vector * min(1.0, limit / length)
        np.testing.assert_allclose(after.reshape(expected.shape), expected, rtol=RTOL)


def test_projection_leaves_what_is_within_the_bound_bit_for_bit():
    x = jnp.asarray([[0.0, 0, 0], [159.0, 0, 0], [-90.0, 90, 90]]).reshape(1, 3, 1, 3)
    np.testing.assert_array_equal(project((rgb("appearance", 1, 3, 1),), Clip(x, None), 160.0).appearance, x)
