"""Where a training run stands, in one file that is whole or absent; refused if it belongs to other settings."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stjax import files
from stjax.errors import UsageError
from stjax.files import replacing

FILE = "training.npz"


def prepare_folder(folder: Path) -> None:
    """Makes a folder and tries it out, before hours are spent.

    Raises:
      UsageError: it cannot be written.
    """
    try:
        files.make_folder(folder)
    except OSError as error:
        raise UsageError(f"a folder to train into must be writable: {folder}: {error.strerror}") from None


def save(folder: Path, state: Any, settings: Mapping[str, Any]) -> None:
    """Writes a state (any tree of arrays) with its settings, under a temporary name first."""
    leaves: dict[str, Any] = {
        jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(state)
    }
    try:
        with replacing(folder / FILE, durable=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, **leaves, settings=np.asarray(json.dumps(settings, sort_keys=True)))
    except OSError as error:
        raise UsageError(f"a folder to train into must be writable: {folder}: {error.strerror}") from None


def load(folder: Path, like: Any, settings: Mapping[str, Any]) -> Any | None:
    """The state that a folder holds, None if it holds none.

    Args:
      like: a tree of the same structure, whose arrays may be shapes.
      settings: those asked for now.
    Raises:
      UsageError: the state belongs to other settings, or the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kept = json.loads(str(arrays.pop("settings")))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} must be a state of training: it is damaged or something else ({error})") from None
    changed = differences(kept, json.loads(json.dumps(settings)))
    if changed:
        raise UsageError(f"a run must resume with its own settings: {folder} has {'; '.join(changed)}")
    paths, structure = jax.tree.flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    if set(names) != set(arrays):
        raise UsageError(f"{path} must be a state of this network: {len(set(names) ^ set(arrays))} arrays differ")
    return jax.tree.unflatten(structure, [jax.numpy.asarray(arrays[name]) for name in names])


def differences(kept: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two trees of settings, in words.

    >>> differences({"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0})
    ['rate 0.1, asked for 0.2']
    """
    if isinstance(kept, dict) and isinstance(wanted, dict):
        names = sorted(kept.keys() | wanted.keys())
        return [d for n in names for d in differences(kept.get(n), wanted.get(n), f"{name}.{n}" if name else n)]
    return [] if kept == wanted else [f"{name} {kept}, asked for {wanted}"]
