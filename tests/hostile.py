"""Files made to hang a reader, to fill the memory, or to pass with wrong values: small, and wrong in one way each.

`ATTACKS` is name -> a function of a magnitude n and a path that returns bytes, or those of several files by how their
names end, or writes the file itself. Bytes of a hostile file grow with n at most in proportion; what a careless reader
does for it grows faster, or is for ever.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import writers
from writers import field, varint

Attack = Callable[[int, Path], bytes | Mapping[str, bytes] | None]

U32, U64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
GIBIBYTE = 1 << 30
MERSENNE = (1 << 61) - 1
"""Numbers that differ by a multiple of it have one hash in CPython."""
LAUGH = b"2\x86"
"""Duplicate, then a tuple of both: each time, what one pair stands for doubles."""
ORDERED = b"ccollections\nOrderedDict\n"
DTYPE = b"cnumpy\ndtype\n"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"


def text(value: str) -> bytes:
    """An instruction that pushes a name."""
    return b"X" + U32(len(value)) + value.encode()


def long(value: int) -> bytes:
    """An instruction that pushes a number of any size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + U32(len(data)) + data


def tensor(size: bytes, stride: bytes) -> bytes:
    """A state dict of one tensor whose shape and strides are the values that two pieces of a program push."""
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\1N" + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\0" + size + stride + b"\x89" + ORDERED + b")RtR"
    return ORDERED + b")R(" + text("a") + call + b"u."


def array(shape: bytes, data: bytes) -> bytes:
    """A dict of one numpy array whose shape and bytes are the values that two pieces of a program push."""
    state = b"(K\1" + shape + DTYPE + text("f4") + b"\x85R" + b"\x89" + data + b"tb"
    return b"}" + text("a") + ARRAY + state + b"s."


PROGRAMS: dict[str, Callable[[int], bytes]] = {
    "bytearray of 10 GiB": lambda n: b"\x96" + U64(10 * GIBIBYTE + n) + b"abc.",
    "bytearray of 700 MB": lambda n: b"\x96" + U64(700_000_000 + n) + b"abc.",
    "bytes of 8 EiB": lambda n: b"\x8e" + U64((1 << 63) - n) + b"abc.",
    "text of 8 EiB": lambda n: b"\x8d" + U64((1 << 63) - n) + b"abc.",
    "integer of 2 GiB": lambda n: b"\x8b" + U32((1 << 31) - n) + b"abc.",
    "integer of many bytes": lambda n: b"\x8b" + U32(n) + b"\x7f" * n + b".",
    "integer of many digits": lambda n: b"I" + b"9" * n + b"\n.",
    "frame of 4 EiB": lambda n: b"\x95" + U64(1 << 62) + b"}" * n + b".",
    "memo at 4 billion": lambda n: b"".join(b"Nr" + U32(0xFFFFFFFF - i) for i in range(min(n, 1000))) + b".",
    "a line without end": lambda n: b"c" + b"a" * n,
    "laughs as a key": lambda n: b"})" + LAUGH * min(n, 4000) + b"Ns.",
    "laughs as a key, all at once": lambda n: b"}()" + LAUGH * min(n, 4000) + b"Nu.",
    "laughs in a set": lambda n: b"\x8f()" + LAUGH * min(n, 4000) + b"\x90.",
    "laughs in a frozen set": lambda n: b"()" + LAUGH * min(n, 4000) + b"\x91.",
    "laughs as an outside object": lambda n: b")" + LAUGH * min(n, 4000) + b"Q.",
    "laughs as five parts of an outside object": lambda n: (
        b"(" + text("storage") + b")" + LAUGH * min(n, 4000) + b"22N" + b"tQ."
    ),
    "laughs as a global": lambda n: b")" + LAUGH * min(n, 4000) + text("a") + b"\x93.",
    "laughs as arguments": lambda n: ORDERED + b")" + LAUGH * min(n, 4000) + b"R.",
    "laughs as an ordered key": lambda n: ORDERED + b"(](]()" + LAUGH * min(n, 4000) + b"Nee" + b"tR.",
    "laughs as a type": lambda n: DTYPE + b")" + LAUGH * min(n, 4000) + b"\x85R.",
    "laughs as a shape": lambda n: array(b")" + LAUGH * min(n, 4000), b"C\4abcd"),
    "laughs as a tensor's shape": lambda n: tensor(b")" + LAUGH * min(n, 4000), b")"),
    "a type of many fields": lambda n: DTYPE + text("f4," * n) + b"\x85R.",
    "huge axes": lambda n: array(b"(" + long(1 << 2000) * min(n // 250, 4000) + b"t", b"C\4abcd"),
    "many axes": lambda n: array(b"(" + b"K\xff" * n + b"t", b"C\4abcd"),
    "a tensor's huge axes": lambda n: tensor(*[b"(" + long(1 << 2000) * min(n // 250, 4000) + b"t"] * 2),
    "a tensor's many axes": lambda n: tensor(*[b"(" + b"K\xff" * n + b"t"] * 2),
    "dicts within dicts": lambda n: (
        text("name" * 50) + b"q\0" + b"0" + b"}h\0" * min(n, 200_000) + b"N" + b"s" * min(n, 200_000) + b"."
    ),
    "dicts that share dicts": lambda n: (
        b"}" + text("a") + b"q\1Nsq\0" + b"0" + (b"}(h\1h\0" + text("b") + b"h\0uq\0" + b"0") * 30 + b"h\0."
    ),
    "keys that share a hash": lambda n: (
        b"}(" + b"".join(b"\x8a\x0d" + (i * MERSENNE).to_bytes(13, "little") + b"N" for i in range(n // 15)) + b"u."
    ),
    "lists": lambda n: b"]" * n + b".",
    "dicts": lambda n: b"}" * n + b".",
    "marks": lambda n: b"(" * n + b".",
    "memos": lambda n: b"N" + b"\x94" * n + b".",
    "empty bytes": lambda n: b"C\0" * (n // 2) + b".",
    "lists within lists": lambda n: b"]" * n + b"a" * (n - 1) + b".",
    "tuples within tuples": lambda n: b")" + b"\x85" * n + b".",
    "many arguments, many times": lambda n: (
        b"(" + b"N" * (n // 2) + b"tq\0" + b"0" + DTYPE + b"q\1" + b"0" + b"h\1h\0R0" * (n // 12) + b"N."
    ),
    "many pairs, many times": lambda n: (
        b"](" + b"K\1N\x86" * (n // 8) + b"e\x85q\0" + b"0" + ORDERED + b"q\1" + b"0" + b"h\1h\0R0" * (n // 12) + b"N."
    ),
    "one long text, many arrays": lambda n: (
        b"T" + U32(n) + b"a" * n + b"q\0" + b"0" + DTYPE + text("f4") + b"\x85Rq\1" + b"0"
        + (ARRAY + b"(K\1K" + bytes([1]) + b"\x85h\1\x89h\0tb0") * min(n // 60, 20_000) + b"N."
    ),
    "a class that is called": lambda n: b"cbuiltins\nbytearray\n" + long(10 * GIBIBYTE) + b"\x85R.",
}  # fmt: skip


def bare(program: bytes) -> bytes:
    """A program as a file of its own."""
    return b"\x80\x05" + program


def legacy(program: bytes) -> bytes:
    """A program as the object of a .pth of before 1.6."""
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(head, 2) for head in heads) + b"\x80\x02" + program


def zipped(program: bytes, **others: bytes) -> bytes:
    """A program as the object of a .pth since 1.6, with checksums that are right."""
    return archive([("archive/data.pkl", b"\x80\x02" + program), *((f"archive/{k}", v) for k, v in others.items())])


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip; a name may come twice."""
    import warnings

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            out.writestr(name, content)
    return file.getvalue()


def sample() -> list[tuple[str, bytes]]:
    """The members of a whole .pth of one tensor, [1, 2, 3, 4]."""
    file = io.BytesIO()
    writers.zip_torch({"a": np.asarray([1, 2, 3, 4], np.float32)}, file)
    with zipfile.ZipFile(file) as whole:
        return [(name, whole.read(name)) for name in whole.namelist()]


def overlapping(n: int) -> bytes:
    """Many entries of the directory for the same bytes."""
    one = archive([("archive/data.pkl", b"\x80\x02" + b"N" * n + b".")])
    at = one.index(b"PK\1\2")
    end = one.index(b"PK\5\6")
    count = min(n // 100, 60_000)
    entries = one[at:end] * count
    return one[:at] + entries + struct.pack("<4s4xHHIIH", b"PK\5\6", count, count, len(entries), at, 0)


def nested_overlap(n: int) -> bytes:
    """Entries with names of their own, whose contents contain one another."""
    members = [(f"archive/data/{i:06}", b"") for i in range(min(n // 150, 20_000))]
    whole = bytearray(archive([*members, ("archive/data.pkl", b"N.")]))
    at, limit = whole.index(b"PK\1\2"), whole.index(b"PK\1\2")
    for _ in members:
        begin = struct.unpack_from("<I", whole, at + 42)[0]
        size = limit - begin - 30 - 19
        struct.pack_into("<III", whole, at + 16, zlib.crc32(whole[limit - size : limit]), size, size)
        at += 46 + 19
    return bytes(whole)


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """A file with its only, or last, occurrence of some bytes changed."""
    at = data.rindex(old)
    return data[:at] + new + data[at + len(old) :]


def renamed(members: list[tuple[str, bytes]], old: str, new: str) -> list[tuple[str, bytes]]:
    """Members under other names."""
    return [(name.replace(old, new), content) for name, content in members]


def two_folders(n: int) -> bytes:
    """Two archives in one zip, the second with other values."""
    other = [(k, np.arange(4, dtype="f4").tobytes() if k.endswith("data/0") else v) for k, v in sample()]
    return archive([*sample(), *renamed(other, "archive/", f"other{n}/")])


def split_folders(n: int) -> bytes:
    """The pickle in one folder and its storage in another."""
    return archive([(k.replace("archive/data/", f"b{n}/data/"), v) for k, v in sample()])


def wrong_values(n: int) -> bytes:
    """One byte of a storage changed, its checksum as it was."""
    data = archive(sample())
    at = data.index(np.asarray([1, 2, 3, 4], "<f4").tobytes()) + n % 16
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


ZIPS: dict[str, Callable[[int], bytes]] = {
    "one storage under many entries": overlapping,
    "entries that contain one another": nested_overlap,
    "two folders": two_folders,
    "two folders that need one another": split_folders,
    "values that a checksum contradicts": wrong_values,
    "two members of one name": lambda n: archive([*sample(), ("archive/data/0", b"\0" * 16), ("archive/x", b"x" * n)]),
    "zeros, compressed": lambda n: archive([("archive/data.pkl", bytes(100 * n))], zipfile.ZIP_DEFLATED),
    "another byte order": lambda n: archive([*sample(), ("archive/byteorder", b"middle" * n)]),
    "a storage that is cut": lambda n: archive([(k, v[: n % 16] if k.endswith("data/0") else v) for k, v in sample()]),
    "a directory of other names": lambda n: patched(archive(sample()), b"archive/data/0", b"archive/data/1"),
    "a directory that ends late": lambda n: patched(archive(sample()), b"\3\0\3\0", b"\3\0\xff\x7f"),
    "a second end record that lies": lambda n: (
        (one := archive(sample()))[: one.index(b"PK\5\6")]
        + struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, 1 << 62, n)
        + struct.pack("<4sIQI", b"PK\6\7", 0, one.index(b"PK\5\6"), 1)
        + struct.pack("<4s4xHHIIH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    ),
    "many members": lambda n: archive([(f"archive/data/{i}", b"") for i in range(min(n // 100, 60_000))]),
}  # fmt: skip


# Protocol buffers


def blob(shape: bytes, data: bytes = b"abcd") -> bytes:
    """A caffemodel of one layer of one blob."""
    return field(100, field(1, b"conv1_1") + field(7, field(5, data) + shape))


def model(tensors: bytes) -> bytes:
    """An ONNX model around the fields of its graph."""
    return field(1, 8) + field(7, tensors)


def initializer(dims: bytes, **_: Any) -> bytes:
    """A tensor of four bytes."""
    return field(5, dims + field(2, 1) + field(8, b"w") + field(9, b"abcd"))


CAFFE: dict[str, Callable[[int], bytes]] = {
    "many axes": lambda n: blob(field(7, field(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * (n // 9)))),
    "axes one by one": lambda n: blob(field(7, field(1, 255) * (n // 3))),
    "huge axes": lambda n: blob(field(7, field(1, varint((1 << 63) - n) * 31))),
    "huge axes of old": lambda n: field(
        2, field(4, b"a") + field(6, b"".join(field(i, (1 << 64) - n) for i in (1, 2, 3, 4)) + field(5, b"abcd"))
    ),
    "nothing but fields": lambda n: field(100, b"\x08\x01" * (n // 2)),
    "nothing but layers": lambda n: (varint(100 << 3 | 2) + b"\0") * (n // 3),
    "nothing but blobs": lambda n: field(100, field(1, b"a") + field(7, b"") * (n // 2)),
    "layers of one name": lambda n: b"".join(
        field(100, field(1, b"%d" % (i // 2)) + field(7, field(5, b"abcd"))) for i in range(n // 20)
    ),
    "one long name": lambda n: field(100, field(1, b"a" * n) + field(7, field(5, b"abcd")) * 1000),
    "numbers in pieces": lambda n: field(100, field(1, b"a") + field(7, field(5, b"abcd") * (n // 6))),
    "a field longer than the file": lambda n: varint(100 << 3 | 2) + varint((1 << 63) + n) + b"abc",
}
ONNX: dict[str, Callable[[int], bytes]] = {
    "many axes": lambda n: model(initializer(field(1, 255) * (n // 3))),
    "many axes, packed": lambda n: model(initializer(field(1, b"\x7f" * n))),
    "huge axes": lambda n: model(initializer(field(1, (1 << 63) - n) * 31)),
    "nothing but fields": lambda n: model(field(5, b"\x10\x01" * (n // 2))),
    "nothing but tensors": lambda n: model(field(5, b"") * (n // 2)),
    "tensors of one name": lambda n: model(
        b"".join(field(5, field(2, 1) + field(8, b"%d" % (i // 2))) for i in range(n // 10))
    ),
    "one long name": lambda n: model(field(5, field(2, 1) + field(8, b"a" * n))),
}


# safetensors


def safetensors(header: bytes, data: bytes = b"abcd") -> bytes:
    """A header that need not be JSON."""
    return U64(len(header)) + header + data


def one_tensor(shape: Any, offsets: Any = (0, 4), **others: Any) -> bytes:
    """A file of one float, said to be of another shape or elsewhere."""
    return safetensors(json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}} | others).encode())


SAFETENSORS: dict[str, Callable[[int], bytes]] = {
    "lists within lists": lambda n: safetensors(b'{"a":' + b"[" * n),
    "nothing but lists": lambda n: safetensors(b'{"a":[' + b"[]," * (n // 3) + b"0]}"),
    "many axes": lambda n: one_tensor([1] * (n // 3)),
    "huge axes": lambda n: one_tensor([1 << 62] * 31),
    "an axis of many digits": lambda n: safetensors(
        b'{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[' + b"9" * n + b"]}}"
    ),
    "negative axes": lambda n: one_tensor([-1, -1]),
    "one name twice": lambda n: safetensors(
        b"{" + b",".join([b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'] * max(n // 60, 2)) + b"}"
    ),
    "tensors that share bytes": lambda n: safetensors(
        json.dumps(
            {f"{i}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for i in range(n // 60 + 2)}
        ).encode()
    ),
    "bytes between tensors": lambda n: one_tensor([1], (2, 6)),
    "bytes after the last": lambda n: one_tensor([0], (0, 0)),
    "many arrays": lambda n: safetensors(
        json.dumps(
            {f"{i}.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(min(n // 60, 20_000))}
        ).encode(),
        b"",
    ),
    "a long name": lambda n: one_tensor([1], **{"b" * n: {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}}),
    "a header of 100 MB": lambda n: safetensors(b"{" + b" " * (100_000_000 if n >= 1_000_000 else n)),
    "a header of its own length": lambda n: U64(n) + b"{" + b" " * n,
    "a name that clears the terminal": lambda n: safetensors(
        b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ),
}


# MATLAB 5


def element(kind: int, content: bytes) -> bytes:
    """A tag and its padded content."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...] | bytes, *parts: bytes, name: bytes = b"") -> bytes:
    """A matrix of a class; its shape may be bytes that are none."""
    axes = shape if isinstance(shape, bytes) else struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, struct.pack("<II", kind, 0)) + element(5, axes) + element(1, name) + b"".join(parts))


EMPTY = struct.pack("<II", 14, 0)


def mat(*elements: bytes) -> bytes:
    """A file of elements."""
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def pressed(content: bytes) -> bytes:
    """A compressed element, which is not padded."""
    packed = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(packed)) + packed


def flipped(data: bytes) -> bytes:
    """One bit of the last byte changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def net(kind: int, shape: tuple[int, ...] | bytes, *parts: bytes) -> bytes:
    """A variable that a reader wants."""
    return matrix(kind, shape, *parts, name=b"net")


def fields(names: bytes, longest: int) -> bytes:
    """The names of a struct's fields."""
    return struct.pack("<HHi", 5, 4, longest) + element(1, names)


def deep(n: int, kind: int) -> bytes:
    """Cells or structs within one another."""
    inside, own = EMPTY, fields(b"a\0", 2) if kind == 2 else b""
    for _ in range(min(n, 300)):
        inside = matrix(kind, (1, 1), own, inside)
    return mat(net(kind, (1, 1), own, inside))


def named_by_cells(n: int) -> bytes:
    """A network whose parameter's name is a tree of arrays."""
    numbers = matrix(7, (1, 999), element(7, bytes(4 * 999)))
    tree = matrix(1, (1, n // 4000 + 1), numbers * (n // 4000 + 1))
    row = matrix(2, (1, 1), fields(b"name\0\0\0\0value\0\0\0", 8), tree, matrix(7, (1, 1), element(7, b"abcd")))
    return mat(net(2, (1, 1), fields(b"params\0\0", 8), row))


def diluted(n: int, ratio: int) -> bytes:
    """Structs of nothing, with so much noise behind them that the whole shrinks by no more than a ratio."""
    count = n * ratio // 8
    noise = np.random.default_rng(0).bytes(n)
    return mat(pressed(net(2, (1, count), fields(b"a\0", 2), EMPTY * count, noise)))


MATLAB: dict[str, Callable[[int], bytes]] = {
    "zeros, compressed": lambda n: mat(pressed(net(7, (1, 25 * n), element(7, bytes(100 * n))))),
    "cells of nothing, compressed": lambda n: mat(pressed(net(1, (1, 10 * n), EMPTY * (10 * n)))),
    "structs of nothing, compressed": lambda n: mat(pressed(net(2, (1, 10 * n), fields(b"a\0", 2), EMPTY * (10 * n)))),
    "structs of nothing, 12 times the file": lambda n: diluted(n, 12),
    "structs of nothing, 60 times the file": lambda n: diluted(3 * n, 60),
    "many compressed variables": lambda n: mat(
        *[pressed(net(7, (1, n // 10), element(7, bytes(n // 10 * 4))))] * min(max(n // 500, 2), 5000)
    ),
    "a size that lies": lambda n: mat(pressed(struct.pack("<II", 14, 0x7FFFFFF0) + bytes(n))),
    "text of zeros, compressed": lambda n: mat(pressed(net(4, (1, 50 * n), element(17, bytes(100 * n))))),
    "a checksum that contradicts": lambda n: mat(flipped(pressed(net(7, (1, 1), element(7, b"abcd"))))),
    "cells that lie": lambda n: mat(net(1, (1 << 30, 1 << 30), EMPTY * (n // 8))),
    "structs that lie": lambda n: mat(net(2, (0x7FFFFFFF, 0x7FFFFFFF), fields(b"a\0", 2), EMPTY * (n // 8))),
    "structs without fields": lambda n: mat(net(2, (0x7FFFFFFF, 1), fields(b"", 1))),
    "many axes": lambda n: mat(net(7, b"\xff\xff\xff\x7f" * (n // 4), element(7, b"abcd"))),
    "axes of another width": lambda n: mat(
        element(14, element(6, bytes([7] + [0] * 7)) + element(13, b"\xff" * (n // 8 * 8)) + element(1, b"net"))
    ),
    "negative axes": lambda n: mat(net(7, (-1, -1), element(7, b"abcd"))),
    "many names of fields": lambda n: mat(net(2, (1, 1), fields(b"a" * n, 1))),
    "cells within cells": lambda n: deep(n, 1),
    "structs within structs": lambda n: deep(n, 2),
    "nothing but tags": lambda n: mat(EMPTY * (n // 8)),
    "a long name": lambda n: mat(matrix(7, (1, 1), element(7, b"abcd"), name=b"net" * n)),
    "a tree for a name": named_by_cells,
}  # fmt: skip


# TensorFlow


def tensor_at(
    offset: int = 0, size: int = 4, shape: tuple[int, ...] = (1,), kind: int = 1, shard: int = 0, more: bytes = b""
) -> bytes:
    """What an index says of four bytes, or says wrongly."""
    return bundles.described(kind, shape, shard, offset, size, bundles.masked(b"abcd"), more)


def tensors(rows: list[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """A checkpoint of four bytes, and whatever rows."""
    return {".index": bundles.table([bundles.header(), *rows]), ".data-00000-of-00001": b"abcd"}


def rows_of(*contents: bytes) -> dict[str, bytes]:
    """A checkpoint whose blocks are anything."""
    return {".index": bundles.joined(list(contents)), ".data-00000-of-00001": b"abcd"}


def handles(places: list[tuple[int, int]], behind: bytes = b"") -> dict[str, bytes]:
    """A checkpoint whose blocks are said to be anywhere."""
    data = bundles.block(bundles.content([bundles.header(), (b"a", tensor_at())])) + behind
    rows = [(b"%08d" % i, varint(begin) + varint(size)) for i, (begin, size) in enumerate(places)]
    return {".index": data + bundles.ends(len(data), rows), ".data-00000-of-00001": b"abcd"}


def growing(n: int) -> dict[str, bytes]:
    """Keys each of which is the one before and a letter more."""
    value = tensor_at()
    rows = [varint(i) + b"\1" + varint(len(value)) + b"a" + value for i in range(n // 30)]
    return rows_of(bundles.entry(*bundles.header()) + b"".join(rows) + U32(0) + U32(1))


def spoiled(files: dict[str, bytes], end: str, at: int) -> dict[str, bytes]:
    """One bit changed."""
    data = bytearray(files[end])
    data[at] ^= 4
    return files | {end: bytes(data)}


WHOLE = bundles.one(tensor_at())
TENSORFLOW: dict[str, Callable[[int], dict[str, bytes]]] = {
    "one block under many places": lambda n: handles([(0, 40)] * (n // 12)),
    "blocks within one another": lambda n: handles([(i, n - i) for i in range(n // 12)], bytes(n)),
    "a block beyond the table": lambda n: handles([(0, 1000 + n)]),
    "a block beyond all numbers": lambda n: handles([((1 << 63) - n, 1 << 62)]),
    "nothing but blocks": lambda n: rows_of(*[bundles.content([])] * (n // 25)),
    "nothing but entries": lambda n: rows_of(
        bundles.entry(*bundles.header()) + b"\0\0\0" * (n // 3) + U32(0) + U32(1)
    ),
    "keys that grow": growing,
    "a long key": lambda n: tensors([(b"a" * n, tensor_at())]),
    "one name twice": lambda n: tensors([(b"a", tensor_at()), (b"a", tensor_at())]),
    "keys that descend": lambda n: tensors([(b"b", tensor_at()), (b"a", tensor_at())]),
    "a value longer than its block": lambda n: rows_of(b"\0\0" + varint(n) + b"abc" + U32(0) + U32(1)),
    "letters of no key": lambda n: rows_of(b"\5\0\0" + U32(0) + U32(1)),
    "places that lie": lambda n: rows_of(bundles.entry(*bundles.header()) + U32(1 << 30)),
    "a block that a checksum contradicts": lambda n: spoiled(WHOLE, ".index", 20),
    "values that a checksum contradicts": lambda n: spoiled(WHOLE, ".data-00000-of-00001", n % 4),
    "compressed": lambda n: {".index": bundles.joined([b"abcd" * (n // 4)], kind=1)},
    "no header": lambda n: {".index": bundles.table([(b"a", tensor_at())])},
    "billions of shards": lambda n: bundles.one(tensor_at(shard=7), shards=(1 << 31) - n),
    "more shards than any number": lambda n: bundles.one(tensor_at(), shards=(1 << 64) - n),
    "a shard of none": lambda n: bundles.one(tensor_at(shard=n)),
    "another byte order": lambda n: bundles.one(tensor_at(), field(2, 1)),
    "a version to come": lambda n: bundles.one(tensor_at(), field(3, field(2, n))),
    "tensors that share bytes": lambda n: tensors([(b"%06d" % i, tensor_at()) for i in range(n // 40 + 2)]),
    "a tensor beyond its shard": lambda n: bundles.one(tensor_at(offset=n)),
    "a tensor before its shard": lambda n: bundles.one(tensor_at(offset=(1 << 64) - n)),
    "a size that lies": lambda n: bundles.one(tensor_at(size=n, shape=(n // 4,))),
    "a shape that lies": lambda n: bundles.one(tensor_at(shape=(n,))),
    "many axes": lambda n: bundles.one(tensor_at(shape=(1,) * (n // 4))),
    "huge axes": lambda n: bundles.one(tensor_at(shape=((1 << 63) - n,) * 31)),
    "nothing but fields": lambda n: bundles.one(tensor_at(more=b"\x18\1" * (n // 2))),
    "a type of no numbers": lambda n: bundles.one(tensor_at(kind=7)),
    "a type of none": lambda n: bundles.one(tensor_at(kind=n)),
    "slices": lambda n: bundles.one(tensor_at(more=field(7, b""))),
    "a name that clears the terminal": lambda n: tensors([(b"\x1b[2J", tensor_at())]),
}  # fmt: skip


# HDF5


def h5(write: Callable[[Any, int, Path], None], **options: Any) -> Attack:
    """An attack by what h5py itself can write."""

    def attack(n: int, path: Path) -> None:
        import h5py

        with h5py.File(path, "w", **options) as file:
            write(file, n, path)

    return attack


def secret(path: Path) -> Path:
    """Another file of arrays, which nobody named."""
    import h5py

    other = path.with_name(f"{path.name}.secret")
    with h5py.File(other, "w") as file:
        file["x/vars/0"] = np.full(4, 7, np.float32)
    return other


def through_external(file: Any, n: int, path: Path) -> None:
    """A soft link whose way leads through an external one, which nobody reads for itself."""
    import h5py

    name = file.create_dataset("net/params/name", data=np.asarray([[97]], np.uint16))
    name.attrs["MATLAB_class"] = np.bytes_("char")
    file["net/params/value"] = h5py.SoftLink("/way/x/vars/0")
    file["way"] = h5py.ExternalLink(secret(path), "/")


def group_through_external(file: Any, n: int, path: Path) -> None:
    """The same for a group, by one link more."""
    import h5py

    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/way/x")
    file["way"] = h5py.ExternalLink(secret(path), "/")


def circle(file: Any, n: int, path: Path) -> None:
    """Two names of one group within itself: the ways through it double at each step."""
    group = file.create_group("a")
    group["b"], group["c"] = group, group


def soft_circle(file: Any, n: int, path: Path) -> None:
    """Soft links that lead to one another, many of them."""
    import h5py

    for i in range(min(n // 100, 2000)):
        file[f"a{i}"] = h5py.SoftLink(f"/a{i + 1}/a{i}")


def groups(file: Any, n: int, path: Path) -> None:
    """Many groups."""
    for i in range(min(n // 100, 3000)):
        file.create_group(str(i))


def nested(file: Any, n: int, path: Path) -> None:
    """Groups within groups."""
    file.create_group("/".join("a" * min(n // 100 + 40, 500)))


def never_written(file: Any, n: int, path: Path) -> None:
    """Arrays that are nowhere but in their headers."""
    for i in range(50):
        file.create_dataset(f"a/vars/{i}", shape=(n, 1 << 20), dtype="f4", chunks=(1, 1 << 18))


def huge_chunk(file: Any, n: int, path: Path) -> None:
    """A chunk of 2 GiB for one number."""
    file.create_dataset("a/vars/0", shape=(1,), maxshape=(None,), dtype="f4", chunks=(1 << 29,))


def wrapped_size(file: Any, n: int, path: Path) -> None:
    """Axes whose product is 0 in 64 bits."""
    file.create_dataset("a/vars/0", shape=(1 << 32, 1 << 32), dtype="f4", chunks=(1, 1))


def zeros(file: Any, n: int, path: Path) -> None:
    """Zeros that shrink a thousandfold."""
    data = np.zeros(100 * n // 4, np.float32)
    file.create_dataset("a/vars/0", data=data, chunks=(max(len(data) // 8, 1),), compression="gzip")


def references(file: Any, n: int, path: Path) -> None:
    """References that hold one another."""
    import h5py

    net = file.create_group("net")
    one = net.create_dataset("a", (200,), h5py.ref_dtype)
    two = net.create_dataset("b", (200,), h5py.ref_dtype)
    one[:], two[:] = [two.ref] * 200, [one.ref] * 200


def attributes(file: Any, n: int, path: Path) -> None:
    """Names of weights that are many, and of none."""
    import h5py

    group = file.create_group("a")
    names = np.asarray([f"x/{i}" for i in range(min(n // 10, 3000))] or ["x"], object)
    group.attrs.create("weight_names", names, dtype=h5py.string_dtype())


def long_text(file: Any, n: int, path: Path) -> None:
    """A text of MATLAB's that is as long as the file may be large."""
    net = file.create_group("net")
    data = net.create_dataset(
        "a", (50 * n,), "u2", chunks=(50 * n,), compression="gzip", data=np.full(50 * n, 97, "u2")
    )
    data.attrs["MATLAB_class"] = np.bytes_("char")


def external_storage(file: Any, n: int, path: Path) -> None:
    """Numbers that lie in another file."""
    file.create_dataset("a/vars/0", (4,), "f4", external=[(str(secret(path)), 0, 16)])


def virtual(file: Any, n: int, path: Path) -> None:
    """Numbers that are another file's."""
    import h5py

    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(secret(path)), "x/vars/0", (4,))
    file.create_group("a/vars").create_virtual_dataset("0", layout)


def external_link(file: Any, n: int, path: Path) -> None:
    """A group that is another file's."""
    import h5py

    file["a"] = h5py.ExternalLink(secret(path), "/x")


HDF5: dict[str, Attack] = {
    "a link through another file": h5(through_external, userblock_size=512),
    "a group through another file": h5(group_through_external),
    "a link to another file": h5(external_link),
    "numbers in another file": h5(external_storage),
    "numbers of another file": h5(virtual),
    "a group within itself": h5(circle),
    "links in a circle": h5(soft_circle),
    "many groups": h5(groups),
    "groups within groups": h5(nested),
    "arrays that are not there": h5(never_written),
    "a chunk of 2 GiB": h5(huge_chunk),
    "a size that wraps round": h5(wrapped_size),
    "zeros, compressed": h5(zeros),
    "references in a circle": h5(references, userblock_size=512),
    "names of no weights": h5(attributes),
    "a long text": h5(long_text, userblock_size=512),
}

ATTACKS: dict[str, Attack] = {
    **{f"pickle: {k}": lambda n, path, p=p: bare(p(n)) for k, p in PROGRAMS.items()},
    **{f"legacy: {k}": lambda n, path, p=p: legacy(p(n)) for k, p in PROGRAMS.items()},
    **{f"zip: {k}": lambda n, path, p=p: zipped(p(n)) for k, p in PROGRAMS.items()},
    **{
        f"{kind}: {k}": lambda n, path, make=make: make(n)
        for kind, table in (
            *(("zip", ZIPS), ("caffe", CAFFE), ("onnx", ONNX)),
            *(("safetensors", SAFETENSORS), ("matlab", MATLAB), ("tensorflow", TENSORFLOW)),
        )
        for k, make in table.items()
    },
    **{f"hdf5: {k}": attack for k, attack in HDF5.items()},
}


HARMLESS = ("hdf5: zeros, compressed", "safetensors: many arrays", "safetensors: a name that clears the terminal")
"""What may be read: it stands for no more than any small file may."""


def write(name: str, n: int, path: Path) -> Path:
    """An attack as a file, or as several, of which one is to be read."""
    made = ATTACKS[name](n, path)
    if isinstance(made, Mapping):
        return bundles.write(made, path).with_name(f"{path.name}.index")
    if made is not None:
        path.write_bytes(made)
    return path
