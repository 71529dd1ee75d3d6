"""Where frames come from: a container, or a list of pictures."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.stream

from stjax.video.decoding.clock import Clock
from stjax.video.decoding.link import Link, Refused, Source

APART = {
    *("alsa", "avisynth", "concat", "dash", "data", "fbdev", "ffmetadata", "hls", "image2", "imf", "kmsgrab", "lavfi"),
    *("oss", "rtp", "rtsp", "sap", "sdp", "svg_pipe", "tty", "v4l2", "vapoursynth", "video4linux2", "vobsub"),
    *("webm_dash_manifest", "x11grab"),
}
"""Formats that name other files, addresses, programs or devices, and one that draws any text."""
LISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"[playlist]")
ALONE = "a video must stand alone: this one is a list of other files or of addresses"
PICTURES = {b"\xff\xd8": "mjpeg", b"\x89P": "png", b"BM": "bmp", b"RI": "webp"}
LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Metadata need not be UTF-8; PyAV 19 knows that by itself, and the option no longer."""
BY_DECODING = ("avi", "asf", "mxf")
"""Formats of which FFmpeg learns times of decoding only."""


class Film:
    """A container: which of its streams is shown, and what it says of it.

    Args:
      link: is told that reading goes on.
      threads: that decode.
    """

    def __init__(self, link: Link, threads: int) -> None:
        self.failed, self.shown, self.corrupt = 0, 0, 0
        file = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  (as long as the process)
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(LISTS):
            raise Refused(ALONE)
        file.seek(0)
        self.source = Source(file, link)
        names = (name for name in av.formats_available if not APART & set(name.split(",")))
        options = {"protocol_whitelist": "none", "format_whitelist": ",".join(names)}
        try:
            self.container = av.open(self.source, "r", container_options=options, io_open=_refuse, **LENIENT)
        except av.error.FFmpegError as error:
            if error.errno == errno.EINVAL:  # of a format that is not among the names
                raise Refused(ALONE) from None
            raise _or_memory(error, "a video must be whole, and of a format that FFmpeg knows: this is not") from None
        apart = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [each for each in self.container.streams.video if not each.disposition & apart]
        if not streams:
            kinds = sorted({each.type for each in self.container.streams}) or ["nothing"]
            raise Refused(f"a video must have moving pictures: this has only {' and '.join(kinds)}")
        # Of several, what its maker says; else the largest, as FFmpeg's commands do; a still beside its sequence last.
        default = av.stream.Disposition.default
        self.stream = max(streams, key=lambda s: (bool(s.disposition & default), _area(s), s.frames))
        if self.stream.codec_context is None:
            raise Refused("a video must be in a code that FFmpeg reads: this is in an unknown one")
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = threads
        self.interval = 1 / self.rate
        self.by_decoding = self.container.format.name in BY_DECODING
        self.ended_early = False

    @property
    def rate(self) -> Fraction:
        stated = (self.stream.average_rate, self.stream.guessed_rate, self.stream.base_rate)
        return next((rate for rate in stated if rate and 0 < rate <= 1000), Fraction(25))

    @property
    def duration(self) -> Fraction | None:
        if self.stream.duration and self.stream.duration > 0 and self.stream.time_base:
            return self.stream.duration * self.stream.time_base
        found = self.container.duration
        return Fraction(found, 1_000_000) if found and found > 0 else None

    @property
    def count(self) -> int | None:
        return self.stream.frames or None

    @property
    def aspect(self) -> Fraction | None:
        return self.stream.sample_aspect_ratio or None

    def frames(self) -> Iterator[Any]:
        empty: Any = None
        for packet in self._packets():
            if packet.size:
                self.ended_early, self.corrupt = packet.is_corrupt, self.corrupt + packet.is_corrupt
                yield from self._decoded(packet)
            else:
                # At the end it fetches what the decoder holds back. Before, the last frame stays on; but shown such a
                # packet, as Theora has them, the decoder would take it for the end.
                empty = packet
        if empty is not None:
            yield from self._decoded(empty)

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            found = packet.decode()
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            self.failed += 1
            return []
        self.shown += len(found)
        return found

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self.container.demux(self.stream)
        except av.error.FFmpegError as error:
            raise _or_memory(error, "a video must be whole: this one cannot be read to its end") from None

    def end(self, clock: Clock) -> None:
        """Refuses what is no whole video.

        Damage within is passed over, as players do. That the end is missing shows in a last packet cut short (in
        MPEG program streams, all are said to be), or in seconds that were promised.
        """
        if not self.shown:
            raise Refused("a video must have frames: of this, none could be decoded")
        if self.failed > self.shown:
            raise Refused(f"a video must be whole: of this, {self.failed} parts are damaged, {self.shown} are not")
        seconds, alone = clock.end, len(self.container.streams) == 1
        promised = self.duration if alone or self.stream.duration else None
        if promised and not clock.leapt and promised - seconds > max(1, promised / 10):
            raise Refused(f"a video must be whole: this one ends after {float(seconds):.1f} of {float(promised):.1f} s")
        if self.ended_early and self.corrupt <= 2:
            raise Refused(f"a video must be whole: this one breaks off after {float(seconds):.1f} s")


class Pictures:
    """A list of picture files; each is decoded alone, in the order given.

    Args:
      rate: frames a second.
      largest: bytes that a file may have.
    """

    aspect = None
    by_decoding = False

    def __init__(self, rate: Fraction, largest: int) -> None:
        self.names = [os.fsdecode(name) for name in sys.stdin.buffer.read().split(b"\0") if name]
        self.rate, self.interval, self.largest = rate, 1 / rate, largest
        self.count, self.duration = len(self.names), len(self.names) / rate

    def frames(self) -> Iterator[Any]:
        for name in self.names:
            descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with open(descriptor, "rb") as file:
                data = file.read(self.largest + 1)
            try:
                yield self._decoded(data)
            except (Refused, av.error.FFmpegError):
                raise Refused(f"a frame must be a whole picture: {os.path.basename(name)} is not") from None

    def _decoded(self, data: bytes) -> Any:
        codec = PICTURES.get(data[:2])
        if codec is None or len(data) > self.largest:
            raise Refused("no picture")
        # One for each: FFmpeg's PNG decoder adds a picture to the one before.
        decoder: Any = av.CodecContext.create(codec, "r")
        decoder.thread_count = 1
        (frame,) = decoder.decode(av.Packet(data)) or [None]
        if frame is None:
            raise Refused("no picture")
        frame.pts = None
        return frame

    def end(self, clock: Clock) -> None:
        """All that is promised is there, or an error has been raised."""


def _or_memory(error: Any, reason: str) -> Exception:
    """The reason of a failure, unless it is want of memory."""
    return error if error.errno == errno.ENOMEM else Refused(reason)


def _area(stream: Any) -> int:
    return (stream.codec_context.width or 0) * (stream.codec_context.height or 0) if stream.codec_context else 0


def _refuse(*_: Any) -> Any:
    raise PermissionError(ALONE)
