"""A results folder: held by one run at a time, and shared with whatever else is in it and not in the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stjax import figures, files
from stjax.atlas import results
from stjax.atlas.hosts import ALONE, Place
from stjax.atlas.plan import Job
from stjax.errors import UsageError
from stjax.figures.records import bare, picture_paths

try:
    import fcntl
except ImportError:  # Windows: there a folder is not held.
    fcntl = None


def prepare(directory: Path) -> None:
    """Makes the output folder and shows that it can be written to.

    Raises:
      UsageError: it cannot.
    """
    try:
        files.prepare(directory)
    except OSError as error:
        raise UsageError(
            f"the output folder must be writable: {directory}: {error.strerror}; choose another with --out"
        ) from None


@contextlib.contextmanager
def hold(directory: Path, *, alone: bool) -> Iterator[None]:
    """Keeps other runs out of a folder for the length of a block, or of the process if it is killed.

    Args:
      alone: False for one of several processes of a distributed run, which share it.
    Raises:
      UsageError: another run is at work there.
    """
    with _locked(directory, alone) as free:
        if not free:
            raise UsageError(
                f"a folder must be filled by one run at a time: another is at work in {directory}; "
                "wait for its end, or choose another with --out"
            )
        yield


def sweep(directory: Path) -> None:
    """Removes what killed runs were writing. Only while the folder is held alone."""
    files.sweep(directory, below=("arrays", figures.SHEETS))


def guard(
    directory: Path, records: Iterable[Mapping[str, Any]], jobs: Mapping[str, Iterable[Job]], place: Place = ALONE
) -> None:
    """Refuses a folder in which a file that stjax did not make, or a link, has a name that a run is going to write.

    Args:
      directory: the run's folder, held.
      records: from `results.read`.
      jobs: of each layer, those to find.
      place: of this process.
    Raises:
      UsageError: its text names the first such file.
    """
    named = {record["arrays"] for record in records}
    files.claim(directory, directory / results.manifest_name(place), known=True)
    for path in figures.page_paths(directory):
        files.claim(directory, path)
    for layer, asked in jobs.items():
        for path in figures.sheet_paths(directory, bare(layer)):
            files.claim(directory, path)
        for job in asked:
            name = results.array_name(layer, job)
            files.claim(directory, directory / name, known=name in named)
            for path in picture_paths(directory, {"arrays": name}).values():
                files.claim(directory, path)


@contextlib.contextmanager
def _locked(directory: Path, alone: bool) -> Iterator[bool]:
    """Locks the folder itself, which leaves no file behind; False where somebody else has it."""
    if fcntl is None:
        yield True
        return
    descriptor, free = os.open(directory, os.O_RDONLY), True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
    except BlockingIOError:
        free = False
    except OSError:
        pass  # A file system that knows no locks.
    try:
        yield free
    finally:
        os.close(descriptor)
