"""How far the optima of one unit, found from several starts, are one: the spread of their values and of their looks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stjax import arrays
from stjax.endings import NOTHING_TO_SEE
from stjax.figures.views import array_path
from stjax.record import Record
from stjax.types import STREAMS


class Spread(NamedTuple):
    """Of the optima of one unit at one chi.

    layer, unit, chi: as in a record.
    values: of equation (1), one for each start.
    correlation: of the pixels of two optima, the mean over all pairs and over the streams; 1 where all are one.
    """

    layer: str
    unit: int
    chi: float | None
    values: tuple[float, ...]
    correlation: float


def spreads(directory: str | Path, records: Sequence[Record]) -> list[Spread]:
    """Of every unit and chi that several starts were run of; dead ones and damaged files are passed over.

        correlation = mean over streams s and pairs i < j of  <x_si - mean, x_sj - mean> / (|x_si - mean| |x_sj - mean|)

    Args:
      directory: the run's folder.
      records: of any layers.
    """
    groups: dict[tuple[str, int, float | None], list[Record]] = {}
    for record in records:
        if record.ending not in NOTHING_TO_SEE:
            groups.setdefault((record.layer, record.unit, record.chi), []).append(record)
    all_spreads = []
    for (layer, unit, chi), group in groups.items():
        if len(group) < 2:
            continue
        clips = []
        for record in group:
            try:
                clips.append(arrays.load(array_path(directory, record), record.sha256))
            except (arrays.Damaged, FileNotFoundError):
                break
        else:
            values = tuple(record.value for record in sorted(group, key=lambda record: record.start))
            all_spreads.append(Spread(layer, unit, chi, values, _mean_correlation(clips)))
    return all_spreads


def describe_spreads(spreads: Sequence[Spread]) -> str:
    """A layer's spreads in one line: medians over units and chi; nothing where there are none."""
    if not spreads:
        return ""
    gaps = [(max(s.values) - min(s.values)) / abs(sum(s.values) / len(s.values) or 1.0) for s in spreads]
    return (
        f"{max(len(s.values) for s in spreads)} starts: their values differ by {np.median(gaps):.1%}, their optima "
        f"correlate at {np.median([s.correlation for s in spreads]):.2f} (medians of {len(spreads)})"
    )


def _mean_correlation(clips: Sequence[dict[str, NDArray[np.float32]]]) -> float:
    """The mean correlation of the streams over all pairs of clips."""
    each = []
    for name in clips[0].keys() & set(STREAMS):
        flat = np.stack([clip[name].ravel() for clip in clips]).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        each += [float(flat[i] @ flat[j]) for i, j in combinations(range(len(flat)), 2)]
    return float(np.mean(each))
