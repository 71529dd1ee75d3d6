"""A network from one file whose arrays are its parameters, one for one: no more is needed than a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from stjax import networks
from stjax.convert import folding, plausibility, store
from stjax.convert.published import Published, class_names, made, rgb_mean
from stjax.convert.table import Table, lay_out
from stjax.convert.tree import unflatten
from stjax.errors import UsageError, nearest, one_line
from stjax.model import Model, Part, Statistics
from stjax.preprocess import Preprocessing
from stjax.types import Network

N = TypeVar("N", bound=Network)


class NoOptions:
    """A file of such an architecture can become one network only."""


def assemble(
    files: Sequence[Published], options: NoOptions, names: Sequence[str] = (), name: str = "converted"
) -> tuple[Model, list[str]]:
    """The network of one file.

    The parameters that the table makes of the file are compared with those of the network that the table says, whose
    sizes are the file's own.

    Args:
      files: one.
      options: there are none.
      names: of classes, one for each; those that the file holds if ().
      name: of the model.
    Returns:
      The model, without statistics, its arrays views of the file's where they can be; and warnings, one line each.
    Raises:
      UsageError: more files than one, or parameters missing, unexpected, doubled, misshapen or not finite, all listed.
    """
    del options
    if len(files) != 1:
        listed = ", ".join(file.origin.file for file in files)
        raise UsageError(f"a network of {files[0].match.table.architecture} must be one file: got {listed}")
    file, table = files[0], files[0].match.table
    network, arrays = fill(file)
    _check_first(table, network, arrays)
    kinds = {each.name: each.kind for each in network.inputs}
    warnings = []
    for stream, kernel in table.first.items():
        arrays[kernel] = folding.fold_inputs(arrays[kernel], kinds[stream], table)
        bias = arrays.get(f"{kernel.rpartition('/')[0]}/bias")
        warnings += plausibility.of(kernel, kinds[stream], arrays[kernel], bias, table)
    params = unflatten(arrays)
    store.check(network, params, file.origin.file)
    classes = next((layer.units for layer in network.layers if layer.role == "classes"), 0)
    return Model(
        name=name,
        network=network,
        params=params,
        statistics=Statistics({}, ""),
        preprocessing=Preprocessing(
            mean=rgb_mean(file) if "rgb" in kinds.values() else table.mean, flow_mean=table.flow_mean
        ),
        parts=(Part("all layers", True, f"{file.origin.file} ({table.name})"),),
        class_names=class_names(files, classes, names),
        sources=(file.origin,),
        made=made(),
    ), warnings


def build(table: Table, arrays: dict[str, np.ndarray]) -> Network:
    """The network that a table says, of the sizes that the arrays say.

    Raises:
      UsageError: its architecture is not registered, or cannot be built so.
    """
    if table.architecture not in networks.ARCHITECTURES:
        raise UsageError(
            f"a table's architecture must be in stjax.networks.ARCHITECTURES: that of {table.name} is not: "
            f"{table.architecture!r}; {nearest(table.architecture, networks.ARCHITECTURES)}"
        )
    sizes = {
        argument: arrays[name].shape[-1]
        for argument, name in table.sizes.items()
        if name in arrays and arrays[name].ndim
    }
    try:
        return networks.ARCHITECTURES[table.architecture].network(**table.configuration, **sizes)
    # An architecture may refuse sizes, and a table arguments, each in its own way.
    except Exception as error:
        raise UsageError(
            f"a network of {table.architecture} must be one that the sizes of the table {table.name} make: "
            f"{one_line(error) or type(error).__name__}"
        ) from None


def fill(
    file: Published, build: Callable[[Table, dict[str, np.ndarray]], N] = build
) -> tuple[N, dict[str, np.ndarray]]:
    """The network that a file holds, and an array for each of its parameters.

    Args:
      file: any.
      build: makes the network that a table says, of the sizes that the arrays say.
    Raises:
      UsageError: see `assemble`.
    """
    match, table = file.match, file.match.table
    arrays, doubled = arrange(file)
    missing, misshapen, unfolded = [], [], set[str]()
    if table.epsilon is not None:
        arrays |= {} if table.scaled else folding.unit_scales(arrays)
        layers = folding.normalised(arrays)
        missing, misshapen = folding.check_normalisation(arrays, layers)
        if missing or misshapen:
            # What is wrong with them is known; the network has none of them.
            unfolded = {f"{layer}/{leaf}" for layer in layers for leaf in ("bias", *folding.NORMALISATION)}
        else:
            arrays = folding.fold_normalisation(arrays, table.epsilon)
    network = build(table, arrays)
    expected = {name: shape for name, shape in store.parameter_shapes(network).items() if name not in unfolded}
    held = {name: tuple(array.shape) for name, array in arrays.items() if name not in unfolded}
    problems = store.differences(expected, held)
    published = {ours: name for name, ours in match.ours.items()}
    problems["unexpected"] = [published.get(name, name) for name in problems["unexpected"]] + match.unknown
    problems["missing"] = list(dict.fromkeys([*problems["missing"], *missing]))
    problems["misshapen"] += misshapen
    problems["doubled"] = doubled
    if listed := store.listing(problems):
        raise UsageError(f"a network of {table.architecture} must match the table {table.name}, name by name: {listed}")
    return network, arrays


def arrange(file: Published) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our names -> arrays in our layout, as views; and the names for which there is more than one."""
    match = file.match
    published: dict[str, list[str]] = {}
    for name, ours in match.ours.items():
        published.setdefault(ours, []).append(name)
    doubled = [f"{ours} ({', '.join(names)})" for ours, names in published.items() if len(names) > 1]
    arrays = {ours: lay_out(file.contents.arrays[names[0]], match.axes[names[0]]) for ours, names in published.items()}
    return arrays, doubled


def _check_first(table: Table, network: Network, arrays: dict[str, np.ndarray]) -> None:
    """The kernels that read inputs must be there, and read as many channels as the inputs have."""
    inputs = {each.name: each for each in network.inputs}
    for stream, kernel in table.first.items():
        if stream not in inputs or kernel not in arrays or arrays[kernel].ndim < 2:
            raise UsageError(
                f"a table's first kernels must read an input of the network: {table.name} says that {kernel} reads "
                f"{stream}; inputs: {', '.join(inputs)}"
            )
        channels = inputs[stream].shape[-1]
        if arrays[kernel].shape[-2] % channels:
            raise UsageError(f"the kernel that reads {stream} must have {channels} channels or a multiple: {kernel}")
