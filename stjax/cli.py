"""The face: every command is a few lines over public functions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from stjax import figures, weight_commands, zoo
from stjax.ascent import recipes
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import plan, results
from stjax.atlas import run as atlas
from stjax.convert.store import Model, count
from stjax.errors import UsageError, nearest
from stjax.networks.geometry import View, receptive_field, view
from stjax.types import STREAMS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Show what a two-stream video network has learned.",
)
console = Console(stderr=True)

ModelOption = Annotated[str, typer.Option("--model", "-m", help="A name from `stjax models`, or a .safetensors file.")]
PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}


for command in (weight_commands.convert, weight_commands.inspect, weight_commands.download):
    app.command()(command)


@app.command()
def models(
    model: Annotated[str | None, typer.Argument(help="One name, or a .safetensors file; all if not given.")] = None,
) -> None:
    """List the networks by name, and say what is trained on what."""
    if model is not None and model not in zoo.ENTRIES:
        network = zoo.load(model)
        weight_commands.print_parts(f"{network.name}: {count(network.params):,} parameters", network.parts)
        return
    for entry in [zoo.ENTRIES[model]] if model else zoo.ENTRIES.values():
        weight_commands.print_parts(f"{entry.name}: {entry.summary}", entry.parts)


@app.command()
def layers(model: ModelOption = zoo.DEFAULT) -> None:
    """List a network's layers: units, receptive field, stride and canvas in pixels."""
    network = zoo.load(model)
    side = network.module.input_size
    table = Table(title=f"{network.name}, input {side} x {side}; rho: receptive field, pixels", title_justify="left")
    for heading in ("layer", "units", "rho", "stride", "canvas", "evaluated on"):
        table.add_column(heading, justify="left" if heading in ("layer", "evaluated on") else "right", no_wrap=True)
    for layer in network.module.layers:
        shown = view(network.module, layer)
        field = receptive_field(network.module, layer)
        margin = recipes.PAPER.aim(layer, shown.stride).margin
        evaluated = "its cone" if shown.window == field.side else "the whole input"
        units = plan.num_units(shown, network.params)
        table.add_row(layer, *map(str, (units, field.side, field.stride, shown.window + margin)), evaluated)
    Console().print(table)


@app.command()
def visualize(
    layer: Annotated[str, typer.Argument(help="E.g. conv3_3 (both streams), motion/conv4_3, conv5_fusion, classes.")],
    model: ModelOption = zoo.DEFAULT,
    units: Annotated[str | None, typer.Option(help="0:9 (9 excluded), 3,7, or all; else 0:9, of classes all.")] = None,
    chi: Annotated[str, typer.Option(help="Slownesses of motion; 0 leaves speed free.")] = "10,5,1,0",
    kappa: Annotated[float, typer.Option(help="Weight of the spatial smoothness.")] = KAPPA,
    recipe: Annotated[str | None, typer.Option(help=f"One of {', '.join(recipes.RECIPES)}; else what suits.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of ascent; the recipe's own number if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise that runs start from, and of their jitter.")] = 0,
    chunk: Annotated[int | None, typer.Option(help="Units stepped together, if not chosen for you.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for the network's arithmetic.")] = "float32",
    out: Annotated[Path, typer.Option(help="Folder for arrays, pictures and index.html.")] = Path("atlas"),
) -> None:
    """Find the input that excites each unit of a layer most, and draw it."""
    how = recipes.named(recipe) if recipe else recipes.suited(layer)
    how = how if steps is None else dataclasses.replace(how, steps=steps)
    network = zoo.load(model)
    rounding = _choice("precision", precision, PRECISIONS)
    units = units or ("all" if layer.endswith("classes") else "0:9")
    tasks = [_task(network, view(network.module, name), units, chi) for name in _layers(network, layer)]
    for shown, asked, ahat in tasks:
        atlas.check(shown, asked, ahat=ahat, kappa=kappa, chunk=chunk)
    results.prepare(out)

    settings = {
        "kappa": kappa,
        "seed": seed,
        "steps": how.steps,
        "recipe": how.name,
        "model": network.name,
        "weights": network.checksum,
        "precision": precision,
        "mean": list(network.preprocessing.mean),
        "device": jax.devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in ("stjax", "jax", "jaxlib", "flax", "optax")},
    }
    key = jax.random.key(seed)
    total = sum(len(asked) for _, asked, _ in tasks)
    finished, dead = 0, []
    try:
        with _progress() as bar:
            meter = bar.add_task("compiling", total=total * how.steps, units=f"0/{total}", speed="")
            for shown, asked, ahat in tasks:
                report = _reporter(bar, meter, shown.layer, finished, total, how.steps)
                climbing = atlas.climb(
                    shown,
                    how,
                    network.params,
                    key,
                    asked,
                    ahat=ahat,
                    kappa=kappa,
                    chunk=chunk,
                    precision=rounding,
                    progress=report,
                )
                for one in itertools.chain.from_iterable(climbing):
                    line = results.record(shown, one, float(ahat[one.job.unit]), settings, network.class_names)
                    results.write(out, line, one)
                    finished += 1  # at once: Ctrl-C while it is drawn must not deny it
                    figures.draw_record(out, line, network.preprocessing.mean)
                    if line["dead"]:
                        dead.append(f"{shown.layer} unit {one.job.unit}")
    except KeyboardInterrupt:
        console.print(f"stopped: {finished} of {total} finished and kept in {out}", style="yellow")
        raise typer.Exit(130) from None
    finally:
        # Also after Ctrl-C: what is finished can be looked at.
        if finished:
            _draw_all(out, layer, network)
    for name in dict.fromkeys(dead):
        console.print(f"dead: {name} has no gradient anywhere; there is nothing to see", style="yellow")
    Console().print(f"{finished} results in {out}; open {out / 'index.html'}", highlight=False)


def _draw_all(out: Path, layer: str, network: Model) -> None:
    records = results.read(out)
    of_layer = [r for r in records if r["layer"].rpartition("/")[2] == layer.rpartition("/")[2]]
    figures.draw_layer(out, of_layer, network.preprocessing.mean)
    figures.write_index(out, records)


def _task(network: Model, shown: View, units: str, chi: str) -> tuple[View, list[plan.Job], np.ndarray]:
    if shown.layer not in network.statistics.ahat:
        raise UsageError(f"a layer needs recorded statistics (ahat): {network.name} has none for {shown.layer}")
    wanted = _units(units, plan.num_units(shown, network.params), shown.layer)
    return shown, plan.jobs(shown, wanted, _numbers(chi)), np.asarray(network.statistics.ahat[shown.layer])


def _layers(network: Model, layer: str) -> list[str]:
    """A layer's own name, or both streams' layers of that name."""
    known = network.module.layers
    if layer in known:
        return [layer]
    both = [f"{stream}/{layer}" for stream in STREAMS if f"{stream}/{layer}" in known]
    if not both:
        names = dict.fromkeys([*known, *(name.rpartition("/")[2] for name in known)])
        raise UsageError(f"a layer must be one of the network's: {layer!r} is not; {nearest(layer, names)}")
    return both


def _units(text: str, count: int, layer: str) -> list[int]:
    """`0:9` (9 excluded), `3,7`, any mixture, or `all`.

    >>> _units("0:3,7", 64, "conv1_1")
    [0, 1, 2, 7]
    """
    if text == "all":
        return list(range(count))
    wanted: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        try:
            low = int(first or "0")
            high = int(last or count) if colon else low + 1
        except ValueError:
            raise UsageError(f"units must be like 0:9 or 3,7 or all: got {text!r}; nearest: 0:9") from None
        if low < 0 or high > count or low >= high:
            raise UsageError(
                f"units of {layer} must lie in 0:{count}: got {part.strip()!r}; "
                f"nearest: {min(max(low, 0), count - 1)}:{min(max(high, low + 1, 1), count)}"
            )
        wanted += range(low, high)
    return wanted


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"chi must be numbers with commas between: got {text!r}; nearest: 10,5,1,0") from None


def _choice(what: str, name: str, options: dict[str, Any]) -> Any:
    if name not in options:
        raise UsageError(f"{what} must be a known one: {name!r} is not; {nearest(name, options)}")
    return options[name]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[units]} units"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _reporter(
    bar: Progress, meter: TaskID, layer: str, before: int, total: int, steps: int
) -> Callable[[atlas.Progress], None]:
    """Shows one layer's progress within that of the whole command."""

    def report(at: atlas.Progress) -> None:
        bar.update(meter, completed=before * steps + at.unit_steps, units=f"{before + at.done}/{total}")
        speed = bar.tasks[meter].speed
        # The first steps include compilation and would show a rate that never comes back.
        bar.update(meter, speed=f"{speed:.0f} unit-steps/s" if speed else "")
        if at.unit_steps:
            bar.update(meter, description=layer)

    return report


def main() -> None:
    """The entry point: what a user can mend becomes one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        _refuse(str(error))
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        # The parser's own errors: an option that does not exist, a number that is none.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        _refuse(" ".join(message().split()))
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    console.print(f"error: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(2)
