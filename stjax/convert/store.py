"""A model in one safetensors file: parameters, statistics, and the metadata from which its network is rebuilt.

Tensors are named `params/fc6/kernel`, `ahat/fc6`, `moments/stem/mean` and `moments/stem/deviation`; the metadata is one
JSON text. Statistics alone are a file of their own, of `ahat/...` and the same JSON object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stjax.convert import declared, description, tensors
from stjax.convert.description import Description, from_json, to_json
from stjax.convert.tensors import Opened, parsed
from stjax.convert.tree import flatten, unflatten
from stjax.errors import UsageError, one_line, printable
from stjax.model import Model, Statistics
from stjax.networks.adapted import Adapted
from stjax.networks.configuration import Malformed
from stjax.types import Moments, Network, Params, shapes

MARK = "stjax"
"""The name in a file's metadata by which a network of ours is known."""
MOMENTS = "moments/"
STATISTICS_MARK = "stjax-statistics"
"""Likewise of statistics without a network."""
STATISTICS_FORMAT = 1


def parameter_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, without computing any.

    Args:
      network: says what it is shown; `network.init(key, clip)`, or that of the module in it, gives {"params": ...}, and
        other collections beside it if it has them.
    Raises:
      UsageError: it has no `init`, or that fails on a clip of the declared inputs.

    >>> from stjax.networks import ARCHITECTURES
    >>> parameter_shapes(ARCHITECTURES["two_stream"].network(widths=((4,),)))["appearance/conv1_1/kernel"]
    (3, 3, 3, 4)
    """
    module = description.module_of(network)
    init = getattr(module, "init", None)
    if init is None:
        raise UsageError(
            f"a network must have init(key, clip), to say which parameters it has: {type(module).__name__} has none"
        )
    lead = (1,) if getattr(network, "batched", True) else ()
    clip = shapes(network.inputs, lead)
    try:
        variables = jax.eval_shape(init, jax.random.key(0), clip)
    # Whatever a network does with sizes that do not go together: flax, JAX and NumPy each raise errors of their own.
    except Exception as error:
        raise UsageError(
            f"a network must be able to start on the clip that it declares: {type(module).__name__}: "
            f"{one_line(error) or type(error).__name__}"
        ) from None
    return {name: leaf.shape for name, leaf in _own(variables).items()}


def check(network: Network, params: Params, source: str) -> None:
    """Refuses parameters that do not fit a network, naming every difference at once.

    Raises:
      UsageError: names missing, unexpected or misshapen, or values that are not finite.
    """
    held = _own(params)
    problems = differences(parameter_shapes(network), {name: tuple(array.shape) for name, array in held.items()})
    problems["not finite"] = [name for name, array in held.items() if not tensors.finite(np.asarray(array))]
    if listed := listing(problems):
        raise UsageError(f"weights must match the network, name by name, and be finite: {source}: {listed}")


def differences(expected: Mapping[str, tuple[int, ...]], held: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    """Where the shapes of a file's arrays are not those that a network has.

    >>> differences({"a": (2,), "b": (3,)}, {"a": (4,), "c": ()})
    {'missing': ['b'], 'unexpected': ['c'], 'misshapen': ['a (4,) instead of (2,)']}
    """
    return {
        "missing": sorted(expected.keys() - held.keys()),
        "unexpected": sorted(held.keys() - expected.keys()),
        "misshapen": [
            f"{name} {held[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in held and held[name] != shape
        ],
    }


def listing(problems: Mapping[str, list[str]], most: int = 20) -> str:
    """Problems of each kind in one line, at most so many of a kind; "" if there are none.

    >>> listing({"missing": ["a", "b", "c"], "doubled": []}, most=2)
    'missing: a, b and 1 more'
    """
    lines = []
    for what, names in problems.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        lines += [f"{what}: {', '.join(name[:200] for name in names[:most])}{more}"] * bool(names)
    return "; ".join(lines)


def save(path: Path, model: Model, dtype: Any = np.float32) -> None:
    """Writes a model to one file, under a temporary name first.

    Args:
      path: ends in .safetensors.
      model: to be written; its checksum is that of the file and is not stored.
      dtype: of the stored parameters, float32 or float16. Statistics stay float32.
    Raises:
      UsageError: its network is of no registered architecture, or of one that would not give it back; a parameter is
        too large for float16; or the name is taken by something that is no file of ours.
    """
    arrays = {f"params/{name}": (array, np.dtype(dtype)) for name, array in flatten(model.params).items()}
    arrays |= _ahat_arrays(model.statistics)
    arrays |= {
        f"{MOMENTS}{layer}/{leaf}": (values, np.dtype(np.float32))
        for layer, own in model.moments.items()
        for leaf, values in own._asdict().items()
    }
    text = to_json(
        Description(
            model.network,
            model.preprocessing,
            model.parts,
            model.class_names,
            model.statistics,
            model.sources,
            model.made,
        )
    )
    try:
        from_json(text, len(arrays))
    except Malformed as fault:
        raise UsageError(f"a network to be stored must be one that can be loaded: {model.name}: {fault}") from None
    tensors.write(path, arrays, {MARK: text})


def load(path: Path) -> Model:
    """Rebuilds a model from its file alone.

    Raises:
      UsageError: the file is not one of ours, is damaged, does not fit its own metadata, or is of an architecture that
        `networks.ARCHITECTURES` does not have.
    """
    with tensors.opened(path) as file:
        metadata = _description(path, file)
        arrays = {name: jnp.asarray(array, jnp.float32) for name, array in file.arrays()}
        digest = file.checksum()
    ahat = {name.removeprefix("ahat/"): np.asarray(a) for name, a in arrays.items() if name.startswith("ahat/")}
    moments = _moments({name.removeprefix(MOMENTS): a for name, a in arrays.items() if name.startswith(MOMENTS)}, path)
    params = {
        name.removeprefix("params/"): array for name, array in arrays.items() if not name.startswith(("ahat/", MOMENTS))
    }
    check(metadata.network, params, str(path))
    tree = unflatten(params)
    if isinstance(metadata.network, Adapted):
        declared.check(metadata.network, tree, str(path))
    statistics = metadata.statistics._replace(ahat=ahat)
    check_statistics(statistics, metadata.network, str(path))
    check_moments(moments, metadata.network, str(path))
    return Model(
        name=printable(path.stem),
        network=metadata.network,
        params=tree,
        statistics=statistics,
        preprocessing=metadata.preprocessing,
        moments=moments,
        parts=metadata.parts,
        class_names=metadata.class_names,
        sources=metadata.sources,
        made=metadata.made,
        checksum=digest,
    )


def save_statistics(path: Path, statistics: Statistics, extra: Mapping[str, str] | None = None) -> None:
    """Writes statistics to a file of their own, under a temporary name first.

    Args:
      path: ends in .safetensors.
      statistics: to be written.
      extra: further texts to keep in the metadata, for readers of the file; `load_statistics` passes over them.
    Raises:
      UsageError: they could not be loaded again, or the name is taken by something that is no such file of ours.
    """
    text = json.dumps({"format": STATISTICS_FORMAT, **description.statistics_to_json(statistics)})
    try:
        _check_lengths(_statistics(text, {layer: np.asarray(values) for layer, values in statistics.ahat.items()}))
    except Malformed as fault:
        raise UsageError(f"statistics to be stored must be such that can be loaded: {fault}") from None
    tensors.write(path, _ahat_arrays(statistics), {**(extra or {}), STATISTICS_MARK: text}, (STATISTICS_MARK,))


def load_statistics(path: Path) -> Statistics:
    """What `save_statistics` wrote; see `check_statistics` for whether they are of a given network.

    Raises:
      UsageError: the file is not one of ours, is damaged, or does not fit its own metadata.
    """
    with tensors.opened(path) as file:
        try:
            if STATISTICS_MARK not in file.metadata:
                raise Malformed("it has none")
            named = {name.removeprefix("ahat/"): np.array(a, np.float32) for name, a in file.arrays()}
            statistics = _statistics(file.metadata[STATISTICS_MARK], named)
            _check_lengths(statistics)
        except Malformed as fault:
            raise UsageError(f"a file of statistics must carry stjax metadata: {path} does not: {fault}") from None
    return statistics


def check_statistics(statistics: Statistics, network: Network, source: str) -> None:
    """Refuses statistics by which a network's activations cannot be divided.

    Raises:
      UsageError: a layer that the network does not have, or not one positive number for each of its units.
    """
    units = {layer.name: layer.units for layer in network.layers}
    for layer, values in statistics.ahat.items():
        if layer not in units:
            raise UsageError(f"ahat must be of the network's layers: {source} has it of {layer[:80]}")
        if np.shape(values) != (units[layer],) or not _positive(values):
            raise UsageError(
                f"ahat must be a positive number for each of {units[layer]} units: {source}: {layer} has others"
            )
    for layer, lifted in statistics.floored.items():
        if any(unit >= units.get(layer, 0) for unit in lifted):
            raise UsageError(
                f"floored must name units of {layer[:80]}, 0..{units.get(layer, 0) - 1}: {source} names others"
            )


def check_moments(moments: Mapping[str, Moments], network: Network, source: str) -> None:
    """Refuses moments that are not of the network's units.

    Raises:
      UsageError: a layer that the network does not have, or other than two numbers for each of its units.
    """
    units = {layer.name: layer.units for layer in network.layers}
    for layer, (mean, deviation) in moments.items():
        fits = np.shape(mean) == np.shape(deviation) == (units.get(layer),)
        if not (
            fits and np.isfinite(mean).all() and np.isfinite(deviation).all() and (np.asarray(deviation) >= 0).all()
        ):
            raise UsageError(
                f"moments must be a mean and a deviation of each unit of the network's layers: {source} has others of "
                f"{layer[:80]}"
            )


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and metadata of a safetensors file.

    Raises:
      UsageError: the file is absent, truncated or something else.
    """
    with tensors.opened(path) as file:
        return dict(file.arrays()), file.metadata


def write_tensors(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """A safetensors file that is whole or absent, each array in its own type.

    Raises:
      UsageError: the name is taken by something other than an earlier file with such names in its metadata.
    """
    tensors.write(path, {name: (a, np.asarray(a).dtype) for name, a in arrays.items()}, metadata)


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(math.prod(array.shape) for array in flatten(params).values())


def _own(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> leaf, without the name of the collection where there is none beside that of the parameters."""
    flat = flatten(variables)
    alone = all(name.startswith("params/") for name in flat)
    return {name.removeprefix("params/"): leaf for name, leaf in flat.items()} if alone else flat


def _description(path: Path, file: Opened) -> Description:
    try:
        if MARK not in file.metadata:
            raise Malformed("it has none")
        return from_json(file.metadata[MARK], len(file.tensors))
    except Malformed as fault:
        raise UsageError(f"a weights file must carry stjax metadata: {path} does not: {fault}") from None


def _ahat_arrays(statistics: Statistics) -> dict[str, tuple[Any, np.dtype]]:
    return {f"ahat/{layer}": (values, np.dtype(np.float32)) for layer, values in statistics.ahat.items()}


def _moments(arrays: Mapping[str, Any], path: Path) -> dict[str, Moments]:
    """Moments of the layers, of arrays `LAYER/mean` and `LAYER/deviation`."""
    layers = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    names = {f"{layer}/{leaf}" for layer in layers for leaf in Moments._fields}
    if odd := sorted(names ^ arrays.keys()):
        raise UsageError(f"moments must be a mean and a deviation of each layer: {path} has or lacks {odd[0][:80]}")
    return {layer: Moments(*(arrays[f"{layer}/{leaf}"] for leaf in Moments._fields)) for layer in layers}


def _statistics(text: str, ahat: Mapping[str, np.ndarray]) -> Statistics:
    values = parsed(text)
    description.refuse_format(values, STATISTICS_FORMAT, "record them anew, with stjax record")
    rest = {name: value for name, value in values.items() if name != "format"}
    return description.statistics_from_json(rest)._replace(ahat=ahat)


def _check_lengths(statistics: Statistics) -> None:
    """As `check_statistics`, where no network says how many units there are."""
    for layer, values in statistics.ahat.items():
        if np.ndim(values) != 1 or not np.size(values) or not _positive(values):
            raise Malformed(f"ahat must be a positive number for each unit: {layer[:80]} has others")
    for name, layers in (("rough", statistics.rough), ("floored", statistics.floored)):
        if unknown := [layer for layer in layers if layer not in statistics.ahat]:
            raise Malformed(f"{name} must be of layers that have ahat: {unknown[0][:80]} has none")
    for layer, lifted in statistics.floored.items():
        if any(unit >= len(statistics.ahat[layer]) for unit in lifted):
            raise Malformed(f"floored must name units of {layer[:80]}: it names others")


def _positive(values: Any) -> bool:
    return bool((np.isfinite(values) & (np.asarray(values) > 0)).all())
