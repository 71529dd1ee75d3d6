"""How slow and how rough the optima of a layer are at each chi, and whether they keep their appearance."""

from __future__ import annotations

from typing import Any

import numpy as np

from stjax.analysis import recovery
from stjax.types import Clip

ALIKE = 0.7
"""Correlation from which two optima of a unit count as the same."""


def depth(clip: Clip, gradient_max: Clip) -> dict[str, Any]:
    """Of one layer: slowness and roughness for each chi, and the share of units that keep their appearance.

    Slowness is that of flow; of frames where there is no flow. A unit keeps its appearance if its optima at the first
    and last chi correlate by at least `ALIKE`: the pictures of a layer that sees frames; of a motion layer, where
    something moves, whatever way (`recovery.appearance_of`). Chance is the share of pairs of different units that
    correlate as much.

    Args:
      clip: optima, (units, chi, ...).
      gradient_max: of each; a unit at which no gradient arrives shows nothing, and is left out.
    """
    living = np.any([np.asarray(g) > 0 for g in gradient_max if g is not None], axis=(0, 2))
    moving = clip.appearance[..., None, :, :, :, :] if clip.motion is None else clip.motion
    temporal, spatial = (a[living].mean(0).tolist() for a in recovery.slowness(moving))
    pictures = recovery.appearance_of(clip)[living]
    alike = recovery.likeness(pictures[:, None, 0], pictures[None, :, -1])
    own = np.eye(len(alike), dtype=bool)
    return {
        "temporal": temporal,
        "spatial": spatial,
        "units": int(living.sum()),
        "kept": float((alike[own] >= ALIKE).mean()),
        "likeness": float(np.median(alike[own])),
        "chance": float((alike[~own] >= ALIKE).mean()) if len(alike) > 1 else 0.0,
    }
