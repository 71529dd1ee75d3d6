"""ahat of any network: over generated clips, as ever for two-stream networks, and over real ones by its inputs."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from conftest import draw_params, slim

from stjax import UsageError
from stjax.analysis import recording
from stjax.analysis.calibration import calibrated, moving_shapes
from stjax.analysis.recording import DataSet
from stjax.analysis.statistics import record_maxima
from stjax.convert import store, tensors
from stjax.model import Model, Part, Statistics
from stjax.networks.discovery import describe
from stjax.preprocess import Preprocessing
from stjax.video import dataset

MEANS = Preprocessing(mean=(100.0, 110.0, 120.0), flow_mean=127.5)
LITTLE = DataSet(moments=1, crops=1, photo_crops=1, generated=1)


def two_stream(**changes) -> Model:
    network = slim(**changes)
    params = draw_params(network)
    return Model(name="slim", network=network, params=params, statistics=Statistics({}, ""), preprocessing=MEANS)


@pytest.fixture(scope="module", params=["video", "two_rgb", "still"])
def toy(request) -> Model:
    """A network as a user writes it."""
    module, params, clip = getattr(toys, request.param)()
    network = describe(module, params, clip)
    return Model(name=request.param, network=network, params=params, statistics=Statistics({}, ""))


def test_two_stream_networks_are_calibrated_as_ever():
    """Numbers of the code that knew no other network; three clips, means that are not VGG's."""
    ahat = calibrated(two_stream(), 3).statistics.ahat
    np.testing.assert_allclose(ahat["appearance/conv1_1"], [34.97, 320.51, 205.88, 276.93], rtol=1e-3)
    np.testing.assert_allclose(ahat["motion/conv1_2"], [0.93, 2.62, 9.26, 14.13], rtol=6e-3)
    np.testing.assert_allclose(ahat["classes"], [6.17, 13.69, 90.53, 61.73, 6.17], rtol=1e-3)
    ahat = calibrated(two_stream(samples=2, fields=5, input_size=48), 3).statistics.ahat
    np.testing.assert_allclose(ahat["motion/conv1_2"], [21.03, 8.65, 12.28, 7.31], rtol=1e-3)
    np.testing.assert_allclose(ahat["classes"], [7.07, 46.11, 100.28, 46.47, 94.92], rtol=1e-3)


def test_any_network_is_calibrated(toy):
    statistics = calibrated(toy, 2).statistics
    assert set(statistics.ahat) == {layer.name for layer in toy.network.layers} == set(statistics.rough)
    for layer in toy.network.layers:
        assert statistics.ahat[layer.name].shape == (layer.units,)
        assert (statistics.ahat[layer.name] > 0).all()
    assert "2 generated clips" in statistics.provenance


def test_moving_shapes_come_at_every_pace():
    model = two_stream()
    (label, clip), *_ = moving_shapes(model.network.inputs, Preprocessing(), 1, 0)
    assert label == 0
    assert (clip.appearance == clip.appearance[:1]).all()
    once, twice, four = np.asarray(clip.motion)
    np.testing.assert_allclose(twice, np.clip(2 * once, -127.5, 127.5))
    np.testing.assert_allclose(four, np.clip(4 * once, -127.5, 127.5))
    network = describe(*toys.video())
    (_, clip), *_ = moving_shapes(network.inputs, Preprocessing(), 1, 0)
    slow, _, fast = np.abs(np.diff(np.asarray(clip.appearance), axis=1)).mean((1, 2, 3, 4))
    assert fast > slow


def test_batches_and_single_clips_give_the_same(toy):
    (_, batch), *_ = moving_shapes(toy.network.inputs, Preprocessing(), 1, 0)
    together = record_maxima(toy.network, toy.params, [batch])
    alone = record_maxima(toy.network, toy.params, [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(3)])
    for layer, values in together.items():
        np.testing.assert_allclose(values, alone[layer], rtol=1e-4, atol=1e-3)


@pytest.fixture
def files(monkeypatch):
    """Pictures and clips as the packages hold them, all of them noise that moves; and a flow that costs nothing."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (50, 60, 3)).astype(np.uint8)
    frames = np.stack([np.roll(picture, 2 * t, axis=1) for t in range(40)])
    monkeypatch.setattr(dataset, "_folder_of", lambda *names: Path("."))
    monkeypatch.setattr(dataset, "checksum", lambda path: dataset.CLIPS[path.name])
    monkeypatch.setattr(dataset, "_decoded", lambda path: frames)
    monkeypatch.setattr(dataset, "_photograph", lambda path: picture)
    monkeypatch.setattr(dataset, "PHOTOS", dataset.PHOTOS[:3])
    flow = lambda frames: np.broadcast_to([2.0, 0.0], (len(frames) - 1, *frames.shape[1:3], 2))  # noqa: E731
    monkeypatch.setattr(dataset, "sample", functools.partial(dataset.sample, flow=flow))


def test_any_network_is_recorded(files, toy, tmp_path):
    recorded = recording.record_statistics(toy, LITTLE, made="Made by hand")
    shown = [each.name for each in recording.series(toy, LITTLE)]
    assert shown == (["photographs"] if toy.name == "still" else []) + ["clips", "generated"]
    assert list(recorded.statistics.ahat) == [layer.name for layer in toy.network.layers]
    for word in ("TV-L1", "Photographs"):
        assert (word in recorded.statistics.provenance) == (word == "Photographs" and toy.name == "still")
    assert "Made by hand; " in recorded.statistics.provenance
    # As `stjax record` writes them, and as they are read: with what stands besides.
    store.save_statistics(tmp_path / "own.safetensors", recorded.statistics, recorded.extra())
    held = store.load_statistics(tmp_path / "own.safetensors")
    assert held.provenance == recorded.statistics.provenance
    assert held.ahat.keys() == recorded.statistics.ahat.keys()
    metadata = tensors.metadata_of(tmp_path / "own.safetensors")
    extra = {name: json.loads(metadata[name]) for name in recorded.extra()}
    assert extra["growth_when_doubled"].keys() == recorded.statistics.ahat.keys()
    lifted = extra["measured_below_floor"]
    assert {layer: tuple(map(int, units)) for layer, units in lifted.items()} == recorded.statistics.floored


def test_a_two_stream_network_sees_photographs_in_one_stream(files):
    model = two_stream()
    shown = {each.name: next(each.batches)[1] for each in recording.series(model, LITTLE)}
    assert list(shown) == ["photographs", "clips", "generated"]
    assert shown["photographs"].motion is None
    assert shown["photographs"].appearance.shape == (2, 1, 32, 32, 3)
    assert shown["clips"].motion.shape == (2, 1, 3, 32, 32, 2)
    # Two pixels per frame to the right, and mirrored: in units of the network, whose mean of flow is 127.5.
    assert np.asarray(shown["clips"].motion)[:, 0, 0, 0, 0, 0].tolist() == [140 - 127.5, -(140 - 127.5)]
    recorded = recording.record_statistics(model, LITTLE)
    assert "Photographs" in recorded.statistics.provenance
    assert "appearance only" in recorded.statistics.provenance
    assert "3 fields" in recorded.statistics.provenance
    assert set(recorded.growth) == set(recorded.statistics.ahat)


def test_what_is_not_trained_is_told(files):
    model = dataclasses.replace(two_stream(), parts=(Part("all", True, "x"), Part("conv3_fusion", False, "drawn")))
    text = recording.provenance(model, LITTLE, {"clips": 3}, "")
    assert "conv3_fusion: drawn, not trained." in text
    assert "Photographs" not in text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"moments": 0}, "moments must be 1..24: got 0; nearest: 1"),
        ({"moments": 25}, "nearest: 24"),
        ({"photo_crops": 0}, "photo-crops must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"clips": (Path("none.avi"),)}, "a clip must be a file: none.avi"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong, words):
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        DataSet(**wrong)


def test_a_silent_layer_has_no_statistics(files):
    model = two_stream()
    params = jax.tree.map(lambda a: a, model.params)
    params["classes"]["bias"] = params["classes"]["bias"] - 1e6
    recorded = recording.record_statistics(dataclasses.replace(model, params=params), LITTLE)
    assert "classes" in recorded.measured
    assert "classes" not in recorded.statistics.ahat
