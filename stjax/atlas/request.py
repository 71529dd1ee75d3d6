"""What is asked of one layer: one object, from the command or your own code down to the chunk that a device steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from stjax.ascent import recipes
from stjax.ascent.objectives import Direction
from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import plan
from stjax.atlas.plan import Job
from stjax.errors import UsageError
from stjax.model import Model
from stjax.networks import geometry
from stjax.types import Clip, Layer, Probe

CHI = (10.0, 5.0, 1.0, 0.0)
"""Slownesses that are shown if none are asked for: slow motion first, and 0, where speed is left free."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which units of a layer are to be visualised, and how.

    Args:
      model: the network, its parameters and its statistics.
      layer: one of the network's layers.
      units: channel numbers.
      chi: slownesses in units of kappa, each >= 0. A layer none of whose inputs can be slow is run once.
      recipe: how the input is found; that which suits the layer if None. It may bring an objective of its own, else the
        layer's centre unit grows.
      seed: 0..2^64-1; a unit's key follows from it, the layer, the unit and the start.
      starts: so many optima of each unit, from as many seeds; the first is what a run without starts finds.
      kappa: weight of the spatial variation, >= 0.
      chunk: units that each device steps together; None for the layer's own number, see `plan.chunk`. Another chunk
        finds another optimum, as close as another start's.
      initial: streams to begin from instead of noise.
      precision: of the network's arithmetic while climbing, e.g. jnp.bfloat16, for a network with a `dtype`; canvas,
        penalties and the numbers of the summary stay float32. None leaves the network as it is.
    Raises:
      UsageError: a value is outside its range, or the layer has no statistics; its text says what is allowed.
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

    def __post_init__(self) -> None:
        # Read once: an iterator would be empty the second time.
        object.__setattr__(self, "units", tuple(self.units))
        object.__setattr__(self, "chi", tuple(self.chi))
        self._check()

    @cached_property
    def described(self) -> Layer:
        """The layer, as the network describes it."""
        return geometry.layer(self.model.network, self.layer)

    @cached_property
    def unbound(self) -> Recipe:
        """The recipe, as it is for any layer."""
        return self.recipe or recipes.suited(self.described, self.model.network.inputs)

    @cached_property
    def probe(self) -> Probe:
        """What a unit of the layer is shown: the whole input, if the objective reads more of the map than the unit."""
        whole = getattr(self.unbound.objective_for(self.described), "whole", False)
        return geometry.probe(self.model.network, self.layer, whole=whole)

    @cached_property
    def rounded_probe(self) -> Probe:
        """The probe with the network's arithmetic in the precision that is asked for."""
        if self.precision is None:
            return self.probe
        network: Any = self.probe.network
        if not (hasattr(network, "dtype") and hasattr(network, "clone")):
            kind = type(network).__name__
            raise UsageError(f"precision needs a network with a dtype: {kind} has none; leave it out")
        return dataclasses.replace(self.probe, network=network.clone(dtype=jnp.dtype(self.precision)))

    @cached_property
    def bound(self) -> Recipe:
        """The recipe, bound to the probe."""
        return self.unbound.bind(self.probe)

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Every unit at every chi from every start, each once."""
        return tuple(plan.jobs(self.probe, self.units, self.chi, 1 if self.starts is None else self.starts))

    @cached_property
    def ahat(self) -> np.ndarray:
        """(units,), the largest recorded activation of each unit of the layer."""
        known = self.model.statistics.ahat
        if self.layer not in known:
            raise UsageError(
                f"a layer must have recorded statistics (ahat): {self.model.name} has none for {self.layer}; nearest: "
                "stjax record"
            )
        outermost(known[self.layer])
        return np.asarray(known[self.layer], np.float32)

    @property
    def key(self) -> Array:
        return plan.seed_key(self.seed)

    @cached_property
    def chunk_size(self) -> int:
        """How many jobs each device steps together: part of a result's identity, as the compiled program follows."""
        return self.chunk or plan.chunk(self.rounded_probe, self.bound, self.model.params)

    def _check(self) -> None:
        layer = self.described
        plan.check_seed(self.seed)
        if not 0 <= self.kappa < math.inf:
            raise UsageError(f"kappa must be >= 0: got {self.kappa:g}; nearest: 0")
        if self.chunk is not None and self.chunk < 1:
            raise UsageError(f"chunk must be at least 1: got {self.chunk}; nearest: 1")
        if self.ahat.shape != (layer.units,):
            raise UsageError(
                f"ahat must have one number for each of the {layer.units} units of {layer.name}: got the shape "
                f"{self.ahat.shape}; nearest: one of shape ({layer.units},)"
            )
        self.check_jobs(self.jobs)
        if isinstance(self.bound.objective, Direction):
            raise UsageError(
                "a request must be for units, and a direction is none; nearest: stjax.step_ascent, with it as target"
            )
        _ = self.rounded_probe

    def check_jobs(self, jobs: Iterable[Job]) -> None:
        """Refuses jobs of units that the layer does not have, or that have no ahat.

        Raises:
          UsageError: its text says which are allowed.
        """
        layer = self.described
        for unit, *_ in jobs:
            if not 0 <= unit < layer.units:
                near = min(max(unit, 0), layer.units - 1)
                raise UsageError(f"a unit of {layer.name} must be in 0..{layer.units - 1}: got {unit}; nearest: {near}")
            if not (self.ahat[unit] > 0 and np.isfinite(self.ahat[unit])):
                raise UsageError(f"ahat must be a number > 0: {layer.name} unit {unit} has {self.ahat[unit]:g}")


def outermost(*arrays: Any) -> None:
    """Refuses arrays that are traced, and any call from within a trace.

    Raises:
      UsageError: its text says what may be called there.
    """
    # Within a trace even a constant is traced.
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((arrays, jnp.zeros(())))):
        raise UsageError(
            "visualize_units must be called outside jit, vmap and grad, for it compiles and runs a loop of its own; "
            "nearest: stjax.step_ascent, which may be called anywhere"
        )
