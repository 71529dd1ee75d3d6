"""What changes in a clip of consecutive frames: how much, how fast it moves, and how much of it is movement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from stjax.video import displacement, optima


class Change(NamedTuple):
    """Of one clip.

    temporal: mean |D_t x|, grey levels a frame.
    contrast: standard deviation, grey levels.
    speed: of its own flow, pixels a frame; see `video.optima.OwnFlow`. NaN without scikit-image.
    by_flow: the share of the change that this flow explains. NaN without scikit-image, or where nothing changes.
    by_shifts: the share that whole shifts of blocks explain: see `video.displacement`. NaN of small frames.
    """

    temporal: float
    contrast: float
    speed: float
    by_flow: float
    by_shifts: float


def change_of(frames: Float[np.ndarray, "time height width rgb=3"]) -> Change:
    """Measures a clip of two frames or more.

    Flow takes most of the time: 2.5 s for 32 frames of 112 px on one CPU core.

    >>> ramp = np.broadcast_to(np.arange(3.0)[:, None, None, None], (3, 4, 4, 3))
    >>> change_of(ramp).temporal, change_of(ramp).by_shifts
    (1.0, nan)
    """
    x = np.asarray(frames, np.float32)
    side, nan = min(x.shape[1:3]), float("nan")
    by_shifts = (
        displacement.explained_by_displacement(x) if side >= displacement.BLOCK + 2 * displacement.REACH else nan
    )
    speed = by_flow = nan
    if optima.can_estimate() and side >= optima.SMALLEST:
        flow = optima.own_flow(x)
        speed, by_flow = flow.speed, flow.share
    return Change(float(np.abs(np.diff(x, axis=0)).mean()), float(x.std()), speed, by_flow, by_shifts)
