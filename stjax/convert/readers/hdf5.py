"""HDF5, as Keras and MATLAB 7.3 write it -> nested dicts and lists, by h5py in a process of its own.

The HDF5 library is C and was not written for damaged files: of 3,000, six kept it busy for ever (h5py 3.16). So a child
process reads, under a limit of time and memory, and leaves the arrays in a file that is safe to open.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stjax.convert.readers import whole
from stjax.convert.readers.limits import DEEPEST, LONGEST_TEXT, MOST_LETTERS, MOST_NODES, SPARE, SWELLING, size_of
from stjax.errors import UsageError

CHILD = Path(__file__).with_name("hdf5_child.py")
SECONDS = 8.0
BYTES_PER_SECOND = 20e6
"""A reader slower than this is taken to hang; the slowest disk and gzip manage more."""
MEMORY = 256 << 20
"""Bytes that the library may take beside twice the file: one array, and the same in its native order."""


def read(path: Path) -> Any:
    """The tree of an HDF5 file; see `hdf5_child` for its shape.

    Raises:
      UsageError: h5py is not installed, or the file is damaged, too large for itself, or refers to other files.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(
            "HDF5 files (.h5, .mat 7.3) are read by h5py, which is not installed: pip install 'stjax[convert]'"
        )
    size = path.stat().st_size
    patience = SECONDS + size / BYTES_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="stjax-") as folder:
        # -I: neither the working folder nor the environment can put another h5py in its place.
        command = [sys.executable, "-I", str(CHILD), str(path.resolve()), folder, json.dumps(limits(size))]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=patience, check=False, env=_environment()
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"an HDF5 file must be readable: reading it took more than {patience:.0f} s") from None
        if done.returncode:
            said = done.stderr[-4000:].strip().splitlines()
            reason = said[-1] if said else f"the HDF5 library ended with code {done.returncode}"
            raise UsageError(f"an HDF5 file must be whole: {reason}")
        return load(Path(folder))


def limits(size: int) -> dict[str, int]:
    """What a child may take for a file of so many bytes."""
    return {
        "swelling": SWELLING,
        "spare": SPARE,
        "nodes": MOST_NODES,
        "depth": DEEPEST,
        "letters": MOST_LETTERS,
        "text": LONGEST_TEXT,
        "memory": MEMORY + 2 * size,
        "seconds": int(SECONDS + size / BYTES_PER_SECOND) + 1,
    }


def _environment() -> dict[str, str]:
    """This process's own, with nothing in it by which a file could make the HDF5 library load a filter's code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HDF5_")}
    return kept | {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}


def load(folder: Path) -> Any:
    """The tree that a child left in a folder."""
    tree = json.loads((folder / "tree.json").read_text())
    file = folder / "arrays.bin"
    if not file.stat().st_size:
        return _filled(tree, memoryview(b""))
    with whole.opened(file) as arrays:
        return _filled(tree, whole.rest(arrays))


def _filled(tree: Any, data: memoryview) -> Any:
    """The tree with arrays in the place of their descriptions."""
    if isinstance(tree, list):
        return [_filled(value, data) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"#array"}:
        code, shape, begin = tree["#array"]
        dtype = np.dtype(code)
        count = size_of(shape)
        return np.frombuffer(data, dtype, count, begin).reshape(shape) if count else np.empty(shape, dtype)
    return {name: _filled(value, data) for name, value in tree.items()}
