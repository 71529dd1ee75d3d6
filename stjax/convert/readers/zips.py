"""The members of a zip that PyTorch wrote: stored as they are, one after another, each seen to match its checksum.

Python's zipfile trusts the directory at the end; here directory and members must say the same, no two members may
share bytes or a name, and what a checksum contradicts is refused.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import NamedTuple

from stjax.convert.readers.contents import listed, refuse_duplicates
from stjax.convert.readers.limits import MOST_ARRAYS, MOST_LETTERS_TOGETHER, Budget
from stjax.errors import UsageError

END, END64, ENTRY, MEMBER = b"PK\5\6", b"PK\6\6", b"PK\1\2", b"PK\3\4"
LONGEST_COMMENT = 1 << 16
WIDE, FULL = 0xFFFFFFFF, 0xFFFF
"""What stands where a number needs 64 bits, which then lie in an extra field, or in a second end record."""


class _Member(NamedTuple):
    name: str
    content: memoryview
    crc: int
    begin: int
    end: int


def members(data: memoryview) -> dict[str, memoryview]:
    """Name -> content of every member, where it lies.

    Raises:
      UsageError: a member is compressed or encrypted, shares its name or bytes with another, or fails its checksum.
      ValueError: the directory contradicts itself or the members.
    """
    found = _directory(data)
    refuse_duplicates([member.name for member in found], "a zip")
    in_order = sorted(found, key=lambda member: member.begin)
    for one, other in itertools.pairwise(in_order):
        if other.begin < one.end:
            raise UsageError(f"members of a zip must lie apart: {listed([one.name, other.name])} share bytes")
    # torch.serialization.set_crc32_options(False) writes 0 for every checksum: then there is none to contradict.
    if any(member.crc for member in found):
        wrong = [member.name for member in found if zlib.crc32(member.content) != member.crc]
        if wrong:
            raise UsageError(f"members of a zip must match their checksums: damaged: {listed(wrong)}")
    return {member.name: member.content for member in found}


def _directory(data: memoryview) -> list[_Member]:
    tail = bytes(data[-(LONGEST_COMMENT + 22) :])
    at = len(data) - len(tail) + tail.rfind(END)
    if END not in tail:
        raise ValueError("a zip without its end")
    count, size, begin = struct.unpack_from("<10xHII", data, at)
    if count == FULL or WIDE in (size, begin):
        # A locator before the end says where the end record of 64 bits is.
        (where,) = struct.unpack_from("<8xQ", data, at - 20)
        if bytes(data[where : where + 4]) != END64:
            raise ValueError("a zip without its second end record")
        count, size, begin = struct.unpack_from("<32xQQQ", data, where)
    if count > MOST_ARRAYS or begin + size > len(data):
        raise ValueError(f"a directory of {count} members and {size} bytes at {begin}")
    found, letters, at = [], Budget(MOST_LETTERS_TOGETHER, "letters of names"), begin
    for _ in range(count):
        member, at = _entry(data, at)
        letters.spend(len(member.name))
        found.append(member)
    if at != begin + size:
        raise ValueError("a directory of another length than it declares")
    return found


def _entry(data: memoryview, at: int) -> tuple[_Member, int]:
    """A member by its entry of the directory, and where the next entry is."""
    sign, flags, method, crc, packed, size, name, extra, comment, begin = struct.unpack_from(
        "<4s4xHH4xIIIHHH8xI", data, at
    )
    if sign != ENTRY:
        raise ValueError("an entry of the directory that is none")
    after = at + 46 + name
    title = bytes(data[at + 46 : after])
    size, packed, begin = _widened(data[after : after + extra], [size, packed, begin])
    shown = title.decode("utf-8" if flags & 0x800 else "cp437")
    if method or flags & 1:
        raise UsageError(f"a zip of weights must hold them as they are: {listed([shown])} is compressed or encrypted")
    own, own_name, own_extra = struct.unpack_from("<4s22xHH", data, begin)
    # The length of the extra field differs between the directory and the member itself: PyTorch pads there.
    content = begin + 30 + own_name + own_extra
    if own != MEMBER or bytes(data[begin + 30 : begin + 30 + own_name]) != title:
        raise ValueError(f"no header where {listed([shown])} should begin")
    if packed != size or content + size > len(data):
        raise ValueError(f"{listed([shown])} declares {size} bytes, {max(len(data) - content, 0)} are there")
    return _Member(shown, data[content : content + size], crc, begin, content + size), after + extra + comment


def _widened(extra: memoryview, numbers: list[int]) -> list[int]:
    """Sizes and place, each that needs 64 bits taken from the extra field number 1, in this order."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{size // 8}Q", extra, 4))
            return [next(wide, n) if n == WIDE else n for n in numbers]
        extra = extra[4 + size :]
    return numbers
