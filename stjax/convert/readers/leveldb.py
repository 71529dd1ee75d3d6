"""LevelDB's sorted table of keys and values, uncompressed: the index of a TensorFlow checkpoint.

    file     blocks, one after another; footer
    block    entries; places to begin at, 4 bytes each; how many of them, 4 bytes; kind, 1 byte; masked CRC-32C, 4 bytes
    entry    letters shared with the key before, further letters, bytes of the value (varints); letters; value
    footer   place and size of the metaindex and of the index (varints), padded to 40 bytes; magic number, 8 bytes

The index is a block whose values are places and sizes of the blocks of data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from stjax.convert.readers.crc32c import crc32c, masked
from stjax.convert.readers.limits import MOST_ARRAYS, MOST_LETTERS, Budget
from stjax.convert.readers.wire import varint
from stjax.errors import UsageError

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of every table."""
FOOTER = 48
TRAILER = 5
"""Bytes behind a block's content: its kind, and the checksum of both."""
COMPRESSIONS = {1: "Snappy", 2: "zstd"}
"""By kind of a block."""

Place = tuple[int, int]


def read(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Every key and value, keys ascending; values are views.

    Raises:
      UsageError: a block does not match its checksum, is compressed, or shares bytes with another.
      ValueError: no table, or one that contradicts itself.
    """
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise ValueError("a table without its end")
    metaindex, at = _place(data[-FOOTER:-8], 0)
    index, _ = _place(data[-FOOTER:-8], at)
    budget = Budget(MOST_ARRAYS, "entries of a table")
    places = [_place(value, 0)[0] for _, value in _entries(_block(data, index), budget)]
    for (begin, size), (after, _) in itertools.pairwise(sorted([metaindex, index, *places])):
        if after < begin + size + TRAILER:
            raise UsageError(f"blocks of a table must lie apart: those at {begin} and {after} share bytes")
    _block(data, metaindex)
    last = None
    for place in places:
        for key, value in _entries(_block(data, place), budget):
            if last is not None and key <= last:
                raise ValueError("keys of a table that do not ascend")
            last = key
            yield key, value


def _place(data: memoryview, at: int) -> tuple[Place, int]:
    """Where a block begins and how many bytes its content has; and where that is said."""
    begin, at = varint(data, at)
    size, at = varint(data, at)
    return (begin, size), at


def _block(data: memoryview, place: Place) -> memoryview:
    """The content of a block, once its checksum is seen to hold."""
    begin, size = place
    end = begin + size
    if end + TRAILER > len(data) - FOOTER:
        raise ValueError(f"a block of {size} bytes at {begin} in a table of {len(data)}")
    if masked(crc32c(data[begin : end + 1])) != int.from_bytes(data[end + 1 : end + TRAILER], "little"):
        raise UsageError(f"blocks of a table must match their checksums: that at {begin} is damaged")
    if data[end]:
        how = COMPRESSIONS.get(data[end], f"kind {data[end]}")
        raise UsageError(f"blocks of a table must be stored as they are: that at {begin} is compressed ({how})")
    return data[begin:end]


def _entries(block: memoryview, budget: Budget) -> Iterator[tuple[bytes, memoryview]]:
    # Where a search may begin: not needed to read them all.
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes with {restarts} places to begin at")
    block, key, at = block[:end], b"", 0
    while at < end:
        budget.spend()
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or own + size > end - at:
            raise ValueError("an entry longer than its block")
        if shared + own > MOST_LETTERS:
            raise ValueError(f"a key of {shared + own} letters")
        key = key[:shared] + bytes(block[at : at + own])
        at += own + size
        yield key, block[at - size : at]
