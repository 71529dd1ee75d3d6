"""The files that ship with stjax."""

from __future__ import annotations

from pathlib import Path

from stjax.errors import UsageError


def shipped(name: str) -> Path:
    """A file of `weights/`: beside the package in a checkout, inside it once installed.

    Raises:
      UsageError: this installation lacks it.
    """
    if (path := find(name)) is None:
        raise UsageError(f"the file weights/{name} must be part of the installation: it is not; reinstall stjax")
    return path


def find(name: str) -> Path | None:
    """The same, or None where it is not."""
    package = Path(__file__).parents[1]
    paths = (folder / name for folder in (package / "weights", package.parent / "weights"))
    return next((path for path in paths if path.is_file()), None)
