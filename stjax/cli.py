"""The face: every command is a few lines over public functions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stjax import compiled, show, weight_commands, zoo
from stjax.ascent import recipes
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import fill, hosts, plan, resume
from stjax.atlas import run as atlas
from stjax.convert.store import Model, count
from stjax.errors import UsageError, choose, nearest
from stjax.networks.geometry import receptive_field, view
from stjax.types import STREAMS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Show what a two-stream video network has learned.",
)
console = Console(stderr=True)

ModelOption = Annotated[str, typer.Option("--model", "-m", help="A name from `stjax models`, or a .safetensors file.")]
_ELSEWHERE = "host:port of process 0. Cloud TPU, Slurm and Open MPI tell it themselves."
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
    units: Annotated[
        str | None, typer.Option(help="0:9 (9 excluded), 3,7, class names, or all; else 0:9, of classes all.")
    ] = None,
    chi: Annotated[str, typer.Option(help="Slownesses of motion; 0 leaves speed free.")] = "10,5,1,0",
    kappa: Annotated[float, typer.Option(help="Weight of the spatial smoothness.")] = KAPPA,
    recipe: Annotated[str | None, typer.Option(help=f"One of {', '.join(recipes.RECIPES)}; else what suits.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of ascent; the recipe's own number if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise that runs start from, and of their jitter.")] = 0,
    chunk: Annotated[int | None, typer.Option(help="Units a device steps together, if not chosen for you.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for the network's arithmetic.")] = "float32",
    out: Annotated[Path, typer.Option(help="Folder for arrays, pictures and index.html.")] = Path("atlas"),
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Share the work with the same command on other hosts.")
    ] = False,
    coordinator: Annotated[str | None, typer.Option(envvar="STJAX_COORDINATOR", help=_ELSEWHERE)] = None,
    processes: Annotated[int | None, typer.Option(envvar="STJAX_PROCESSES", help="How many processes.")] = None,
    process: Annotated[int | None, typer.Option(envvar="STJAX_PROCESS", help="This one's number, from 0.")] = None,
) -> None:
    """Find the input that excites each unit of a layer most, and draw it.

    The same command again does only what is missing in its folder.
    """
    how = recipes.named(recipe) if recipe else recipes.suited(layer)
    how = how if steps is None else dataclasses.replace(how, steps=steps)
    rounding = choose("precision", precision, PRECISIONS)
    if re.match(r"\w\w+:/", str(out)):
        raise UsageError(f"the output folder must be a local or mounted one: got {out}; mount it, with gcsfuse say")
    compiled.keep()
    with hosts.meet(coordinator, processes, process, _wait) if distributed else hosts.Meeting() as meeting:
        network = zoo.load(model)
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
            "versions": {
                name: importlib.metadata.version(name) for name in ("stjax", "jax", "jaxlib", "flax", "optax")
            },
        }
        tasks = [_task(network, name, units, chi, how, settings) for name in _layers(network, layer)]
        for task in tasks:
            atlas.check(task.view, task.asked, ahat=task.ahat, kappa=kappa, chunk=chunk)
        request = show.Request(
            out=out,
            network=network,
            recipe=how,
            tasks=tasks,
            kappa=kappa,
            seed=seed,
            chunk=chunk,
            precision=rounding,
        )
        if not show.show(request, meeting, console):
            raise typer.Exit(1)


def _wait(text: str) -> None:
    console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)


def _task(
    network: Model, name: str, units: str | None, chi: str, recipe: recipes.Recipe, settings: dict[str, Any]
) -> fill.Task:
    if name not in network.statistics.ahat:
        raise UsageError(f"a layer needs recorded statistics (ahat): {network.name} has none for {name}")
    shown, ahat = view(network.module, name), np.asarray(network.statistics.ahat[name])
    count = plan.num_units(shown, network.params)
    units = units or ("all" if name.endswith("classes") else f"0:{min(9, count)}")
    wanted = _units(units, count, name, network.class_names if name.endswith("classes") else ())
    return fill.Task(shown, plan.jobs(shown, wanted, _numbers(chi)), ahat, resume.stamp(settings, name, recipe, ahat))


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


def _units(text: str, count: int, layer: str, names: Sequence[str] = ()) -> list[int]:
    """`0:9` (9 excluded), `3,7`, names of classes, any mixture, or `all`.

    >>> _units("0:3,7", 64, "conv1_1")
    [0, 1, 2, 7]
    >>> _units("walking,0", 2, "classes", ("running", "walking"))
    [1, 0]
    """
    if text == "all":
        return list(range(count))
    wanted: list[int] = []
    for part in map(str.strip, text.split(",")):
        if part in names:
            wanted.append(names.index(part))
            continue
        first, colon, last = part.partition(":")
        try:
            low = int(first or "0")
            high = int(last or count) if colon else low + 1
        except ValueError:
            if names and not colon:
                raise UsageError(
                    f"a class must be one of the network's: {part!r} is not; {nearest(part, names)}"
                ) from None
            raise UsageError(f"units must be like 0:9 or 3,7 or all: got {text!r}; nearest: 0:9") from None
        if low < 0 or high > count or low >= high:
            raise UsageError(
                f"units of {layer} must lie in 0:{count}: got {part!r}; "
                f"nearest: {min(max(low, 0), count - 1)}:{min(max(high, low + 1, 1), count)}"
            )
        wanted += range(low, high)
    return wanted


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"chi must be numbers with commas between: got {text!r}; nearest: 10,5,1,0") from None


def main() -> None:
    """The entry point: what a user can mend becomes one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        _refuse(str(error))
    except show.Stopped as stop:
        console.print(str(stop), style="yellow")
        sys.exit(130)
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
