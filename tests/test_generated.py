"""Clips with known motion: the truth is true, and nothing but the class tells classes apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.preprocess import decode_flow
from stjax.training import generated, render
from stjax.training.generated import CLASSES, KINDS, MOTION_OF, SHAPE_OF
from stjax.types import Clip, Input

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


def shown(*inputs: Input, first: int = 0, count: int = 4) -> Clip:
    return jax.tree.map(np.asarray, generated.clips(KEY, first, count, inputs))


def frames_of(*shape: int, name: str = "appearance", slow: str | None = "time") -> Input:
    return Input(name=name, kind="rgb", shape=(*shape, 3), slow=slow)


def flow_of(*shape: int, slow: str | None = "fields") -> Input:
    return Input(name="motion", kind="flow", shape=(*shape, 2), slow=slow)


def test_the_two_stream_networks_clips_are_those_of_training(examples):
    clip = shown(frames_of(1, 64, 64, slow=None), flow_of(1, 10, 64, 64), count=COUNT)
    for a, b in zip(clip, examples.clip, strict=True):
        assert np.abs(a - b).max() <= 1
        assert (a == b).mean() > 0.9999
    few = shown(frames_of(3, 64, 64, slow=None), flow_of(3, 4, 64, 64), count=COUNT)
    assert few.motion.shape == (COUNT, 3, 4, 64, 64, 2)
    for t in range(3):
        assert (few.motion[:, t] == clip.motion[:, 0, :4]).mean() > 0.9999
        assert (few.appearance[:, t] == clip.appearance[:, 0]).mean() > 0.9999


def test_a_clip_runs_back_where_the_drawn_one_ends():
    assert render.turning(range(-7, 9)).tolist() == [2, 1, *range(11), 9, 8, 7]
    places = render.turning(range(-100, 100))
    assert (np.abs(np.diff(places)) == 1).all()
    assert places.min() == 0
    assert places.max() == 10


@pytest.mark.parametrize("label", [2, 7, 11, 20, 24])
def test_frames_move_as_their_flow_says(label):
    """Each pixel of a frame is found where its flow carries it in the next, also after the clip has turned round."""
    frames, flow = shown(frames_of(14, 64, 64), flow_of(14, 1, 64, 64, slow="time"), first=label, count=1)
    frames, flow = frames[0], decode_flow(flow[0, :, 0] + 0.5)
    y, x = np.mgrid[:64, :64]
    moved, stood = [], []
    for now, later, (u, v) in zip(frames, frames[1:], np.moveaxis(np.asarray(flow), -1, 1), strict=False):
        column, row = (np.rint(a).astype(int) for a in (x + u, y + v))
        inside = (column >= 0) & (column < 64) & (row >= 0) & (row < 64) & (np.hypot(u, v) > 1.5)
        if inside.sum() < 50:
            continue
        moved.append(np.abs(later[row[inside], column[inside]] - now[inside]).mean())
        stood.append(np.abs(later[inside] - now[inside]).mean())
    # The picture's own noise, and flow's, are in both.
    assert np.mean(moved) < 0.8 * np.mean(stood)


def test_a_still_is_the_frame_in_the_middle():
    still = shown(frames_of(1, 64, 64, slow=None)).appearance[:, 0]
    frames = shown(frames_of(9, 64, 64)).appearance
    # But for noise, of which every frame has its own.
    error = np.abs(frames - still[:, None]).mean((0, 2, 3, 4))
    assert error.argmin() == 4


def test_what_is_not_square_is_the_middle_of_a_square():
    wide, square = shown(frames_of(4, 24, 40)).appearance, shown(frames_of(4, 40, 40)).appearance
    assert wide.shape == (4, 4, 24, 40, 3)
    assert (wide == square[:, :, 8:32]).mean() > 0.9999
    tall = shown(flow_of(1, 2, 40, 24)).motion
    assert (tall == shown(flow_of(1, 2, 40, 40)).motion[..., 8:32, :]).mean() > 0.9999


def test_more_fields_begin_with_the_same():
    ten, sixteen = shown(flow_of(1, 10, 32, 32)).motion, shown(flow_of(1, 16, 32, 32)).motion
    assert (sixteen[:, :, :10] == ten).mean() > 0.9999
    assert sixteen.shape == (4, 1, 16, 32, 32, 2)


def test_two_streams_of_frames_show_one_scene():
    slow, fast = shown(frames_of(3, 32, 32), frames_of(9, 32, 32, name="motion"))
    error = np.abs(fast[:, 3:6] - slow).mean((0, 2, 3, 4))
    assert error.max() < np.abs(fast[:, 0] - slow[:, 1]).mean()
