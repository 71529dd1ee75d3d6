"""A stranger's file, read once into memory: nobody who cuts or changes it meanwhile can end or mislead this process.

A map of the file would do as well until then: what is cut off raises SIGBUS, which no Python code can catch.
"""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

import numpy as np

from stjax.errors import UsageError

PIECE = 64 << 20
"""Bytes read at once; some systems read less than 2 GiB however much is asked for."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def opened(path: Path) -> FileIO:
    """A plain file that is not empty, open at its beginning. Nothing else is ever opened for reading, or waited for.

    Raises:
      UsageError: there is none, it may not be read, or something else has that name.
    """
    try:
        _refuse(os.stat(path), path)
        # Should a pipe take the file's place now, it is opened at once, instead of waiting for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UsageError(f"a file of weights must exist: {path} is not there") from None
    except OSError as error:
        raise UsageError(f"a file of weights must be readable: {path}: {error.strerror}") from None
    try:
        _refuse(os.fstat(descriptor), path)
    except UsageError:
        os.close(descriptor)
        raise
    return FileIO(descriptor, "rb")


def _refuse(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UsageError(f"a file of weights must be a plain file: {path} is {what}")
    if not status.st_size:
        raise UsageError(f"a file of weights must exist: {path} is empty")


def rest(file: FileIO) -> memoryview:
    """All bytes of a file, held once; they cannot be written to.

    Raises:
      UsageError: larger than this machine's memory, or of another length at the end than at the beginning.
    """
    size = os.fstat(file.fileno()).st_size
    if size > memory():
        raise UsageError(f"a file of weights must fit into memory: {size} bytes do not fit into {memory()}")
    held = np.empty(size, np.uint8)
    view, at = held.data, 0
    file.seek(0)
    while at < size:
        count = file.readinto(view[at : at + PIECE])
        if not count:
            raise UsageError(f"a file of weights must stay as it is while it is read: {size - at} bytes were cut off")
        at += count
    if file.read(1):
        raise UsageError("a file of weights must stay as it is while it is read: it grew")
    held.flags.writeable = False
    return held.data


def memory() -> int:
    """Bytes of this machine's memory; where the system does not tell, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
