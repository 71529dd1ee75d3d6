"""What the process that decodes says to the one that started it.

Messages: of what kind, at what time, how many bytes follow, and the bytes.

    v  what the video is, as JSON: once, before the first frame
    f  one frame: its time in seconds, and rows of RGB, all of one length, which may be longer than 3 width
    .  it is still going on
    e  the end
    x  a reason why there is no more, in one line
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("<cdQ")


class Refused(Exception):
    """What a user should read."""


class Link:
    """The way to the parent.

    Args:
      descriptor: of a pipe.
      every_second: is called while something comes.
    """

    def __init__(self, descriptor: int, every_second: Callable[[], None] = lambda: None) -> None:
        self.descriptor, self.every_second, self.last = descriptor, every_second, time.monotonic()

    def send(self, kind: bytes, at: float = 0.0, payload: Any = b"") -> None:
        """One message."""
        payload = memoryview(payload)
        self._write(memoryview(HEADER.pack(kind, at, payload.nbytes)))
        self._write(payload)
        if time.monotonic() - self.last > 1.0:
            self.last = time.monotonic()
            self.every_second()

    def alive(self) -> None:
        """Something came of the last second: a frame, or bytes that had not been read before."""
        if time.monotonic() - self.last > 1.0:
            self.send(b".")

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self.descriptor, view) :]


class Source:
    """The file as FFmpeg sees it: without a name. Reading on where nobody has read is a sign of life."""

    def __init__(self, file: Any, link: Link) -> None:
        self.file, self.link, self.furthest = file, link, 0

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        if self.file.tell() > self.furthest:
            self.furthest = self.file.tell()
            self.link.alive()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()
