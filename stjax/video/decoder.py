"""The process that decodes a video, seen from this one: started, listened to, ended.

FFmpeg is C, and what strangers' files do to it they should not do to a process that holds a day's work. So a child
decodes, see `decoder_child`: with an end to its memory, without a way to any other file or to the network, and ended
when nothing comes of it. Of what it says nothing is believed that has not been checked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from stjax.errors import UsageError
from stjax.video.decoding.link import HEADER

CHILD = Path(__file__).with_name("decoder_child.py")
PATIENCE = 10.0
"""Seconds without a frame, and without a byte of the file read on, after which decoding is taken to hang."""
MEMORY = 1600 << 20
"""Bytes that decoding may take: of films of 8K, H.264 took 0.8 GB and HEVC in 10 bits 1.2 GB."""
MOST_PIXELS = 8192 * 4352
"""Of one frame: 8K, and what is cut from it."""
LONGEST_TEXT = 1 << 16


class About(NamedTuple):
    """What a video says of itself; all of it may be wrong but height and width."""

    height: int
    width: int
    rate: float
    frames: int | None
    duration: float | None


def _sound(about: About) -> bool:
    """Whether it can be worked with."""
    sides, numbers = (about.height, about.width), (about.rate, about.frames or 0, about.duration or 0.0)
    return (
        all(type(side) is int and side > 0 for side in sides)
        and about.height * about.width <= MOST_PIXELS
        and all(type(number) in (int, float) and 0 <= number < 1e15 for number in numbers)
        and type(about.frames) in (int, type(None))
    )


class Decoder:
    """A child that decodes, and what it has said.

    Args:
      settings: for `decoder_child`, besides what is the same for all.
      file: the video, opened; or None.
      names: of pictures instead.
    """

    def __init__(self, settings: dict[str, Any], file: BinaryIO | None, names: Iterable[Path] = ()) -> None:
        found = importlib.util.find_spec("av")
        if found is None or not found.submodule_search_locations:
            raise UsageError("videos are read by PyAV, which is not installed: pip install 'stjax[video]'")
        settings |= {
            "packages": [str(Path(folder).parent) for folder in found.submodule_search_locations],
            "memory": MEMORY,
            "pixels": MOST_PIXELS,
            "threads": min(4, os.cpu_count() or 1),
        }
        self.waiting: float | None = None
        self.stalled = False
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the child)
        # -I: neither the working folder nor the environment can put another package in the place of PyAV.
        self.child = subprocess.Popen(
            [sys.executable, "-I", str(CHILD), json.dumps(settings)],
            stdin=file if file is not None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            bufsize=0,
            # Whoever stops this process by Ctrl-C may still want the frame that is on its way.
            start_new_session=True,
            # Each arena of memory counts as 128 MB of the child's limit.
            env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        )
        threading.Thread(target=self._watch, daemon=True).start()
        if self.child.stdin is not None:
            listed = b"".join(os.fsencode(name) + b"\0" for name in names)
            with contextlib.suppress(BrokenPipeError), self.child.stdin as pipe:
                while listed:
                    listed = listed[pipe.write(listed) :]

    def about(self) -> About:
        """What comes before the first frame.

        Raises:
          UsageError: there will be none.
        """
        kind, _, size = self._header()
        if kind != b"v" or size > LONGEST_TEXT:
            raise self._nonsense()
        try:
            about = About(**json.loads(self._bytes(size).tobytes()))
        except (ValueError, TypeError):
            raise self._nonsense() from None
        if not _sound(about):
            raise self._nonsense()
        return about

    def frame(self, height: int, width: int) -> tuple[float, np.ndarray] | None:
        """The next frame's time and RGB; None after the last.

        Raises:
          UsageError: decoding failed.
        """
        kind, at, size = self._header()
        if kind == b"e":
            return None
        row, rest = divmod(size, height)
        if kind != b"f" or rest or not 3 * width <= row <= 3 * width + 4096:
            raise self._nonsense()
        rows = self._bytes(size).reshape(height, row)
        # Rows may be padded; who keeps the frame does not keep that.
        picture = rows if row == 3 * width else rows[:, : 3 * width].copy()
        return at, picture.reshape(height, width, 3)

    def close(self) -> None:
        """Ends the child."""
        self.child.kill()
        self.child.wait()
        assert self.child.stdout is not None
        self.child.stdout.close()
        self.complaints.close()

    def _header(self) -> tuple[bytes, float, int]:
        """What comes next, but for signs of life and a farewell."""
        while True:
            kind, at, size = HEADER.unpack(self._bytes(HEADER.size).data)
            if kind == b"x" and size <= LONGEST_TEXT:
                raise UsageError(self._bytes(size).tobytes().decode("utf-8", "replace"))
            if kind != b".":
                return kind, at, size

    def _bytes(self, count: int) -> np.ndarray:
        """So many bytes of what the child says."""
        data = np.empty(count, np.uint8)
        view, stdout = data.data, self.child.stdout
        assert stdout is not None
        while view:
            self.waiting = time.monotonic()
            got = stdout.readinto(view)  # pyright: ignore[reportAttributeAccessIssue]  (unbuffered: a FileIO)
            self.waiting = None
            if not got:
                raise self._ended()
            view = view[got:]
        return data

    def _ended(self) -> UsageError:
        code = self.child.wait()
        if self.stalled:
            return UsageError(f"a video must be readable: nothing came of it for {PATIENCE:.0f} s")
        self.complaints.seek(0)
        said = self.complaints.read()[-1000:].decode("utf-8", "replace").strip().splitlines()
        return UsageError(f"decoding failed: {said[-1] if said else f'FFmpeg ended with code {code}'}")

    def _nonsense(self) -> UsageError:
        return UsageError("decoding failed: FFmpeg has been led astray by what is in the file")

    def _watch(self) -> None:
        while self.child.returncode is None:
            since = self.waiting
            if since is not None and time.monotonic() - since > PATIENCE:
                self.stalled = True
                self.child.kill()
                return
            time.sleep(0.2)
