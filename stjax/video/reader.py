"""Videos, frame by frame: any file that FFmpeg reads, and folders of pictures."""

from __future__ import annotations

import builtins
import math
import os
import re
import stat
import weakref
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from stjax.errors import UsageError, printable
from stjax.video import folders
from stjax.video.decoder import Decoder

HIGHEST_RATE = 1000.0
LARGEST_SIDE = 4320
LARGEST_PICTURE = 256 << 20
"""Bytes of one picture's file."""


class VideoError(UsageError):
    """A video that cannot be read: which, and why.

    Args:
      path: of the video.
      reason: one line.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, printable(reason)


class Frame(NamedTuple):
    """One frame: seconds after the first, and its picture, RGB 0..255."""

    time: float
    rgb: UInt8[ndarray, "height width rgb=3"]


class Video:
    """A video being read, once, from its first frame to its last: an iterator over frames, and a context.

    Made by `open`. Between two frames it holds at most one of them, however long the video is.

    Attributes:
      path: of the file or folder.
      rate: frames a second that are delivered; where no rate was asked for, the video's mean.
      height, width: of the frames, in pixels.
      frames: how many there will be, if the video says so; a damaged or an edited one may be wrong.
      duration: in seconds, if the video says so.
    """

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.path, self._decoder = path, decoder
        self.close = weakref.finalize(self, decoder.close)
        try:
            self.height, self.width, self.rate, self.frames, self.duration = decoder.about()
        except BaseException as error:
            self.close()
            raise self._named(error) from None

    def __iter__(self) -> Video:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises:
          VideoError: the rest of the video cannot be decoded.
        """
        if not self.close.alive:
            raise StopIteration
        try:
            found = self._decoder.frame(self.height, self.width)
        except BaseException as error:
            self.close()
            raise self._named(error) from None
        if found is None:
            self.close()
            raise StopIteration
        return Frame(*found)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _named(self, error: BaseException) -> BaseException:
        return VideoError(self.path, str(error)) if isinstance(error, UsageError) else error


def open(path: str | os.PathLike[str], *, rate: float | None = None, short_side: int | None = None) -> Video:
    """A video, to be read frame by frame.

    Picture k at a rate is the frame on screen in the middle of its interval, at (k + 1/2) / rate seconds after the
    first: at the video's own rate each frame once, however its times are rounded. Frames are upright, of square pixels
    (the width is scaled) and of one size; a frame that says it is interlaced is deinterlaced (bwdif, one frame of two
    fields); what is transparent lies over black. Colours follow the matrix and range that the file states, BT.601 where
    it states none; high dynamic range is not mapped.

    Args:
      path: a file of any format that FFmpeg reads, or a folder of pictures: in the order of their names, by number.
      rate: frames a second. If None, each frame of the file, at its own time; of a folder, 25.
      short_side: of the frames, in pixels; scaled by FFmpeg's bicubic filter, antialiased when they shrink. Unscaled if
        None.
    Raises:
      VideoError: it is no video, or nothing of it can be decoded.
      UsageError: a number is outside its range, or PyAV is not installed.
    """
    path = Path(path)
    if rate is not None and not 0 < rate <= HIGHEST_RATE:
        raise UsageError(f"rate must be above 0 and at most {HIGHEST_RATE:.0f} frames a second: got {rate}")
    if short_side is not None and not 1 <= short_side <= LARGEST_SIDE:
        near = min(max(short_side, 1), LARGEST_SIDE)
        raise UsageError(f"short side must be 1..{LARGEST_SIDE} px: got {short_side}; nearest: {near}")
    settings = {"rate": _exact(rate), "short_side": short_side, "pictures": None, "largest": LARGEST_PICTURE}
    try:
        if path.is_dir():
            settings |= {"rate": None, "pictures": _exact(rate or folders.RATE)}
            return Video(path, Decoder(settings, None, _pictures(path)))
        # Not to wait for whoever writes into a pipe of that name.
        with builtins.open(path, "rb", buffering=0, opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise VideoError(path, "a video must be a file, or a folder of pictures")
            if not os.fstat(file.fileno()).st_size:
                raise VideoError(path, "a video must hold something: this file is empty")
            return Video(path, Decoder(settings, file))
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise VideoError(path, _unread(path, error)) from None


def _pictures(path: Path) -> list[Path]:
    try:
        return folders.pictures(path)
    except UsageError as error:
        raise VideoError(path, str(error)) from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unread(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", str(path)):
        return "a video must be a file on this machine, not an address"
    return f"a video must be readable: {getattr(error, 'strerror', None) or error}"


def _exact(rate: float | None) -> str | None:
    """A rate as a fraction: 29.97 as written, not as the nearest binary number."""
    return str(Fraction(str(rate))) if rate is not None and math.isfinite(rate) else None
