"""ONNX -> {initializer: array}. Weights in files beside the model are refused, not followed.

ModelProto graph 7;  GraphProto name 2, initializer 5
TensorProto dims 1, data_type 2, float_data 4, name 8, raw_data 9, double_data 10, data_location 14
"""

from __future__ import annotations

import numpy as np

from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.limits import MOST_AXES, size_of
from stjax.convert.readers.wire import BYTES, Malformed, Message, Value, integers, numbers, text
from stjax.errors import UsageError

TYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
"""Of TensorProto.DataType, those that weights come in. Constants of other types are not weights."""


def read(data: memoryview) -> Contents:
    """Every floating-point initializer of the graph."""
    network, found = "", []
    model = Message(data)
    for number, wire, value in model:
        if number != 7 or wire != BYTES:
            continue
        graph = model.inside(value)
        for part, _, content in graph:
            if part == 2:
                network = text(content)
            elif part == 5:
                found += _tensor(graph.inside(content))
    refuse_duplicates([name for name, _ in found], "an ONNX model")
    return Contents("ONNX", dict(found), network=network)


def _tensor(message: Message) -> list[tuple[str, np.ndarray]]:
    single: dict[int, tuple[int, Value]] = {}
    shape: list[int] = []
    for number, wire, value in message:
        if number == 1:
            shape += integers(wire, value)
            if len(shape) > MOST_AXES:
                raise Malformed(f"a tensor of more than {MOST_AXES} axes")
        elif number in single and number in (4, 9, 10):
            raise Malformed("a tensor whose numbers come twice")
        else:
            single[number] = (wire, value)
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
    if size_of(shape) != array.size:
        raise Malformed(f"{name}: {array.size} numbers for the shape {shape}")
    return [(name, array.reshape(shape))]
