"""A network in one safetensors file: parameters, statistics, and the metadata to rebuild its module.

Tensors are named `params/motion/conv3_2/kernel` and `ahat/motion/conv3_2`; the metadata is one JSON text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stjax.convert import tensors
from stjax.convert.described import Described, Part, Source, from_json, to_json
from stjax.convert.tensors import Malformed, Opened
from stjax.convert.tree import flatten, unflatten
from stjax.errors import UsageError, printable
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import Preprocessing
from stjax.types import Clip, Params

MARK = "stjax"
"""The name in a file's metadata by which a network of ours is known."""


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


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with everything needed to use it.

    Args:
      name: as asked for.
      module: the flax module; `module.apply({"params": params}, clip)`.
      params: its parameters, float32.
      statistics: ahat of every unit, with provenance.
      preprocessing: from pixels to the module's input.
      parts: what is trained on what, and what is only initialised.
      class_names: of the units of `classes`; () without a classifier, or where no name is known.
      sources: the files that it was converted from; () for a network of our own.
      made: when and by which version it was converted.
      checksum: sha256 of the weights file, part of a result's identity.
    """

    name: str
    module: TwoStream
    params: Params = field(repr=False)
    statistics: Statistics = field(repr=False)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parts: tuple[Part, ...] = ()
    class_names: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    made: str = ""
    checksum: str = ""


def parameter_shapes(module: TwoStream) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, without computing any."""
    side = module.input_size
    frames = {
        "appearance": jax.ShapeDtypeStruct((1, module.samples, side, side, 3), jnp.float32),
        "motion": jax.ShapeDtypeStruct((1, module.samples, module.fields, side, side, 2), jnp.float32),
    }
    clip = Clip(**{stream: frames[stream] for stream in module.inputs})
    shapes = jax.eval_shape(module.clone(padding="SAME", until=None).init, jax.random.key(0), clip)
    return {name: leaf.shape for name, leaf in flatten(shapes["params"]).items()}


def check(params: Params, module: TwoStream, source: str) -> None:
    """Refuses parameters that do not fit a module, naming every difference at once.

    Raises:
      UsageError: names missing, unexpected or misshapen, or values that are not finite.
    """
    expected, found = parameter_shapes(module), flatten(params)
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    infinite = [name for name in found if not tensors.finite(np.asarray(found[name]))]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "not finite": infinite}
    listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if listed:
        raise UsageError(f"weights must match the network, name by name, and be finite: {source}: {listed}")


def save(path: Path, model: Model, dtype: Any = np.float32) -> None:
    """Writes a model to one file, under a temporary name first.

    Args:
      path: ends in .safetensors.
      model: to be written; its checksum is that of the file and is not stored.
      dtype: of the stored parameters, float32 or float16. Statistics stay float32.
    Raises:
      UsageError: a parameter is too large for float16, or the name is taken by something that is no file of ours.
    """
    arrays = {f"params/{name}": (a, np.dtype(dtype)) for name, a in flatten(model.params).items()}
    arrays |= {f"ahat/{name}": (a, np.dtype(np.float32)) for name, a in model.statistics.ahat.items()}
    described = Described(
        model.module,
        model.preprocessing,
        model.parts,
        model.class_names,
        model.statistics.provenance,
        model.sources,
        model.made,
        model.statistics.rough,
        model.statistics.floored,
    )
    text = to_json(described)
    try:
        from_json(text, len(arrays))
    except Malformed as flaw:
        raise UsageError(f"a network to be stored must be one that can be loaded: {model.name}: {flaw}") from None
    tensors.write(path, arrays, {MARK: text})


def write_tensors(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """A safetensors file that is whole or absent, each array in its own type.

    Raises:
      UsageError: the name is taken by something other than an earlier file with such names in its metadata.
    """
    tensors.write(path, {name: (a, np.asarray(a).dtype) for name, a in arrays.items()}, metadata)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and metadata of a safetensors file.

    Raises:
      UsageError: the file is absent, truncated or something else.
    """
    with tensors.opened(path) as file:
        return dict(file.arrays()), file.metadata


def load(path: Path) -> Model:
    """Rebuilds a model from its file alone.

    Raises:
      UsageError: the file is not one of ours, is damaged, or does not fit its own metadata.
    """
    with tensors.opened(path) as file:
        described = _described(path, file)
        arrays = {name: jnp.asarray(array, jnp.float32) for name, array in file.arrays()}
        digest = file.checksum()
    ahat = {name.removeprefix("ahat/"): array for name, array in arrays.items() if name.startswith("ahat/")}
    params = {name.removeprefix("params/"): array for name, array in arrays.items() if not name.startswith("ahat/")}
    check(params, described.module, str(path))
    return Model(
        name=printable(path.stem),
        module=described.module,
        params=unflatten(params),
        statistics=Statistics(
            _ahat(path, described.module, ahat, params), described.provenance, described.rough, described.floored
        ),
        preprocessing=described.preprocessing,
        parts=described.parts,
        class_names=described.class_names,
        sources=described.sources,
        made=described.made,
        checksum=digest,
    )


def _described(path: Path, file: Opened) -> Described:
    try:
        if MARK not in file.metadata:
            raise Malformed("it has none")
        return from_json(file.metadata[MARK], len(file.tensors))
    except Malformed as flaw:
        raise UsageError(f"a weights file must carry stjax metadata: {path} does not: {flaw}") from None


def _ahat(path: Path, module: TwoStream, recorded: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics by which activations may be divided: of the network's layers, one positive number a unit."""
    found = {layer: np.asarray(values) for layer, values in recorded.items()}
    for layer, values in found.items():
        if layer not in module.layers:
            raise UsageError(f"ahat must be of the network's layers: {path} has it of {layer[:80]}")
        units = module.widths[-1][-1] if layer == module.fusion_name else params[f"{layer}/bias"].size
        if values.shape != (units,) or not (np.isfinite(values) & (values > 0)).all():
            raise UsageError(f"ahat must be a positive number for each of {units} units: {path}: {layer} has others")
    return found


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(math.prod(a.shape) for a in flatten(params).values())
