"""Flow of clips as faint as optima: where it is right, and what keeps noise and flicker from looking like motion."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy import ndimage
from test_displacement import texture

from stjax.errors import UsageError
from stjax.video import optima
from stjax.video.optima import own_flow

needs_library = pytest.mark.skipif(not optima.can_estimate(), reason="flow needs scikit-image")
FAINT = 8.0
"""Grey levels, standard deviation: optima have 5 to 10."""


def sliding(u: float, v: float, grain: float, frames: int = 3, side: int = 80) -> np.ndarray:
    """A texture that moves by (u, v) px a frame, by splines, seen through a window."""
    big = texture(side + 64, grain)
    moved = [ndimage.shift(big, (v * t, u * t, 0), order=3, mode="reflect") for t in range(frames)]
    return FAINT * np.stack(moved)[:, 32:-32, 32:-32]


def disc(radius: float, speed: float, frames: int = 3, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A disc of one texture that moves to the right on another that stands still; where it is in the first frame."""
    still, moving = texture(side, 1.5), sliding(speed, 0, 1.5, frames, side) / FAINT
    y, x = np.mgrid[:side, :side]
    at = [np.hypot(x - side / 2 - speed * t, y - side / 2) for t in range(frames)]
    masks = 1 / (1 + np.exp(2 * (np.stack(at) - radius)))[..., None]
    return FAINT * (masks * moving + (1 - masks) * still), masks[0, ..., 0]


@needs_library
@pytest.mark.parametrize("grain", [1.5, 4.0])
@pytest.mark.parametrize(("u", "v"), [(0.15, 0.0), (0.4, -0.3), (1.0, 1.0), (0.0, 3.0), (-5.0, 3.0)])
def test_faint_textures_move_as_far_as_they_do(u, v, grain):
    found = own_flow(sliding(u, v, grain))
    inside = found.flow[:, 8:-8, 8:-8]
    assert np.hypot(*(np.median(inside, axis=(0, 1, 2)) - [u, v])) < 0.03
    assert np.hypot(*np.moveaxis(inside - [u, v], -1, 0)).mean() < 0.15
    assert found.share > 0.9
    assert found.explained[:, 8:-8, 8:-8].mean() > 0.9
    assert found.speed == pytest.approx(np.hypot(u, v), rel=0.3, abs=0.1)


@needs_library
def test_contrast_and_mean_make_no_difference():
    frames = sliding(2, 1, 2)
    one, other = own_flow(frames), own_flow(1e-3 * frames + [100, 120, 140])
    assert np.abs(one.flow - other.flow).mean() < 0.01
    assert one.share == pytest.approx(other.share, abs=0.01)


@needs_library
def test_a_disc_moves_and_the_ground_stands_still():
    frames, mask = disc(radius=12, speed=2)
    flow = own_flow(frames).flow
    np.testing.assert_allclose(flow[:, mask > 0.9].mean(axis=(0, 1)), [2, 0], atol=0.4)
    far = ndimage.distance_transform_edt(mask < 0.5) > 10
    assert np.hypot(*np.moveaxis(flow[:, far], -1, 0)).mean() < 0.05


def flickering(kind: str) -> np.ndarray:
    rng, picture, count = np.random.default_rng(0), texture(80, 2), 5
    broad = np.stack([texture(80, 12, seed=9 + k) for k in range(count)])
    angles = np.linspace(0, 0.8, count)
    clips = {
        "brightness": lambda: picture + rng.normal(size=(count, 1, 1, 1)),
        "contrast": lambda: picture * (1 + 0.3 * rng.normal(size=(count, 1, 1, 1))),
        "light that wanders": lambda: picture + broad,
        "one picture becomes another": lambda: np.stack(
            [np.cos(angle) * picture + np.sin(angle) * texture(80, 2, seed=1) for angle in angles]
        ),
    }
    return FAINT * clips[kind]()


@needs_library
@pytest.mark.parametrize("kind", ["brightness", "contrast", "light that wanders", "one picture becomes another"])
def test_flow_does_not_explain_flicker(kind):
    found = own_flow(flickering(kind))
    assert found.share < 0.1
    assert np.median(found.explained) < 0.3


@needs_library
@pytest.mark.parametrize("grain", [0.0, 1.5, 4.0])
def test_flow_explains_little_of_noise(grain):
    found = own_flow(FAINT * np.stack([texture(80, grain, seed=k) for k in range(4)]))
    assert found.share < 0.3
    assert (found.explained < 0.5).mean() > 0.75


@needs_library
def test_large_frames_are_halved_and_the_flow_is_in_their_own_pixels():
    found = own_flow(sliding(4, -2, 4, side=141))
    assert found.flow.shape == (2, 141, 141, 2)
    assert found.explained.shape == (2, 141, 141)
    np.testing.assert_allclose(np.median(found.flow, axis=(0, 1, 2)), [4, -2], atol=0.1)
    assert found.speed == pytest.approx(np.hypot(4, 2), rel=0.2)


@needs_library
def test_what_stands_still_has_no_flow():
    found = own_flow(np.repeat(FAINT * texture(40, 2)[None], 3, axis=0))
    assert np.abs(found.flow).max() < 1e-3
    assert (found.explained == 1).all()
    assert np.isnan(found.share)
    # Nothing at all, and a clip of hardly any pixels.
    assert np.isnan(own_flow(np.zeros((2, 8, 9, 3))).share)


@needs_library
@pytest.mark.parametrize("shape", [(1, 40, 40, 3), (4, 7, 40, 3)])
def test_too_little_is_refused(shape):
    with pytest.raises(UsageError, match="n >= 2"):
        own_flow(np.zeros(shape))


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install scikit-image") as raised:
        own_flow(np.zeros((2, 8, 8, 3)))
    assert "\n" not in str(raised.value)
