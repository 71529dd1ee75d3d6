"""Which recipe reaches PAPER's value of equation (1) in the fewest steps, and are its pictures as good?

For each layer: value of (1) of the stored window, without jitter, after so many steps, as a median over units
and chi; the steps after which the median reaches PAPER's; and a picture with one row a recipe.

    python scripts/compare_recipes.py --out comparison
    python scripts/compare_recipes.py --layers motion/conv4_3 --chi 10,0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from markdown_table import markdown_table
from rich.progress import track

import stjax
from stjax.ascent.optimizers import Adam, Sobolev
from stjax.ascent.recipes import FAST, PAPER, Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import plan, run
from stjax.figures import animate, color, layout

LAYERS = ("appearance/conv3_3", "appearance/conv4_3", "appearance/conv5_3")
LOOKS = (10, 20, 30, 40, 50, 60, 70, 100, 150, 200, 300)

CANDIDATES = {
    "paper": PAPER,
    "fast": FAST,
    "adam 10": Recipe(steps=100, optimizer=Adam(rate=10.0)),
    "adam 20, fading": Recipe(steps=60, optimizer=Adam(rate=20.0, final=0.05)),
    "fast without smoothing": dataclasses.replace(FAST, optimizer=Sobolev(reach=0.0)),
    "fast with jitter": dataclasses.replace(FAST, jitters=True),
    "fast from PAPER's start": dataclasses.replace(FAST, start=PAPER.start),
}


def trace(
    network: stjax.Model, layer: str, recipe: Recipe, units: range, chi: list[float], seed: int
) -> tuple[dict[int, np.ndarray], stjax.Clip, np.ndarray]:
    """Value of (1) of every job after each of LOOKS steps; the clips; activations over ahat."""
    view = stjax.view(network.module, layer)
    recipe = recipe.aim(layer, view.stride)
    asked = plan.jobs(view, units, chi)
    ahat = np.asarray(network.statistics.ahat[layer])
    size = plan.chunk(view, recipe, network.params)
    parts = [asked[i : i + size] for i in range(0, len(asked), size)]
    values: dict[int, list[np.ndarray]] = {}
    clips, gains = [], []
    for part in parts:
        padded = part + [part[-1]] * (size - len(part))
        numbers = jnp.asarray([job.unit for job in padded])
        strengths = run.weigh(recipe, view.rho, ahat, KAPPA, padded)
        key = jax.random.key(seed)
        states, keys, slope = run.begin(view, recipe, network.params, key, numbers, strengths, stjax.Clip())
        for step in range(1, recipe.steps + 1):
            states, slope = run.advance(view, recipe, network.params, keys, numbers, strengths, states, slope, None)
            if step in LOOKS or step == recipe.steps:
                windows, summary = run.measure(view, recipe, network.params, numbers, strengths, states.clip)
                values.setdefault(step, []).append(np.asarray(summary.value)[: len(part)])
        real = slice(len(part))
        clips.append(jax.tree.map(lambda a, real=real: np.asarray(a)[real], windows))
        gains.append(np.asarray(summary.activation)[: len(part)] / ahat[[job.unit for job in part]])
    joined = jax.tree.map(lambda *a: np.concatenate(a), *clips)
    return {step: np.concatenate(v) for step, v in values.items()}, joined, np.concatenate(gains)


def picture(path: Path, rows: dict[str, stjax.Clip], mean: tuple[float, float, float]) -> None:
    """One row a recipe, one column a job."""
    strips = []
    for clip in rows.values():
        if clip.appearance is not None:
            cells = [color.appearance(x, mean)[0] for x in clip.appearance]
        else:
            cells = [color.direction(x[0])[0] for x in clip.motion]
        side = layout.fit(cells[0].shape[0])
        cells = [np.pad(layout.resize(c[None], side)[0], ((4, 4), (4, 4), (0, 0)), constant_values=255) for c in cells]
        strips.append(np.concatenate(cells, axis=1))
    animate.png(path, np.concatenate(strips))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--recipes", default=";".join(CANDIDATES), help="names of candidates, with ; between")
    parser.add_argument("--units", type=int, default=8, help="the first so many units")
    parser.add_argument("--chi", default="10,0", help="of layers that see motion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    options = parser.parse_args()
    network = stjax.load("vgg16-imagenet")
    options.out.mkdir(parents=True, exist_ok=True)
    chi = [float(c) for c in options.chi.split(",")]
    results: list[dict[str, Any]] = []
    for layer in options.layers.split(","):
        rows = {}
        for name in track(options.recipes.split(";"), description=layer):
            recipe = CANDIDATES[name]
            values, rows[name], gains = trace(network, layer, recipe, range(options.units), chi, options.seed)
            medians = {step: float(np.median(v)) for step, v in values.items()}
            gain = float(np.median(gains))
            results.append({"layer": layer, "recipe": name, "values": medians, "gain": gain})
        picture(options.out / f"{layer.replace('/', '-')}.png", rows, network.preprocessing.mean)
    steps = sorted({step for r in results for step in r["values"]})
    rows = []
    for r in results:
        goal = next((p["values"][300] for p in results if p["layer"] == r["layer"] and p["recipe"] == "paper"), None)
        reached = next((s for s in steps if goal is not None and r["values"].get(s, -np.inf) >= goal), None)
        cells = [f"{r['values'][s]:.1f}" if s in r["values"] else "" for s in steps]
        ends = [f"{r['gain']:.1f}", str(reached or "not reached")]
        rows.append([r["layer"], r["recipe"], *cells, *ends])
    lines = markdown_table(["layer", "recipe", *steps, "a / ahat", "steps to PAPER's value"], rows)
    print("\n".join(lines))
    (options.out / "recipes.md").write_text("\n".join(lines) + "\n")
    (options.out / "recipes.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
