"""Scores of clips: all where the truth is known, what chance gives where nothing is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import Clip
from stjax.analysis import scores
from stjax.training import generated
from stjax.training.generated import CLASSES

COUNT = 2 * len(CLASSES)


class Knows:
    """A judge that says class 3 whatever it sees."""

    inputs = layers = ()

    @staticmethod
    def apply(variables, clip):
        return jax.nn.one_hot(jnp.full(clip.motion.shape[0], 3), len(CLASSES)), {}


JUDGES = [(Knows, {})]


@pytest.fixture(scope="module")
def real() -> scores.Measurements:
    made = generated.examples(jax.random.key(generated.HELD_OUT), 0, COUNT)
    return scores.measure(Clip(*(x[:, None] for x in made.clip)), made.truth.label, JUDGES)


def uninformed(kind: str) -> scores.Measurements:
    return scores.measure(*scores.uninformed(kind, COUNT), JUDGES)


def test_generated_clips_show_what_they_are(real):
    found = scores.motion_scores(real)
    assert min(float(found[m][0]) for m in (scores.STEADY, scores.SHAKING, scores.SWINGS, scores.LASTING)) >= 0.85


def test_fast_over_slow_is_three_inside_the_shape(real):
    # Outlines move 2.3-3.7 and 0.7-1.3 px per field: 3 on average. Over the whole picture it would be 1.3.
    assert float(scores.motion_scores(real)[scores.RATIO][0]) == pytest.approx(3.0, abs=1.0)
    assert float(scores.motion_scores(real)[scores.SPEED][0]) > 1.0


def test_shuffled_names_score_at_chance(real):
    shuffled = [scores.motion_scores(scores.shuffle(real, seed)) for seed in range(20)]
    assert np.mean([s[scores.STEADY] for s in shuffled]) == pytest.approx(0.1, abs=0.06)
    assert np.mean([s[scores.SHAKING] for s in shuffled]) == pytest.approx(0.14, abs=0.08)


@pytest.mark.parametrize(
    ("kind", "steady", "shaking"),
    [
        ("smooth random flow", 0.25, 0.05),
        ("smooth flow, random in time", 0.05, 0.6),
        ("centre of the range", 0.25, 0.05),
    ],
)
def test_clips_that_know_nothing_score_at_chance(kind, steady, shaking):
    found = scores.motion_scores(uninformed(kind))
    assert float(found[scores.STEADY][0]) <= steady
    assert float(found[scores.SHAKING][0]) <= shaking


def test_what_is_random_in_time_is_taken_for_shaking_and_what_lasts_is_not():
    flicker, lasting = (scores.motion_scores(uninformed(kind)) for kind in scores.UNINFORMED[1::-1])
    assert float(flicker[scores.SWINGS][0]) > 0.2
    assert float(lasting[scores.SWINGS][0]) == 0.0
    assert (float(lasting[scores.LASTING][0]), float(flicker[scores.LASTING][0])) == pytest.approx((1.0, 0.0), abs=0.1)


def test_a_judge_that_says_one_class_names_one_in_28_right(real):
    assert scores.share_named(real).tolist() == [[pytest.approx(1 / len(CLASSES))]]


def test_joined_records_score_as_their_mean(real):
    halves = [
        scores.Measurements(*(a[:, part] if name == "answers" else a[part] for name, a in real._asdict().items()))
        for part in (slice(0, 28), slice(28, None))
    ]
    whole, parts = scores.motion_scores(scores.join(halves)), [scores.motion_scores(half) for half in halves]
    assert float(whole[scores.STEADY][0]) == pytest.approx(np.mean([p[scores.STEADY] for p in parts]))
    np.testing.assert_array_equal(scores.join(halves).answers, real.answers)
