"""Decodes one video in a process of its own; see `decoder`. Imports nothing of stjax, and no NumPy: it starts in 0.1 s.

    python decoder_child.py SETTINGS

SETTINGS is JSON, from `decoder.start`. Standard input is the video's file, or names of pictures, each ended by a zero
byte. Standard output is messages: of what kind, at what time, how many bytes follow, and the bytes.

    v  what the video is, as JSON: once, before the first frame
    f  one frame: its time in seconds and rows of RGB, all of one length, which may be longer than 3 width
    .  it is still going on
    e  the end
    x  a reason why there is no more, in one line
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

if __name__ == "__main__":
    # Where this process's parent has PyAV from: -I leaves some places out.
    sys.path[:0] = json.loads(sys.argv[1])["packages"]

import av
import av.filter
from av.sidedata.sidedata import Type

HEADER = struct.Struct("<cdQ")
APART = {
    *("alsa", "avisynth", "concat", "dash", "data", "fbdev", "ffmetadata", "hls", "image2", "imf", "kmsgrab", "lavfi"),
    *("oss", "rtp", "rtsp", "sap", "sdp", "svg_pipe", "tty", "v4l2", "vapoursynth", "video4linux2", "vobsub"),
    *("webm_dash_manifest", "x11grab"),
}
"""Formats that name other files, addresses, programs or devices, and one that draws any text."""
LISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"[playlist]")
PICTURES = {b"\xff\xd8": "mjpeg", b"\x89P": "png", b"BM": "bmp", b"RI": "webp"}
ALONE = "a video must stand alone: this one is a list of other files or of addresses"
BY_DECODING = ("avi", "asf", "mxf")
"""Formats of which FFmpeg learns times of decoding only."""
LEAP = 60
"""Seconds between two frames, from which on the clock is taken to have been set anew."""
ASPECTS = (Fraction(1, 8), Fraction(8))
"""Shapes of a pixel that are believed."""


class Refused(Exception):
    """What a user should read."""


class Link:
    """The way to the parent."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.last = descriptor, time.monotonic()

    def send(self, kind: bytes, at: float = 0.0, payload: Any = b"") -> None:
        """One message."""
        payload = memoryview(payload)
        self._write(memoryview(HEADER.pack(kind, at, payload.nbytes)))
        self._write(payload)
        if time.monotonic() - self.last > 1.0:
            self.last = time.monotonic()
            _allow_more_time()

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


class Clock:
    """Times of frames in seconds after the first; never backwards, and without leaps of what was cut together.

    A container has times of presentation, of decoding, or both, and either may be faulty: those count that were out of
    order less often, as FFmpeg's own commands do.
    """

    def __init__(self, interval: Fraction, by_decoding: bool) -> None:
        self.interval = interval
        self.faulty, self.last = [int(by_decoding), 0], [-math.inf, -math.inf]
        self.raw: Fraction | None = None
        self.now = self.end = Fraction(0)
        self.leapt = False

    def time(self, frame: Any) -> Fraction:
        """Of the next frame."""
        self._tick(self._stated(frame))
        lasts = frame.duration * frame.time_base if frame.duration and frame.time_base else self.interval
        self.end = self.now + (lasts if 0 < lasts <= LEAP else self.interval)
        return self.now

    def _tick(self, stated: Fraction | None) -> None:
        if self.raw is None:
            self.raw = stated or Fraction(0)
            return
        raw = self.raw + self.interval if stated is None else stated
        passed = raw - self.raw
        if abs(passed) > LEAP or passed < -1:
            passed, self.leapt = self.interval, True
        self.raw, self.now = raw, self.now + max(passed, Fraction(0))

    def _stated(self, frame: Any) -> Fraction | None:
        for i, stamp in enumerate((frame.pts, frame.dts)):
            if stamp is not None:
                self.faulty[i] += stamp <= self.last[i]
                self.last[i] = stamp
        stamp = frame.pts if frame.pts is not None and self.faulty[0] <= self.faulty[1] else frame.dts
        return None if stamp is None or not frame.time_base else stamp * frame.time_base


class Deinterlacer:
    """Frames as they are, until one says that it is interlaced; from there on bwdif makes of each such frame one."""

    def __init__(self) -> None:
        self.graph: Any = None
        self.key: Any = None
        self.waiting: deque[Fraction] = deque()
        self.interlaced = False

    def frames(self, timed: Iterable[tuple[Fraction, Any]]) -> Iterator[tuple[Fraction, Any]]:
        for at, frame in timed:
            self.interlaced |= frame.interlaced_frame
            if not self.interlaced or min(frame.width, frame.height) < 4:
                yield from self._rest()
                yield at, frame
                continue
            if _key(frame) != self.key:
                yield from self._rest()
                self.graph, self.key = _graph(frame, [("bwdif", "mode=send_frame:deint=interlaced")]), _key(frame)
            self.waiting.append(at)
            self.graph.push(frame)
            yield from self._ready()
        yield from self._rest()

    def _ready(self) -> Iterator[tuple[Fraction, Any]]:
        while self.waiting:
            try:
                frame = self.graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield self.waiting.popleft(), frame

    def _rest(self) -> Iterator[tuple[Fraction, Any]]:
        if self.graph is not None:
            self.graph.push(None)
            yield from self._ready()
        self.graph, self.key = None, None
        self.waiting.clear()


class Painter:
    """Frames of any size, shape of pixel, orientation and format -> RGB of one size."""

    def __init__(self, short_side: int | None, most: int, aspect: Fraction | None, strict: bool) -> None:
        self.short_side, self.most, self.aspect, self.strict = short_side, most, aspect, strict
        self.size: tuple[int, int] | None = None
        self.first: tuple[int, int] = (0, 0)
        self.graph: Any = None
        self.key: Any = None

    def paint(self, frame: Any) -> Any:
        """The frame as it is shown."""
        turn = _turn(frame)
        if self.size is None:
            self.first = (frame.width, frame.height)
            self.size = self._shown(frame, bool(turn) and turn[0][0] == "transpose")
        elif self.strict and self.first != (frame.width, frame.height):
            raise Refused(f"pictures of one size are a video: one has {frame.width}x{frame.height}, "
                          f"the first {self.first[0]}x{self.first[1]}")  # fmt: skip
        key = (*_key(frame), tuple(turn))
        if key != self.key:
            width, height = self.size[::-1] if turn and turn[0][0] == "transpose" else self.size
            over_black = [("format", "gbrap"), ("premultiply", "inplace=1")] if _transparent(frame) else []
            scale = [("scale", f"{width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int"), ("format", "rgb24")]
            self.graph, self.key = _graph(frame, [*over_black, *scale, *turn]), key
        self.graph.push(frame)
        return self.graph.pull()

    def _shown(self, frame: Any, across: bool) -> tuple[int, int]:
        """Width and height that are delivered."""
        width, height = frame.width, frame.height
        if width * height > self.most:
            raise Refused(f"a frame must have at most {self.most} pixels: {width}x{height} are more")
        if self.aspect is not None and ASPECTS[0] <= self.aspect <= ASPECTS[1]:
            width = max(1, round(width * self.aspect))
        if across:
            width, height = height, width
        if self.short_side is not None:
            factor = Fraction(self.short_side, min(width, height))
            width, height = max(1, round(width * factor)), max(1, round(height * factor))
        if width * height > self.most:
            raise Refused(f"a frame must have at most {self.most} pixels: shown at {width}x{height} it has more")
        return width, height


def _key(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range)


def _graph(frame: Any, filters: list[tuple[str, str]]) -> Any:
    graph = av.filter.Graph()
    width, height, name, space, levels = _key(frame)
    source = f"video_size={width}x{height}:pix_fmt={name}:time_base=1/1000:colorspace={space}:range={levels}"
    nodes = [graph.add(*each) for each in [("buffer", source), *filters]]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _transparent(frame: Any) -> bool:
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def _turn(frame: Any) -> list[tuple[str, str]]:
    """The filters that show a frame upright: of its display matrix, by the nearest quarter turn and mirror."""
    try:
        found = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:
        # Beside something that this PyAV has no name for, such as EXIF: the angle alone, counterclockwise.
        quarters = round(frame.rotation / 90) % 4
        return [[], [("transpose", "cclock")], [("hflip", ""), ("vflip", "")], [("transpose", "clock")]][quarters]
    if found is None or found.buffer_size < 36:
        return []
    a, b, _, c, d = struct.unpack("=9i", bytes(found)[:36])[:5]  # x' = a x + c y,  y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):
        kinds = {(True, True): "cclock_flip", (True, False): "clock", (False, True): "cclock"}
        return [("transpose", kinds.get((b > 0, c > 0), "clock_flip"))]
    return [("hflip", "")] * (a < 0) + [("vflip", "")] * (d < 0)


def sampled(
    timed: Iterable[tuple[Fraction, Any]], rate: Fraction | None, clock: Clock
) -> Iterator[tuple[Fraction, Any]]:
    """At a rate: picture k is the frame on screen in the middle of its interval, at (k + 1/2) / rate."""
    if rate is None:
        yield from timed
        return
    k, held = 0, None
    for at, frame in timed:
        begin = math.ceil(at * rate - Fraction(1, 2))
        while held is not None and k < begin:
            yield k / rate, held
            k += 1
        held = frame
    while held is not None and (k == 0 or k + Fraction(1, 2) < clock.end * rate):
        yield k / rate, held
        k += 1


class Film:
    """A container: which of its streams is shown, and what it says of it."""

    def __init__(self, settings: dict[str, Any], link: Link) -> None:
        self.failed, self.shown, self.corrupt = 0, 0, 0
        file = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  (as long as the process)
        if file.read(16).startswith(LISTS):
            raise Refused(ALONE)
        file.seek(0)
        self.source = Source(file, link)
        names = (name for name in av.formats_available if not APART & set(name.split(",")))
        options = {"protocol_whitelist": "none", "format_whitelist": ",".join(names)}
        try:
            self.container = av.open(
                self.source, "r", container_options=options, metadata_errors="replace", io_open=_refuse
            )
        except av.error.ArgumentError:
            raise Refused(ALONE) from None
        except av.error.FFmpegError as error:
            raise _or_memory(error, "a video must be whole, and of a format that FFmpeg knows: this is not") from None
        apart = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [each for each in self.container.streams.video if not each.disposition & apart]
        if not streams:
            kinds = sorted({each.type for each in self.container.streams}) or ["nothing"]
            raise Refused(f"a video must have moving pictures: this has only {' and '.join(kinds)}")
        # Of several, what its maker says; else the largest, as FFmpeg's commands do; a still beside its sequence last.
        self.stream = max(streams, key=lambda s: (s.disposition & av.stream.Disposition.default, _area(s), s.frames))
        if self.stream.codec_context is None:
            raise Refused("a video must be in a code that FFmpeg reads: this is in an unknown one")
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = settings["threads"]
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
        for packet in self._packets():
            if packet.size:
                self.ended_early, self.corrupt = packet.is_corrupt, self.corrupt + packet.is_corrupt
            try:
                found = packet.decode()
            except av.error.FFmpegError as error:
                if error.errno == errno.ENOMEM:
                    raise
                self.failed += 1
                continue
            self.shown += len(found)
            yield from found

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
    """A list of picture files; each is decoded alone, in the order given."""

    interval: Fraction
    aspect = None
    by_decoding = False

    def __init__(self, settings: dict[str, Any], link: Link) -> None:
        self.names = [os.fsdecode(name) for name in sys.stdin.buffer.read().split(b"\0") if name]
        self.rate = Fraction(settings["pictures"])
        self.interval, self.count = 1 / self.rate, len(self.names)
        self.duration = self.count * self.interval
        self.most = settings["largest"]

    def frames(self) -> Iterator[Any]:
        for name in self.names:
            descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with open(descriptor, "rb") as file:
                data = file.read(self.most + 1)
            try:
                yield self._decoded(data)
            except (Refused, av.error.FFmpegError):
                raise Refused(f"a frame must be a whole picture: {os.path.basename(name)} is not") from None

    def _decoded(self, data: bytes) -> Any:
        codec = PICTURES.get(data[:2])
        if codec is None or len(data) > self.most:
            raise Refused("no picture")
        # One for each: FFmpeg's PNG decoder adds a picture to the one before.
        decoder = av.CodecContext.create(codec, "r")
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


def decode(settings: dict[str, Any], link: Link) -> None:
    """The whole of it."""
    film = Pictures(settings, link) if settings["pictures"] else Film(settings, link)
    _close_doors(1 if settings["pictures"] else 0)
    rate = Fraction(settings["rate"]) if settings["rate"] else None
    painter = Painter(settings["short_side"], settings["pixels"], film.aspect, bool(settings["pictures"]))
    clock, told, painted, picture = Clock(film.interval, film.by_decoding), False, None, None

    def timed() -> Iterator[tuple[Fraction, Any]]:
        for frame in film.frames():
            link.alive()
            yield clock.time(frame), frame

    for at, frame in sampled(Deinterlacer().frames(timed()), rate, clock):
        if frame is not painted:
            painted, picture = frame, painter.paint(frame)
        if not told:
            told = True
            link.send(b"v", 0.0, json.dumps(_about(film, rate, picture)).encode())
        link.send(b"f", float(at), picture.planes[0])
    film.end(clock)
    link.send(b"e")


def _about(film: Any, rate: Fraction | None, picture: Any) -> dict[str, Any]:
    count = film.count
    if rate is not None:
        count = round(film.duration * rate) if film.duration else None
    return {
        "width": picture.width,
        "height": picture.height,
        "rate": float(rate or film.rate),
        "duration": float(film.duration) if film.duration else None,
        "frames": count,
    }


def limit(memory: int) -> None:
    """Caps what this process may take from now on, where the system can."""
    try:
        import resource
    except ImportError:
        return
    try:
        # What the libraries have reserved on this machine already.
        with open("/proc/self/statm") as pages:
            memory += int(pages.read().split()[0]) * resource.getpagesize()
    except OSError:
        memory += 1 << 32
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _allow_more_time()


def _allow_more_time() -> None:
    """A minute of processor time until the next sign of life: whoever started this may be gone when it hangs."""
    try:
        import resource
    except ImportError:
        return
    own = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(own.ru_utime + own.ru_stime) + 60, resource.RLIM_INFINITY))


def _close_doors(more: int) -> None:
    """From now on at most so many files may be open at once besides; of none, none, and no connection either."""
    try:
        import resource
    except ImportError:
        return
    if not more:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        return
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, free + more))


def main() -> None:
    """Decodes, and says why if it cannot."""
    settings = json.loads(sys.argv[1])
    # Whatever a library prints does not get into the messages.
    link = Link(os.dup(1))
    os.dup2(2, 1)
    try:
        limit(settings["memory"])
        decode(settings, link)
    except BrokenPipeError:
        return
    except MemoryError:
        link.send(b"x", 0.0, f"it takes more than {settings['memory'] >> 20} MB of memory".encode())
    except Exception as error:
        # Of a damaged file, anything may come.
        if getattr(error, "errno", None) == errno.ENOMEM:
            error = f"it takes more than {settings['memory'] >> 20} MB of memory"
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        link.send(b"x", 0.0, " ".join(text[:1000].split()).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
