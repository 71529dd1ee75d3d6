"""PyTorch's .pth, zip and legacy -> {name: array}, without PyTorch and without running the pickle inside.

Plain state dicts and {"state_dict": ...}; the prefix `module.` of DataParallel is taken off.
"""

from __future__ import annotations

import collections
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.pickles import Restricted, Source
from stjax.errors import UsageError

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How a legacy file begins: a pickle of the number 0x1950a86a20f9469cfc6c."""

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    key: str
    dtype: Any
    numel: int


class _Tensor(NamedTuple):
    """A window on a storage whose bytes are found later."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array itself, once every number of it is seen to lie inside its storage."""
        flat = storages[self.storage.key].view(self.storage.dtype)
        numbers = [self.offset, *self.size, *self.stride]
        if len(self.size) != len(self.stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError(f"a tensor of shape {self.size} with strides {self.stride}")
        count = int(np.prod(self.size, dtype=object))
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        # A stride of 0 makes a large tensor of one number: more numbers than the storage holds are refused.
        if count > flat.size or (count and last >= flat.size):
            raise ValueError(f"a tensor of shape {self.size} in a storage of {flat.size} numbers")
        if not count:
            return np.empty(self.size, flat.dtype)
        strides = tuple(s * flat.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides, writeable=False)


def _rebuild(storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


class _Named(str):
    """The name of a storage class: enough, since no storage is ever built."""

    __slots__ = ()


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _Named(name) for name in STORAGES},
}


def _storage(pid: Any) -> _Storage:
    kind, name, key, _, numel = pid[:5]
    if kind != "storage" or not isinstance(name, _Named) or not isinstance(key, str) or not isinstance(numel, int):
        raise ValueError(f"a storage described as {pid!r}")
    return _Storage(key, np.dtype(STORAGES[name]), numel)


def _unpickle(source: Source) -> Any:
    return Restricted(source, _ADMITTED, "tensors", _storage).load()


def read_zip(path: Path, data: memoryview) -> Contents:
    """The form of PyTorch 1.6 and later: a zip of one pickle and one member a storage, none compressed."""
    storages: dict[str, np.ndarray] = {}
    program = None
    with zipfile.ZipFile(path) as archive:
        refuse_duplicates(archive.namelist(), "a zip")
        for member in archive.infolist():
            *_, folder, name = ["", *member.filename.split("/")]
            if name == "data.pkl" or folder == "data":
                content = _member(data, member)
                if name == "data.pkl":
                    program = content
                else:
                    storages[name] = np.frombuffer(content, np.uint8)
    if program is None:
        raise UsageError("a zip of weights must be one that PyTorch wrote: this one has no data.pkl")
    return Contents("PyTorch (zip)", _arrays(_unpickle(Source(program)), storages))


def _member(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise UsageError(f"a zip of weights must hold them as they are: {member.filename} is compressed or encrypted")
    header = data[member.header_offset : member.header_offset + 30]
    if bytes(header[:4]) != b"PK\x03\x04":
        raise ValueError(f"no header where {member.filename} should begin")
    # The lengths of name and extra field differ between the directory and the member itself.
    begin = (
        member.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    )
    content = data[begin : begin + member.file_size]
    if len(content) != member.file_size:
        raise ValueError(f"{member.filename} declares {member.file_size} bytes, {len(content)} are there")
    return content


def read_legacy(data: memoryview) -> Contents:
    """The form before PyTorch 1.6: three pickles of preliminaries, the object, the storages' keys, their bytes."""
    source = Source(data)
    _, version, _ = (_unpickle(source) for _ in range(3))
    if version != 1001:
        raise ValueError(f"protocol {version}")
    expected: dict[str, _Storage] = {}

    def storage(pid: Any) -> _Storage:
        if len(pid) > 5 and pid[5] is not None:
            raise UsageError("a .pth of weights must hold whole storages: this one has views; save it anew")
        return expected.setdefault(pid[2], _storage(pid))

    tree = Restricted(source, _ADMITTED, "tensors", storage).load()
    keys, at = _unpickle(source), source.at
    storages = {}
    for key in keys:
        count = int.from_bytes(data[at : at + 8], "little")
        size = count * expected[key].dtype.itemsize
        content = data[at + 8 : at + 8 + size]
        if len(content) != size:
            raise ValueError(f"a storage declares {size} bytes, {len(content)} are there")
        storages[key] = np.frombuffer(content, np.uint8)
        at += 8 + size
    return Contents("PyTorch (legacy)", _arrays(tree, storages))


def _arrays(tree: Any, storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    tensors = {str(k): v for k, v in tree.items() if isinstance(v, _Tensor)} if isinstance(tree, dict) else {}
    if not tensors:
        raise UsageError("a .pth of weights must hold a state dict, plain or as 'state_dict': this one does not")
    names = [name.removeprefix("module.") for name in tensors]
    refuse_duplicates(names, "a state dict")
    return {name: tensor.of(storages) for name, tensor in zip(names, tensors.values(), strict=True)}
