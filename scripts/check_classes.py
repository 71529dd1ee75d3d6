"""Is what activation maximisation shows of a network of real video true? Its classes' optima, seen otherwise.

For a network that is shown consecutive RGB frames. Is the optimum of a class named so in other crops, at other sizes,
in every second frame; does it need time to run forwards, if the class has a direction; how fast does it move at each
chi, and how much of what changes is movement? Beside each number stands what the same measure gives for the same
optima under each other's names, for noise of their contrast and spectrum, for frames that are free of one another, for
a network with random parameters, and for real clips, if there are any.

    python scripts/check_classes.py --models i3d-kinetics400 --classes "playing tennis,high jump" --out truth
    python scripts/check_classes.py --models i3d-kinetics400 --results seed0,seed1 --layers appearance/Mixed_3c

Optima are found as `stjax visualize` finds them, into folders of <out>, or read from the folders of --results, one or
more seeds. Writes truth.md and truth.json; and into <out>/raw what was measured of each clip, so that the same command,
stopped at any moment, goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import class_optima
import class_tables
import jax
import numpy as np
import raw_runs
import real_clips
import truth_tables
from free_frames import FREE_FRAMES
from rich.progress import track

import stjax
from stjax.analysis import naming, views
from stjax.analysis.calibration import calibrated
from stjax.analysis.change import change_of
from stjax.analysis.depth import depth
from stjax.analysis.naming import Judged
from stjax.ascent import recipes
from stjax.atlas import folder, resume
from stjax.commands.units import numbers, parsed_units
from stjax.compilation import cache_programs
from stjax.errors import UsageError
from stjax.networks import geometry
from stjax.types import Layer, sees_frames, shapes

DIRECTED = (
    *("bungee jumping", "diving cliff", "springboard diving", "jumping into pool", "skydiving", "faceplanting"),
    *("high jump", "long jump", "triple jump", "pole vault", "vault", "ski jumping", "dunking basketball", "bowling"),
    *("golf driving", "golf putting", "kicking field goal", "shot put", "javelin throw", "hammer throw"),
    *("throwing axe", "throwing discus", "throwing ball", "tossing coin", "opening bottle", "ripping paper"),
    *("tobogganing", "water sliding", "bobsledding", "peeling apples", "cutting watermelon", "sneezing"),
)
"""Classes of Kinetics-400 that look wrong backwards, by their meaning: what falls, flies off, or comes apart, once. Not
among them what goes to and fro (juggling, swings, strokes), or ahead and might as well go back (riding, walking)."""


class One(NamedTuple):
    """What is measured of one clip: (judges, views, classes) and (measures,), see `naming.Judged`."""

    scores: np.ndarray
    change: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """What judges clips, and where it is kept."""

    raw: Path
    judges: Sequence[stjax.Model]

    def one(self, frames: np.ndarray) -> One:
        """Measures a clip, or reads what an earlier run measured of the same."""
        of = hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
        # By everything but the clip itself.
        settings = json.dumps([views.VIEWS, [resume.weights_of(judge) for judge in self.judges], frames.shape])
        path = self.raw / f"{of[:24]}-{len(self.judges)}.npz"
        known = raw_runs.stored(One, path, settings)
        if known is None:
            shown = views.views(frames, self.judges[0].preprocessing.mean)
            scores = np.stack([views.seen(judge, shown) for judge in self.judges])
            known = One(scores, np.asarray(change_of(frames)))
            raw_runs.store(path, settings, known)
        return known

    def judged(self, title: str, labels: Sequence[int], clips: Sequence[Sequence[Any]]) -> Judged:
        """Measures clips, each of `labels` at several chi; `clips` are functions: one is in memory at a time."""
        flat = [clip for row in clips for clip in row]
        ones = [self.one(clip()) for clip in track(flat, description=title)]
        shape = (len(labels), -1)
        scores, change = (np.stack(column) for column in zip(*ones, strict=True))
        scores = scores.reshape(*shape, *scores.shape[1:])
        return Judged(np.asarray(labels), np.moveaxis(scores, 2, 0), change.reshape(*shape, change.shape[1]))


def untrained(like: stjax.Model, seed: int) -> stjax.Model:
    """The same network with random parameters, its ahat recorded on generated clips."""
    network: Any = like.network
    if not hasattr(network, "init"):
        kind = type(network).__name__
        raise UsageError(
            f"random parameters need a network with a method init: {kind} has none; nearest: --untrained 0"
        )
    clip = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(network.inputs))
    params = jax.jit(network.init)(jax.random.key(seed), clip)["params"]
    return calibrated(dataclasses.replace(like, name=f"untrained-{seed}", params=params, checksum=""))


def classes_of(model: stjax.Model) -> Layer:
    """The layer of a network's classes.

    Raises:
      UsageError: it has none with names, or is shown something else than consecutive frames.
    """
    if not sees_frames(model.network.inputs):
        shown = " and ".join(f"{each.name} of kind {each.kind}" for each in model.network.inputs)
        raise UsageError(
            f"a network must be shown consecutive RGB frames and nothing else: {model.name} is shown {shown}; for the "
            "generated classes: scripts/check_truth.py"
        )
    layers = [layer for layer in model.network.layers if layer.role == "classes"]
    if not layers or not model.class_names:
        raise UsageError(f"a network must have classes with names: {model.name} has none")
    return layers[-1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="i3d-kinetics400", help="files or names; all are looked into, all judge")
    parser.add_argument("--classes", help="names or numbers, as of `stjax visualize --units`; default: of --results")
    parser.add_argument("--results", help="folders of `stjax visualize`, with commas between, in place of finding")
    parser.add_argument("--recipe", help=f"one of: {', '.join(recipes.RECIPES)} (default: what suits each layer)")
    parser.add_argument("--steps", type=int, help="instead of the recipe's own")
    parser.add_argument("--chi", help="falling (default: those of --results, or 10,1,0)")
    parser.add_argument("--starts", type=int, default=1, help="optima of a class from so many seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--directed", help="names of classes with a direction in time (default: a list in this file)")
    parser.add_argument("--few", type=int, default=4, help="so many classes for noise, free frames and untrained")
    parser.add_argument("--untrained", type=int, default=1, help="networks with random parameters, for chance")
    parser.add_argument(
        "--free", action=argparse.BooleanOptionalAction, default=True, help="frames free of one another"
    )
    parser.add_argument("--clips", default="", help="videos or folders of them, each named by its class")
    parser.add_argument("--layers", default="", help="of the first network, for slowness: appearance/Mixed_3c, say")
    parser.add_argument("--units", type=int, default=6, help="the first so many units of each of these layers")
    parser.add_argument("--out", type=Path, default=Path("truth"))
    return parser.parse_args()


class Asked(NamedTuple):
    """What is measured: runs of the same units at the same chi."""

    runs: list[class_optima.Run]
    units: list[int]
    chi: list[float]


def request(
    model: stjax.Model, layer: str, units: Sequence[int], chi: Sequence[float], seed: int, options: argparse.Namespace
) -> stjax.Request:
    """One run of a layer, by the recipe that is asked for, or suits it."""
    suited = recipes.suited(geometry.layer(model.network, layer), model.network.inputs)
    recipe = recipes.recipe_named(options.recipe) if options.recipe else suited
    recipe = recipe if options.steps is None else dataclasses.replace(recipe, steps=options.steps)
    return stjax.Request(model=model, layer=layer, units=units, chi=chi, recipe=recipe, seed=seed)


def asked(models: Mapping[str, stjax.Model], layer: Layer, options: argparse.Namespace) -> Asked:
    """The optima that are to be judged: read, or found."""
    names = next(iter(models.values())).class_names
    units = parsed_units(options.classes, layer.units, layer.name, names) if options.classes else None
    chi = numbers(options.chi) if options.chi else None
    if options.results:
        runs = class_optima.runs(map(Path, options.results.split(",")), layer.name, models)
    elif units is None:
        raise UsageError('classes must be given, or folders of results: --classes "playing tennis", say')
    else:
        runs = []
        for seed in range(options.seed, options.seed + options.starts):
            for name, model in models.items():
                wanted = request(model, layer.name, units, chi or (10.0, 1.0, 0.0), seed, options)
                place = class_optima.find(options.out / f"{name}-seed{seed}", wanted)
                runs += class_optima.runs([place], layer.name, models)
    there, slownesses = class_optima.common(runs, chi)
    if lacking := [unit for unit in units or () if unit not in there]:
        raise UsageError(f"results must hold each class at every chi and seed: {names[lacking[0]]} is not there")
    if not there or not slownesses:
        raise UsageError("results must have a class in common at every chi and seed: these have none")
    return Asked(runs, units or there, slownesses)


def noise_like(cell: tuple[Path, Any]) -> np.ndarray:
    """Noise of the contrast and spectrum of an optimum."""
    return views.scrambled(class_optima.frames(cell))


def groups(
    check: Check, models: Mapping[str, stjax.Model], layer: Layer, wanted: Asked, options: argparse.Namespace
) -> dict[str, class_tables.Judgement]:
    """All that is judged, by title; optima of the first network first."""
    first = next(iter(models.values()))
    judged: dict[str, list[Judged]] = {}
    for run in wanted.runs:
        cells = [[partial(class_optima.frames, run.cells[unit, c]) for c in wanted.chi] for unit in wanted.units]
        judged.setdefault(run.model, []).append(check.judged(f"{run.model}, seed {run.seed}", wanted.units, cells))
    parts: dict[str, class_tables.Judgement] = {}
    for number, name in enumerate(models):
        for judge, other in enumerate(models):
            if name in judged and (judge == number or name == next(iter(judged))):
                parts[f"optima of {name}" if judge == number else f"the same, judged by {other}"] = judged[name], judge
    few = wanted.units[: options.few]
    if few:
        cells = wanted.runs[0].cells
        noise = [[partial(noise_like, cells[unit, c]) for c in wanted.chi] for unit in few]
        parts["noise of the same contrast and spectrum"] = [check.judged("noise", few, noise)], 0
    if few and options.free:
        recipe = FREE_FRAMES if options.steps is None else dataclasses.replace(FREE_FRAMES, steps=options.steps)
        own = stjax.Request(model=first, layer=layer.name, units=few, chi=wanted.chi, recipe=recipe, seed=options.seed)
        parts["free frames"] = [found(check, options.out / "free-frames", own, {"": first})], 0
    for number in range(options.untrained if few else 0):
        chance = untrained(first, number)
        own = request(chance, layer.name, few, wanted.chi, options.seed, options)
        both = Check(raw=check.raw, judges=(first, chance))
        one = found(both, options.out / chance.name, own, {"": chance})
        parts[f"optima of {chance.name}, judged by {first.name}"] = [one], 0
        parts[f"optima of {chance.name}, judged by itself"] = [one], 1
    if paths := real_clips.files_of(Path(p) for p in options.clips.split(",") if p):
        labels = [real_clips.label_of(path, first.class_names) for path in paths]
        clips = [[partial(real_clips.clip_of, path, first)] for path in paths]
        parts["real clips"] = [check.judged("clips", labels, clips)], 0
    return parts


def found(check: Check, place: Path, own: stjax.Request, models: Mapping[str, stjax.Model]) -> Judged:
    """Optima of one request, found into a folder, and judged."""
    run = class_optima.runs([class_optima.find(place, own)], own.layer, models)[0]
    cells = [[partial(class_optima.frames, run.cells[u, c]) for c in own.chi] for u in own.units]
    return check.judged(place.name, list(own.units), cells)


def layered(model: stjax.Model, chi: Sequence[float], options: argparse.Namespace) -> dict[str, Any]:
    """Slowness of the first units of some layers, each found into a folder of its own."""
    measured = {}
    for layer in (name for name in options.layers.split(",") if name):
        units = range(min(options.units, geometry.layer(model.network, layer).units))
        place = options.out / "layers" / layer.replace("/", "-")
        own = request(model, layer, units, (chi[0], chi[-1]), options.seed, options)
        run = class_optima.runs([class_optima.find(place, own)], layer, {"": model})[0]
        measured[layer] = depth(*class_optima.together(run))
    return measured


def plain(parts: Mapping[str, class_tables.Judgement]) -> dict[str, Any]:
    """Measures of every run, and the log-odds of each clip at each chi in each view, for truth.json."""
    measured: dict[str, Any] = {}
    for title, (runs, judge) in parts.items():
        measured[title] = []
        for run in runs:
            one = {name: values.tolist() for name, values in naming.measures(run, judge).items()}
            each = naming.named(run, judge).log_odds.round(3)
            measured[title].append(one | {"labels": run.label.tolist(), "log-odds of each": each.tolist()})
    return measured


def main() -> None:
    options = arguments()
    if options.starts < 1:
        raise UsageError(f"--starts must be at least 1: got {options.starts}; nearest: 1")
    cache_programs()
    models = {Path(name).stem: stjax.load(name) for name in options.models.split(",")}
    first = next(iter(models.values()))
    layer = classes_of(first)
    for name, model in models.items():
        if classes_of(model) != layer or model.class_names != first.class_names:
            raise UsageError(f"all networks must have the same classes and inputs: {name} has others than {first.name}")
    directed = options.directed.split(",") if options.directed else list(DIRECTED)
    if options.directed:
        parsed_units(options.directed, layer.units, layer.name, first.class_names)
    folder.prepare(options.out)
    check = Check(raw=options.out / "raw", judges=tuple(models.values()))
    check.raw.mkdir(exist_ok=True)
    wanted = asked(models, layer, options)
    names = [first.class_names[unit] for unit in wanted.units]
    parts = groups(check, models, layer, wanted, options)
    judgement = next(iter(parts.values()))
    tables = [
        *class_tables.beside_chance(wanted.chi, parts),
        class_tables.by_view(wanted.chi, judgement),
        *class_tables.reversal(wanted.chi, judgement, names, directed),
        class_tables.each_class(wanted.chi, judgement, names),
    ]
    deep = layered(first, wanted.chi, options)
    tables += truth_tables.layers((wanted.chi[0], wanted.chi[-1]), deep) if deep else []
    seeds = len(judgement[0])
    head = (
        f"{len(names)} classes, {seeds} seed{'s' if seeds > 1 else ''}: mean (least-most). With a direction in time: "
        f"{', '.join(name for name in names if name in directed) or 'none'}. Noise, free frames and untrained: the "
        f"first {min(options.few, len(names))} classes, one seed."
    )
    measured = {"chi": wanted.chi, "classes": names, "directed": [name for name in names if name in directed]}
    measured |= {"views": views.VIEWS, "groups": plain(parts), "depth": deep}
    truth_tables.report(options.out, head, tables, measured)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
