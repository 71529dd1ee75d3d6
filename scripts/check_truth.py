"""Is what activation maximisation shows of the embedded network true? Its classes' motion is known exactly.

Finds the optimum of every class at every chi from several starts, and measures: whether the class's motion is
recovered, by a matched filter; speed; which class the network itself and others see; slowness and roughness of each
layer; how many units keep their appearance when chi changes. Beside each number stands what the same measure gives
for generated clips, where all is known, and for untrained networks, shuffled names and random flow, where nothing is.

    python scripts/check_truth.py --out truth
    python scripts/check_truth.py --models a.safetensors,b.safetensors --recipe mahendran --starts 1 --out paper

Writes truth.md, truth.json, the sheets of the first network's optima and one picture of them; and into the folder
`raw` what was measured of each run, so that the same command, stopped at any moment, goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import raw_runs
import truth_tables
from rich.progress import Progress

import stjax
from stjax import figures
from stjax.analysis import scores
from stjax.analysis.depth import depth
from stjax.analysis.scores import Measurements
from stjax.analysis.statistics import divisors, record_maxima
from stjax.ascent import recipes
from stjax.atlas import folder, results, resume
from stjax.atlas.plan import Job
from stjax.atlas.run import Result
from stjax.errors import UsageError
from stjax.figures import color, encode
from stjax.networks import geometry
from stjax.training import generated

MODELS = "embedded,embedded-seed1,embedded-seed2"
LAYERS = "motion/conv1_2,motion/conv2_2,motion/conv3_2,motion/conv4_2,conv4_fusion,fc5,classes"
CLASSES = np.arange(len(generated.CLASSES))
GENERATED = "generated clips, held out"


def held_out(count: int) -> Any:
    """Batches of generated clips that no network was trained on, one of each class, with their truth."""
    for first in range(0, count, len(CLASSES)):
        yield generated.examples(jax.random.key(generated.HELD_OUT), first, len(CLASSES))


def untrained(like: stjax.Model, seed: int) -> stjax.Model:
    """The same network with random parameters, its ahat recorded on generated clips."""
    clip = next(held_out(1)).clip
    network: Any = like.network
    params = jax.jit(network.init)(jax.random.key(seed), jax.tree.map(lambda a: a[:1], clip))["params"]
    ahat = divisors(record_maxima(network, params, (made.clip for made in held_out(280))))
    statistics = like.statistics._replace(ahat=ahat)
    return dataclasses.replace(like, name=f"untrained-{seed}", params=params, statistics=statistics, checksum="")


def reference(raw: Path, title: str, count: int, judges: Mapping[str, stjax.Model]) -> Measurements:
    """Generated clips, or clips that know no class, measured as optima are."""
    path, settings = raw / f"{title.replace(',', '').replace(' ', '-')}.npz", json.dumps([count, checksums(judges)])
    one = raw_runs.stored(Measurements, path, settings)
    if one is None:
        pairs = [(judge.network, judge.params) for judge in judges.values()]
        if title == GENERATED:
            one = scores.join(
                [
                    scores.measure(stjax.Clip(*(jnp.expand_dims(x, 1) for x in made.clip)), made.truth.label, pairs)
                    for made in held_out(count)
                ]
            )
        else:
            one = scores.measure(*scores.uninformed(title, count), pairs)
        raw_runs.store(path, settings, one)
    return one


def checksums(models: Mapping[str, stjax.Model]) -> list[str]:
    return [model.checksum for model in models.values()]


def store(out: Path, request: stjax.Request, clip: stjax.Clip, summary: stjax.Summary) -> None:
    """The classes' optima as a results folder with its sheets, and all of them in one picture."""
    settings = resume.identify(request)
    for i, unit in enumerate(request.units):
        for j, chi in enumerate(request.chi):
            one = jax.tree.map(lambda a, at=(i, j): a[at], (clip, summary))
            results.write(out, request, settings, Result(Job(unit, chi), *one))
    figures.draw_layer(out, results.read(out))
    overview(out / "classes.png", clip, request.model.preprocessing.mean)


def overview(path: Path, clip: stjax.Clip, mean: Any) -> None:
    """A row for each class; for each chi its picture and four of its fields."""
    rows = []
    for unit in range(clip.motion.shape[0]):
        cells = []
        for j in range(clip.motion.shape[1]):
            cells.append(color.frames(clip.appearance[unit, j], mean)[0])
            cells += list(color.direction(clip.motion[unit, j, 0])[[0, 3, 6, 9]])
        rows.append(np.concatenate([np.pad(c, ((2, 2), (1, 1), (0, 0)), constant_values=255) for c in cells], 1))
    encode.png(path, np.concatenate(rows))


def plain(measured: dict[str, list[Measurements]]) -> dict[str, Any]:
    """Scores of every run, for truth.json."""
    return {
        title: [
            {k: v.tolist() for k, v in scores.motion_scores(run).items()} | {"named": scores.share_named(run).tolist()}
            for run in runs
        ]
        for title, runs in measured.items()
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="files or names; all are looked into, all judge")
    parser.add_argument("--recipe", help=f"one of: {', '.join(recipes.RECIPES)} (default: what suits each layer)")
    parser.add_argument("--steps", type=int, help="instead of the recipe's own")
    parser.add_argument("--chi", default="10,5,1,0", help="falling")
    parser.add_argument("--starts", type=int, default=5, help="optima of a class from so many seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--untrained", type=int, default=3, help="networks with random parameters, for chance")
    parser.add_argument("--layers", default=LAYERS, help="of the first network, for slowness and depth")
    parser.add_argument("--units", type=int, default=6, help="the first so many units of each of these layers")
    parser.add_argument("--clips", type=int, default=1120, help="generated and random clips that are scored alike")
    parser.add_argument("--sheets", action=argparse.BooleanOptionalAction, default=True, help="of the first optima")
    parser.add_argument("--out", type=Path, default=Path("truth"))
    return parser.parse_args()


def numbers(option: str, text: str) -> list[float]:
    try:
        return [float(n) for n in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} must be numbers with commas between them: got {text!r}; for example 10,0") from None


def main() -> None:
    options = arguments()
    chi = numbers("--chi", options.chi)
    if options.starts < 1:
        raise UsageError(f"--starts must be at least 1: got {options.starts}; nearest: 1")
    models = {Path(name).stem: stjax.load(name) for name in options.models.split(",")}
    for name, model in models.items():
        if model.class_names != generated.CLASSES:
            raise UsageError(
                f"truth is known of the generated classes alone: {name} has others; for a network of consecutive RGB "
                "frames: scripts/check_classes.py"
            )
    folder.prepare(options.out)
    raw = options.out / "raw"
    raw.mkdir(exist_ok=True)
    first, judges = next(iter(models.values())), [(model.network, model.params) for model in models.values()]
    layers = [layer for layer in options.layers.split(",") if layer]
    seeds = range(options.seed, options.seed + options.starts)

    def request(model: stjax.Model, layer: str, units: Sequence[int], seed: int) -> stjax.Request:
        suited = recipes.suited(geometry.layer(model.network, layer), model.network.inputs)
        recipe = recipes.recipe_named(options.recipe) if options.recipe else suited
        recipe = recipe if options.steps is None else dataclasses.replace(recipe, steps=options.steps)
        return stjax.Request(model=model, layer=layer, units=units, chi=chi, recipe=recipe, seed=seed)

    def run(model: stjax.Model, title: str, seed: int, sheets: bool) -> Measurements:
        wanted = request(model, "classes", CLASSES.tolist(), seed)
        settings = json.dumps([repr(wanted.recipe), chi, model.name, model.checksum, checksums(models)])
        path = raw / f"{title.replace(', ', '-').replace(' ', '')}-{seed}.npz"
        one = raw_runs.stored(Measurements, path, settings)
        if one is None:
            clip, summary = stjax.visualize_units(wanted)
            one = scores.measure(clip, CLASSES, judges)
            if sheets:
                store(options.out, wanted, clip, summary)
            raw_runs.store(path, settings, one)
        return one

    optima: dict[str, list[Measurements]] = {}
    random: list[Measurements] = []
    layered: dict[str, Any] = {}
    count = options.starts * len(models) + options.untrained + len(layers) + 1
    with Progress() as bar:
        task = bar.add_task("optima", total=count)
        # A start at a time: stopped early, all networks have as many.
        for seed in seeds:
            for name, model in models.items():
                bar.update(task, description=f"{name}, start {seed}")
                sheets = options.sheets and seed == options.seed and not optima
                optima.setdefault(name, []).append(run(model, name, seed, sheets))
                bar.advance(task)
        for number in range(options.untrained):
            bar.update(task, description=f"untrained {number}")
            chance = untrained(first, number)
            random.append(run(chance, chance.name, options.seed, False))
            bar.advance(task)
        for layer in layers:
            bar.update(task, description=layer)
            units = range(min(options.units, geometry.layer(first.network, layer).units))
            clip, summary = stjax.visualize_units(request(first, layer, units, options.seed))
            layered[layer] = depth(clip, summary.gradient_max)
            bar.advance(task)
        bar.update(task, description="clips")
        references = {title: reference(raw, title, options.clips, models) for title in (GENERATED, *scores.UNINFORMED)}
        bar.advance(task)

    recipe = request(first, "classes", [0], options.seed).unbound
    tables = [
        *truth_tables.motion(chi, optima, random, references),
        *truth_tables.transfer(chi, list(models), optima, random, references),
        *truth_tables.slow(chi, optima, layered),
    ]
    head = (
        f"Recipe {recipe.name}, {recipe.steps} steps; mean over {options.starts} starts (least-most); "
        f"{options.clips} clips."
    )
    measured = {"chi": chi, "recipe": repr(recipe), "optima": plain(optima), "untrained": plain({"untrained": random})}
    measured |= {"references": plain({k: [v] for k, v in references.items()}), "depth": layered}
    truth_tables.report(options.out, head, tables, measured)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
