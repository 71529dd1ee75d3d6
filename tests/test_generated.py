"""Clips with known motion: the truth is true, and nothing but the class tells classes apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.preprocess import decode_flow
from stjax.training import generated
from stjax.training.generated import CLASSES, KINDS, MOTION_OF, SHAPE_OF

KEY = jax.random.key(7)
COUNT = 2 * len(CLASSES)


def made(first: int = 0, key: jax.Array = KEY) -> generated.Example:
    return jax.tree.map(np.asarray, generated.examples(key, first, COUNT))


@pytest.fixture(scope="module")
def examples() -> generated.Example:
    return made()


@pytest.fixture(scope="module")
def twins() -> generated.Example:
    """Every class from one and the same key."""
    keys = jnp.broadcast_to(KEY, (COUNT,))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(generated.example))(keys, jnp.arange(COUNT) % len(CLASSES)))


def pairs(kind: str) -> list[tuple[int, int]]:
    """Classes that differ in one kind alone; one that does not apply to both is no difference."""
    values = list(zip(*KINDS.values(), strict=True))
    place = list(KINDS).index(kind)

    def differ(a: tuple[str, ...], b: tuple[str, ...]) -> list[int]:
        return [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y and x and y]

    numbers = range(len(values))
    return [(i, j) for i in numbers for j in numbers if i < j and differ(values[i], values[j]) == [place]]


def test_a_clip_follows_from_its_key_and_number(examples):
    jax.tree.map(np.testing.assert_array_equal, examples, made())
    other = made(key=jax.random.key(8))
    assert (other.clip.motion != examples.clip.motion).mean() > 0.5


def test_a_clip_does_not_depend_on_its_batch(examples):
    shifted = made(5)
    assert shifted.truth.label[0] == 5
    # Sums may be rounded in another order: that can move a value by one grey level, rarely.
    for a, b in zip(jax.tree.leaves(examples.clip), jax.tree.leaves(shifted.clip), strict=True):
        assert np.abs(a[5:] - b[:-5]).max() <= 1
        assert (a[5:] == b[:-5]).mean() > 0.9999


def test_every_class_appears_under_its_own_name(examples):
    assert len(set(CLASSES)) == len(CLASSES) >= 24
    assert np.bincount(examples.truth.label, minlength=len(CLASSES)).tolist() == [2] * len(CLASSES)
    for label, shape, motion in zip(*examples.truth[:3], strict=True):
        assert CLASSES[label] == f"{generated.SHAPES[shape]} {generated.MOTIONS[motion].name}"


@pytest.mark.parametrize("kind", ["shape", "direction", "speed", "profile"])
def test_some_pairs_differ_in_one_kind_alone(kind):
    assert len(pairs(kind)) >= 2, f"no two classes differ in {kind} alone"


def test_eight_classes_shake():
    assert generated.KINDS["profile"].count("shaking") == 8


def test_clips_are_8_bit_values_in_network_units(examples):
    motion, frame = examples.clip.motion, generated.PREPROCESSING.pixels(examples.clip.appearance)
    assert motion.shape == (COUNT, 1, 10, 64, 64, 2)
    assert frame.shape == (COUNT, 1, 64, 64, 3)
    np.testing.assert_array_equal(motion, np.round(motion))
    np.testing.assert_allclose(frame, np.round(frame), atol=1e-4)
    assert motion.min() >= -128
    assert motion.max() <= 127


def test_clips_show_their_true_flow_with_noise(examples):
    # The 8-bit code loses half a grey level of every displacement.
    error = decode_flow(examples.clip.motion + 0.5) - examples.truth.flow
    spread = np.sqrt((error**2).mean((1, 2, 3, 4, 5)))
    assert np.abs(np.mean(error)) < 0.03
    assert spread.min() < 0.15 < 0.35 < spread.max() < 1.0


def test_the_shape_is_next_where_its_flow_carries_it(examples):
    """The mask, each pixel moved by its flow, is the next mask to within a pixel: checked on the truth alone."""
    y, x = np.mgrid[:64, :64]
    for mask, flow in zip(examples.truth.mask[:, 0], examples.truth.flow[:, 0], strict=True):
        for now, later, (u, v) in zip(mask, mask[1:], np.moveaxis(flow, -1, 1), strict=False):
            column, row = (np.rint(a[now]).astype(int) for a in (x + u, y + v))
            seen = (column >= 0) & (column < 64) & (row >= 0) & (row < 64)
            padded = np.pad(later, 1)
            near = np.any([padded[i : i + 64, j : j + 64] for i in range(3) for j in range(3)], axis=0)
            missed = np.count_nonzero(~near[row[seen], column[seen]])
            assert missed <= 1  # the tip of a star may fall between pixel centres
            landed = np.zeros((66, 66), bool)
            landed[row[seen] + 1, column[seen] + 1] = True
            reached = np.any([landed[i : i + 64, j : j + 64] for i in range(3) for j in range(3)], axis=0)
            inner = np.all([padded[i : i + 64, j : j + 64] for i in range(3) for j in range(3)], axis=0)
            inner[:5], inner[-5:], inner[:, :5], inner[:, -5:] = False, False, False, False  # may have entered
            assert reached[inner].mean() > 0.99 if inner.any() else True


def test_speed_is_what_the_outline_moves_by(examples):
    for motion, speed, mask, flow in zip(
        *examples.truth[2:4], examples.truth.mask[:, 0], examples.truth.flow[:, 0], strict=True
    ):
        fastest = np.hypot(*np.moveaxis(flow[mask], -1, 0)).max()
        steady = generated.MOTIONS[motion].axis in ("horizontal", "vertical")
        low, high = (0.7, 1.01) if steady else (0.3, 3.5)  # corners, what has grown, and a drift
        assert low * speed <= fastest <= high * speed + 1e-3


@pytest.mark.parametrize("kind", ["direction", "speed", "profile"])
def test_a_frame_does_not_give_the_motion_away(twins, kind):
    for i, j in pairs(kind):
        np.testing.assert_array_equal(twins.clip.appearance[i], twins.clip.appearance[j])
        np.testing.assert_array_equal(twins.truth.mask[i, 0, 5], twins.truth.mask[j, 0, 5])
        assert (twins.truth.flow[i] != twins.truth.flow[j]).any()


def test_twins_in_shape_move_alike(twins):
    for i, j in pairs("shape"):
        assert MOTION_OF[i] == MOTION_OF[j]
        assert SHAPE_OF[i] != SHAPE_OF[j]
        assert twins.truth.speed[i] == twins.truth.speed[j]
        both = twins.truth.mask[i] & twins.truth.mask[j]
        neither = ~twins.truth.mask[i] & ~twins.truth.mask[j]
        same = both | neither
        np.testing.assert_array_equal(twins.truth.flow[i][same], twins.truth.flow[j][same])


def test_shaking_turns_round_and_steady_motion_does_not(examples):
    for label, period, flow, mask in zip(
        examples.truth.label, examples.truth.period, examples.truth.flow[:, 0], examples.truth.mask[:, 0], strict=True
    ):
        axis = {"horizontal": 0, "vertical": 1}.get(KINDS["axis"][label])
        if axis is not None:
            along = np.array([f[m].mean(0)[axis] for f, m in zip(flow, mask, strict=True) if m.any()])
            turns = int((np.diff(np.sign(along)) != 0).sum())
            shaking = KINDS["profile"][label] == "shaking"
            assert (turns >= 2) == shaking == (period > 0)


def test_perturbing_loses_fields_and_keeps_the_frame_in_sight(examples):
    clip = jax.tree.map(lambda a: jnp.asarray(a[0]), examples.clip)
    views = jax.jit(jax.vmap(generated.perturb, in_axes=(0, None)))(jax.random.split(KEY, 40), clip)
    lost = (np.asarray(views.motion) == 0).all((1, 3, 4, 5))
    assert 0 < lost.mean() < 0.2
    assert np.abs(np.asarray(views.appearance) - clip.appearance[None]).max() < 80
