"""Is what activation maximisation shows of the embedded network true? Its classes' motion is known exactly.

Finds the optimum of every class at every chi, and measures: whether the class's motion is recovered, by a matched
filter that is tried out on generated clips first; speed; slowness and roughness of each layer; whether networks
trained from other seeds recognise the optima; how many units of each layer keep their appearance when chi changes.

    python scripts/check_truth.py --out truth
    python scripts/check_truth.py --models a.safetensors,b.safetensors --recipe paper --steps 100 --layers classes

Writes truth.json, truth.md, the sheets of the first network's optima, and one picture of all classes and chi.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from markdown_table import markdown_table
from rich.progress import Progress

import stjax
from stjax import figures, files
from stjax.ascent import recipes
from stjax.atlas import folder, results
from stjax.atlas.plan import Job, num_units
from stjax.atlas.run import Found
from stjax.errors import UsageError
from stjax.figures import animate, color
from stjax.training import generated, truth
from stjax.training.evaluation import predict

MODELS = "embedded,embedded-seed1,embedded-seed2"
LAYERS = "motion/conv1_2,motion/conv2_2,motion/conv3_2,motion/conv4_2,conv4_fusion,fc5,classes"
ALIKE = 0.7
"""Correlation from which two optima of a unit count as the same."""
AUTHORS = (
    ("conv3_3", 5.95 / 0.98, 2.27 / 2.31),
    ("conv4_3", 4.16 / 0.57, 2.42 / 2.59),
    ("conv5_2", 1.89 / 0.81, 2.88 / 3.05),
)
"""Fast over slow: of mean |D_t x|, and of the mean spatial difference, measured on clips the authors published."""

Table = tuple[str, list[str], list[list[str]]]
"""A title, column heads, rows."""


def try_out(count: int) -> dict[str, float]:
    """The filter's own score on held-out clips with all nuisances: share of clips, and of those of each motion."""
    batch = len(generated.CLASSES)
    found = []
    for first in range(0, count, batch):
        clip, known = generated.examples(jax.random.key(generated.HELD_OUT), first, batch)
        recovered = truth.recover(truth.match(clip.motion), known.label)
        found.append((known.motion, recovered.motion, recovered.profile))
    motion, right, profile = (np.concatenate(column) for column in zip(*found, strict=True))
    each = {generated.MOTIONS[m].name: float(right[motion == m].mean()) for m in range(len(generated.MOTIONS))}
    return {"all": float(right.mean()), "profile": float(profile.mean())} | each


def optima(
    network: stjax.Model, layer: str, recipe: stjax.Recipe, units: Sequence[int], chi: Sequence[float], seed: int
) -> tuple[stjax.Clip, stjax.Summary, float]:
    """Clips and numbers with axes (units, chi, ...), and the seconds they took."""
    if layer not in network.statistics.ahat:
        raise UsageError(f"a layer needs recorded statistics (ahat): {network.name} has none for {layer}")
    view = stjax.view(network.module, layer)
    if layer == "classes":
        recipe = recipe.aim(stjax.ClassScore(), view.stride)
    begin = time.perf_counter()
    key, ahat = jax.random.key(seed), network.statistics.ahat[layer]
    clip, summary = stjax.visualize_units(view, recipe, network.params, key, units=units, chi=chi, ahat=ahat)
    return clip, summary, time.perf_counter() - begin


def judge(network: stjax.Model, clip: stjax.Clip) -> np.ndarray:
    """The class that a network sees in each optimum, (classes, chi)."""
    columns = range(clip.motion.shape[1])
    clips = [stjax.Clip(*(jnp.asarray(x[:, j]) for x in clip)) for j in columns]
    return np.stack([np.asarray(predict(network.module, network.params, c)) for c in clips], 1)


def motion(clip: stjax.Clip) -> list[dict[str, Any]]:
    """For each chi: shares of classes whose motion is recovered, speeds of fast over slow, and what was mistaken."""
    found = truth.match(jnp.asarray(clip.motion))
    labels = np.broadcast_to(np.arange(clip.motion.shape[0])[:, None], clip.motion.shape[:2])
    got, shakes = truth.recover(found, labels), np.asarray(truth.SHAKING)
    said = np.asarray(found.correlation).argmax(-1)
    size = truth.magnitude(clip.motion)
    pairs = truth.pairs("speed", "fast", "slow")
    rows = []
    for j in range(clip.motion.shape[1]):
        mistaken = {generated.CLASSES[c]: truth.NAMES[said[c, j]] for c in np.flatnonzero(~got.motion[:, j])}
        rows.append(
            {
                "steady": float(got.motion[~shakes, j].mean()),
                "shaking": float(got.motion[shakes, j].mean()),
                "axis and frequency": float(got.profile[shakes, j].mean()),
                "not shaking": float(got.profile[~shakes, j].mean()),
                "fast over slow": [float(size[a, j] / size[b, j]) for a, b in pairs],
                "speed": float(got.speed[~shakes, j].mean()),
                "mistaken for": mistaken,
            }
        )
    return rows


def transfer(clips: Mapping[str, stjax.Clip], networks: Mapping[str, stjax.Model]) -> dict[str, dict[str, list[float]]]:
    """Maker -> judge -> share of classes that the judge names right, for each chi."""
    labels = np.arange(len(generated.CLASSES))[:, None]
    return {
        maker: {name: (judge(network, clip) == labels).mean(0).tolist() for name, network in networks.items()}
        for maker, clip in clips.items()
    }


def depth(clip: stjax.Clip, slope: stjax.Clip) -> dict[str, Any]:
    """Of one layer: slowness and roughness for each chi, and the share of units that keep their appearance.

    A unit keeps it if its optima at the first and last chi correlate by at least `ALIKE`: the pictures of a fused
    layer; of a motion layer, where something moves, whatever way (`truth.appearance_of`).
    """
    living = np.any([np.asarray(s) > 0 for s in slope if s is not None], axis=(0, 2))
    temporal, spatial = (a[living].mean(0).tolist() for a in truth.slowness(clip.motion))
    seen = truth.appearance_of(clip)[living]
    alike = truth.likeness(seen[:, 0], seen[:, -1])
    return {
        "temporal": temporal,
        "spatial": spatial,
        "units": int(living.sum()),
        "kept": float((alike >= ALIKE).mean()),
        "likeness": float(np.median(alike)),
    }


def store(
    out: Path, network: stjax.Model, recipe: stjax.Recipe, clip: stjax.Clip, summary: stjax.Summary, chi: list[float]
) -> None:
    """The classes' optima as a results folder with its sheets, and all of them in one picture."""
    view, ahat = stjax.view(network.module, "classes"), network.statistics.ahat["classes"]
    settings = {"steps": recipe.steps, "recipe": recipe.name, "model": network.name, "weights": network.checksum}
    for unit in range(clip.motion.shape[0]):
        for j, c in enumerate(chi):
            one = jax.tree.map(lambda a, at=(unit, j): a[at], (clip, summary))
            found = Found(Job(unit, c), *one)
            line = results.record(view, found, float(ahat[unit]), settings, network.class_names)
            results.write(out, line, found)
    figures.draw_layer(out, results.read(out), network.preprocessing.mean)
    overview(out / "classes.png", clip, network.preprocessing.mean)


def overview(path: Path, clip: stjax.Clip, mean: Any) -> None:
    """A row for each class; for each chi its picture and four of its fields."""
    rows = []
    for unit in range(clip.motion.shape[0]):
        cells = []
        for j in range(clip.motion.shape[1]):
            cells.append(color.appearance(clip.appearance[unit, j], mean)[0])
            cells += list(color.direction(clip.motion[unit, j, 0])[[0, 3, 6, 9]])
        rows.append(np.concatenate([np.pad(c, ((2, 2), (1, 1), (0, 0)), constant_values=255) for c in cells], 1))
    animate.png(path, np.concatenate(rows))


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def tables(measured: Mapping[str, Any]) -> list[Table]:
    """What was measured, as tables: rows are chi wherever chi matters."""
    chi, filtered = measured["chi"], measured["filter"]
    heads = ["network", "chi", "steady motion", "shaking", "axis and frequency", "steady seen as steady"]
    recovered = [
        [
            *(name, f"{c:g}"),
            *(percent(r[k]) for k in ("steady", "shaking", "axis and frequency", "not shaking")),
            *(" ".join(f"{ratio:.2f}" for ratio in r["fast over slow"]), f"{r['speed']:.2f}"),
        ]
        for name, rows in measured["motion"].items()
        for c, r in zip(chi, rows, strict=True)
    ]
    crossed = [
        [maker, name, *(percent(v) for v in shares)]
        for maker, judges in measured["transfer"].items()
        for name, shares in judges.items()
    ]
    others = [shares for m, judges in measured["transfer"].items() for n, shares in judges.items() if m != n]
    if others:
        crossed.append(["mean of others", "", *(percent(v) for v in np.mean(others, 0))])
    columns = [f"chi {c:g}" for c in chi]
    slow = [
        [
            *(layer, *(f"{t:.2f}" for t in d["temporal"]), *(f"{s:.2f}" for s in d["spatial"])),
            *(f"{d['temporal'][-1] / max(d['temporal'][0], 1e-9):.1f}", f"{d['spatial'][-1] / d['spatial'][0]:.2f}"),
        ]
        for layer, d in measured["depth"].items()
    ]
    slow += [
        [f"authors, {layer}", *[""] * (2 * len(chi)), f"{temporal:.1f}", f"{spatial:.2f}"]
        for layer, temporal, spatial in AUTHORS
    ]
    kept = [
        [layer, str(d["units"]), percent(d["kept"]), f"{d['likeness']:.2f}"] for layer, d in measured["depth"].items()
    ]
    return [
        (
            f"Optima of {len(generated.CLASSES)} classes at chi {', '.join(f'{c:g}' for c in chi)}",
            ["network", "recipe", "steps", "seconds"],
            [[n, measured["recipe"], str(measured["steps"]), f"{s:.0f}"] for n, s in measured["seconds"].items()],
        ),
        (
            f"The filter on {measured['clips']} held-out clips",
            ["clips", "right"],
            [[k, percent(v)] for k, v in filtered.items()],
        ),
        ("Motion recovered", [*heads, "fast / slow flow, each pair", "speed found, px"], recovered),
        ("Transfer: share of the maker's optima that the judge names right", ["maker", "judge", *columns], crossed),
        (
            "Slowness: mean |D_t x| and mean spatial difference, grey levels; last over first chi",
            ["layer", *(f"D_t, {c}" for c in columns), *(f"D_xy, {c}" for c in columns), "D_t ratio", "D_xy ratio"],
            slow,
        ),
        (
            f"Appearance kept between chi {chi[0]:g} and {chi[-1]:g} (correlation >= {ALIKE:g})",
            ["layer", "units", "kept", "median correlation"],
            kept,
        ),
    ]


def markdown(parts: Sequence[Table]) -> str:
    """Tables under their titles.

    >>> print(markdown([("Two", ["a", "b"], [["1", "2"]])]))
    ### Two
    <BLANKLINE>
    | a | b |
    |---|---|
    | 1 | 2 |
    <BLANKLINE>
    """
    lines = []
    for title, heads, rows in parts:
        lines += [f"### {title}", "", *markdown_table(heads, rows), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="files or names; the first is looked into, all judge")
    parser.add_argument("--recipe", help=f"one of: {', '.join(recipes.RECIPES)} (default: what suits each layer)")
    parser.add_argument("--steps", type=int, help="instead of the recipe's own")
    parser.add_argument("--chi", default="10,5,1,0", help="falling")
    parser.add_argument("--layers", default=LAYERS, help="of the first network, for slowness and depth")
    parser.add_argument("--units", type=int, default=6, help="the first so many units of each of these layers")
    parser.add_argument("--clips", type=int, default=1200, help="held-out clips on which the filter is tried out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("truth"))
    options = parser.parse_args()

    def recipe(layer: str) -> stjax.Recipe:
        chosen = recipes.named(options.recipe) if options.recipe else recipes.suited(layer)
        return chosen if options.steps is None else dataclasses.replace(chosen, steps=options.steps)

    chi = [float(c) for c in options.chi.split(",")]
    networks = {Path(name).stem: stjax.load(name) for name in options.models.split(",")}
    for name, network in networks.items():
        if network.class_names != generated.CLASSES:
            raise UsageError(f"truth is known of the generated classes alone: {name} has others")
    folder.prepare(options.out)
    first, classes = next(iter(networks.values())), range(len(generated.CLASSES))
    layers = [layer for layer in options.layers.split(",") if layer and layer != "classes"]

    with Progress() as bar:
        task = bar.add_task("filter", total=1 + len(networks) + len(layers))
        how = recipe("classes")
        measured: dict[str, Any] = {"recipe": how.name, "steps": how.steps, "chi": chi, "clips": options.clips}
        measured |= {"filter": try_out(options.clips), "motion": {}, "seconds": {}, "depth": {}}
        clips, by_layer = {}, {}
        for name, network in networks.items():
            bar.update(task, advance=1, description=name)
            clips[name], summary, taken = optima(network, "classes", how, classes, chi, options.seed)
            measured["motion"][name], measured["seconds"][name] = motion(clips[name]), taken
            if network is first:
                by_layer["classes"] = clips[name], summary.slope
                store(options.out, network, how, clips[name], summary, chi)
        measured["transfer"] = transfer(clips, networks)
        for layer in layers:
            bar.update(task, advance=1, description=layer)
            known = num_units(stjax.view(first.module, layer), first.params)
            clip, summary, _ = optima(first, layer, recipe(layer), range(min(options.units, known)), chi, options.seed)
            by_layer[layer] = clip, summary.slope
        order = [*layers, "classes"]
        measured["depth"] = {layer: depth(*by_layer[layer]) for layer in order}
        bar.update(task, advance=1)
    text = markdown(tables(measured))
    print(text)
    files.write_text(options.out / "truth.md", text)
    files.write_text(options.out / "truth.json", json.dumps({"made": files.MARK} | measured, indent=2))


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
