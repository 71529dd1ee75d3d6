"""The .safetensors of others -> {name: array}. Those of stjax are told apart, and read by `store`.

The safetensors package maps the file, and so dies with whoever cuts it meanwhile; the format is a page. Eight bytes:
the length of a JSON text, {name: {dtype, shape, data_offsets}}; the text; the tensors, one after another, no byte
between them and none left over.
"""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np

from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.limits import LARGEST_HEADER, size_of
from stjax.errors import UsageError

TYPES: dict[str, Any] = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}


def read(data: memoryview) -> Contents:
    """Every tensor, as a view."""
    length = int.from_bytes(data[:8], "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_once)
    described = header.pop("__metadata__", None) or {}
    if "stjax" in described:
        raise UsageError("it is a network of stjax already: give it to --model")
    content, end = data[8 + length :], 0
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = tensor["data_offsets"]
        dtype = np.dtype(TYPES[tensor["dtype"]])
        if begin != end or size_of(tensor["shape"]) * dtype.itemsize != stop - begin:
            raise ValueError(f"{name} lies at {begin} to {stop}: the one before ends at {end}, or its shape is another")
        arrays[name], end = np.frombuffer(content[begin:stop], dtype).reshape(tensor["shape"]), stop
    if end != len(content):
        raise ValueError(f"tensors of {end} bytes in {len(content)}")
    return Contents("safetensors", {name: arrays[name] for name in header})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        refuse_duplicates([name for name, _ in pairs], "a safetensors header")
    return found
