"""Protocol-buffer messages, field by field: all that Caffe's and ONNX's files need, without copying an array.

The generic library wants a schema, and parses a whole message into memory at once; here a large field stays a view.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview


class Malformed(ValueError):
    """Bytes that are no protocol-buffer message."""


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number in base 128, least significant first, and where it ends.

    >>> varint(memoryview(bytes([0xAC, 0x02])), 0)
    (300, 2)
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed("a number of more than 64 bits")


def fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Field number, wire type and value of each field of a message; bytes are views.

    >>> [(number, bytes(value)) for number, _, value in fields(memoryview(bytes([0x0A, 2, 104, 105])))]
    [(1, b'hi')]
    """
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if not number:
            raise Malformed("a field without a number")
        if wire == VARINT:
            value, at = varint(message, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, at = varint(message, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise Malformed(f"wire type {wire}")
        if size > len(message) - at:
            raise Malformed("a field longer than the file")
        yield number, wire, message[at : at + size]
        at += size


def integers(wire: int, value: Value) -> list[int]:
    """A repeated integer field, packed or not."""
    if isinstance(value, int):
        return [value]
    if wire != BYTES:
        raise Malformed("a number of another type")
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(number)
    return found


def numbers(wire: int, value: Value, dtype: str) -> np.ndarray:
    """A packed repeated float field as a view of the file; dtype is little-endian, e.g. "<f4"."""
    if wire != BYTES or isinstance(value, int) or len(value) % np.dtype(dtype).itemsize:
        raise Malformed("numbers that are not packed")
    return np.frombuffer(value, dtype)


def text(value: Value) -> str:
    """A string field."""
    if isinstance(value, int):
        raise Malformed("a number for a name")
    return bytes(value).decode()
