"""What was found out of a network that does not describe itself, as JSON and back: see `stjax.networks.discovery`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import jax

from stjax.errors import UsageError
from stjax.networks import configuration
from stjax.networks.adapted import Adapted
from stjax.networks.configuration import WIDEST, Reader, chosen, number, optional, ordered, text, truth, tuple_of, whole
from stjax.types import AXES, STREAMS, Extent, Field, Input, Layer, Params, Role, shapes

LARGEST = 4096
"""Pixels a side, frames, fields, and what is counted in them."""


def to_json(network: Adapted) -> dict[str, Any]:
    """All but the module, as `from_json` reads it."""
    return {
        "batched": network.batched,
        "inputs": [vars(each) for each in network.inputs],
        "layers": [vars(layer) for layer in network.layers],
    }


def from_json(values: Any, module: Any) -> Adapted:
    """What `to_json` wrote, around a module.

    Raises:
      Malformed: a value is missing, unknown, of a wrong type or out of range.
      UsageError: an input that cannot be.
    """
    return Adapted(module=module, **configuration.read(values, "adapted", _ADAPTED))


def check(network: Adapted, params: Params, source: str) -> None:
    """Refuses layers that a module does not compute so.

    Raises:
      UsageError: one that it does not have, or of other shape.
    """
    _, maps = jax.eval_shape(network.computed, params, shapes(network.inputs))
    known = {each.name for each in network.inputs}
    for layer in network.layers:
        expected = (*layer.grid, layer.units)
        if layer.name not in maps or maps[layer.name].shape != expected or not known.issuperset(layer.inputs):
            raise UsageError(f"a network must compute what its file declares: {source}: {layer.name[:80]} it does not")


def _input(value: Any, what: str) -> Input:
    return Input(**configuration.read(value, what, _INPUT))


def _layer(value: Any, what: str) -> Layer:
    return Layer(**configuration.read(value, what, _LAYER))


def _extent(value: Any, what: str) -> Extent:
    side, stride, centre = tuple_of(lambda number, _: number, 3, 3)(value, what)
    return Extent(_COUNT(side, what), _COUNT(stride, what), number(-LARGEST, LARGEST)(centre, what))


def _field(value: Any, what: str) -> Field:
    return Field(*tuple_of(optional(_extent), 3, 3)(value, what))


_COUNT = whole(1, LARGEST)
_INPUT: Mapping[str, Reader] = {
    "name": chosen(*STREAMS),
    "kind": chosen(*AXES),
    "shape": tuple_of(_COUNT, 4, 5),
    "slow": optional(chosen("time", "fields")),
}
_LAYER: Mapping[str, Reader] = {
    "name": text(1000),
    "units": whole(1, WIDEST),
    "inputs": ordered(*STREAMS),
    "field": _field,
    "grid": tuple_of(_COUNT, 3, 3),
    "role": chosen(*get_args(Role)),
    "cuttable": truth,
}
_ADAPTED: Mapping[str, Reader] = {
    "batched": truth,
    "inputs": tuple_of(_input, 1, len(STREAMS)),
    "layers": tuple_of(_layer, 1, 10_000),
}
