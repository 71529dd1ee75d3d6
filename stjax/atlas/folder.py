"""A results folder: held by one run at a time, and shared with whatever else is in it and not in the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stjax import figures, files
from stjax.atlas import results
from stjax.atlas.meeting import ALONE, Meeting, Process
from stjax.atlas.plan import Job
from stjax.atlas.request import Request
from stjax.errors import UsageError
from stjax.record import Record

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
        files.make_folder(directory)
    except OSError as error:
        raise UsageError(
            f"the output folder must be writable: {directory}: {error.strerror}; choose another with --out"
        ) from None


@contextlib.contextmanager
def hold(directory: Path, meeting: Meeting) -> Iterator[None]:
    """Keeps other runs out of a folder for the length of a block, or of the process if it is killed.

    The first process takes it alone, and removes what killed runs were writing; then it shares it with the others of
    its own run. While one of them is at work, no other run gets it.

    Args:
      directory: of results.
      meeting: of this run's processes.
    Raises:
      UsageError: another run is at work there.
    """
    first = meeting.process.index == 0
    if not first:
        meeting.wait()
    with _locked(directory, alone=first) as share:
        if first:
            files.sweep(directory, below=("arrays", figures.SHEETS))
        if first and meeting.process.count > 1:
            share()
            meeting.wait()
        yield


def guard(
    directory: Path,
    records: Iterable[Record],
    jobs: Iterable[tuple[Request, Sequence[Job]]],
    process: Process = ALONE,
) -> None:
    """Refuses a folder in which a file that stjax did not make, or a link, has a name that a run is going to write.

    Args:
      directory: the run's folder, held.
      records: from `results.read`.
      jobs: of each request, those to find.
      process: whose manifest is written.
    Raises:
      UsageError: its text names the first such file.
    """
    known = {record.arrays for record in records}
    files.claim(directory, directory / results.manifest_name(process), known=True)
    for path in figures.page_paths(directory):
        files.claim(directory, path)
    for request, own in jobs:
        for path in figures.sheet_paths(directory, figures.bare(request.layer)):
            files.claim(directory, path)
        for job in own:
            name = results.array_name(request.layer, job)
            files.claim(directory, directory / name, known=name in known)
            for path in figures.picture_paths(directory / name, request.probe.inputs):
                files.claim(directory, path)
            if figures.clips(request.probe.inputs):
                files.claim(directory, figures.movement_path(directory / name))


@contextlib.contextmanager
def _locked(directory: Path, *, alone: bool) -> Iterator[Callable[[], None]]:
    """Locks the folder itself, which leaves no file behind. Gives what makes a lock of one that of several."""
    if (locks := fcntl) is None:
        yield lambda: None
        return
    descriptor = os.open(directory, os.O_RDONLY)

    def lock(kind: int) -> None:
        try:
            locks.flock(descriptor, locks.LOCK_NB | kind)
        except BlockingIOError:
            raise UsageError(
                f"a folder must be filled by one run at a time: another is at work in {directory}; "
                "wait for its end, or choose another with --out"
            ) from None
        except OSError:
            pass  # A file system that knows no locks.

    try:
        lock(locks.LOCK_EX if alone else locks.LOCK_SH)
        yield lambda: lock(locks.LOCK_SH)
    finally:
        os.close(descriptor)
