"""Decodes one video in a process of its own; see `decoder`. Runs nothing of stjax but `decoding`: it starts in 0.1 s.

    python decoder_child.py SETTINGS

SETTINGS is JSON, from `decoder.Decoder`. Standard input is the video's file, or names of pictures, each ended by a zero
byte. Standard output is messages, see `decoding.link`.
"""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ == "__main__":
    # Where this process's parent has PyAV from: -I leaves some places out.
    sys.path[:0] = json.loads(sys.argv[1])["packages"]
    # The packages that `decoding` lies in, without what they import: JAX alone takes seconds.
    for name, folder in (("stjax", Path(__file__).parents[1]), ("stjax.video", Path(__file__).parent)):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]

import av

from stjax.video.decoding.clock import Clock, sampled
from stjax.video.decoding.link import Link, Refused
from stjax.video.decoding.painting import Deinterlacer, Painter
from stjax.video.decoding.sources import Film, Pictures


def decode(settings: dict[str, Any], link: Link) -> None:
    """The whole of it."""
    _rehearse()
    gc.freeze()  # so that there is little to look through whenever garbage is collected
    _close_doors(1 if settings["pictures"] else 0)
    if settings["pictures"]:
        film = Pictures(Fraction(settings["pictures"]), settings["largest"])
    else:
        film = Film(link, settings["threads"])
    rate = Fraction(settings["rate"]) if settings["rate"] else None
    painter = Painter(settings["short_side"], settings["pixels"], film.aspect, bool(settings["pictures"]))
    clock, told = Clock(film.interval, film.by_decoding), False
    painted: Any = None
    picture: Any = None

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


def _rehearse() -> None:
    """One frame of a film of our own: what PyAV imports when it is first used, it could not behind closed doors."""
    with av.open(io.BytesIO(b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + bytes(384)), "r") as film:
        for frame in film.decode(video=0):
            Painter(None, 256, None, False).paint(frame)


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
    link = Link(os.dup(1), _allow_more_time)
    os.dup2(2, 1)
    try:
        limit(settings["memory"])
        decode(settings, link)
    except BrokenPipeError:
        return
    except Exception as error:
        # Of a damaged file, anything may come.
        link.send(b"x", 0.0, _reason(error, settings["memory"]).encode("utf-8", "replace"))


def _reason(error: Exception, memory: int) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return f"a video must be decoded in little memory: this one takes more than {memory >> 20} MB"
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"a video must be readable: {' '.join(said[:1000].split())}"


if __name__ == "__main__":
    main()
