"""A writer of TensorFlow's checkpoints from the format's specification, for tests only: each part may be made wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from writers import field, varint

MAGIC = 0xDB4775248B80FB57
TYPES = {
    **{"<f4": 1, "<f8": 2, "<f2": 19, "<i4": 3, "|u1": 4, "<i2": 5, "|i1": 6, "<i8": 9, "|b1": 10},
    **{"<u2": 17, "<u4": 22, "<u8": 23},
}


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


TABLE = [_remainder(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """Byte by byte."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """As it is stored."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    """One key and value of a block; of the key, so many letters are those of the key before."""
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def content(rows: list[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """A block's entries and the places to begin at."""
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(rows):
        shared = next((n for n, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        if i % interval == 0:
            shared = 0
            restarts.append(len(out))
        out += entry(key, value, shared)
        last = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def block(inside: bytes, kind: int = 0) -> bytes:
    """Content and trailer, whose checksum is right."""
    stored = inside + bytes([kind])
    return stored + struct.pack("<I", masked(stored))


def footer(metaindex: tuple[int, int], index: tuple[int, int]) -> bytes:
    """Where the last two blocks are."""
    return b"".join(map(varint, (*metaindex, *index))).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def joined(contents: list[bytes], kind: int = 0) -> bytes:
    """A table of blocks of data."""
    out, handles = b"", []
    for number, inside in enumerate(contents):
        handles.append((b"%06d" % number, varint(len(out)) + varint(len(inside))))
        out += block(inside, kind)
    return out + ends(len(out), handles)


def ends(at: int, handles: list[tuple[bytes, bytes]]) -> bytes:
    """All that follows the blocks of data, which end at a place: metaindex, index and footer."""
    meta, index = content([]), content(handles, 1)
    return block(meta) + block(index) + footer((at, len(meta)), (at + len(meta) + 5, len(index)))


def table(rows: list[tuple[bytes, bytes]], size: int = 1 << 18) -> bytes:
    """A table whose blocks have some bytes each."""
    contents: list[list[tuple[bytes, bytes]]] = [[]]
    for key, value in rows:
        if sum(len(k) + len(v) for k, v in contents[-1]) > size:
            contents.append([])
        contents[-1].append((key, value))
    return joined([content(each) for each in contents])


def fixed32(number: int, value: int) -> bytes:
    """A field of four bytes."""
    return varint(number << 3 | 5) + struct.pack("<I", value)


def header(shards: int = 1, *others: bytes) -> tuple[bytes, bytes]:
    """The first row."""
    return b"", field(1, shards) + field(3, field(1, 1)) + b"".join(others)


def described(kind: int, shape: tuple[int, ...], shard: int, offset: int, size: int, crc: int, *others: bytes) -> bytes:
    """What the index says of a tensor."""
    dims = b"".join(field(2, field(1, n)) for n in shape)
    numbers = b"".join(field(i, n) for i, n in ((3, shard), (4, offset), (5, size)) if n)
    return field(1, kind) + field(2, dims) + numbers + fixed32(6, crc) + b"".join(others)


def of(array: np.ndarray, shard: int, offset: int) -> bytes:
    """What the index says of an array."""
    kind = 14 if array.dtype == ml_dtypes.bfloat16 else TYPES[array.dtype.str]
    data = array.tobytes()
    return described(kind, array.shape, shard, offset, len(data), masked(data))


def bundle(arrays: Mapping[str, np.ndarray], shards: int = 1, size: int = 1 << 18, gap: int = 0) -> dict[str, bytes]:
    """Ends of names -> files; tensors in turn in each of some shards, with so many bytes between them."""
    rows, files = laid(arrays, shards, gap)
    return {".index": table(rows, size)} | files


def laid(
    arrays: Mapping[str, np.ndarray], shards: int = 1, gap: int = 0
) -> tuple[list[tuple[bytes, bytes]], dict[str, bytes]]:
    """The rows of an index, and the shards."""
    data = [b""] * shards
    rows = [header(shards)]
    for i, (name, array) in enumerate(sorted(arrays.items())):
        shard = i % shards
        rows.append((name.encode(), of(array, shard, len(data[shard]))))
        data[shard] += array.tobytes() + bytes(gap)
    return rows, {f".data-{i:05}-of-{shards:05}": content for i, content in enumerate(data)}


def write(files: Mapping[str, bytes], prefix: Path) -> Path:
    """The files of a checkpoint; the path that their names begin with, which is none of them."""
    for end, content in files.items():
        prefix.with_name(prefix.name + end).write_bytes(content)
    return prefix


def one(value: bytes, *first: bytes, shards: int = 1, data: bytes = b"abcd") -> dict[str, bytes]:
    """A checkpoint of one tensor and of one shard, both described in any way."""
    return {".index": table([header(shards, *first), (b"a", value)]), ".data-00000-of-00001": data}
