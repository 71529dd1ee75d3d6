"""Protocol-buffer messages, field by field: all that Caffe's and ONNX's files need, without copying an array.

The generic library wants a schema, and parses a whole message into memory at once; here a large field stays a view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from stjax.convert.readers.limits import MOST_AXES, MOST_FIELDS, MOST_LETTERS, Budget

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


@dataclass(frozen=True)
class Message:
    """A message: iterated, it gives field number, wire type and value of each field; bytes are views.

    Args:
      data: its bytes.
      fields: how many fields it and all messages inside it may still have.

    >>> [(number, bytes(value)) for number, _, value in Message(memoryview(bytes([0x0A, 2, 104, 105])))]
    [(1, b'hi')]
    """

    data: memoryview
    fields: Budget = field(default_factory=lambda: Budget(MOST_FIELDS, "fields"))

    def inside(self, value: Value) -> Message:
        """A field of this message that is a message itself."""
        if isinstance(value, int):
            raise Malformed("a number for a message")
        return Message(value, self.fields)

    def __iter__(self) -> Iterator[tuple[int, int, Value]]:
        at = 0
        while at < len(self.data):
            self.fields.spend()
            number, wire, begin, size = _next(self.data, at)
            if wire == VARINT:
                value, at = varint(self.data, begin)
                yield number, wire, value
                continue
            if size > len(self.data) - begin:
                raise Malformed("a field longer than the file")
            yield number, wire, self.data[begin : begin + size]
            at = begin + size


def _next(data: memoryview, at: int) -> tuple[int, int, int, int]:
    """Number and wire type of the field at a place, where its content begins, and its bytes; 0 for a varint."""
    key, at = varint(data, at)
    number, wire = key >> 3, key & 7
    if not number:
        raise Malformed("a field without a number")
    if wire == VARINT:
        return number, wire, at, 0
    if wire == BYTES:
        size, at = varint(data, at)
        return number, wire, at, size
    if wire not in (FIXED64, FIXED32):
        raise Malformed(f"wire type {wire}")
    return number, wire, at, 8 if wire == FIXED64 else 4


def refuse_head(head: memoryview, size: int) -> None:
    """Looks at the first fields of a file only.

    Args:
      head: how the file begins.
      size: bytes of all of it.
    Raises:
      Malformed: it is no message.
    """
    at = 0
    # A field that crosses the end of the head may be cut by that: 20 bytes hold any tag, and any number.
    while at < len(head) - (20 if size > len(head) else 0):
        _, wire, begin, length = _next(head, at)
        at = varint(head, begin)[1] if wire == VARINT else begin + length
        if at > size:
            raise Malformed("a field longer than the file")


def integers(wire: int, value: Value) -> list[int]:
    """A repeated integer field, packed or not: the axes of a shape."""
    if isinstance(value, int):
        return [value]
    if wire != BYTES:
        raise Malformed("a number of another type")
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(number)
        if len(found) > MOST_AXES:
            raise Malformed(f"a shape of more than {MOST_AXES} axes")
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
    # Looked at before it is copied: a layer's name stands before each of its blobs.
    if len(value) > MOST_LETTERS:
        raise Malformed(f"a name of {len(value)} letters")
    return bytes(value).decode()
