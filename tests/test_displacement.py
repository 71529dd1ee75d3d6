"""What moves is explained by displacement; what flickers or is noise is not."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from stjax.errors import UsageError
from stjax.video.displacement import explained_by_displacement, match_blocks


def texture(side: int, grain: float, seed: int = 0) -> np.ndarray:
    """Blots of a few pixels in three colours, standard deviation 1."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (grain, grain, 0))
    return smooth / smooth.std()


def moving(right: int, down: int, frames: int = 5) -> np.ndarray:
    """A window of 64 x 80 px on a texture that moves by (right, down) a frame."""
    big, margin = texture(160, 2), 40
    return np.stack([big[margin - down * t :, margin - right * t :][:64, :80] for t in range(frames)])


def plain(frames: np.ndarray, block: int, reach: int) -> float:
    """The definition, in plain loops."""
    sides = frames.shape[1:3]
    counts = [(side - 2 * reach) // block for side in sides]
    starts = [
        reach + (side - 2 * reach - block * count) // 2 + block * np.arange(count)
        for side, count in zip(sides, counts, strict=True)
    ]
    left = change = 0.0
    for this, following in pairwise(frames):
        for y in starts[0]:
            for x in starts[1]:
                square = this[y : y + block, x : x + block]
                errors = {
                    (dy, dx): ((following[y + dy :, x + dx :][:block, :block] - square) ** 2).sum()
                    for dy in range(-reach, reach + 1)
                    for dx in range(-reach, reach + 1)
                }
                left, change = left + min(errors.values()), change + errors[0, 0]
    return 1 - left / change


@pytest.mark.parametrize(("block", "reach"), [(16, 8), (12, 5)])
def test_it_is_its_definition(block, reach):
    frames = np.random.default_rng(1).normal(size=(3, 47, 61, 3))
    ours = explained_by_displacement(frames, block=block, reach=reach)
    assert ours == pytest.approx(plain(frames, block, reach), abs=1e-12)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -3), (5, 2), (-8, 8)])
@pytest.mark.parametrize("contrast", [1.0, 1e-4])
def test_motion_is_explained_whatever_the_contrast(right, down, contrast):
    frames = (contrast * moving(right, down) + 127.5).astype(np.float32)
    assert explained_by_displacement(frames) > 0.99
    assert (match_blocks(frames).shift == [right, down]).all()


def test_bytes_are_taken():
    frames = (40 * moving(3, 1) + 128).clip(0, 255).astype(np.uint8)
    assert explained_by_displacement(frames) > 0.99


def test_flicker_is_not_explained():
    """Brightness and contrast of a picture that stands still, and one picture that becomes another."""
    rng, picture = np.random.default_rng(0), texture(80, 2)
    brightness = np.stack([picture + level for level in rng.normal(size=8)])
    contrast = np.stack([picture * (1 + 0.3 * level) for level in rng.normal(size=8)])
    angles = np.linspace(0, np.pi / 2, 8)
    fading = np.stack([np.cos(angle) * picture + np.sin(angle) * texture(80, 2, seed=1) for angle in angles])
    for frames in (brightness, contrast, fading):
        assert explained_by_displacement(frames) < 0.02


def test_noise_is_explained_by_chance_alone():
    noise = np.random.default_rng(0).normal(size=(6, 112, 112, 3))
    assert 0.08 < explained_by_displacement(noise) < 0.15
    # Of fewer shifts the best is less good.
    assert explained_by_displacement(noise, reach=1) < 0.08


def test_motion_beside_noise_is_explained_by_its_share():
    frames = moving(3, 0)
    noise = np.random.default_rng(2).normal(size=frames.shape)
    shares = [explained_by_displacement(frames + level * noise) for level in (0.0, 0.5, 1.0, 2.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.99
    # Change is 2 (1 - correlation at the shift) + 2 level^2; what noise adds to it no shift explains.
    change = ((frames[1:] - frames[:-1]) ** 2).mean()
    assert shares[1] == pytest.approx(change / (change + 2 * 0.25), abs=0.05)


def test_motion_of_a_fraction_of_a_pixel_needs_frames_further_apart():
    big = texture(120, 3)
    frames = np.stack([ndimage.shift(big, (0, 0.25 * t, 0))[20:100, 20:100] for t in range(9)])
    assert explained_by_displacement(frames) < 0.05
    assert explained_by_displacement(frames[::4]) > 0.95


def test_what_stands_still_has_no_share():
    assert np.isnan(explained_by_displacement(np.ones((3, 32, 32, 3)).cumsum(1)))


def test_a_clip_of_an_optimum_takes_well_under_a_second():
    frames = np.random.default_rng(0).normal(size=(32, 112, 112, 3)).astype(np.float32)
    start = time.process_time()
    explained_by_displacement(frames)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (4, 31, 64, 3)])
def test_too_little_is_refused(shape):
    with pytest.raises(UsageError, match="height >= 32"):
        explained_by_displacement(np.zeros(shape))
