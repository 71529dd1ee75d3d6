"""What is asked of one layer: one object, from the command or your own code down to the chunk that a device steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jax import Array

from stjax.ascent import recipes
from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import plan
from stjax.atlas.plan import Job
from stjax.errors import UsageError
from stjax.model import Model
from stjax.networks.geometry import probe
from stjax.types import Clip, Probe

CHI = (10.0, 5.0, 1.0, 0.0)
"""Slownesses that are shown if none are asked for; the largest gives slow motion, 0 leaves speed free."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which units of a layer are to be visualised, and how.

    Args:
      model: the network, its parameters and its statistics.
      layer: one of the network's layers.
      units: channel numbers.
      chi: slownesses in units of kappa, each >= 0. A layer none of whose inputs can be slow is run once.
      recipe: how the input is found; `recipes.suited(layer)` if None. It may bring an objective of its own; else the
        layer's centre unit grows.
      seed: 0..2^64-1; the key of a unit follows from it, the layer, the unit and the start.
      starts: so many optima of each unit, from as many seeds; the first is what a run without starts finds.
      kappa: weight of the spatial variation, >= 0.
      chunk: units that each device steps together; None for the layer's own number, see `plan`.
      initial: streams to begin from instead of noise.
      precision: of the network's arithmetic while climbing, e.g. jnp.bfloat16; None leaves the network as it is.
    Raises:
      UsageError: a value is outside its range; its text says what is allowed.
    """

    model: Model = field(repr=False)
    layer: str
    units: Iterable[int]
    chi: Iterable[float] = CHI
    recipe: Recipe | None = None
    seed: int = 0
    starts: int | None = None
    kappa: float = KAPPA
    chunk: int | None = None
    initial: Clip | None = None
    precision: Any = None
