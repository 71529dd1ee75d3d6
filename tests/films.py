"""Videos made by PyAV, whose every frame says which it is: a bright square stands in the cell of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos are read by PyAV (pip install 'stjax[video]')")

CELL, ACROSS, DOWN = 16, 8, 6
HEIGHT, WIDTH = CELL * DOWN, CELL * ACROSS
MOST = ACROSS * DOWN


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frame `number`: a bright square in its cell, dark elsewhere, RGB."""
    frame = np.full((HEIGHT, WIDTH, 3), (40, 30, 50), np.uint8)
    y, x = divmod(number, ACROSS)
    frame[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = (220, 200, 210)
    return frame.repeat(height // HEIGHT, 0).repeat(width // WIDTH, 1)


def number(rgb: np.ndarray) -> int:
    """Which frame it is, by its brightest cell; it must be the only bright one."""
    grey = np.asarray(rgb, np.float32).mean(-1)
    rows, columns = np.array_split(np.arange(grey.shape[0]), DOWN), np.array_split(np.arange(grey.shape[1]), ACROSS)
    means = np.array([[grey[np.ix_(r, c)].mean() for c in columns] for r in rows]).ravel()
    best, next_best = np.sort(means)[::-1][:2]
    assert best > 120 > next_best + 20, f"no one bright cell: {best:.0f}, {next_best:.0f}"
    return int(means.argmax())


def write(
    path: Path,
    numbers: Iterable[int] = range(24),
    *,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    rate: Any = 25,
    times: Callable[[int], int] | None = None,
    change: Callable[[Any, Any], None] = lambda container, stream: None,
    paint: Callable[[int], Any] = picture,
    muxing: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """A file of some frames, by one encoder; skips the test where this PyAV has it not.

    Args:
      times: index of a frame -> its time in milliseconds, for a rate that varies.
      change: of container and stream, before they are written.
      paint: number of a frame -> RGB, or a frame of PyAV's.
      muxing: options of the container.
      options: of the encoder.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        change(container, stream)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, each in enumerate(numbers):
            frame = paint(each)
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame).reformat(format=pixels)
            frame.pts = index if times is None else times(index)
            frame.time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
