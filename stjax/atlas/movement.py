"""What of a result moves: found before it is drawn, and stored beside its array for the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stjax import arrays as files
from stjax import figures
from stjax.endings import NOTHING_TO_SEE
from stjax.files import discard
from stjax.record import Record
from stjax.video import displacement, optima


def store_movement(directory: str | Path, record: Record) -> None:
    """Estimates the flow of a result's clips of RGB, and how much of their change it explains, and stores it.

    Without scikit-image there is no flow, but the shifts of blocks are asked all the same. A result without such a
    clip, one that is damaged or not finite, and one with nothing to see, have no movement; an old file is removed.

    Args:
      directory: the run's folder.
      record: of the result.
    """
    path = figures.array_path(directory, record)
    clips = [] if record.ending in NOTHING_TO_SEE else figures.clips(record.inputs)
    try:
        arrays = files.load(path, record.sha256, only={each.name for each in clips}) if clips else {}
    except (files.Damaged, FileNotFoundError):
        arrays = {}
    fit = {each.name: arrays[each.name] for each in clips if each.name in arrays}
    if not (fit and all(np.isfinite(x).all() for x in fit.values())):
        discard(figures.movement_path(path))
        return
    figures.save_movement(Path(directory), path, {name: _movement(x) for name, x in fit.items()})


def lacks_movement(directory: str | Path, record: Record) -> bool:
    """Whether a result has clips whose movement is not stored, or whose flow could be estimated by now."""
    clips = [] if record.ending in NOTHING_TO_SEE else figures.clips(record.inputs)
    if not clips:
        return False
    known = figures.load_movement(figures.array_path(directory, record), record.inputs)
    return any(
        each.name not in known or (known[each.name].flow is None and optima.can_estimate() and _fits(each.shape))
        for each in clips
    )


def _movement(frames: np.ndarray) -> figures.Movement:
    window = displacement.BLOCK + 2 * displacement.REACH
    shifts = displacement.explained_by_displacement(frames) if min(frames.shape[1:3]) >= window else float("nan")
    if not (optima.can_estimate() and _fits(frames.shape)):
        return figures.Movement(shifts=shifts)
    own = optima.own_flow(frames)
    return figures.Movement(own.flow, own.explained, own.speed, own.share, shifts)


def _fits(shape: tuple[int, ...]) -> bool:
    return min(shape[1:3]) >= figures.SMALLEST_CLIP
