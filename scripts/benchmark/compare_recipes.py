"""Which recipe finds inputs that a unit answers to strongly, wherever they lie and however they are stored?

For each layer and recipe, over units, chi and seeds, the median of: the value of equation (1) of the stored window;
activation / ahat; the share of the activation that is left after shifts by 1 to 4 pixels, a blur of 1 pixel and 8-bit
storage (see robustness.py); activation / ahat in other networks, where the same unit means the same; and the steps
and seconds of CPU time a result. Of consecutive RGB frames besides: how fast they move, what share of their change is
movement, and of classes, in how many views the network itself names the class first (see stjax.analysis.views). Below
them the same of the real input that excites each unit most: what is natural.

Each run is a line of <out>/recipes.jsonl at once, and is not computed again; pictures have one row a recipe.

    python scripts/benchmark/compare_recipes.py --out comparison
    python scripts/benchmark/compare_recipes.py --layers motion/conv3_3 --chi 10,0 --units 0:4
    python scripts/benchmark/compare_recipes.py --model i3d-kinetics400 --layers appearance/classes \\
        --units "playing tennis,high jump" --recipes moving,"moving, free frames",global --seeds 1
    python scripts/benchmark/compare_recipes.py --model embedded --others embedded-seed1,embedded-seed2 --layers classes
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from free_frames import FREE_FRAMES
from markdown_table import markdown_table
from references import strongest
from robustness import KINDS, SHIFTS, activations, kept, shifted

import stjax
from stjax import files
from stjax.analysis import views
from stjax.analysis.change import Change, change_of
from stjax.analysis.naming import FIRST
from stjax.ascent.optimizers import Adam
from stjax.ascent.recipes import FAST, GLOBAL, MAHENDRAN, MOVING, Recipe
from stjax.commands.units import numbers, parsed_units
from stjax.compilation import cache_programs
from stjax.errors import UsageError, nearest
from stjax.figures import color, encode, layout
from stjax.networks import geometry
from stjax.types import Clip, Input, Probe, sees_frames, streams

LAYERS = tuple(f"appearance/{name}" for name in ("conv2_2", "conv3_3", "conv4_1", "conv4_3"))

CANDIDATES = {
    "mahendran": MAHENDRAN,
    "fast": FAST,
    "fast without jitter": dataclasses.replace(FAST, jitter=None),
    "global": GLOBAL,
    "global with jitter": dataclasses.replace(GLOBAL, jitter=FAST.jitter),
    "adam": Recipe(steps=100, optimizer=Adam(rate=10.0)),
    "moving": MOVING,
    "moving, free frames": FREE_FRAMES,
}
REAL = "real input"
VIDEO = {
    FIRST: ("views first", ".0f"),
    "speed": ("px a frame", ".2f"),
    "by_flow": ("by flow", ".0%"),
    "by_shifts": ("by shifts", ".0%"),
}
"""Measure of consecutive frames -> head of its column, and how it is written."""


Line = dict[str, Any]
"""Of recipes.jsonl: what was wanted, and a list of numbers, one a job, for each measure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """What is measured of inputs of one layer.

    Args:
      model: that they are found in.
      others: networks in which a unit of the same number means the same.
      layer: an endpoint name.
      units, chi: one job for each pair.
    """

    model: stjax.Model
    others: tuple[stjax.Model, ...]
    layer: str
    units: tuple[int, ...]
    chi: tuple[float, ...]

    @property
    def probe(self) -> Probe:
        return stjax.probe(self.model.network, self.layer)

    def measures(self, clips: Clip, units: np.ndarray, margin: int = 0) -> Line:
        """activation / ahat of (jobs, ...) windows, what is left of it, and activation / ahat in the other networks."""
        recipe = FAST.bind(self.probe)
        a, left = kept(self.probe, recipe, self.model, units, clips, margin)
        measured = {"gain": a / _ahat(self.model, self.layer)[units]} | left
        for other in self.others:
            there = stjax.probe(other.network, self.layer)
            elsewhere = activations(there, recipe, other.params, units, shifted(clips, 0, 0, margin))
            measured[other.name] = np.asarray(elsewhere) / _ahat(other, self.layer)[units]
        if sees_frames(self.probe.inputs):
            measured |= self.moving(np.asarray(shifted(clips, 0, 0, margin).appearance), units)
        return {name: np.round(values, 4).tolist() for name, values in measured.items()}

    def moving(self, clips: np.ndarray, units: np.ndarray) -> dict[str, np.ndarray]:
        """Of (jobs, ...) clips of consecutive frames: what moves, and how many views leave a class first."""
        changes = np.asarray([change_of(frames) for frames in clips])
        measured = {name: changes[:, number] for number, name in enumerate(Change._fields) if name in VIDEO}
        if self.probe.layer.role == "classes":
            shown = [views.views(frames, self.model.preprocessing.mean) for frames in clips]
            scores = [views.seen(self.model, {name: each[name] for name in views.LASTING}) for each in shown]
            ranks = [views.name(s, np.full(len(s), unit)).rank for s, unit in zip(scores, units, strict=True)]
            measured[FIRST] = np.sum(np.asarray(ranks) == 0, axis=1)
        return measured

    def optima(self, recipe: Recipe, seed: int) -> tuple[Line, Clip]:
        """One recipe on all jobs from one seed: its numbers, and the clips with one axis of jobs."""
        clock: list[float] = []
        request = stjax.Request(
            model=self.model, layer=self.layer, units=self.units, chi=self.chi, recipe=recipe, seed=seed
        )
        # No places that are only padded: they would count as time of the others.
        request = dataclasses.replace(request, chunk=min(request.chunk_size, len(request.jobs)))
        clips, summary = stjax.visualize_units(request, progress=lambda _: clock.append(time.process_time()))
        # The first step is compiled before it runs. CPU time, since other programs may hold the processor meanwhile.
        seconds = (clock[-1] - clock[1]) * len(clock) / (len(clock) - 1) / summary.value.size
        clips = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), clips)
        units = np.repeat(self.units, summary.value.shape[1])
        numbers = {"value": np.round(summary.value.ravel(), 3).tolist(), "steps": recipe.steps, "seconds": seconds}
        return numbers | self.measures(clips, units), clips

    def real(self) -> tuple[Line, Clip]:
        """The real input that excites each unit most, shifted within its real neighbours where the layer has a cone."""
        clips, margin = strongest(self.model, self.probe, list(self.units), max(SHIFTS))
        return self.measures(clips, np.asarray(self.units), margin), shifted(clips, 0, 0, margin)


def _ahat(model: stjax.Model, layer: str) -> np.ndarray:
    return np.asarray(model.statistics.ahat[layer])


def picture(path: Path, inputs: tuple[Input, ...], rows: dict[str, Clip], mean: tuple[float, float, float]) -> None:
    """One row a recipe and stream, in the order of `rows`; one column a job."""
    strips = []
    for clip in rows.values():
        for each, x in streams(inputs, clip):
            cells = [color.frames(c, mean)[0] if each.kind == "rgb" else color.direction(c[0])[0] for c in x]
            side = layout.fit(cells[0].shape[0])
            cells = [layout.resize(c[None], side)[0] for c in cells]
            strips.append(np.concatenate([np.pad(c, ((4, 4), (4, 4), (0, 0)), constant_values=255) for c in cells], 1))
    width = max(strip.shape[1] for strip in strips)
    strips = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    encode.png(path, np.concatenate(strips))


def table(lines: list[Line]) -> list[str]:
    """Medians over units, chi and seeds, one row for each layer and recipe; shares in per cent."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["layer"], line["recipe"]), []).append(line)
    others = list(dict.fromkeys(name for line in lines for name in line["others"]))
    video = {name: column for name, column in VIDEO.items() if any(name in line for line in lines)}
    rows = []
    for (layer, recipe), group in groups.items():

        def median(name: str, form: str, group: list[Line] = group) -> str:
            values = [v for line in group for v in np.ravel(line.get(name, []))]
            return format(float(np.nanmedian(values)), form) if not np.isnan(values).all() else ""

        numbers = [median("value", ".1f"), median("gain", ".2f"), *(median(kind, ".0%") for kind in KINDS)]
        numbers += [median(name, form) for name, (_, form) in video.items()]
        ends = [*(median(name, ".2f") for name in others), median("steps", ".0f"), median("seconds", ".2f")]
        rows.append([layer, recipe, *numbers, *ends])
    heads = ["layer", "recipe", "value of (1)", "a / ahat", *KINDS, *(head for head, _ in video.values())]
    heads += [*(f"in {o}" for o in others), "steps", "CPU s"]
    return markdown_table(heads, rows)


def recipes_named(text: str) -> list[str]:
    """Candidates with commas between, of which some have a comma in their name.

    >>> recipes_named("moving,moving, free frames,global")
    ['moving', 'moving, free frames', 'global']
    """
    names, parts = [], text.split(",")
    while parts:
        count = next((n for n in range(len(parts), 0, -1) if ",".join(parts[:n]) in CANDIDATES), 0)
        if not count:
            raise UsageError(
                f"a recipe must be one of those compared: {parts[0]!r} is not; {nearest(parts[0], CANDIDATES)}"
            )
        names.append(",".join(parts[:count]))
        parts = parts[count:]
    return names


def compare(judge: Judge, names: list[str], seeds: range, out: Path) -> list[Line]:
    """Lines of one layer: those that the file has, and those computed now. Draws the first seed's clips found now."""
    file = out / "recipes.jsonl"
    old = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    lines, rows = [], {}
    runs = [(name, seed) for name in names for seed in seeds] + [(REAL, 0)]
    for name, seed in track(runs, description=judge.layer):
        of = {"model": judge.model.name, "others": [other.name for other in judge.others], "layer": judge.layer}
        of |= {"recipe": name, "settings": repr(CANDIDATES.get(name)), "seed": seed}
        of |= {"units": list(judge.units), "chi": list(judge.chi)}
        line = next((line for line in old if of.items() <= line.items()), None)
        if line is None:
            numbers, clips = judge.real() if name == REAL else judge.optima(CANDIDATES[name], seed)
            line = of | numbers
            with file.open("a") as end:
                end.write(json.dumps(line) + "\n")
            if seed == seeds[0] or name == REAL:
                rows[name] = clips
        lines.append(line)
    if rows:
        path = out / f"{judge.model.name}-{judge.layer.replace('/', '-')}.png"
        picture(path, judge.probe.inputs, rows, judge.model.preprocessing.mean)
        print(f"rows from above: {', '.join(rows)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16-imagenet", help="a name or a .safetensors file")
    parser.add_argument("--others", default="", help="networks with the same units, with commas between")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--recipes", default="mahendran,fast,fast without jitter", help=f"of {'; '.join(CANDIDATES)}")
    parser.add_argument("--units", default="0:6", help="as of `stjax visualize`: 0:6, 3,7, or names of classes")
    parser.add_argument("--chi", default="10,0", help="of layers where it changes anything")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    options = parser.parse_args()
    cache_programs()
    options.out.mkdir(parents=True, exist_ok=True)
    model = stjax.load(options.model)
    others = tuple(stjax.load(name) for name in options.others.split(",") if name)
    chi, recipes = tuple(numbers(options.chi)), recipes_named(options.recipes)
    lines = []
    for layer in options.layers.split(","):
        described = geometry.layer(model.network, layer)
        names = model.class_names if described.role == "classes" else ()
        units = tuple(parsed_units(options.units, described.units, layer, names))
        judge = Judge(model=model, others=others, layer=layer, units=units, chi=chi)
        lines += compare(judge, recipes, range(options.seeds), options.out)
    text = "\n".join(table(lines))
    print(text)
    files.write_text(options.out / "recipes.md", text)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
