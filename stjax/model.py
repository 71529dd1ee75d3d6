"""A network with everything needed to use it: parameters, statistics, preprocessing, and where it all comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from stjax.errors import UsageError
from stjax.preprocess import Preprocessing
from stjax.types import Moments, Network, Params


class Part(NamedTuple):
    """Where the parameters of one part of a network come from, in plain words."""

    layers: str
    trained: bool
    origin: str


class Origin(NamedTuple):
    """A file that a network was converted from."""

    file: str
    sha256: str
    container: str
    table: str


class Statistics(NamedTuple):
    """What was recorded of a network on data.

    ahat: layer -> (channels,), the largest activation of each unit, before the ReLU.
    provenance: which data, how many, recorded by which command.
    rough: layer -> why its ahat is a rough scale and no more, in a few words; a layer that is not there is not rough.
    floored: layer -> the units that fired too little to have an ahat of their own.
    """

    ahat: Mapping[str, Any]
    provenance: str
    rough: Mapping[str, str] = MappingProxyType({})
    floored: Mapping[str, tuple[int, ...]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A network with everything needed to use it.

    Args:
      name: as asked for.
      network: what it computes; `network.apply({"params": params}, clip)`.
      params: its parameters, float32; of a network that has other collections of variables (`batch_stats`) all of them.
      statistics: ahat of every unit, with provenance.
      preprocessing: from pixels to the network's input.
      moments: layer -> mean and deviation of its units over the data that it was trained on, as its batch normalisation
        kept them; {} where they are not known.
      parts: what is trained on what, and what is only initialised.
      class_names: of the units of `classes`; () without a classifier, or where no name is known.
      sources: the files that it was converted from; () for a network of our own.
      made: when and by which version it was converted.
      checksum: sha256 of the weights file, part of a result's identity.
    """

    name: str
    network: Network
    params: Params = field(repr=False)
    statistics: Statistics = field(repr=False)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    moments: Mapping[str, Moments] = field(default_factory=dict, repr=False)
    parts: tuple[Part, ...] = ()
    class_names: tuple[str, ...] = ()
    sources: tuple[Origin, ...] = ()
    made: str = ""
    checksum: str = ""


def resized(model: Model, frames: int | None = None, size: int | None = None) -> Model:
    """The same model for clips of another length, height and width.

    Args:
      model: whose network has a method `resized(frames, size)`.
      frames: of a clip, >= 1; as many as now if None.
      size: height and width in pixels, >= 1; as now if None.
    Raises:
      UsageError: its network takes clips of one size only, or none so small.
    """
    if frames is None and size is None:
        return model
    for name, value in (("frames", frames), ("size", size)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1: got {value}; nearest: 1")
    if (change := getattr(model.network, "resized", None)) is None:
        shape = " x ".join(map(str, model.network.inputs[0].shape[:-1]))
        raise UsageError(f"{model.name} must be shown clips of one size, {shape}; leave out --frames and --size")
    first = model.network.inputs[0]
    return dataclasses.replace(model, network=change(frames or first.length("time"), size or first.length("height")))
