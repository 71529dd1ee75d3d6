"""MATLAB's .mat, versions 5 to 7 -> nested lists, dicts, strings and arrays.

scipy.io reads these files too, but says itself that its reader is not hardened: of 3,000 slightly damaged files, 55
ended the whole process (scipy 1.17). This one checks every size against the bytes that are there, leaves arrays where
they lie in the file, and skips what it does not need: function handles, objects, sparse matrices.

A file is a header of 128 bytes and a row of elements: a tag (type, size in bytes), then content padded to 8 bytes. A
matrix is an element that holds elements: flags, dimensions, name, then content by its class.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from stjax.convert.readers.contents import listed
from stjax.convert.readers.limits import (
    DEEPEST,
    LONGEST_TEXT,
    MOST_AXES,
    MOST_NODES,
    SPARE,
    SWELLING,
    Budget,
    size_of,
)

MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers lie in the file, often smaller than the class of their matrix."""
TEXT = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)

HEAD = 4096
"""Bytes of a compressed element inflated to see its name."""


class _Elements:
    """Elements of one buffer, read from the front."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def next(self, padded: bool = True) -> tuple[int, memoryview]:
        """Type and content of the next element."""
        kind, size = struct.unpack_from(self.order + "II", self.data, self.at)
        if kind >> 16:  # small: size and type share four bytes, content follows in the other four
            kind, size, begin = kind & 0xFFFF, kind >> 16, self.at + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
            self.at += 8
        else:
            begin = self.at + 8
            self.at = begin + size + (-size % 8 if padded else 0)
        if begin + size > len(self.data):
            raise ValueError(f"an element declares {size} bytes, {len(self.data) - begin} are there")
        return kind, self.data[begin : begin + size]

    def numbers(self) -> np.ndarray:
        """The next element as a flat array, in place."""
        kind, content = self.next()
        if kind not in STORED:
            raise ValueError(f"numbers of type {kind}")
        return np.frombuffer(content, self.order + STORED[kind])


def variables(data: memoryview, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The top-level variables whose names are wanted; the others are skipped unread."""
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise ValueError("no mark of byte order")
    elements, nodes = _Elements(data[128:], order), Budget(MOST_NODES, "matrices")
    swell = Budget(SWELLING * len(data) + SPARE, "bytes once unpacked")
    found: dict[str, Any] = {}
    while elements.at < len(elements.data):
        nodes.spend()
        kind, content = elements.next(padded=False)
        if kind == COMPRESSED:
            if not wanted(_matrix_name(memoryview(zlib.decompressobj().decompress(content[:HEAD], HEAD))[8:], order)):
                continue
            kind, content = _inflate(content, order, swell)
        elif kind == MATRIX and not wanted(_matrix_name(content, order)):
            continue
        if kind == MATRIX:
            name, value = _matrix(content, order, nodes, 0)
            if name in found:
                raise ValueError(f"two variables are named {listed([name])}")
            found[name] = value
    return found


def _inflate(content: memoryview, order: str, swell: Budget) -> tuple[int, memoryview]:
    """Type and content of what a compressed element holds, once its own checksum is seen to agree."""
    machine = zlib.decompressobj()
    kind, size = struct.unpack(order + "II", machine.decompress(content[:HEAD], 8))
    swell.spend(size)
    # Piece by piece into what was declared: nothing is held twice, and nothing beyond it is inflated. The checksum
    # stands at the end of the stream: one byte more is asked for, so that the end is reached.
    whole, at = np.empty(size + 1, np.uint8), 0
    view, pending, pieces = whole.data, machine.unconsumed_tail, iter(range(HEAD, len(content), 1 << 20))
    while at <= size and not machine.eof:
        pending = pending or bytes(content[(begin := next(pieces, len(content))) : begin + (1 << 20)])
        piece = machine.decompress(pending, min(size + 1 - at, 1 << 22))
        if not piece and not pending:
            raise ValueError(f"compressed content ends after {at} of {size} bytes")
        view[at : at + len(piece)] = piece
        at, pending = at + len(piece), machine.unconsumed_tail
    if at != size:
        raise ValueError(f"compressed content of another length than the {size} bytes it declares")
    return kind, view[:size]


def _header(elements: _Elements) -> tuple[int, tuple[int, ...], str]:
    """Class, shape and name of a matrix."""
    flags, shape, name = elements.numbers(), elements.numbers(), elements.next()[1]
    if len(shape) > MOST_AXES or len(name) > LONGEST_TEXT:
        raise ValueError(f"a matrix of {len(shape)} axes and a name of {len(name)} letters")
    return int(flags[0]) & 0xFF, tuple(int(n) for n in shape), bytes(name).rstrip(b"\0").decode("latin1")


def _matrix_name(content: memoryview, order: str) -> str:
    return _header(_Elements(content, order))[2] if len(content) else ""


def _matrix(content: memoryview, order: str, nodes: Budget, depth: int) -> tuple[str, Any]:
    """Name and value. A struct array is a list of dicts, a cell array a list; both in MATLAB's order."""
    if depth > DEEPEST:
        raise ValueError(f"matrices within matrices, more than {DEEPEST} deep")
    if not len(content):
        return "", None
    elements = _Elements(content, order)
    kind, shape, name = _header(elements)
    count = size_of(shape)
    if kind in NUMERIC:
        flat = elements.numbers()
        if flat.size != count:
            raise ValueError(f"{flat.size} numbers for the shape {shape}")
        return name, flat.reshape(shape, order="F")
    if kind == CHAR:
        return name, _text(*elements.next(), order)
    if kind not in (CELL, STRUCT):
        return name, None
    names = _field_names(elements) if kind == STRUCT else [""]
    # One is taken for the whole of a struct too, so that a million structs without fields are not free.
    nodes.spend(count * (len(names) + 1))

    def member() -> Any:
        inner, part = elements.next()
        return _matrix(part, order, nodes, depth + 1)[1] if inner == MATRIX else None

    if kind == CELL:
        return name, [member() for _ in range(count)]
    return name, [{field: member() for field in names} for _ in range(count if names else 0)]


def _text(stored: int, letters: memoryview, order: str) -> str | None:
    """What a matrix of letters says; None where it is too long for any name."""
    if len(letters) > LONGEST_TEXT:
        return None
    codec = TEXT.get(stored, "latin1")
    if codec in ("utf-16", "utf-32"):
        codec += "-le" if order == "<" else "-be"
    return bytes(letters).decode(codec, "replace")


def _field_names(elements: _Elements) -> list[str]:
    longest, letters = int(elements.numbers()[0]), elements.next()[1]
    if longest < 1 or len(letters) > LONGEST_TEXT:
        raise ValueError(f"names of fields of {longest} letters, {len(letters)} together")
    return [bytes(letters[i : i + longest]).split(b"\0")[0].decode("latin1") for i in range(0, len(letters), longest)]
