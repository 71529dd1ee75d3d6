"""The types every room shares: what flows through the program, what describes a network, and who may act on a clip.

Arrays travel in NamedTuples; what shapes a program is a frozen dataclass, compared by value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from stjax.errors import UsageError, nearest

STREAMS = ("appearance", "motion")
"""The names that inputs may have, in the order of a clip. `spatial` and `temporal` are words for axes here."""

AXES = {"rgb": ("time", "height", "width", "rgb"), "flow": ("time", "fields", "height", "width", "uv")}
"""The axes of one clip's input, by its kind."""
CHANNELS = {"rgb": 3, "flow": 2}

Params = Mapping[str, Any]
"""Nested dict of arrays: `params["fc6"]["kernel"]`."""

Activations = dict[str, Array]
"""Layer name -> map (*batch, time, height, width, channels), before the ReLU for convolutions."""

Scalar = Float[Array, ""]


class Moments(NamedTuple):
    """Mean and standard deviation of each unit of a layer, (channels,), over the places and clips of a data set."""

    mean: Any
    deviation: Any


Role = Literal["convolution", "dense", "classes"]


class Clip(NamedTuple):
    """What a network is shown, in grey levels. A stream that is absent is None.

    appearance  (*batch, time, height, width, rgb=3): RGB minus the mean of the network's preprocessing.
    motion      (*batch, time, fields, height, width, uv=2): 6.375 grey levels per pixel of displacement, u to the
                right, v downward; or RGB like appearance, where the network's second stream sees frames.

    `time` counts frames, or temporal samples taken far apart; `fields` the flow fields of one sample. Which of the two
    a network's inputs have is declared by its `Input`s.
    """

    appearance: Any = None
    motion: Any = None


@dataclass(frozen=True, kw_only=True)
class Input:
    """One stream that a network is shown.

    Args:
      name: "appearance" or "motion", the field of a `Clip`.
      kind: "rgb" or "flow".
      shape: of one clip without batch: (time, height, width, 3) of rgb, (time, fields, height, width, 2) of flow.
      slow: the axis along which chi makes it slow: "time" where frames follow one another, "fields" for the flow fields
        of one sample, None for a still, or for samples that are taken far apart.

    >>> flow = Input(name="motion", kind="flow", shape=(1, 10, 224, 224, 2), slow="fields")
    >>> flow.length("fields"), flow.axis("fields"), flow.slow_axis
    (10, -4, -4)
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    slow: str | None = None

    def __post_init__(self) -> None:
        if self.name not in STREAMS:
            raise UsageError(f"an input must be named appearance or motion: got {self.name!r}; "
                             f"{nearest(str(self.name), STREAMS)}")  # fmt: skip
        if self.kind not in AXES:
            raise UsageError(f"an input must be of kind rgb or flow: {self.name} is of {self.kind!r}; nearest: rgb")
        axes = AXES[self.kind]
        fits = len(self.shape) == len(axes) and self.shape[-1] == CHANNELS[self.kind]
        if not (fits and all(isinstance(n, int) and n >= 1 for n in self.shape)):
            words = ", ".join((*axes[:-1], f"{axes[-1]}={CHANNELS[self.kind]}"))
            raise UsageError(f"an input of kind {self.kind} must have the axes ({words}): {self.name} has {self.shape}")
        if self.slow not in (None, *axes[:-3]):
            raise UsageError(
                f"chi must slow one of the axes {', '.join(axes[:-3])} of an input of kind {self.kind}, or none: "
                f"{self.name} declares {self.slow!r}; nearest: {axes[len(axes) - 4]}"
            )

    def axis(self, name: str) -> int:
        """The place of an axis, counted from the end, so that it holds for batches as well."""
        return AXES[self.kind].index(name) - len(AXES[self.kind])

    @property
    def slow_axis(self) -> int | None:
        return None if self.slow is None else self.axis(self.slow)

    def length(self, name: str) -> int:
        return self.shape[self.axis(name)]


class Extent(NamedTuple):
    """What a unit sees along one axis, in frames or pixels.

    side, stride from one unit to the next, and centre of the first unit, counted from 0; it may lie between two pixels.
    """

    side: int
    stride: int
    centre: float


class Field(NamedTuple):
    """The receptive field of a layer, axis by axis; None where a unit sees all of the input along that axis."""

    t: Extent | None
    y: Extent | None
    x: Extent | None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One endpoint of a network.

    Args:
      name: as the network's activations spell it; a stream before a slash where a network has several towers.
      units: channels.
      inputs: names of the inputs that it sees.
      field: receptive field on t, y and x.
      grid: positions on t, y and x of its map, for an input of the declared shape.
      role: "convolution", "dense" for what stands on all of the input, "classes" for the scores of classes.
      cuttable: whether the network computes it on a window of its input as well as on the whole.
    """

    name: str
    units: int
    inputs: tuple[str, ...]
    field: Field
    grid: tuple[int, int, int]
    role: Role = "convolution"
    cuttable: bool = True


@runtime_checkable
class Network(Protocol):
    """What can be looked into: it says what it is shown and which layers it has, and computes both.

    It is a static argument of compiled functions, so it must be hashable and compare by value. A network that can
    compute a layer alone, on nothing but what one unit sees, may have a method `for_layer(layer, exact)` besides: see
    `stjax.networks.geometry.probe`.
    """

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it is shown, in the order of a clip."""
        ...

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its endpoints, in forward order."""
        ...

    def apply(self, variables: Any, clip: Any, /) -> Any:
        """`apply({"params": params}, clip)` -> (scores or None, activations)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one unit of a layer is shown, and the network set up to evaluate just that: from `stjax.probe`.

    Args:
      network: evaluates the layer on windows of the inputs' shapes; the unit is at the centre of the map.
      layer: that is looked into.
      inputs: those that the layer sees, with the shape of the window.
      whole: whether the window is the whole input, so that an objective may read more of the map than one unit.
    """

    network: Network
    layer: Layer
    inputs: tuple[Input, ...]
    whole: bool = False

    @property
    def rho(self) -> float:
        """Side of the receptive field in pixels, the geometric mean of y and x; it enters the objective's weight."""
        first = self.inputs[0]
        y, x = self.layer.field.y, self.layer.field.x
        return math.sqrt((y.side if y else first.length("height")) * (x.side if x else first.length("width")))

    @property
    def stride(self) -> int:
        """From one unit of the layer to the next, in pixels; a share of it is the default jitter."""
        return max(extent.stride for extent in (self.layer.field.y, self.layer.field.x) if extent) if (
            self.layer.field.y or self.layer.field.x
        ) else 1  # fmt: skip

    @property
    def slows(self) -> bool:
        """Whether chi changes anything: whether an input of the layer has an axis along which it can be slow."""
        return any(each.slow for each in self.inputs)

    def canvas(self, margin: int = 0) -> Clip:
        """Shapes of a canvas `margin` pixels higher and wider than the window, as a hashable Clip."""
        return shapes(enlarged(self.inputs, margin))


def enlarged(inputs: Iterable[Input], margin: int) -> tuple[Input, ...]:
    """Inputs that are `margin` pixels higher and wider.

    >>> enlarged((Input(name="appearance", kind="rgb", shape=(1, 8, 8, 3)),), 2)[0].shape
    (1, 10, 10, 3)
    """
    return tuple(
        dataclasses.replace(each, shape=(*each.shape[:-3], *(n + margin for n in each.shape[-3:-1]), each.shape[-1]))
        for each in inputs
    )


def shapes(inputs: Iterable[Input], lead: tuple[int, ...] = ()) -> Clip:
    """What inputs are shaped like, as a Clip of shapes: for tracing without numbers.

    Args:
      inputs: of a network, or some of them; the others are None.
      lead: lengths of batch axes.

    >>> shapes((Input(name="appearance", kind="rgb", shape=(1, 8, 8, 3)),), (2,)).appearance.shape
    (2, 1, 8, 8, 3)
    """
    return Clip(**{each.name: jax.ShapeDtypeStruct((*lead, *each.shape), jnp.float32) for each in inputs})


def streams(inputs: tuple[Input, ...], clip: Clip) -> list[tuple[Input, Any]]:
    """The inputs that a clip has, each with its array, of JAX or NumPy as it is."""
    return [(each, x) for each in inputs if (x := getattr(clip, each.name)) is not None]


def sees_frames(inputs: Sequence[Input]) -> bool:
    """Whether these are consecutive RGB frames and nothing else.

    >>> sees_frames((Input(name="appearance", kind="rgb", shape=(8, 4, 4, 3), slow="time"),))
    True
    """
    return [(each.name, each.kind, each.slow) for each in inputs] == [("appearance", "rgb", "time")]


@runtime_checkable
class Objective(Protocol):
    """What is to grow: larger is better. `target` is traced: a unit's index, or a direction.

    It may have an attribute `layers`, the names of those that it reads, and `whole`, true if it reads more of a map
    than one position; see `stjax.ascent.objectives`.
    """

    def __call__(self, activations: Activations, target: Any) -> Scalar: ...


@runtime_checkable
class Regularizer(Protocol):
    """A penalty on a clip, unweighted, already divided by the area H*W of the canvas."""

    @property
    def name(self) -> str: ...

    def __call__(self, inputs: tuple[Input, ...], clip: Clip) -> Scalar: ...

    def weight(self, kappa: Any, chi: Any) -> Any:
        """The traced weight of this penalty for one kappa and one chi (chi in units of kappa)."""
        ...


@runtime_checkable
class Transform(Protocol):
    """A random view of a canvas that is `margin` pixels larger than what it returns."""

    @property
    def margin(self) -> int: ...

    def __call__(self, inputs: tuple[Input, ...], key: Array, clip: Clip) -> Clip: ...
