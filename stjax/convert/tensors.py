"""Safetensors files of our own: written a slab at a time, read with every claim of the header checked first.

A file is 8 bytes that give the header's length, the header in JSON (name -> dtype, shape, place), and the numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stjax.errors import UsageError
from stjax.files import replacing
from stjax.networks.configuration import Malformed

TYPES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
"""What safetensors calls them."""
SLAB = 64 << 20
"""Bytes of a tensor that are written at once."""
ALIGNMENT = 64
"""Bytes; XLA's own on a CPU."""
HEADER = 4 << 20
"""Bytes that a header may take, ours takes 8 to 100 KB: JSON of 4 MiB becomes 100 MB of Python objects at worst."""
AXES = 8


class Tensor(NamedTuple):
    """Type, shape and place of one array, in bytes from the first byte behind the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Opened(NamedTuple):
    """A file whose header has been read, and found true to its size."""

    file: BufferedReader
    data: int
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """One array after another; not mapped, since what is cut from a mapped file kills the process that reads it.

        The largest first: whoever copies each as it comes then never holds all of them and one of the large twice.
        """
        for name, tensor in sorted(self.tensors.items(), key=lambda item: item[1].begin - item[1].end):
            self.file.seek(self.data + tensor.begin)
            held = _aligned(tensor.end - tensor.begin)
            if self.file.readinto(held.data) != held.size:
                raise Malformed(f"it was cut while it was read, at {name}")
            yield name, held.view(tensor.dtype).reshape(tensor.shape)

    def checksum(self) -> str:
        """sha256 of the file as it is open, whatever has its name by now."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()


def _aligned(size: int) -> np.ndarray:
    """Bytes that JAX on a CPU uses where they lie; from another address it copies them."""
    held = np.empty(size + ALIGNMENT, np.uint8)
    begin = -held.ctypes.data % ALIGNMENT
    return held[begin : begin + size]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A file of ours, to be read within the block.

    Raises:
      UsageError: it is absent, cut, something else, or changes while it is read. A `Malformed` that the block raises
        becomes one as well.
    """
    try:
        if not path.is_file():
            raise Malformed("there is no such file")
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            header, begin = _header(file, before.st_size)
            metadata = _metadata(header)
            yield Opened(file, begin, metadata, _tensors(header, before.st_size - begin))
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Malformed("it was changed while it was read")
    except Malformed as fault:
        raise UsageError(f"a weights file must be a whole safetensors file of stjax: {path}: {fault}") from None
    except OSError as error:
        raise UsageError(f"a weights file must be readable: {path}: {error.strerror or error}") from None


def metadata_of(path: Path) -> dict[str, str]:
    """What a file says of itself, {} if it says nothing or is no safetensors file. Its numbers may be cut off."""
    try:
        with open(path, "rb") as file:
            return _metadata(_header(file, os.fstat(file.fileno()).st_size)[0])
    except (OSError, Malformed):
        return {}


def _header(file: BufferedReader, total: int) -> tuple[dict[str, Any], int]:
    """The header, and where it ends."""
    size = int.from_bytes(file.read(8), "little")
    if total < 8 or not 2 <= size <= min(HEADER, total - 8):
        raise Malformed(f"it is cut or has no header of up to {HEADER >> 20} MiB ({total:,} bytes in all)")
    return parsed(file.read(size)), 8 + size


def parsed(text: str | bytes) -> dict[str, Any]:
    """A JSON object in which every name comes once.

    >>> parsed('{"a": [1]}')
    {'a': [1]}
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its header is no JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise Malformed("its header is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise Malformed("its header has one name twice")
    return named


def _metadata(header: Mapping[str, Any]) -> dict[str, str]:
    own = header.get("__metadata__", {})
    if not isinstance(own, dict) or not all(isinstance(value, str) for value in own.values()):
        raise Malformed("its metadata are not texts")
    return own


def _tensors(header: Mapping[str, Any], held: int) -> dict[str, Tensor]:
    """The arrays that a header declares, which must fill the bytes behind it, neither apart nor one over another."""
    types = {name: dtype for dtype, name in TYPES.items()}
    tensors: dict[str, Tensor] = {}
    for name, declared in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(declared, dict) or declared.keys() != {"dtype", "shape", "data_offsets"}:
            raise Malformed(f"{name[:80]} needs dtype, shape and data_offsets")
        dtype = declared["dtype"]
        if not isinstance(dtype, str) or dtype not in types:
            raise Malformed(f"{name[:80]} must be one of {', '.join(types)}")
        shape, offsets = (_wholes(declared[key]) for key in ("shape", "data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2 or len(shape) > AXES:
            raise Malformed(f"{name[:80]} must have a shape of up to {AXES} whole numbers, and a begin and an end")
        tensors[name] = Tensor(types[dtype], shape, *offsets)
        if tensors[name].end - tensors[name].begin != math.prod(shape) * types[dtype].itemsize:
            raise Malformed(f"{name[:80]} has another number of bytes than its shape")
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.begin != end:
            raise Malformed(f"{name[:80]} does not begin where the one before ends")
        end = tensor.end
    if end != held:
        raise Malformed(f"its header asks for {end:,} bytes of numbers: there are {held:,}")
    return tensors


def _wholes(value: Any) -> tuple[int, ...] | None:
    """Whole numbers from 0 to 2^53; None if it is something else."""
    if not isinstance(value, list) or len(value) > AXES:
        return None
    return tuple(value) if all(type(n) is int and 0 <= n < 1 << 53 for n in value) else None


def refuse_foreign(path: Path, kind: Sequence[str]) -> None:
    """A name to write to is free, or that of an earlier file of the same kind; nothing else is ever replaced.

    Args:
      path: where to write.
      kind: names of which the metadata of such a file have one; a newer version may write more of them.
    Raises:
      UsageError: there is a link, a folder, or somebody else's file.
    """
    if not os.path.lexists(path):
        return
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        found = "a link, which is never followed to write"
    elif not stat.S_ISREG(mode):
        found = "no file"
    elif metadata_of(path).keys() & set(kind):
        return
    else:
        found = "not one that stjax wrote"
    raise UsageError(
        f"the file to write must be new, or an earlier one of stjax's own: {path} is {found}; "
        f"nearest: {path.with_name(f'{path.stem}-2{path.suffix}')}"
    )


def write(
    path: Path,
    tensors: Mapping[str, tuple[Any, np.dtype]],
    metadata: Mapping[str, str],
    kind: Sequence[str] | None = None,
) -> None:
    """A file that is whole or absent: arrays, each with the type to store it in.

    The safetensors package wants every array at once, contiguous and in its final type: a second copy of all weights.
    Here each is made when its turn comes. Wide types come first, so that all are aligned.

    Args:
      path: where to write.
      tensors: name -> array, and the type to store it in.
      metadata: name -> text.
      kind: names of its metadata by which an earlier file of the same kind is known; all of them if None.
    Raises:
      UsageError: a number is too large for float16, or the name is taken by something else.
    """
    refuse_foreign(path, tuple(metadata) if kind is None else kind)
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        array, dtype = tensors[name]
        begin, end = end, end + math.prod(array.shape) * dtype.itemsize
        header[name] = {"dtype": TYPES[dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array, dtype = tensors[name]
            for slab in _slabs(np.asarray(array)):
                with np.errstate(over="ignore"):
                    values = np.ascontiguousarray(slab, dtype)
                if dtype == np.float16 and not finite(values):
                    raise UsageError(f"float16 holds numbers up to 65504: {name} has larger ones; keep float32")
                file.write(values.data if values.size else b"")


def _slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in pieces along its first axes: what a source holds in another order is copied a piece at a time."""
    if array.nbytes <= SLAB or array.ndim < 2:
        yield array
    else:
        for part in array:
            yield from _slabs(part)


def finite(array: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    # The extremes are NaN where any value is, and need no second array of the weights' size.
    return not array.size or bool(np.isfinite([array.min(), array.max()]).all())
