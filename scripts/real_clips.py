"""Videos of a user's own as clips that a network of consecutive frames is shown, named by their file or folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stjax import video
from stjax.errors import UsageError
from stjax.model import Model
from stjax.video.clips import resize, sample, window

SCALE = 8 / 7
"""Short side over that of the input, as published: 256 px, of which the middle 224 are seen."""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Files, and all files of folders."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"a clip must be a file, or a folder of files: {path} is neither")
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return found


def label_of(path: Path, names: Sequence[str]) -> int:
    """The class that a file is named by, else the folder that it lies in; -1 for neither.

    >>> label_of(Path("a/high_jump/v1.mp4"), ["golf driving", "high jump"])
    1
    """
    for text in (path.stem, path.parent.name):
        if (words := text.replace("_", " ")) in names:
            return list(names).index(words)
    return -1


def clip_of(path: Path, model: Model) -> np.ndarray:
    """The middle of a video, as many frames as the network sees, (time, height, width, 3) in its units."""
    inputs = model.network.inputs
    high, wide = (inputs[0].length(axis) for axis in ("height", "width"))
    frames, around = np.stack([frame.rgb for frame in video.open(path)]), window(0, inputs)
    middle = len(frames) // 2
    run = slice(middle + around.start, middle + around.stop)
    if run.start < 0 or run.stop > len(frames):
        raise UsageError(f"a clip must have {around.stop - around.start} frames or more: {path} has {len(frames)}")
    scaled = resize(frames[run], round(SCALE * max(high, wide)))
    top, left = (scaled.shape[1] - high) // 2, (scaled.shape[2] - wide) // 2
    shown = scaled[:, top : top + high, left : left + wide]
    return np.asarray(sample(shown, -around.start, inputs, preprocessing=model.preprocessing).appearance)
