"""CRC-32C (Castagnoli) of what LevelDB's tables and TensorFlow's checkpoints hold, as fast as NumPy gathers.

A checksum is the remainder of the data as a polynomial over GF(2), so that of two blocks side by side is

    V(A B) = V(A) x^(8 |B|) + V(B)

Neighbouring blocks are joined all at once, level by level: words, pairs of words, and so on.
"""

from __future__ import annotations

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78
"""Bits reversed: the highest power is the lowest bit."""
ONES = 0xFFFFFFFF
PIECE = 1 << 20
"""Bytes that are joined at once, few enough to stay in a processor's cache."""
MASK = 0xA282EAD8


def masked(crc: int) -> int:
    """A checksum as it is stored beside what it is of, so that a checksum of both is no trivial number.

    >>> hex(masked(crc32c(memoryview(b"123456789"))))
    '0xc78ab0e5'
    """
    return ((crc >> 15 | crc << 17) + MASK) & ONES


def crc32c(data: memoryview) -> int:
    """The checksum of some bytes.

    >>> hex(crc32c(memoryview(b"123456789")))
    '0xe3069283'
    """
    data, register = data.cast("B"), ONES
    for begin in range(0, len(data), PIECE):
        piece = data[begin : begin + PIECE]
        register = _moved(register, 8 * len(piece)) ^ _moved(_joined(piece), 32)
    return register ^ ONES


def _joined(piece: memoryview) -> int:
    """V of all words of a piece; zeros in front change nothing."""
    lacking = -len(piece) % 4
    words = np.frombuffer(bytes(lacking) + bytes(piece) if lacking else piece, "<u4")
    level = 5
    while words.size > 1:
        if words.size % 2:
            words = np.concatenate([np.zeros(1, "<u4"), words])
        halves, (low, high) = words.view("<u2").reshape(-1, 4), _tables(level)
        words = low[halves[:, 0]] ^ high[halves[:, 1]] ^ words[1::2]
        level += 1
    return int(words[0]) if words.size else 0


@functools.cache
def _moves(level: int) -> tuple[int, ...]:
    """What becomes of each bit of a register when 2^level zero bits follow."""
    if level == 0:
        return (POLYNOMIAL, *(1 << bit for bit in range(31)))
    half = _moves(level - 1)
    return tuple(_mapped(half, image) for image in half)


def _mapped(images: tuple[int, ...], value: int) -> int:
    """A linear map, by its images of single bits."""
    found = 0
    while value:
        low = value & -value
        found ^= images[low.bit_length() - 1]
        value ^= low
    return found


def _moved(register: int, bits: int) -> int:
    """A register when so many zero bits follow."""
    for level in range(bits.bit_length()):
        if bits >> level & 1:
            register = _mapped(_moves(level), register)
    return register


@functools.cache
def _tables(level: int) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of a register's low and high half when 2^level zero bits follow."""
    images = _moves(level)
    tables = []
    for half in (images[:16], images[16:]):
        table = np.zeros(1, "<u4")
        for image in half:
            table = np.concatenate([table, table ^ np.uint32(image)])
        tables.append(table)
    return tables[0], tables[1]
