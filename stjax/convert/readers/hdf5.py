"""HDF5, as Keras and MATLAB 7.3 write it -> nested dicts and lists, by h5py in a process of its own.

The HDF5 library is C and was not written for damaged files: of 3,000, six kept it busy for ever (h5py 3.16). So a child
process reads, under a limit of time and memory, and leaves the arrays in a file that is safe to open.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.numpy

from stjax.errors import UsageError

CHILD = Path(__file__).with_name("hdf5_child.py")
SECONDS = 8.0
BYTES_PER_SECOND = 20e6
"""A reader slower than this is taken to hang; the slowest disk and gzip manage more."""


def read(path: Path) -> Any:
    """The tree of an HDF5 file; see `hdf5_child` for its shape.

    Raises:
      UsageError: h5py is not installed, or the file is damaged, too large for itself, or refers to other files.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(
            "HDF5 files (.h5, .mat 7.3) are read by h5py, which is not installed: pip install 'stjax[convert]'"
        )
    patience = SECONDS + path.stat().st_size / BYTES_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="stjax-") as folder:
        # -I: neither the working folder nor the environment can put another h5py in its place.
        command = [sys.executable, "-I", str(CHILD), str(path.resolve()), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(f"an HDF5 file must be readable: reading it took more than {patience:.0f} s") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()
            reason = said[-1] if said else f"the HDF5 library ended with code {done.returncode}"
            raise UsageError(f"an HDF5 file must be whole: {reason}")
        return load(Path(folder))


def load(folder: Path) -> Any:
    """The tree that a child left in a folder."""
    tree = json.loads((folder / "tree.json").read_text())
    return _filled(tree, safetensors.numpy.load_file(folder / "arrays.safetensors"))


def _filled(tree: Any, arrays: dict[str, Any]) -> Any:
    """The tree with arrays in the place of their numbers."""
    if isinstance(tree, list):
        return [_filled(value, arrays) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"#array"}:
        return arrays[tree["#array"]]
    return {name: _filled(value, arrays) for name, value in tree.items()}
