"""The measures of recovery, tried on flow whose motion is drawn by hand, and on generated clips."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import Clip, Input
from stjax.analysis import recovery
from stjax.training import generated

SIDE, FIELDS = 64, 10
FLOW = Input(name="motion", kind="flow", shape=(1, FIELDS, SIDE, SIDE, 2), slow="fields")
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
DX, DY = X - 40, Y - 24
DISC = (np.hypot(DX, DY) < 11)[..., None]
SHAPES = {
    "left": np.stack([-np.ones_like(X), 0 * X], -1),
    "down": np.stack([0 * X, np.ones_like(X)], -1),
    "spinning left": np.stack([DY, -DX], -1) / 11,
    "spinning right": np.stack([-DY, DX], -1) / 11,
    "growing": np.stack([DX, DY], -1) / 11,
    "shrinking": np.stack([-DX, -DY], -1) / 11,
}


def clip_of(field: np.ndarray, course: np.ndarray, noise: float = 0.3) -> np.ndarray:
    """Ten fields (1, fields, y, x, uv) in network units: a disc that moves, before noise."""
    rng = np.random.default_rng(0)
    flow = course[:, None, None, None] * np.where(DISC, field, 0.0)[None]
    return (6.375 * (flow + noise * rng.normal(size=flow.shape))[None]).astype(np.float32)


def match(*clips: np.ndarray) -> recovery.MotionMatch:
    """Of a few clips, always eight at a time: one compilation serves all tests."""
    eight = np.stack([*clips, *[clips[-1]] * (8 - len(clips))])
    return jax.tree.map(lambda a: np.asarray(a)[: len(clips)], recovery.match_motion(jnp.asarray(eight)))


def class_of(name: str) -> int:
    return next(c for c, index in enumerate(recovery.TRUTH) if recovery.NAMES[index] == name)


@pytest.fixture(scope="module")
def drawn() -> tuple[list[str], recovery.MotionMatch]:
    """Every steady motion at 2 px per field, and both shakings with a period of five fields."""
    k = np.arange(FIELDS)
    names = [*SHAPES, "shaking left and right", "shaking up and down"]
    shake = 2 * np.sin(2 * np.pi * k / 5)
    clips = [clip_of(field, np.full(FIELDS, 2.0)) for field in SHAPES.values()]
    clips += [clip_of(SHAPES["left"], shake), clip_of(SHAPES["down"], shake)]
    return names, match(*clips)


def test_a_drawn_motion_matches_its_own_template_best(drawn):
    names, found = drawn
    best = [recovery.NAMES[i] for i in np.asarray(found.correlation).argmax(-1)]
    assert best == names
    assert np.asarray(found.correlation).max() <= 1.0


def test_speed_and_frequency_are_those_drawn(drawn):
    names, found = drawn
    got = recovery.recover(found, [class_of(name) for name in names])
    assert got.motion.all()
    assert got.profile.all()
    # Discs of four sizes only, on a grid of two pixels: the best is a little larger or smaller than the one drawn.
    np.testing.assert_allclose(got.speed[:6], 2.0, rtol=0.25)
    np.testing.assert_allclose(got.frequency[6:], 0.2, atol=0.013)


def test_a_template_sits_where_the_motion_is(drawn):
    names, found = drawn
    for i, name in enumerate(names):
        place = np.asarray(found.place)[i, recovery.NAMES.index(name)]
        np.testing.assert_allclose(place, [24, 40], atol=3.0, err_msg=name)


def test_the_filter_names_generated_clips():
    clip, known = generated.examples(jax.random.key(2**31 - 1), 0, 48)
    got = recovery.recover(recovery.match_motion(clip.motion), known.label)
    assert got.motion.mean() >= 0.9
    assert got.profile.mean() >= 0.9
    shakes = np.asarray(known.period) > 0
    np.testing.assert_allclose(got.frequency[shakes], 1 / np.asarray(known.period)[shakes], atol=0.02)


def test_a_mirrored_clip_moves_the_other_way():
    from stjax.preprocess import flip

    motion = clip_of(SHAPES["left"], np.full(FIELDS, 2.0))
    found = match(np.asarray(flip((FLOW,), Clip(None, jnp.asarray(motion))).motion))
    assert recovery.NAMES[int(found.correlation.argmax())] == "right"


def test_strength_does_not_change_what_is_found():
    # A correlation knows no scale; spin and growth do, which may drift by so many pixels and no more.
    motion = clip_of(SHAPES["down"], np.full(FIELDS, 2.0), noise=0.0)
    one, ten = match(motion, 10 * motion).correlation
    np.testing.assert_allclose(one[:4], ten[:4], atol=1e-4)


def test_no_motion_matches_nothing():
    found = match(np.zeros((1, FIELDS, SIDE, SIDE, 2), np.float32))
    assert np.isfinite(np.asarray(found.correlation)).all()
    assert np.abs(np.asarray(found.correlation)).max() < 1e-6


def test_every_class_has_a_template():
    assert len(recovery.TRUTH) == len(generated.CLASSES)
    assert {recovery.NAMES[i] for i in recovery.TRUTH} == set(recovery.NAMES)


def test_pairs_differ_in_one_kind_alone():
    for kind, first, second in (("speed", "fast", "slow"), ("direction", "left", "right")):
        found = recovery.pairs(kind, first, second)
        assert found
        for a, b in found:
            differing = [k for k, values in generated.KINDS.items() if values[a] != values[b]]
            assert differing == [kind]


def test_slowness_of_a_ramp():
    x = np.broadcast_to(3.0 * np.arange(4)[:, None, None, None], (4, 5, 5, 2))[None]
    temporal, spatial = recovery.slowness(x)
    assert (temporal, spatial) == (3.0, 0.0)


def test_likeness_ignores_contrast_and_offset():
    rng = np.random.default_rng(0)
    picture = rng.normal(size=(6, 6, 3))
    assert recovery.likeness(picture, 5 * picture + 2) == pytest.approx(1.0)
    assert recovery.likeness(picture, -picture) == pytest.approx(-1.0)
    assert abs(recovery.likeness(picture, rng.normal(size=(6, 6, 3)))) < 0.4


def test_what_moves_where_is_compared_whatever_its_direction():
    one = clip_of(SHAPES["left"], np.full(FIELDS, 1.0), noise=0.0)
    other = clip_of(SHAPES["down"], np.full(FIELDS, 3.0), noise=0.0)
    a, b = (recovery.appearance_of(Clip(None, motion)) for motion in (one, other))
    assert recovery.likeness(a, b) == pytest.approx(1.0, abs=1e-4)
