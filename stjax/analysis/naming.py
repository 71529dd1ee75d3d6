"""Whether optima of classes are named right, beside chance; and whether their naming needs time to run forwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stjax.analysis.change import Change
from stjax.analysis.views import LASTING, VIEWS, Naming, name


class Judged(NamedTuple):
    """What is measured of clips of classes, each at one or more chi.

    label: the class that a clip is of; below 0 where nobody knows.
    scores: of each judge for each view, see `views.seen`.
    change: of `change.Change`.
    """

    label: Int[np.ndarray, " clips"]
    scores: Float[np.ndarray, "judges clips chi views classes"]
    change: Float[np.ndarray, "clips chi measures"]


PLAIN, FIRST, RANK, PROBABILITY, ODDS = NAMED = (
    "named first",
    "views in which it is named first",
    "median rank, 1 the first",
    "probability",
    "log-odds",
)
MEASURES = (*NAMED, *Change._fields)


def named(one: Judged, judge: int = 0) -> Naming:
    """How each clip is named in each view: (clips, chi, views)."""
    scores = one.scores[judge]
    return name(scores, np.broadcast_to(one.label[:, None, None], scores.shape[:-1]))


def measures(one: Judged, judge: int = 0) -> dict[str, Float[np.ndarray, " chi"]]:
    """Measure -> its value at each chi, over clips; those of no class are left out where it is about names.

    Of the plain view: the share of clips named first, the median rank, mean probability and log-odds. Of the views that
    last: in how many a clip is named first, one that the judge does not take being none. And the means of `Change`.
    """
    some = one.label >= 0
    naming = named(one._replace(label=one.label[some], scores=one.scores[:, some]), judge)
    first = naming.rank[:, :, : len(LASTING)] == 0
    values = dict.fromkeys(NAMED, np.full(one.scores.shape[2], np.nan))
    if some.any():
        values = {
            PLAIN: first[:, :, 0].mean(0),
            FIRST: first.sum(2).mean(0),
            RANK: np.median(naming.rank[:, :, 0], axis=0) + 1,
            PROBABILITY: naming.probability[:, :, 0].mean(0),
            ODDS: naming.log_odds[:, :, 0].mean(0),
        }
    return values | {measure: _mean(one.change[:, :, number]) for number, measure in enumerate(Change._fields)}


def _mean(values: Float[np.ndarray, "clips chi"]) -> Float[np.ndarray, " chi"]:
    """Over the clips of which it is known."""
    known = ~np.isnan(values)
    return np.where(known.any(0), np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def share_first(one: Judged, judge: int = 0) -> Float[np.ndarray, "views chi"]:
    """Share of the clips that are named first in each view; NaN of a view that the judge does not take."""
    rank = named(one, judge).rank
    return np.where(np.isnan(rank).all(0), np.nan, (rank == 0).mean(0)).T


def renamed(one: Judged, turn: int) -> Judged:
    """The same clips under each other's names: clip i as the class of clip i + turn.

    Over all turns from 1 on, each clip is asked for each other class once.
    """
    return one._replace(label=np.roll(one.label, -turn))


def fall(one: Judged, view: str, judge: int = 0) -> Float[np.ndarray, "clips chi"]:
    """How far the log-odds of a clip's class fall from the plain view to another: 0 not at all."""
    odds = named(one, judge).log_odds
    return odds[:, :, 0] - odds[:, :, VIEWS.index(view)]


def gap(falls: Float[np.ndarray, "clips chi"], directed: Bool[np.ndarray, " clips"]) -> Float[np.ndarray, " chi"]:
    """By how much more the classes with a direction fall than the others, in the mean.

    >>> gap(np.asarray([[4.0], [2.0], [1.0]]), np.asarray([True, True, False])).tolist()
    [2.0]
    """
    return falls[directed].mean(0) - falls[~directed].mean(0)


def chance_of_gap(
    falls: Sequence[Float[np.ndarray, "clips chi"]], directed: Bool[np.ndarray, " clips"], draws: int = 2000
) -> Float[np.ndarray, "ends=2 chi"]:
    """Between which gaps 95 % lie when as many classes at random are called directed: no effect stays within.

    Args:
      falls: of several runs of the same clips; their mean is asked.
      directed: which have a direction.
      draws: of random classes, from seed 0.
    """
    random, mean = np.random.default_rng(0), np.mean(falls, axis=0)
    drawn = [gap(mean, random.permutation(directed)) for _ in range(draws)]
    return np.quantile(drawn, [0.025, 0.975], axis=0)
