"""A network in one safetensors file: parameters, statistics, and the metadata to rebuild its module.

Tensors are named `params/motion/conv3_2/kernel` and `ahat/motion/conv3_2`; the metadata is one JSON text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from stjax.convert.readers import checksum, flatten, unflatten
from stjax.errors import UsageError
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import Preprocessing
from stjax.types import Clip, Params

FORMAT = 1


class Statistics(NamedTuple):
    """What was recorded of a network on data.

    ahat: layer -> (channels,), the largest activation of each unit, before the ReLU.
    provenance: which data, how many, recorded by which command.
    """

    ahat: Mapping[str, Any]
    provenance: str


class Part(NamedTuple):
    """Where the parameters of one part of a network come from, in plain words."""

    layers: str
    trained: bool
    origin: str


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
      class_names: of the units of `classes`; () without a classifier.
      checksum: sha256 of the weights file, part of a result's identity.
    """

    name: str
    module: TwoStream
    params: Params = field(repr=False)
    statistics: Statistics = field(repr=False)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parts: tuple[Part, ...] = ()
    class_names: tuple[str, ...] = ()
    checksum: str = ""


def parameter_shapes(module: TwoStream) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, without computing any."""
    side = module.input_size
    clip = Clip(
        jnp.zeros((1, module.samples, side, side, 3)), jnp.zeros((1, module.samples, module.fields, side, side, 2))
    )
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
    infinite = [name for name in found if not np.isfinite(np.asarray(found[name])).all()]
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
    """
    tensors = {f"params/{name}": np.asarray(a, dtype) for name, a in flatten(model.params).items()}
    tensors |= {f"ahat/{name}": np.asarray(a, np.float32) for name, a in model.statistics.ahat.items()}
    module = {
        f.name: getattr(model.module, f.name)
        for f in dataclasses.fields(TwoStream)
        if f.name not in ("parent", "name", "dtype", "until", "padding")
    }
    metadata = {
        "format": FORMAT,
        "module": module,
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "parts": [part._asdict() for part in model.parts],
        "class_names": model.class_names,
        "statistics": model.statistics.provenance,
    }
    write_tensors(path, tensors, {"stjax": json.dumps(metadata)})


def write_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A safetensors file that is whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        safetensors.numpy.save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and metadata of a safetensors file.

    Raises:
      UsageError: the file is absent, truncated or something else.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UsageError(f"a weights file must be a whole safetensors file: {path}: {error}") from None


def load(path: Path) -> Model:
    """Rebuilds a model from its file alone.

    Raises:
      UsageError: the file is not one of ours, is damaged, or does not fit its own metadata.
    """
    tensors, metadata = read_tensors(path)
    try:
        described = json.loads(metadata["stjax"])
        if described["format"] != FORMAT:
            raise UsageError(f"a weights file must have format {FORMAT}: {path} has {described['format']}")
        module = TwoStream(**{name: _tuples(value) for name, value in described["module"].items()})
        parts = tuple(Part(**part) for part in described["parts"])
        mean = _tuples(described["preprocessing"]["mean"])
        classes, provenance = tuple(described["class_names"]), described["statistics"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UsageError(f"a weights file must carry stjax metadata: {path} does not ({error!r})") from None
    groups = unflatten({name: np.asarray(a, np.float32) for name, a in tensors.items()})
    params = groups.get("params", {})
    check(params, module, str(path))
    return Model(
        name=path.stem,
        module=module,
        params=jax.tree.map(jnp.asarray, params),
        statistics=Statistics(flatten(groups.get("ahat", {})), provenance),
        preprocessing=Preprocessing(mean=mean),
        parts=parts,
        class_names=classes,
        checksum=checksum(path),
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(math.prod(a.shape) for a in flatten(params).values())
