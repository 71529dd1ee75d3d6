"""Reads one HDF5 file in a process of its own; see `hdf5`. Imports nothing of stjax, so that it starts at once.

    python hdf5_child.py FILE FOLDER

Groups become dicts, text becomes strings, floating-point data sets {"#array": number}, MATLAB's cells and fields of
struct arrays lists; attributes of a group, if they are text, stand under "#attributes". Writes tree.json and
arrays.safetensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy

SWELLING = 64
"""How many times larger than the file all its data may be; weights shrink by a tenth."""
SPARE = 1 << 20
MOST_NODES = 100_000
DEEPEST = 32
MEMORY = 1 << 30
"""Beside the data themselves."""
ROOTS = ("net", "layers", "params", "meta", "vars")
"""Of a MATLAB file, what MatConvNet writes; anything beside it is left alone."""


class Reader:
    """Walks one file, and keeps count of what it was asked to read."""

    def __init__(self, file: h5py.File, size: int) -> None:
        self.file, self.left = file, SWELLING * size + SPARE
        self.nodes = MOST_NODES
        self.arrays: dict[str, np.ndarray] = {}

    def tree(self, node: Any, depth: int = 0) -> Any:
        """One node and all below it."""
        self.nodes -= 1
        if depth > DEEPEST or self.nodes < 0:
            raise ValueError("more nodes than a network has")
        if isinstance(node, h5py.Dataset):
            return self._data(node, depth)
        if not isinstance(node, h5py.Group):
            return None
        found: dict[str, Any] = {}
        for name in map(str, node):
            if name == "#refs#" or (depth == 0 and self._matlab() and name not in ROOTS):
                continue
            if isinstance(node.get(name, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{name} lies in another file")
            found[name] = self.tree(node[name], depth + 1)
        attributes = {name: _text(value) for name, value in node.attrs.items()}
        return found | {"#attributes": {name: value for name, value in attributes.items() if value is not None}}

    def _matlab(self) -> bool:
        return self.file.userblock_size > 0

    def _data(self, data: h5py.Dataset, depth: int) -> Any:
        kind = data.attrs.get("MATLAB_class", b"")
        if data.is_virtual or data.external:
            raise ValueError(f"{data.name} lies in another file")
        if kind == b"function_handle" or "MATLAB_empty" in data.attrs:
            return None
        size = data.size * data.dtype.itemsize
        if size > self.left:
            raise ValueError(f"{data.name} declares {size} bytes, far more than the file has")
        self.left -= size
        if data.dtype == h5py.ref_dtype:
            # Axes are reversed in the file, so that flat C order is MATLAB's own.
            return [self.tree(self.file[ref], depth + 1) for ref in data[()].ravel() if ref]
        if kind == b"char":
            return "".join(map(chr, data[()].ravel().astype(int)))
        if data.dtype.kind != "f" and not (data.dtype.kind in "iu" and kind):
            return None
        name = str(len(self.arrays))
        self.arrays[name] = data[()]
        return {"#array": name}


def _text(value: Any) -> Any:
    """An attribute that is text, or a list of texts; None for anything else."""
    if isinstance(value, bytes | str):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in value.ravel()]
    return None


def limit(size: int) -> None:
    """Caps the memory of this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    most = MEMORY + 4 * size
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Reads, writes, and on failure says why in one line."""
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        size = path.stat().st_size
        limit(size)
        with h5py.File(path, "r") as file:
            reader = Reader(file, size)
            tree = reader.tree(file)
        # Native byte order, C layout: what safetensors holds.
        arrays = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("=")) for name, a in reader.arrays.items()}
        safetensors.numpy.save_file(arrays, folder / "arrays.safetensors")
        (folder / "tree.json").write_text(json.dumps(tree))
    except Exception as error:
        # Of a damaged file, anything may come.
        sys.exit(" ".join(str(error).split()) or type(error).__name__)


if __name__ == "__main__":
    main()
