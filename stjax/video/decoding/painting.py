"""Frames as FFmpeg decodes them -> RGB as it is shown: upright, of square pixels, of whole pictures, over black."""

from __future__ import annotations

import gc
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av.error
import av.filter
from av.sidedata.sidedata import Type

from stjax.video.decoding.link import Refused

ASPECTS = (Fraction(1, 8), Fraction(8))
"""Shapes of a pixel that are believed."""


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
        self.turned: tuple[Any, list[tuple[str, str]]] = (None, [])

    def paint(self, frame: Any) -> Any:
        """The frame as it is shown."""
        turn = self._turn(frame)
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
            scale = [("scale", f"{width}:{height}:flags=bicubic"), ("format", "rgb24")]
            self.graph, self.key = _graph(frame, [*over_black, *scale, *turn]), key
        self.graph.push(frame)
        return self.graph.pull()

    def _turn(self, frame: Any) -> list[tuple[str, str]]:
        """As `_turn`, but once for frames of one kind: asking keeps a frame alive until garbage is collected."""
        kind = (_key(frame), frame.rotation)
        if self.strict or kind != self.turned[0]:
            self.turned = (kind, _turn(frame))
            gc.collect()
        return self.turned[1]

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
