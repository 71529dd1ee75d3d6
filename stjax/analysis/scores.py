"""How much of the known motion a set of labelled clips shows, and what clips score that know nothing of it.

Optima, generated clips and chance all pass through one `measure` and one `motion_scores`, so that each number of
scripts/check_truth.py stands beside what the same measure gives where nothing, or everything, is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from stjax.analysis import recovery
from stjax.preprocess import FLOW_SCALE
from stjax.training.evaluation import predict
from stjax.training.generated import CLASSES, FIELDS, KINDS, SIDE
from stjax.training.shapes import enlarge, white
from stjax.types import Clip, Network, Params


class Measurements(NamedTuple):
    """What is measured of clips, each at one or more chi.

    label: index into CLASSES.
    correlation, course: of `recovery.match`.
    answers: the class that each judge names.
    slowness: mean |D_t x|, and mean spatial difference, grey levels.
    """

    label: Int[np.ndarray, " clips"]
    correlation: Float[np.ndarray, "clips chi names"]
    course: Float[np.ndarray, "clips chi names fields"]
    answers: Int[np.ndarray, "judges clips chi"]
    slowness: Float[np.ndarray, "clips chi 2"]


def measure(clip: Clip, label: Any, judges: Sequence[tuple[Network, Params]]) -> Measurements:
    """Measures clips (clips, chi, ...) of known classes.

    Args:
      clip: both streams, network units.
      label: (clips,) indices into CLASSES.
      judges: networks, each with its parameters, that are asked which class they see.
    """
    columns = range(clip.motion.shape[1])
    shown = [Clip(*(jnp.asarray(x[:, j]) for x in clip)) for j in columns]
    answers = [np.stack([np.asarray(predict(*judge, c)) for c in shown], 1) for judge in judges]
    match = recovery.match_motion(jnp.asarray(clip.motion))
    shape = (len(judges), *clip.motion.shape[:2])
    return Measurements(
        np.asarray(label),
        np.asarray(match.correlation),
        np.asarray(match.course),
        np.asarray(answers, int).reshape(shape),
        np.stack(recovery.slowness(clip.motion), -1),
    )


def join(parts: Sequence[Measurements]) -> Measurements:
    """Records of several sets of clips, by the same judges at the same chi, as one."""
    axes = Measurements(0, 0, 0, 1, 0)  # type: ignore[arg-type]
    return Measurements(
        *(np.concatenate(column, axis) for column, axis in zip(zip(*parts, strict=True), axes, strict=True))
    )


def shuffle(one: Measurements, seed: int) -> Measurements:
    """The same clips under each other's names.

    >>> one = Measurements(np.arange(9), *[np.zeros((0,))] * 4)
    >>> sorted(shuffle(one, 0).label.tolist()) == one.label.tolist(), bool((shuffle(one, 0).label == one.label).all())
    (True, False)
    """
    return one._replace(label=np.random.default_rng(seed).permutation(one.label))


STEADY, SHAKING, SWINGS, LASTING = "steady motion", "shaking", "axis and frequency of shaking", "steady seen as steady"
RATIO, SPEED = "fast over slow, inside", "speed inside, px"


def motion_scores(one: Measurements) -> dict[str, Float[np.ndarray, " chi"]]:
    """Measure -> its value at each chi; shares in 0..1 but for the last two.

    Shares of the clips of steady classes whose motion matches best of all `recovery.NAMES`, of shaking classes
    likewise, of shaking classes with the right axis and a frequency that shapes shake with, and of steady classes
    that match some steady motion better than shaking. Then speed in the known direction inside the template that
    matches best: of fast over slow classes, and of all steady classes, in pixels per field.
    """
    recovered = recovery.recover(recovery.MotionMatch(one.correlation, *[np.zeros(0)] * 2, one.course), _labels(one))  # type: ignore[arg-type]
    shakes = np.asarray(recovery.SHAKING)[one.label]
    pace = np.asarray(KINDS["speed"])[one.label]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = recovered.speed[pace == "fast"].mean(0) / recovered.speed[pace == "slow"].mean(0)
    return {
        STEADY: recovered.motion[~shakes].mean(0),
        SHAKING: recovered.motion[shakes].mean(0),
        SWINGS: recovered.profile[shakes].mean(0),
        LASTING: recovered.profile[~shakes].mean(0),
        RATIO: ratio,
        SPEED: recovered.speed[~shakes].mean(0),
    }


def share_named(one: Measurements) -> Float[np.ndarray, "judges chi"]:
    """Share of the clips that each judge names right."""
    return (one.answers == _labels(one)).mean(1)


def _labels(one: Measurements) -> np.ndarray:
    return np.broadcast_to(one.label[:, None], one.correlation.shape[:2])


def random_flow(key: Array, steady: bool) -> Float[Array, "time=1 fields height width uv=2"]:
    """Flow that is smooth in space and means nothing: blots of a quarter of the picture, 2 px (standard deviation).

    Args:
      steady: the same in all fields; else each field is drawn anew.
    """
    fields = 1 if steady else FIELDS
    blots = enlarge(white(key, (fields, 4, 4, 2)), SIDE)
    return 2 * FLOW_SCALE * jnp.broadcast_to(blots, (FIELDS, SIDE, SIDE, 2))[None]


def uninformed(kind: str, count: int) -> tuple[Clip, np.ndarray]:
    """Clips (count, chi=1, ...) that know no class, on a picture at the centre of the range, and labels in turn.

    Args:
      kind: one of `UNINFORMED`.
      count: of clips.
    """
    if kind == "centre of the range":
        motion = jnp.zeros((count, 1, FIELDS, SIDE, SIDE, 2))
    else:
        keys = jax.random.split(jax.random.key(0), count)
        motion = jax.vmap(lambda key: random_flow(key, kind == "smooth random flow"))(keys)
    picture = jnp.zeros((count, 1, SIDE, SIDE, 3))
    return Clip(picture[:, None], motion[:, None]), np.arange(count) % len(CLASSES)


UNINFORMED = ("smooth random flow", "smooth flow, random in time", "centre of the range")
