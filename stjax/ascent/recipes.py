"""Frozen descriptions of a run, and the named ones.

A recipe says how one input is found; `bind` fits it to a layer. Units, kappa, chi and ahat are traced and
belong to no recipe.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stjax.ascent.naturalness import Naturalness
from stjax.ascent.objectives import LogOdds, Neuron
from stjax.ascent.optimizers import Momentum, Optimizer, Sobolev, Weights
from stjax.ascent.parametrization import MovingPicture, Parametrization
from stjax.ascent.regularizers import KAPPA, Bound, LocalEnergy, SpatialVariation, TemporalVariation
from stjax.ascent.transforms import FieldDropout, JitterRule, OnePixel, QuarterStride, Zoom
from stjax.errors import UsageError, nearest
from stjax.types import (
    STREAMS,
    Clip,
    Input,
    Layer,
    Moments,
    Objective,
    Probe,
    Regularizer,
    Transform,
    enlarged,
    sees_frames,
)

PARENT_JITTER = QuarterStride()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one input is found.

    Args:
      name: of a named recipe, written into results.
      steps: >= 1.
      optimizer: the rule for steps uphill.
      regularizers: penalties; each has a name of its own, which keys its weight.
      objective_weight: of the objective against the lambdas: its weight is objective_weight / (rho^2 ahat).
      bound: B, the longest a pixel's vector may be, in grey levels, for all inputs or for each kind of them.
      noise: 95 % quantile of the uniform noise that a run starts from, signed, in grey levels: 80/sqrt(3) in the
        parent code, so x begins within +-51.3.
      jitter: the rule by which `bind` adds the jitter that suits a layer's stride; None for none.
      transforms: random views, applied in order at each step.
      objective: what is to grow; None for the centre unit of the layer that the recipe is bound to.
      odds: whether `bind` takes a class's log-odds rather than its score.
      enough: log-odds that are as good as more, see `LogOdds`; they then take the place of ahat.
      fixed: an input that keeps its start ("appearance" or "motion"), None to move all.
      parametrization: what is optimised in place of the clip itself, None for the clip.
      naturalness: how much counts what departs from natural activity, where the model knows its moments; None for not.
      layer: that the recipe is bound to, "" before; set by `bind`.
      inputs: the streams that are optimised: those that the layer is shown, or those of the parametrization; set by
        `bind`.
      shown: the streams that the layer is shown; set by `bind`.
    """

    name: str = "custom"
    steps: int
    optimizer: Optimizer
    regularizers: tuple[Regularizer, ...] = (LocalEnergy(), SpatialVariation(), TemporalVariation())
    objective_weight: float = 1e4
    bound: float | Bound = 160.0
    noise: float = 80.0 / 3**0.5
    jitter: JitterRule | None = PARENT_JITTER
    transforms: tuple[Transform, ...] = ()
    objective: Objective | None = None
    odds: bool = False
    enough: float = math.inf
    fixed: str | None = None
    parametrization: Parametrization | None = None
    naturalness: Naturalness | None = None
    layer: str = ""
    inputs: tuple[Input, ...] = ()
    shown: tuple[Input, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps must be at least 1: got {self.steps}; nearest: 1")
        if self.fixed not in (None, *STREAMS):
            raise UsageError(
                f"a fixed input must be appearance or motion: got {self.fixed!r}; {nearest(str(self.fixed), STREAMS)}"
            )
        names = [regularizer.name for regularizer in self.regularizers]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"each penalty must have a name of its own: two are named {doubled!r}; rename one of them")

    def bind(self, probe: Probe) -> Recipe:
        """This recipe for one layer: with its objective, the jitter that suits its stride, and what its inputs are.

        Raises:
          UsageError: it is bound already, its objective reads another layer or more of the map than the probe has, or
            the layer does not see the input that is fixed.
        """
        layer = probe.layer
        if self.layer:
            raise UsageError(
                f"a recipe must be bound once: this one is bound to {self.layer}; bind the one it came from"
            )
        objective = self.objective_for(layer)
        if other := [name for name in getattr(objective, "layers", ()) if name != layer.name]:
            raise UsageError(f"an objective must read the probe's layer, {layer.name}: this one reads {other[0]}")
        if getattr(objective, "whole", False) and not probe.whole:
            raise UsageError(
                f"{type(objective).__name__} must be given the whole map of {layer.name}: this probe shows what one "
                f"unit sees; nearest: stjax.probe(network, {layer.name!r}, whole=True)"
            )
        if self.fixed and self.fixed not in layer.inputs:
            raise UsageError(
                f"a fixed input must be one that the layer sees: {layer.name} sees {' and '.join(layer.inputs)}, not "
                f"{self.fixed}"
            )
        bound = dataclasses.replace(
            self,
            objective=objective,
            transforms=(*self.transforms, *(self.jitter(probe.stride) if self.jitter else ())),
            jitter=None,
            # In a window of what one unit sees, most layers have too few places to have moments.
            naturalness=self.naturalness if probe.whole else None,
            layer=layer.name,
            inputs=probe.inputs,
            shown=probe.inputs,
        )
        if self.parametrization is None:
            return bound
        return dataclasses.replace(bound, inputs=self.parametrization.inputs(enlarged(probe.inputs, bound.margin)))

    def rendered(self, clip: Clip) -> Clip:
        """What a canvas shows: itself, or what its parametrization makes of it, of the size of the canvas."""
        if self.parametrization is None:
            return clip
        return self.parametrization.render(enlarged(self.shown, self.margin), clip)

    def objective_for(self, layer: Layer) -> Objective:
        """What grows in a layer: the recipe's own objective, else the unit at the centre, or the odds of a class."""
        if self.objective or not (self.odds and layer.role == "classes"):
            return self.objective or Neuron(layer.name)
        return LogOdds(layer.name, self.enough)

    @property
    def margin(self) -> int:
        """Pixels by which a canvas exceeds the window that the network sees."""
        return sum(transform.margin for transform in self.transforms)

    def weights(
        self,
        *,
        rho: Any,
        ahat: Any,
        chi: Any = 1.0,
        kappa: Any = KAPPA,
        moments: Mapping[str, Moments] | None = None,
    ) -> Weights:
        """The weights of equation (1): objective_weight / (rho^2 ahat), and each penalty's lambda.

        Args:
          rho: side of the receptive field in pixels.
          ahat: the unit's largest recorded activation, > 0.
          chi: slowness, >= 0, in units of kappa.
          kappa: weight of the spatial variation, >= 0.
          moments: what the model knows of natural activity, for a recipe with `naturalness`.
        """
        penalties = {r.name: r.weight(kappa, chi) for r in self.regularizers}
        if isinstance(self.objective, LogOdds) and math.isfinite(self.objective.enough):
            # They are of one scale for all classes, and their ahat of classes that were never recorded a rough one.
            ahat = self.objective.enough
        natural = dict(moments) if self.naturalness is not None and moments else None
        return Weights(self.objective_weight / (rho * rho * ahat), penalties, natural)


MAHENDRAN = Recipe(name="mahendran", steps=300, optimizer=Momentum())
"""The constants and the update of the parent code (Mahendran & Vedaldi, IJCV 2016), which the paper builds on."""

FAST = Recipe(name="fast", steps=60, optimizer=Sobolev(), noise=3.0, jitter=OnePixel())
"""MAHENDRAN's activation, and as much left after a shift, in a fifth of its steps, from a start of almost nothing.

Medians over units of vgg16-imagenet and two seeds, by `scripts/benchmark/compare_recipes.py` (README has the whole
table): value of (1), activation / ahat, share of the activation after a shift by 1 and 2 pixels and a blur of 1 (M.:
MAHENDRAN):

    conv3_3   M. 24.6  5.46  73 %  67 %  33 %    FAST 24.4  5.45  83 %  70 %  36 %    without jitter 24.8  5.54  74 %
    conv4_1   M. 10.9  5.58  92 %  80 %  34 %    FAST 11.4  5.74  91 %  81 %  38 %    without jitter 12.3  6.12  76 %
    conv4_3   M.  7.6  9.14  90 %  78 %  21 %    FAST  7.3  8.57  92 %  82 %  28 %    without jitter  7.9  9.30  74 %

Patches of photographs keep 94 to 99 % after one pixel, and 45 to 67 % under the blur. Tried at conv4_1, one seed:
jitter in every step keeps 96 % at a value of 10.5; seeing a blur of 0.5 pixels besides, 51 % of the blur at the same
value and 5.1 ahat; of 1 pixel, 86 % at 3.6 ahat. 80 steps, smoothing of 10, a momentum of 0.9 and a rate of 30 change
less than seeds do. `start` is a choice of ours: x begins within +-3.3 grey levels, so that what is seen in the end
was put there.
"""

GLOBAL = dataclasses.replace(
    FAST,
    name="global",
    optimizer=Sobolev(rate=5.0),
    objective_weight=3e5,
    bound=Bound(rgb=160.0, flow=40.0),
    jitter=None,
    transforms=(FieldDropout(rate=0.6),),
    odds=True,
)
"""FAST with thirty times the weight on the unit, flow no faster than real flow often is, and fields lost on the way.

For classes and other layers that see the whole input. There rho^2 is so large that the penalties outweigh all
structure: an optimum of FAST is a flat colour before blurred motion. And nothing but the bound keeps the
motion of a class from growing beyond all that it was trained on; 40 grey levels are 6.3 pixels per frame.

At chi = 0 nothing asks for anything over time, and a class that shakes up and down was as often found flickering
from left to right. Of the 8 classes that shake, at chi = 0, from one start in each of three networks
(scripts/check_truth.py is the measure), so many were recovered, and named right by the other networks:

    score, no field lost, weight 1e5         4, 7, 5    81 %
    score, 0.2, 0.4, 0.5, 0.6 lost            6, 7, 5;  5, 8, 8;  6, 8, 8;  7, 7, 8     85, 94, 88, 90 %
    log-odds, balance 3e5, no field lost      5, 6, 5    85 %
    log-odds, balance 3e5, 0.6 lost           8, 8, 8    98 %
"""

KNOTS = MovingPicture()
MOVING = Recipe(
    name="moving",
    steps=60,
    optimizer=Sobolev(rate=12.0, smoothing=3000.0, finest=30.0, flow_rate=1.0, flow_smoothing=3.0, colour=True),
    objective_weight=4.5e4,
    bound=Bound(rgb=160.0, flow=40.0),
    noise=3.0,
    jitter=None,
    transforms=(Zoom(),),
    odds=True,
    enough=30.0,
    parametrization=KNOTS,
    naturalness=Naturalness(weight=10.0),
)
"""For classes of a network that sees consecutive RGB frames: a picture that moves, of things and people.

Twenty classes of i3d-kinetics400 at 32 x 112 x 112, one seed, by `scripts/check_classes.py`, at chi = 10, 1, 0 (noise
of the same contrast and spectrum): first in 12.1, 12.2, 12.0 of 13 views (0); flow explains 93, 97, 99 % of the change
(24, 25, 32 %), blocks that shift 19, 61, 88 % (0, 0, 7 %; clips 36 to 72 %); speed .8, 2.3, 6.3 pixels a frame.

What brought it there, one step after the other, looked at for two to four classes:

- Frames that are free of one another change by brightness, not by displacement: shifts explain 0 to 2 % at any chi.
- A picture that moves, driven by log-odds alone: texture and parts of things; the logit is 100 to 390 where that of
  clips is 30 at most, and `Naturalness` of Mixed_5c 4 to 19, that of clips .6 to 1.2.
- A weight of 5 on naturalness changes little, 30 lets all classes look alike, 10 to 20 shows scenes: a wave, a court.
- Log-odds of 30 are enough: Mixed_5c at .6, logits of 50 to 60, people and ground in natural places.
- From coarse to fine, in place of one smoothing of 100 or 300: whole bodies and fewer rings.
"""

RECIPES = {recipe.name: recipe for recipe in (MAHENDRAN, FAST, GLOBAL, MOVING)}


def recipe_named(name: str) -> Recipe:
    """A named recipe.

    Raises:
      UsageError: there is none of that name.
    """
    if name not in RECIPES:
        raise UsageError(f"a recipe must be a named one: {name!r} is not; {nearest(name, RECIPES)}")
    return RECIPES[name]


def suited(layer: Layer, inputs: tuple[Input, ...]) -> Recipe:
    """MOVING for a layer that sees consecutive RGB frames alone, and enough of them for something to move; else FAST
    for convolutions, and GLOBAL for what stands on all of the input: fully connected layers and classes.

    Enough is a window of as many pixels as lie between two knots of its displacement. Of i3d-kinetics400, three units
    at chi = 1 and 0: in Conv3d_1a, of 7 x 7 pixels, FAST reaches .6 to 1.5 ahat and MOVING .2 to 1.0, both of one
    colour; in Conv3d_2c, of 19, FAST .9 to 2.0 and MOVING .4 to .9, and in Mixed_3c, of 59, 1.3 to 2.6 and .9 to 1.3
    (the strongest real windows .4 to .6). But there FAST shows blots that change colour, MOVING a texture that moves.

    Args:
      layer: of a network.
      inputs: of that network.
    """
    seen = [each for each in inputs if each.name in layer.inputs]
    sides = [extent.side for extent in (layer.field.y, layer.field.x) if extent is not None]
    if sees_frames(seen) and min(sides, default=KNOTS.spacing) >= KNOTS.spacing:
        return MOVING
    return FAST if layer.role == "convolution" else GLOBAL
