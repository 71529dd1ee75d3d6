"""MOVING's counterpart in which the frames are free of one another: what a picture that moves is to be held against."""

from __future__ import annotations

import dataclasses

from stjax.ascent.recipes import MOVING

FRAMES = 32
FREE_FRAMES = dataclasses.replace(
    MOVING,
    name="moving, free frames",
    parametrization=None,
    # Penalties are those of all frames, and not of one picture.
    objective_weight=FRAMES * MOVING.objective_weight,
)
