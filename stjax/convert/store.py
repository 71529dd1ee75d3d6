"""A network in one safetensors file: parameters, statistics, and the metadata to rebuild its module.

Tensors are named `params/motion/conv3_2/kernel` and `ahat/motion/conv3_2`; the metadata is one JSON text.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from stjax.convert.tree import flatten, unflatten
from stjax.errors import UsageError
from stjax.files import checksum, replacing
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import Preprocessing
from stjax.types import Clip, Params

FORMAT = 1
TYPES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
"""What safetensors calls them."""
SLAB = 64 << 20
"""Bytes of a tensor that are written at once."""
ALIGNMENT = 64
"""Bytes; XLA's own on a CPU."""


class Statistics(NamedTuple):
    """What was recorded of a network on data.

    ahat: layer -> (channels,), the largest activation of each unit, before the ReLU.
    provenance: which data, how many, recorded by which command.
    rough: layer -> why its ahat is a rough scale and no more, in a few words; a layer that is not there is not rough.
    """

    ahat: Mapping[str, Any]
    provenance: str
    rough: Mapping[str, str] = MappingProxyType({})


class Part(NamedTuple):
    """Where the parameters of one part of a network come from, in plain words."""

    layers: str
    trained: bool
    origin: str


class Source(NamedTuple):
    """A file that a network was converted from."""

    file: str
    sha256: str
    container: str
    table: str


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
        "appearance": jnp.zeros((1, module.samples, side, side, 3)),
        "motion": jnp.zeros((1, module.samples, module.fields, side, side, 2)),
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
    infinite = [name for name in found if not _finite(np.asarray(found[name]))]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "not finite": infinite}
    listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if listed:
        raise UsageError(f"weights must match the network, name by name, and be finite: {source}: {listed}")


def _finite(array: np.ndarray) -> bool:
    # The extremes are NaN where any value is, and need no second array of the weights' size.
    return not array.size or bool(np.isfinite([array.min(), array.max()]).all())


def save(path: Path, model: Model, dtype: Any = np.float32) -> None:
    """Writes a model to one file, under a temporary name first.

    Args:
      path: ends in .safetensors.
      model: to be written; its checksum is that of the file and is not stored.
      dtype: of the stored parameters, float32 or float16. Statistics stay float32.
    Raises:
      UsageError: a parameter is too large for float16.
    """
    tensors = {f"params/{name}": (a, np.dtype(dtype)) for name, a in flatten(model.params).items()}
    tensors |= {f"ahat/{name}": (a, np.dtype(np.float32)) for name, a in model.statistics.ahat.items()}
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
        "rough": dict(model.statistics.rough),
        "sources": [source._asdict() for source in model.sources],
        "made": model.made,
    }
    _write(path, tensors, {"stjax": json.dumps(metadata)})


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """A safetensors file that is whole or absent."""
    _write(path, {name: (a, np.asarray(a).dtype) for name, a in tensors.items()}, metadata)


def _write(path: Path, tensors: Mapping[str, tuple[Any, np.dtype]], metadata: Mapping[str, str]) -> None:
    # The safetensors package wants every array at once, contiguous and in its final type: a second copy of all
    # weights. Here each is made when its turn comes. Wide types come first, so that all are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        array, dtype = tensors[name]
        begin, end = end, end + math.prod(array.shape) * dtype.itemsize
        header[name] = {"dtype": TYPES[dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array, dtype = tensors[name]
            for slab in _slabs(np.asarray(array)):
                with np.errstate(over="ignore"):
                    values = np.ascontiguousarray(slab, dtype)
                if dtype == np.float16 and not _finite(values):
                    raise UsageError(f"float16 holds numbers up to 65504: {name} has larger ones; keep float32")
                file.write(values.data if values.size else b"")


def _slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in pieces along its first axes: what a source holds in another order is copied a piece at a time."""
    if array.nbytes <= SLAB or array.ndim < 2:
        yield array
    else:
        for part in array:
            yield from _slabs(part)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and metadata of a safetensors file.

    Raises:
      UsageError: the file is absent, truncated or something else.
    """
    return dict(_tensors(path)), _metadata(path)


def _metadata(path: Path) -> dict[str, str]:
    """What a file says of itself; opening it checks its header, and every tensor's place in the file."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UsageError(f"a weights file must be a whole safetensors file: {path}: {error}") from None


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """One array after another. The safetensors package maps the file, which then counts as memory beside them."""
    _metadata(path)
    types = {name: dtype for dtype, name in TYPES.items()}
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        # The largest first: whoever copies each as it comes then never holds all of them and one of the large twice.
        for name, tensor in sorted(header.items(), key=lambda item: -math.prod(item[1]["shape"])):
            if tensor["dtype"] not in types:
                known = ", ".join(types)
                raise UsageError(f"a weights file must hold {known}: {path}: {name} is {tensor['dtype']}")
            begin, end = tensor["data_offsets"]
            file.seek(8 + size + begin)
            held = _aligned(end - begin)
            file.readinto(held.data)
            yield name, held.view(types[tensor["dtype"]]).reshape(tensor["shape"])


def _aligned(size: int) -> np.ndarray:
    """Bytes that JAX on a CPU uses where they lie; from another address it copies them."""
    held = np.empty(size + ALIGNMENT, np.uint8)
    begin = -held.ctypes.data % ALIGNMENT
    return held[begin : begin + size]


def load(path: Path) -> Model:
    """Rebuilds a model from its file alone.

    Raises:
      UsageError: the file is not one of ours, is damaged, or does not fit its own metadata.
    """
    metadata = _metadata(path)
    try:
        described = json.loads(metadata["stjax"])
        if described["format"] != FORMAT:
            raise UsageError(f"a weights file must have format {FORMAT}: {path} has {described['format']}")
        module = TwoStream(**{name: _tuples(value) for name, value in described["module"].items()})
        parts = tuple(Part(**part) for part in described["parts"])
        preprocessing = Preprocessing(**{name: _tuples(v) for name, v in described["preprocessing"].items()})
        sources = tuple(Source(**source) for source in described.get("sources", ()))
        classes, provenance = tuple(described["class_names"]), described["statistics"]
        rough = {str(layer): str(why) for layer, why in described.get("rough", {}).items()}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise UsageError(f"a weights file must carry stjax metadata: {path} does not ({error!r})") from None
    groups = unflatten({name: jnp.asarray(array, jnp.float32) for name, array in _tensors(path)})
    params = groups.get("params", {})
    check(params, module, str(path))
    return Model(
        name=path.stem,
        module=module,
        params=params,
        statistics=Statistics(jax.tree.map(np.asarray, flatten(groups.get("ahat", {}))), provenance, rough),
        preprocessing=preprocessing,
        parts=parts,
        class_names=classes,
        sources=sources,
        made=described.get("made", ""),
        checksum=checksum(path),
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(math.prod(a.shape) for a in flatten(params).values())
