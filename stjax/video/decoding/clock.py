"""When frames are shown, and which of them are on screen at a rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

LEAP = 60
"""Seconds between two frames, from which on the clock is taken to have been set anew."""


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
