"""PyTorch's .pth, zip and legacy -> {name: array}, without PyTorch and without running the pickle inside.

Plain state dicts and {"state_dict": ...}; the prefix `module.` of DataParallel is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from stjax.convert.readers import zips
from stjax.convert.readers.contents import Contents, listed, refuse_duplicates
from stjax.convert.readers.limits import MOST_AXES, size_of
from stjax.convert.readers.machine import Admitted, Machine, name_of, ordered
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


LITTLE, BIG = "little", "big"


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
        flat = storages[self.storage.key]
        count = size_of(self.size)
        if len(self.size) != len(self.stride) or self.offset < 0 or any(n < 0 for n in self.stride):
            raise ValueError(f"a tensor of shape {self.size} with strides {self.stride}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        # A stride of 0 makes a large tensor of one number: more numbers than the storage holds are refused.
        if count > flat.size or (count and last >= flat.size):
            raise ValueError(f"a tensor of shape {self.size} in a storage of {flat.size} numbers")
        if not count:
            return np.empty(self.size, flat.dtype)
        strides = tuple(s * flat.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides, writeable=False)


def _rebuild(machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    for numbers in (size, stride):
        if not isinstance(numbers, tuple | list) or len(numbers) > MOST_AXES:
            raise ValueError("a tensor of more axes than any has")
    if not all(isinstance(n, int) for n in (offset, *size, *stride)):
        raise ValueError("a tensor whose shape is no row of integers")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


_ADMITTED = {
    ("collections", "OrderedDict"): Admitted("OrderedDict", ordered),
    ("torch._utils", "_rebuild_tensor_v2"): Admitted("_rebuild_tensor_v2", _rebuild),
    ("torch._utils", "_rebuild_tensor"): Admitted("_rebuild_tensor", _rebuild),
    ("torch._utils", "_rebuild_parameter"): Admitted("_rebuild_parameter", lambda machine, tensor, *_: tensor),
    **{("torch", name): Admitted(name) for name in STORAGES},
}


def _storage(pid: Any) -> _Storage:
    if not isinstance(pid, tuple):
        raise ValueError("a storage that is not described")
    kind, name, key, _, numel = pid[:5]
    if not isinstance(name, Admitted) or name.name not in STORAGES or name_of(kind) != "storage":
        raise ValueError("a storage that is described in another way than PyTorch does")
    if not isinstance(numel, int) or not 0 <= numel < 1 << 63:
        raise ValueError("a storage of a size that no file can have")
    return _Storage(name_of(key), np.dtype(STORAGES[name.name]), numel)


def read_zip(data: memoryview) -> Contents:
    """The form of PyTorch 1.6 and later: a zip of one pickle and one member a storage, none compressed."""
    members = zips.members(data)
    programs = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(programs) != 1:
        what = f"has {listed(programs)}" if programs else "has no data.pkl"
        raise UsageError(f"a zip of weights must be one that PyTorch wrote, with one data.pkl: this one {what}")
    folder = programs[0].removesuffix("data.pkl")
    strangers = [name for name in members if not name.startswith(folder)]
    if strangers:
        raise UsageError(f"a zip of weights must hold one folder: beside {folder} lies {listed(strangers)}")
    # What PyTorch writes since 2.1; before, all files were little-endian.
    order = bytes(members.get(f"{folder}byteorder", b"little")[:16]).decode()
    if order not in (LITTLE, BIG):
        raise ValueError(f"the byte order {order}")
    expected: dict[str, _Storage] = {}
    tree = Machine(members[programs[0]], _ADMITTED, "tensors").run(_collected(expected))
    storages = {key: _numbers(members[f"{folder}data/{key}"], storage, order) for key, storage in expected.items()}
    return Contents("PyTorch (zip)", _arrays(tree, storages))


def _collected(expected: dict[str, _Storage]) -> Callable[[Any], _Storage]:
    """A resolver of persistent ids that keeps what they describe: one key, one storage."""

    def storage(pid: Any) -> _Storage:
        if isinstance(pid, tuple) and len(pid) > 5 and pid[5] is not None:
            raise UsageError("a .pth of weights must hold whole storages: this one has views; save it anew")
        found = _storage(pid)
        if expected.setdefault(found.key, found) != found:
            raise ValueError(f"two descriptions of the storage {found.key}")
        return found

    return storage


def _numbers(content: memoryview, storage: _Storage, order: str) -> np.ndarray:
    """The numbers of a storage, which must be as many as the pickle says."""
    if len(content) != storage.numel * storage.dtype.itemsize:
        raise ValueError(f"the storage {storage.key} of {storage.numel} numbers has {len(content)} bytes")
    if order == BIG and storage.dtype.itemsize > 1:
        # By way of integers, because bfloat16 knows no order.
        size = storage.dtype.itemsize
        return np.frombuffer(content, f">u{size}").astype(f"<u{size}").view(storage.dtype)
    return np.frombuffer(content, storage.dtype)


def read_legacy(data: memoryview) -> Contents:
    """The form before PyTorch 1.6: three pickles of preliminaries, the object, the storages' keys, their bytes."""
    machine = Machine(data, _ADMITTED, "tensors")
    _, version, system = (machine.run() for _ in range(3))
    if version != 1001:
        raise ValueError("another protocol than 1001")
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UsageError("a .pth of before PyTorch 1.6 must be little-endian: this one says it is not; save it anew")
    expected: dict[str, _Storage] = {}
    tree, keys = machine.run(_collected(expected)), machine.run()
    if not isinstance(keys, list) or len(keys) != len(expected):
        raise ValueError("another list of storages than the tensors need")
    storages, at = {}, machine.at
    for key in map(name_of, keys):
        count = int.from_bytes(data[at : at + 8], "little")
        size = count * expected[key].dtype.itemsize
        if at + 8 + size > len(data):
            raise ValueError(f"a storage declares {size} bytes, {max(len(data) - at - 8, 0)} are there")
        storages[key] = _numbers(data[at + 8 : at + 8 + size], expected[key], LITTLE)
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
