"""What check_truth.py measured, as tables, every number beside its chance level and beside generated clips; reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markdown_table import markdown_table

from stjax import files
from stjax.analysis import recovery, scores
from stjax.analysis.scores import Measurements
from stjax.training.generated import CLASSES

SHUFFLES = 200
AUTHORS = (
    ("conv3_3", 5.95 / 0.98, 2.27 / 2.31),
    ("conv4_3", 4.16 / 0.57, 2.42 / 2.59),
    ("conv5_2", 1.89 / 0.81, 2.88 / 3.05),
)
"""Fast over slow: of mean |D_t x|, and of the mean spatial difference, measured on clips the authors published."""
SHAKING = sum(recovery.SHAKING)
OF = {
    scores.STEADY: len(CLASSES) - SHAKING,
    scores.SHAKING: SHAKING,
    scores.SWINGS: SHAKING,
    scores.LASTING: len(CLASSES) - SHAKING,
    scores.RATIO: 1,
    scores.SPEED: 1,
}
"""Measure -> of how many classes it is a share; 1 for what is no share."""
ITSELF, OTHERS = "named right by itself", "named right by the other networks"


class Table(NamedTuple):
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def spread(values: Sequence[float], of: int = 1) -> str:
    """Mean of several runs, and their range; shares as numbers of classes.

    >>> spread([0.5, 1.0], 8), spread([0.5], 8), spread([2.0, 3.0])
    ('6.0 (4-8)', '4.0', '2.50 (2.00-3.00)')
    """
    if not np.isfinite(values).all():
        return "-"
    scaled = np.asarray(values, float) * of
    mean = f"{scaled.mean():.2f}" if of == 1 else f"{scaled.mean():.1f}"
    if len(scaled) == 1:
        return mean
    low, high = (f"{v:.2f}" if of == 1 else f"{v:.0f}" for v in (scaled.min(), scaled.max()))
    return f"{mean} ({low}-{high})"


def rows(title: str, runs: Sequence[Mapping[str, np.ndarray]], columns: int) -> dict[str, list[str]]:
    """Measure -> a row: a value for each chi; what has one chi alone stands in every column."""
    return {
        measure: [
            title,
            *(spread([float(run[measure][j % len(run[measure])]) for run in runs], of) for j in range(columns)),
        ]
        for measure, of in OF.items()
    }


def shuffled(runs: Sequence[Measurements]) -> list[dict[str, np.ndarray]]:
    """Of each run, its scores under each other's names, the mean over `SHUFFLES` draws."""
    means = []
    for run in runs:
        draws = [scores.motion_scores(scores.shuffle(run, seed)) for seed in range(SHUFFLES)]
        means.append({measure: np.nanmean([d[measure] for d in draws], 0) for measure in OF})
    return means


def motion(
    chi: Sequence[float],
    optima: Mapping[str, Sequence[Measurements]],
    untrained: Sequence[Measurements],
    references: Mapping[str, Measurements],
) -> list[Table]:
    """A table for each measure: optima of each network, generated clips, and chance.

    Args:
      optima: title -> a record of each start.
      untrained: optima of networks with random parameters, a record of each.
      references: generated clips, and clips that know no class.
    """
    parts = [rows(title, [scores.motion_scores(run) for run in runs], len(chi)) for title, runs in optima.items()]
    if untrained:
        parts.append(rows("chance: untrained networks", [scores.motion_scores(run) for run in untrained], len(chi)))
    every = [scores.join(runs) for runs in optima.values()]
    parts.append(rows("chance: the same optima, names shuffled", shuffled(every), len(chi)))
    parts += [rows(title, [scores.motion_scores(one)], len(chi)) for title, one in references.items()]
    heads = ["clips", *(f"chi {c:g}" for c in chi)]
    return [
        Table(measure if of == 1 else f"{measure}, of {of}", heads, [part[measure] for part in parts])
        for measure, of in OF.items()
    ]


def transfer(
    chi: Sequence[float],
    judges: Sequence[str],
    optima: Mapping[str, Sequence[Measurements]],
    untrained: Sequence[Measurements],
    references: Mapping[str, Measurements],
) -> list[Table]:
    """By how many of the 28 optima the maker, and the other networks, name right."""
    own, others = [], []
    count = len(CLASSES)

    def row(title: str, values: Sequence[np.ndarray]) -> list[str]:
        return [title, *(spread([float(v[j % len(v)]) for v in values], count) for j in range(len(chi)))]

    for title, runs in optima.items():
        maker = [name == title.split(",")[0] for name in judges]
        shares = [scores.share_named(run) for run in runs]
        own.append(row(title, [s[maker].mean(0) for s in shares]))
        if len(judges) > 1:
            others.append(row(title, [s[np.logical_not(maker)].mean(0) for s in shares]))
    chance = []
    if untrained:
        chance.append(row("chance: untrained networks", [scores.share_named(run).mean(0) for run in untrained]))
    mixed = [
        np.mean([scores.share_named(scores.shuffle(run, i)).mean(0) for i in range(SHUFFLES)], 0)
        for run in map(scores.join, optima.values())
    ]
    chance.append(row("chance: the same optima, names shuffled", mixed))
    chance += [row(title, [scores.share_named(one).mean(0)]) for title, one in references.items()]
    heads = ["clips", *(f"chi {c:g}" for c in chi)]
    tables = [Table(f"{ITSELF}, of {count}", heads, own)]
    return [*tables, Table(f"{OTHERS}, of {count}", heads, [*others, *chance])] if others else tables


def slow(
    chi: Sequence[float], optima: Mapping[str, Sequence[Measurements]], depth: Mapping[str, Mapping]
) -> list[Table]:
    """How fast and how rough flow is: of the classes of each network, and of layers of the first."""
    heads = [*(f"D_t, chi {c:g}" for c in chi), *(f"D_xy, chi {c:g}" for c in chi)]
    classes = [
        [
            title,
            *(spread([float(run.slowness[:, j, k].mean()) for run in runs]) for k in (0, 1) for j in range(len(chi))),
        ]
        for title, runs in optima.items()
    ]
    title = "Slowness of the classes: mean |D_t x| and mean spatial difference, grey levels"
    return [Table(title, ["clips", *heads], classes), *layers(chi, depth)]


def layers(chi: Sequence[float], depth: Mapping[str, Mapping]) -> list[Table]:
    """Of layers, each with what `analysis.depth` measured: how fast and how rough, and whether appearance is kept."""
    heads = [*(f"D_t, chi {c:g}" for c in chi), *(f"D_xy, chi {c:g}" for c in chi)]
    rows = [
        [layer, *(f"{v:.2f}" for v in (*d["temporal"], *d["spatial"])),
         f"{d['temporal'][-1] / max(d['temporal'][0], 1e-9):.1f}", f"{d['spatial'][-1] / d['spatial'][0]:.2f}"]
        for layer, d in depth.items()
    ]  # fmt: skip
    rows += [[f"authors, {layer}", *[""] * (2 * len(chi)), f"{t:.1f}", f"{s:.2f}"] for layer, t, s in AUTHORS]
    kept = [
        [layer, str(d["units"]), f"{100 * d['kept']:.0f} %", f"{d['likeness']:.2f}", f"{100 * d['chance']:.0f} %"]
        for layer, d in depth.items()
    ]
    return [
        Table("Slowness of layers; last over first chi", ["layer", *heads, "D_t ratio", "D_xy ratio"], rows),
        Table(
            f"Appearance kept between chi {chi[0]:g} and {chi[-1]:g}; chance: between different units",
            ["layer", "units", "kept", "median correlation", "chance"],
            kept,
        ),
    ]


def markdown(parts: Sequence[Table]) -> str:
    """Tables under their titles.

    >>> print(markdown([Table("Two", ["a", "b"], [["1", "2"]])]))
    ### Two
    <BLANKLINE>
    | a | b |
    |---|---|
    | 1 | 2 |
    <BLANKLINE>
    """
    lines = []
    for title, heads, body in parts:
        lines += [f"### {title}", "", *markdown_table(heads, body), ""]
    return "\n".join(lines)


def report(out: Path, head: str, tables: Sequence[Table], measured: Mapping[str, Any]) -> None:
    """Prints what was measured, and writes it: tables into truth.md, all numbers into truth.json."""
    text = f"{head}\n\n{markdown(tables)}"
    print(text)
    files.write_text(out / "truth.md", text)
    files.write_text(out / "truth.json", json.dumps({"made": files.MARK} | dict(measured), indent=2))
