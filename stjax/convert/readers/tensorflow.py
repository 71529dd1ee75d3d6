"""TensorFlow's checkpoints of version 2 -> {name: array}: an index, and shards that hold nothing but numbers.

    model.ckpt.index                    a table, see `leveldb`: "" -> header, name -> entry
    model.ckpt.data-00000-of-00001      numbers, as the entries say

BundleHeaderProto  shards 1, endianness 2 (big: 1), version 3 {least that reads it 2}
BundleEntryProto   dtype 1, shape 2 {dim 2 {size 1}, unknown rank 3}, shard 3, offset 4, size 5, masked CRC-32C 6,
                   slices 7
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

from stjax.convert.readers import leveldb, whole
from stjax.convert.readers.contents import Contents, listed, refuse_names
from stjax.convert.readers.crc32c import crc32c, masked
from stjax.convert.readers.limits import size_of
from stjax.convert.readers.wire import BYTES, FIXED32, Message, text
from stjax.errors import UsageError

SHARD = re.compile(r"(.+)\.data-\d{5,10}-of-\d{5,10}")
INDEX = ".index"
VERSION = 1
"""The newest that is known."""
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""A text that TensorFlow 2 puts beside the arrays."""
TYPES: dict[int, Any] = {
    **{1: "<f4", 2: "<f8", 19: "<f2", 14: ml_dtypes.bfloat16},
    **{3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 22: "<u4", 23: "<u8"},
}


class _Entry(NamedTuple):
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def prefix_of(path: Path) -> Path | None:
    """What the names of a checkpoint's files begin with, if a path is that, or one of them; else None.

    A shard has no mark of its own: it is told by its name. An index is told by its content as well.
    """
    if not os.path.isfile(path):
        return path if path.name and os.path.isfile(_index(path)) else None
    if shard := SHARD.fullmatch(path.name):
        return path.with_name(shard[1])
    stem = path.name.removesuffix(INDEX)
    return path.with_name(stem) if stem not in ("", path.name) and _is_table(path) else None


def index_of(path: Path) -> Path:
    """The index of the checkpoint that a path is of, which holds a checksum of all the rest; any other path itself."""
    prefix = prefix_of(path)
    return path if prefix is None else _index(prefix)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + INDEX)


def _is_table(path: Path) -> bool:
    with whole.opened(path) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - len(leveldb.MAGIC), 0))
        return file.read() == leveldb.MAGIC


def read(prefix: Path) -> tuple[Contents, int]:
    """Every tensor, as a view; and the bytes of all files.

    Raises:
      UsageError: a file is missing, a checksum does not hold, tensors share bytes or are cut into slices, or one is of
        a type that no array has.
      ValueError: an index that contradicts itself or the shards.
    """
    index = _index(prefix)
    if not os.path.isfile(index):
        raise UsageError(f"a shard of a checkpoint must have its index beside it: {index.name} is not there")
    with whole.opened(index) as file:
        table = whole.rest(file)
    shards, entries = _entries(table)
    by_shard: dict[int, list[_Entry]] = {}
    for entry in entries:
        by_shard.setdefault(entry.shard, []).append(entry)
    arrays: dict[str, np.ndarray] = {}
    damaged: list[str] = []
    size = len(table)
    for number, own in sorted(by_shard.items()):
        shard = prefix.with_name(f"{prefix.name}.data-{number:05}-of-{shards:05}")
        if not os.path.isfile(shard):
            raise UsageError(f"a checkpoint must have all of its shards beside its index: {shard.name} is not there")
        with whole.opened(shard) as file:
            data = whole.rest(file)
        size += len(data)
        for entry in _apart(own):
            if entry.end > len(data):
                raise ValueError(f"{listed([entry.name])} ends at byte {entry.end}, {shard.name} at {len(data)}")
            content = data[entry.offset : entry.end]
            if masked(crc32c(content)) != entry.crc:
                damaged.append(entry.name)
            arrays[entry.name] = np.frombuffer(content, entry.dtype).reshape(entry.shape)
    if damaged:
        raise UsageError(f"tensors of a checkpoint must match their checksums: damaged: {listed(damaged)}")
    contents = Contents("TensorFlow checkpoint", {entry.name: arrays[entry.name] for entry in entries}, verified=True)
    return contents, size


def _apart(entries: list[_Entry]) -> list[_Entry]:
    """Those of one shard, in their order there."""
    ordered = sorted(entries, key=lambda entry: (entry.offset, entry.size))
    for one, other in itertools.pairwise(ordered):
        if other.offset < one.end:
            raise UsageError(f"tensors of a checkpoint must lie apart: {listed([one.name, other.name])} share bytes")
    return ordered


def _entries(table: memoryview) -> tuple[int, list[_Entry]]:
    """How many shards there are, and what lies in them."""
    rows = leveldb.read(table)
    key, value = next(rows, (b"-", None))
    if key or value is None:
        raise UsageError("a checkpoint must begin with a header: this one has none, or is of version 1; save it anew")
    message = Message(value)
    shards = _header(message)
    found: list[_Entry] = []
    for key, value in rows:
        if key.startswith(b"\0"):
            _refuse_slices(key[1:].partition(b"\0")[0].decode(errors="replace"))
        name = text(memoryview(key))
        if name != OBJECTS:
            found.append(_entry(name, message.inside(value)))
            if found[-1].shard >= shards:
                raise ValueError(f"shard {found[-1].shard} of {shards}")
    refuse_names(entry.name for entry in found)
    return shards, found


def _header(message: Message) -> int:
    shards = 0
    for number, wire, value in message:
        if number == 1 and isinstance(value, int):
            shards = value
        elif number == 2 and value:
            raise UsageError("a checkpoint must be little-endian: this one says it is not; save it anew")
        elif number == 3 and wire == BYTES:
            needed = max((n for part, _, n in message.inside(value) if part == 2 and isinstance(n, int)), default=0)
            if needed > VERSION:
                raise UsageError(f"a checkpoint must be of version {VERSION} or older: this one needs {needed}")
    if not 0 < shards < 1 << 31:
        raise ValueError(f"{shards} shards")
    return shards


def _entry(name: str, message: Message) -> _Entry:
    numbers, shape = dict.fromkeys((1, 3, 4, 5), 0), list[int]()
    crc = 0
    for number, wire, value in message:
        if number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 2 and wire == BYTES:
            shape += _axes(message.inside(value))
        elif number == 6 and wire == FIXED32 and not isinstance(value, int):
            crc = int.from_bytes(value, "little")
        elif number == 7:
            _refuse_slices(name)
    kind, shard, offset, size = numbers.values()
    if kind not in TYPES:
        raise UsageError(f"tensors of a checkpoint must be numbers: {listed([name])} is of TensorFlow's type {kind}")
    dtype = np.dtype(TYPES[kind])
    if size_of(shape) * dtype.itemsize != size:
        raise ValueError(f"{listed([name])} of the shape {shape} in {size} bytes")
    return _Entry(name, dtype, tuple(shape), shard, offset, size, crc)


def _refuse_slices(name: str) -> NoReturn:
    raise UsageError(f"tensors of a checkpoint must be whole: {listed([name])} is cut into slices; save it anew")


def _axes(message: Message) -> Iterator[int]:
    for number, wire, value in message:
        if number == 2 and wire == BYTES:
            yield next((n for part, _, n in message.inside(value) if part == 1 and isinstance(n, int)), 0)
        elif number == 3 and value:
            raise ValueError("a tensor of unknown shape")
