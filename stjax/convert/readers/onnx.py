"""ONNX -> {initializer: array}. Weights in files beside the model are refused, not followed.

ModelProto graph 7;  GraphProto name 2, initializer 5
TensorProto dims 1, data_type 2, float_data 4, name 8, raw_data 9, double_data 10, data_location 14
"""

from __future__ import annotations

import math

import numpy as np

from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.wire import BYTES, Malformed, Value, fields, integers, numbers, text
from stjax.errors import UsageError

TYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
"""Of TensorProto.DataType, those that weights come in. Constants of other types are not weights."""


def read(data: memoryview) -> Contents:
    """Every floating-point initializer of the graph."""
    network, found = "", []
    for number, wire, graph in fields(data):
        if number != 7 or wire != BYTES or isinstance(graph, int):
            continue
        for part, _, value in fields(graph):
            if part == 2:
                network = text(value)
            elif part == 5:
                found += _tensor(value)
    refuse_duplicates([name for name, _ in found], "an ONNX model")
    return Contents("ONNX", dict(found), network=network)


def _tensor(message: Value) -> list[tuple[str, np.ndarray]]:
    if isinstance(message, int):
        raise Malformed("a number for a tensor")
    parts = list(fields(message))
    single = {number: (wire, value) for number, wire, value in parts}
    shape = [n for number, wire, value in parts if number == 1 for n in integers(wire, value)]
    kind = single.get(2, (0, 0))[1]
    name = text(single[8][1]) if 8 in single else ""
    if not isinstance(kind, int) or kind not in TYPES:
        return []
    if single.get(14, (0, 0))[1] == 1:
        raise UsageError(
            f"an ONNX model must hold its own weights: {name} lies in a file beside it; save it as one file"
        )
    # float_data and double_data are the typed alternatives of raw_data.
    field, dtype = (9, TYPES[kind]) if 9 in single else ((10, "<f8") if kind == 11 else (4, "<f4"))
    array = numbers(*single[field], dtype) if field in single else np.empty(0, dtype)
    if math.prod(shape) != array.size:
        raise Malformed(f"{name}: {array.size} numbers for the shape {shape}")
    return [(name, array.reshape(shape))]
