"""The array file of a result: plain NPZ, with a checksum, and never larger in memory than on the disk."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stjax.files import MARK, checksum, replacing


class Damaged(ValueError):
    """The file is not what was written. Its text says in a few words what is wrong."""


def save(path: Path, arrays: Mapping[str, Any]) -> str:
    """Writes arrays, on the disk before the file gets its name; their sha256, of all bytes of the file.

    Args:
      path: of the file, whole or as it was before.
      arrays: name -> array.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> digest = save(path, {"motion": np.ones(3, np.float32)})
    >>> load(path, digest)["motion"]
    array([1., 1., 1.], dtype=float32)
    """
    with replacing(path, durable=True) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        with zipfile.ZipFile(temporary, "a") as file:
            file.comment = MARK.encode()
        digest = checksum(temporary)
    return digest


def load(path: Path, digest: str | None = None, *, only: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file, at a cost in proportion to its size.

    Args:
      path: of the file.
      digest: its sha256, from its record; None where the record has none.
      only: names of those to read; None for all.
    Raises:
      Damaged: it is another file than was written, or none that `save` could have written: packed, or with objects.
      FileNotFoundError: there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        if digest is not None and checksum(path) != digest:
            raise Damaged("its checksum is not that of its record")
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            # A few bytes can unpack to gigabytes, and members may lie over one another; ours do neither.
            if any(member.compress_type for member in members) or _size(members) > path.stat().st_size:
                raise Damaged("it is packed, which stjax never does")
            names = {member.filename.removesuffix(".npy"): member for member in members}
            return {name: _read(file, member) for name, member in names.items() if only is None or name in only}
    except Damaged:
        raise
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None
    # A damaged file can make its reader say anything.
    except Exception as error:
        raise Damaged(str(error).partition("\n")[0] or type(error).__name__) from None


def _size(members: list[zipfile.ZipInfo]) -> int:
    return sum(member.file_size for member in members)


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with file.open(member) as stream:
        npy.read_magic(stream)
        shape, _, dtype = npy.read_array_header_1_0(stream)
        # Before NumPy makes room for what the header promises.
        if dtype.kind != "f" or stream.tell() + dtype.itemsize * math.prod(shape) != member.file_size:
            raise Damaged(f"{member.filename} is not as many numbers as it says")
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)
