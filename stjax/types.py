"""The types every room shares: what flows through the program, and who may act on it.

Arrays travel in NamedTuples; what shapes a program is a frozen dataclass, compared by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

STREAMS = ("appearance", "motion")
"""The two inputs of the network. `spatial` and `temporal` are words for axes here."""

Params = Mapping[str, Any]
"""Nested dict of arrays: `params["motion"]["conv3_2"]["kernel"]`."""

Activations = dict[str, Array]
"""Endpoint name -> map (*batch, time, height, width, channels), before the ReLU for convolutions."""

Scalar = Float[Array, ""]


class Clip(NamedTuple):
    """The input of a two-stream network, in grey levels. A stream that is absent is None.

    appearance  (*batch, time, height, width, rgb=3): RGB minus the mean of the network's preprocessing.
    motion      (*batch, time, fields, height, width, uv=2): 6.375 grey levels per pixel of displacement,
                u to the right, v downward.

    `time` counts temporal samples (1 for visualisation); `fields` the flow fields of one sample (10).
    """

    appearance: Any = None
    motion: Any = None


@runtime_checkable
class Network(Protocol):
    """Anything with `apply({"params": params}, clip) -> (scores, activations)`; a flax module will do.

    It is a static argument of compiled functions, so it must be hashable and compare by value.
    """

    def apply(self, variables: Any, clip: Any, /) -> Any: ...


@runtime_checkable
class Objective(Protocol):
    """What is to grow: larger is better. `target` is traced: a unit's index, or a direction."""

    def __call__(self, activations: Activations, target: Any) -> Scalar: ...


@runtime_checkable
class Regularizer(Protocol):
    """A penalty on a clip, unweighted, already divided by the area H*W of the canvas."""

    @property
    def name(self) -> str: ...

    def __call__(self, clip: Clip) -> Scalar: ...

    def weight(self, kappa: Any, chi: Any) -> Any:
        """The traced weight of this penalty for one kappa and one chi (chi in units of kappa)."""
        ...


@runtime_checkable
class Transform(Protocol):
    """A random view of a canvas that is `margin` pixels larger than what it returns."""

    @property
    def margin(self) -> int: ...

    def __call__(self, key: Array, clip: Clip) -> Clip: ...
