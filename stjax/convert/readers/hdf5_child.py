"""Reads one HDF5 file in a process of its own; see `hdf5`. Imports nothing of stjax, so that it starts at once.

    python hdf5_child.py FILE FOLDER LIMITS

LIMITS is JSON, from `hdf5.limits`. Groups become dicts, text becomes strings, MATLAB's cells and fields of struct
arrays lists, floating-point data sets {"#array": [type, shape, begin]}; attributes of a group, if they are text, stand
under "#attributes". Writes tree.json, and arrays.bin, which holds every array in its native order from its `begin` on.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5l, h5o  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without stubs)

ROOTS = ("net", "layers", "params", "meta", "vars")
"""Of a MATLAB file, what MatConvNet writes; anything beside it is left alone."""


class Reader:
    """Walks one file, and keeps count of what it was asked to read."""

    def __init__(self, file: h5py.File, out: BinaryIO, size: int, limits: dict[str, int]) -> None:
        self.file, self.out, self.limits = file, out, limits
        self.left = limits["swelling"] * size + limits["spare"]
        self.nodes = limits["nodes"]

    def tree(self, node: Any, depth: int = 0) -> Any:
        """One node and all below it."""
        self.spend()
        if depth > self.limits["depth"]:
            raise ValueError(f"groups within groups, more than {self.limits['depth']} deep")
        if isinstance(node, h5py.Dataset):
            return self._data(node, depth)
        if not isinstance(node, h5py.Group):
            return None
        found: dict[str, Any] = {}
        for name in map(str, node):
            # Before it is opened: a layer's name stands before each of its weights.
            self.spend()
            if len(name) > self.limits["letters"]:
                raise ValueError(f"a name of {len(name)} letters")
            if name == "#refs#" or (depth == 0 and self._matlab() and name not in ROOTS):
                continue
            found[name] = self.tree(self.follow(node, name), depth + 1)
        return found | {"#attributes": self._attributes(node)}

    def spend(self, count: int = 1) -> None:
        """Of the nodes that a file may have."""
        self.nodes -= count
        if self.nodes < 0:
            raise ValueError(f"more than {self.limits['nodes']} nodes")

    def read(self, size: int) -> None:
        """Of the bytes that a file may stand for."""
        self.left -= size
        if self.left < 0:
            raise ValueError(f"{size} bytes more than a file of its size has")

    def follow(self, group: h5py.Group, path: str, links: int = 0) -> Any:
        """What a path leads to, step by step: the library would follow any link on the way into any other file."""
        if links > self.limits["depth"]:
            raise ValueError(f"links that lead to links, more than {self.limits['depth']} of them")
        node: Any = self.file["/"] if path.startswith("/") else group
        for step in path.split("/"):
            if step in ("", "."):
                continue
            if not isinstance(node, h5py.Group):
                raise ValueError(f"{step[:80]} in what is no group")
            own, coded = node.id, step.encode("utf-8", "surrogateescape")
            link = own.links.get_info(coded)
            if link.type == h5l.TYPE_HARD:
                node = _opened(h5o.open(own, coded))
            elif link.type == h5l.TYPE_SOFT:
                self.spend()
                target = own.links.get_val(coded).decode("utf-8", "surrogateescape")
                node = self.follow(node, target, links + 1)
            else:
                raise ValueError(f"{step[:80]} lies in another file")
        return node

    def _matlab(self) -> bool:
        return self.file.userblock_size > 0

    def _attributes(self, group: h5py.Group) -> dict[str, Any]:
        found = {}
        for name in group.attrs:
            self.spend()
            attribute: Any = group.attrs.get_id(name)
            if attribute.dtype.kind not in "SO":
                continue
            self.read(len(name) + attribute.get_storage_size())
            value = _text(group.attrs[name])
            if isinstance(value, list):
                self.spend(len(value))
            if value is not None:
                self.read(len(value) if isinstance(value, str) else sum(map(len, value)))
                found[name] = value
        return found

    def _data(self, data: h5py.Dataset, depth: int) -> Any:
        kind = data.attrs.get("MATLAB_class", b"")
        if data.is_virtual or data.external:
            raise ValueError(f"{str(data.name)[:80]} lies in another file")
        if kind == b"function_handle" or "MATLAB_empty" in data.attrs or data.shape is None:
            return None
        count = math.prod(data.shape)  # h5py's own is of 64 bits, and wraps round
        if data.dtype == h5py.ref_dtype:
            self.spend(count)
            # Axes are reversed in the file, so that flat C order is MATLAB's own.
            return [self.tree(self.file[ref], depth + 1) for ref in data[()].ravel() if ref]
        if kind == b"char":
            if count > self.limits["text"] or data.dtype.kind not in "iu":
                return None
            self.read(count)
            return "".join(map(chr, data[()].ravel().astype(int)))
        if data.dtype.kind != "f" and not (data.dtype.kind in "iu" and kind):
            return None
        return self._array(data, count * data.dtype.itemsize)

    def _array(self, data: h5py.Dataset, size: int) -> Any:
        # The library holds a whole chunk, whatever part of it is data.
        chunk = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
        if max(size, chunk) > self.left:
            raise ValueError(f"{str(data.name)[:80]} declares {max(size, chunk)} bytes, far more than the file has")
        self.read(size)
        begin = self.out.tell()
        array = data[()]
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        self.out.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
        return {"#array": [array.dtype.str, list(data.shape), begin]}


def _opened(identifier: Any) -> Any:
    """An object as h5py's own classes have it; None for a named type."""
    if isinstance(identifier, h5py.h5g.GroupID):
        return h5py.Group(identifier)
    return h5py.Dataset(identifier) if isinstance(identifier, h5py.h5d.DatasetID) else None


def _text(value: Any) -> Any:
    """An attribute that is text, or a list of texts; None for anything else."""
    if isinstance(value, bytes | str):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        texts = [v for v in value.ravel() if isinstance(v, bytes | str)]
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in texts]
    return None


def limit(memory: int, disk: int, seconds: int) -> None:
    """Caps what this process may take from now on, where the system can."""
    try:
        import resource
    except ImportError:
        return
    try:
        # What the libraries have reserved on this machine already, and never use: more with more processors.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory += pages * resource.getpagesize()
    except OSError:
        memory += 1 << 32
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    # Whoever started this process may be gone when it hangs.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Reads, writes, and on failure says why in one line."""
    path, folder, limits = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    try:
        size = path.stat().st_size
        disk = 2 * (limits["swelling"] * size + limits["spare"])
        limit(limits["memory"], disk, limits["seconds"])
        with h5py.File(path, "r") as file, open(folder / "arrays.bin", "wb") as out:
            tree = Reader(file, out, size, limits).tree(file)
        (folder / "tree.json").write_text(json.dumps(tree))
    except Exception as error:
        # Of a damaged file, anything may come.
        sys.exit(" ".join(str(error)[:1000].split()) or type(error).__name__)


if __name__ == "__main__":
    main()
