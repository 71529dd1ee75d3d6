"""What check_classes.py measured, as tables: every number beside its chance level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from truth_tables import Table, spread

from stjax.analysis import naming
from stjax.analysis.change import Change
from stjax.analysis.naming import Judged
from stjax.analysis.views import LASTING, VIEWS

Judgement = tuple[Sequence[Judged], int]
"""Runs of the same classes from different seeds, and which of their judges is asked."""

TITLES = {
    naming.PLAIN: "Named first: share of the optima, per cent",
    naming.FIRST: f"In how many of {len(LASTING)} views the class is named first",
    naming.RANK: "Rank of the class, 1 the first; median",
    naming.PROBABILITY: "Probability of the class, per cent",
    naming.ODDS: "Log-odds of the class",
    Change._fields[0]: "Mean |D_t x|, grey levels a frame",
    Change._fields[1]: "Contrast: standard deviation, grey levels",
    Change._fields[2]: "Speed of its own flow, pixels a frame",
    Change._fields[3]: "Change that its own flow explains, per cent",
    Change._fields[4]: "Change that shifts of blocks explain, per cent",
}
PER_CENT = (naming.PLAIN, naming.PROBABILITY, *Change._fields[3:])
REVERSAL = ("reversed", "shuffled", "mirrored")
"""A mirror is the control: it changes as much, and no direction in time."""


def beside_chance(chi: Sequence[float], parts: Mapping[str, Judgement]) -> list[Table]:
    """A table for each measure: a row for each title; what has one chi alone stands in every column.

    What has nothing to do with names has no row for a second judge.
    """
    values = {title: [naming.measures(run, judge) for run in runs] for title, (runs, judge) in parts.items()}
    values |= {
        f"chance: {title}, names shuffled": [_renamed(run, judge) for run in runs]
        for title, (runs, judge) in list(parts.items())[:1]
        if min(len(run.label) for run in runs) > 1
    }
    tables = []
    for measure, title in TITLES.items():
        of = 100 if measure in PER_CENT else 1
        rows = [
            [part, *(spread([float(run[measure][j % len(run[measure])]) for run in runs], of) for j in range(len(chi)))]
            for part, runs in values.items()
            if any(np.isfinite(run[measure]).any() for run in runs)
            and not (measure in Change._fields and part in parts and parts[part][1])
        ]
        tables.append(Table(title, ["clips", *(f"chi {c:g}" for c in chi)], rows))
    return [table for table in tables if table.rows]


def _renamed(run: Judged, judge: int) -> dict[str, np.ndarray]:
    """Means over all turns of the names; what has nothing to do with names is not there."""
    turns = [naming.measures(naming.renamed(run, turn), judge) for turn in range(1, len(run.label))]
    nothing = np.full(run.scores.shape[2], np.nan)
    kept = {measure: np.mean([turn[measure] for turn in turns], axis=0) for measure in naming.NAMED}
    return {measure: kept.get(measure, nothing) for measure in naming.MEASURES}


def by_view(chi: Sequence[float], judgement: Judgement) -> Table:
    """In each view: the share of optima named first, and their mean log-odds, for each chi."""
    (runs, judge), columns = judgement, range(len(chi))
    shares = [naming.share_first(run, judge) for run in runs]
    odds = [naming.named(run, judge).log_odds.mean(0).T for run in runs]
    rows = [
        [
            view,
            *(spread([float(v[k, j]) for v in each], of) for each, of in ((shares, 100), (odds, 1)) for j in columns),
        ]
        for k, view in enumerate(VIEWS)
    ]
    heads = ["view", *(f"first, chi {c:g}, %" for c in chi), *(f"log-odds, chi {c:g}" for c in chi)]
    return Table("Named first, and log-odds, in each view", heads, rows)


def reversal(chi: Sequence[float], judgement: Judgement, names: Sequence[str], directed: Sequence[str]) -> list[Table]:
    """Fall of the log-odds when time is reversed or shuffled, or the clip mirrored: of classes with a direction."""
    runs, judge = judgement
    with_one = np.asarray([name in directed for name in names])
    tables = []
    for view in REVERSAL:
        falls = [naming.fall(run, view, judge) for run in runs]
        first = [naming.named(run, judge).rank[:, :, VIEWS.index(view)] == 0 for run in runs]
        groups = {"with a direction": with_one, "others": ~with_one}
        rows = [
            [f"{title} ({mask.sum()})", *(spread([float(f[mask, j].mean()) for f in falls]) for j, _ in enumerate(chi)),
             *(spread([float(f[mask, j].mean()) for f in first], 100) for j, _ in enumerate(chi))]
            for title, mask in groups.items() if mask.any()
        ]  # fmt: skip
        if with_one.any() and not with_one.all():
            gaps = [naming.gap(f, with_one) for f in falls]
            low, high = naming.chance_of_gap(falls, with_one)
            blank = [""] * len(chi)
            rows.append(["difference", *(spread([float(g[j]) for g in gaps]) for j, _ in enumerate(chi)), *blank])
            ends = [f"{a:.2f} to {b:.2f}" for a, b in zip(low, high, strict=True)]
            rows.append(["chance: as many classes at random, 95 %", *ends, *blank])
        heads = ["classes", *(f"fall, chi {c:g}" for c in chi), *(f"still first, chi {c:g}, %" for c in chi)]
        tables.append(Table(f"Fall of the log-odds, {view}", heads, rows))
    return tables


def each_class(chi: Sequence[float], judgement: Judgement, names: Sequence[str]) -> Table:
    """Of each class, over seeds: views in which it is first, speed, share of change by flow, fall when reversed."""
    runs, judge = judgement
    columns = {
        "views": [(naming.named(run, judge).rank[:, :, : len(LASTING)] == 0).sum(2) for run in runs],
        "speed": [run.change[:, :, Change._fields.index("speed")] for run in runs],
        "by flow, %": [100 * run.change[:, :, Change._fields.index("by_flow")] for run in runs],
        "reversed": [naming.fall(run, "reversed", judge) for run in runs],
    }
    rows = [
        [name, *(f"{np.mean([v[i, j] for v in values]):.1f}" for values in columns.values() for j, _ in enumerate(chi))]
        for i, name in enumerate(names)
    ]
    heads = ["class", *(f"{column}, chi {c:g}" for column in columns for c in chi)]
    return Table("Each class: views in which it is first, own flow, fall of the log-odds when reversed", heads, rows)
