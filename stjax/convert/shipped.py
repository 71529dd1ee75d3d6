"""The files that ship with stjax."""

from __future__ import annotations

from pathlib import Path

from stjax.errors import UsageError


def shipped(name: str) -> Path:
    """A file of `weights/`: beside the package in a checkout, inside it once installed.

    Raises:
      UsageError: this installation lacks it.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"the file weights/{name} must be part of the installation: it is not; reinstall stjax")
