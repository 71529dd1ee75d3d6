"""The face: every command is a few lines over public functions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import os
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

from stjax import compilation, completion, show, weight_commands, zoo
from stjax.ascent import recipes
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import fill, hosts, plan, resume
from stjax.atlas import run as atlas
from stjax.convert.store import Model, count
from stjax.errors import UsageError, choose, nearest, printable
from stjax.figures.records import bare
from stjax.networks.geometry import probe, receptive_field
from stjax.types import STREAMS
from stjax.version import __version__

app = typer.Typer(rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]})
console = Console(stderr=True, emoji=False)

_MODEL = "A name from `stjax models`, or a .safetensors file."
_offer_models = completion.one_of(zoo.ENTRIES)
_ELSEWHERE = "host:port of process 0. Cloud TPU, Slurm and Open MPI tell it themselves."
PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}


@app.callback(invoke_without_command=True)
def stjax(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Show what a two-stream video network has learned."""
    if version:
        Console().print(f"stjax {__version__}", highlight=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


for command in (weight_commands.convert, weight_commands.inspect, weight_commands.download):
    app.command()(command)


@app.command()
def models(
    model: Annotated[
        str | None,
        typer.Argument(
            help="One name, or a .safetensors file; all if not given.", autocompletion=_offer_models, show_default=False
        ),
    ] = None,
) -> None:
    """List the networks by name, and say what is trained on what."""
    if model is not None and model not in zoo.ENTRIES:
        network = zoo.load(model)
        weight_commands.print_parts(f"{network.name}: {count(network.params):,} parameters", network.parts)
        return
    for entry in [zoo.ENTRIES[model]] if model else zoo.ENTRIES.values():
        weight_commands.print_parts(f"{entry.name}: {entry.summary}", entry.parts)


@app.command()
def layers(
    name: Annotated[
        str | None,
        typer.Argument(help=f"{_MODEL} {zoo.DEFAULT} if not given.", autocompletion=_offer_models, show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The same, spelled as in `visualize`.", autocompletion=_offer_models),
    ] = None,
) -> None:
    """List a network's layers: units, receptive field, stride and canvas in pixels."""
    if name is not None and model is not None and name != model:
        raise UsageError(f"one network must be named: got {name} and --model {model}; nearest: stjax layers {name}")
    network = zoo.load(next((given for given in (name, model) if given is not None), zoo.DEFAULT))
    side, statistics = network.module.input_size, network.statistics
    table = Table(
        title=f"{weight_commands.cell(network.name)}, input {side} x {side}; rho: receptive field, pixels",
        title_justify="left",
    )
    for heading in ("layer", "units", "rho", "stride", "canvas", "evaluated on", "ahat"):
        words = heading in ("layer", "evaluated on", "ahat")
        table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=heading == "layer")
    for layer in network.module.layers:
        shown = probe(network.module, layer)
        field = receptive_field(network.module, layer)
        margin = recipes.MAHENDRAN.bind(layer, shown.stride).margin
        evaluated = "its cone" if shown.window == field.side else "the whole input"
        units = plan.num_units(shown, network.params)
        known = "rough" if layer in statistics.rough else "yes" if layer in statistics.ahat else "none"
        numbers = map(str, (units, field.side, field.stride, shown.window + margin))
        table.add_row(layer, *numbers, evaluated, known)
    Console().print(table)
    for why in dict.fromkeys(statistics.rough.values()):
        Console().print(f"rough: ahat was recorded {why}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def visualize(
    layer: Annotated[
        str,
        typer.Argument(
            help="A name from `stjax layers`, or a bare one like conv3_2: both streams.",
            autocompletion=completion.layers,
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help=_MODEL, autocompletion=_offer_models)] = zoo.DEFAULT,
    units: Annotated[
        str | None, typer.Option(help="0:9 (9 excluded), 3,7, class names, or all; else 0:9, of classes all.")
    ] = None,
    chi: Annotated[str, typer.Option(help="Slownesses of motion; 0 leaves speed free.")] = "10,5,1,0",
    kappa: Annotated[float, typer.Option(help="Weight of the spatial smoothness.")] = KAPPA,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(recipes.RECIPES)}; else what suits.",
            autocompletion=completion.one_of(recipes.RECIPES),
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of ascent; the recipe's own number if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise that runs start from, and of their jitter.")] = 0,
    starts: Annotated[int, typer.Option(help="Find so many optima of each unit, from as many seeds.")] = 1,
    chunk: Annotated[int | None, typer.Option(help="Units a device steps together, if not chosen for you.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or bfloat16 for the network's arithmetic.", autocompletion=completion.one_of(PRECISIONS)
        ),
    ] = "float32",
    out: Annotated[
        str | None,
        typer.Option(help="Folder for arrays, pictures and index.html; else atlas/MODEL/LAYER.", show_default=False),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Share the work with the same command on other hosts.")
    ] = False,
    coordinator: Annotated[str | None, typer.Option(envvar="STJAX_COORDINATOR", help=_ELSEWHERE)] = None,
    processes: Annotated[int | None, typer.Option(envvar="STJAX_PROCESSES", help="How many processes.")] = None,
    process: Annotated[int | None, typer.Option(envvar="STJAX_PROCESS", help="This one's number, from 0.")] = None,
) -> None:
    """Find the input that excites each unit of a layer most, and draw it.

    The same command again does only what is missing in its folder. For example:

    - `stjax visualize classes`
    - `stjax visualize classes --units "star spinning left"`
    - `stjax visualize motion/conv3_2 --units 3,7 --chi 10,0`
    - `stjax visualize conv5_fusion --model vgg16-imagenet --units 0:16`
    """
    how = recipes.suited(layer) if recipe is None else recipes.named(recipe)
    how = how if steps is None else dataclasses.replace(how, steps=steps)
    rounding = choose("precision", precision, PRECISIONS)
    plan.check_seed(seed)
    if out == "":
        raise UsageError("the output folder must have a name: got ''; nearest: --out atlas")
    folder = Path("atlas", Path(model).stem, bare(layer)) if out is None else Path(out)
    if re.match(r"\w\w+:/", str(folder)):
        raise UsageError(f"the output folder must be a local or mounted one: got {folder}; mount it, with gcsfuse say")
    compilation.cache_programs()
    with hosts.meet(coordinator, processes, process, _wait) if distributed else hosts.Meeting() as meeting:
        network = zoo.load(model)
        settings = {
            "kappa": kappa,
            "seed": seed,
            "prng": plan.prng(),
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
        tasks = [
            _task(network, name, units, chi, starts, how, settings, chunk, rounding) for name in _layers(network, layer)
        ]
        for task in tasks:
            atlas.check(task.probe, network.params, task.asked, ahat=task.ahat, kappa=kappa, chunk=chunk)
        request = show.Request(
            out=folder,
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
    console.print(printable(text), style="dim", highlight=False, markup=False, soft_wrap=True)


def _task(
    network: Model,
    name: str,
    units: str | None,
    chi: str,
    starts: int,
    recipe: recipes.Recipe,
    settings: dict[str, Any],
    chunk: int | None,
    precision: Any,
) -> fill.Task:
    if name not in network.statistics.ahat:
        raise UsageError(f"a layer needs recorded statistics (ahat): {network.name} has none for {name}")
    shown, ahat = probe(network.module, name), np.asarray(network.statistics.ahat[name])
    count = plan.num_units(shown, network.params)
    units = ("all" if name.endswith("classes") else f"0:{min(9, count)}") if units is None else units
    wanted = _units(units, count, name, network.class_names if name.endswith("classes") else ())
    settings = settings | {"rough": network.statistics.rough.get(name)}
    floored = frozenset(network.statistics.floored.get(name, ()))
    together = atlas.chunk_of(shown, recipe, network.params, chunk=chunk, precision=precision)
    asked = plan.jobs(shown, wanted, _numbers(chi), starts)
    return fill.Task(shown, asked, ahat, resume.stamp(settings, name, recipe, ahat, together), floored)


def _layers(network: Model, layer: str) -> list[str]:
    """A layer's own name, or both streams' layers of that name."""
    known = network.module.layers
    if layer in known:
        return [layer]
    both = [f"{stream}/{layer}" for stream in STREAMS if f"{stream}/{layer}" in known]
    if not both:
        near = nearest(layer, dict.fromkeys([*known, *map(bare, known)]))
        if layer in {name for full in zoo.VGG16_LAYERS for name in (full, bare(full))}:
            near = f"{zoo.VGG16_IMAGENET.name} has it: --model {zoo.VGG16_IMAGENET.name}"
        raise UsageError(f"a layer must be one of the network's: {layer!r} is not, of {network.name}; {near}")
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
            low = int(first or "0") if colon else int(first)
            high = int(last or count) if colon else low + 1
        except ValueError:
            if names and part and not colon:
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
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows ASCII only, or a pipe that was told so: a strange letter becomes a question mark.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        _refuse(str(error))
    except show.Stopped as stop:
        console.print(printable(stop), style="yellow", highlight=False, markup=False, soft_wrap=True)
        sys.exit(130)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        # A disk that is full, a folder that may not be read, a name that is too long.
        named = f"{error.filename}: " if error.filename else ""
        _refuse(f"{named}{error.strerror or error}")
    except Exception as error:
        # The parser's own errors: an option that does not exist, a number that is none.
        message = getattr(error, "format_message", None)
        if message is not None:
            _refuse(message())
        _check_devices()
        raise
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _check_devices() -> None:
    """Says so where JAX has no device, which it may do by an assertion deep within."""
    try:
        jax.devices()
    except Exception as error:
        reason = str(error).partition("\n")[0] or "it is not installed"
        _refuse(f"JAX must find a device: JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} has none here: {reason}")


def _refuse(message: str) -> NoReturn:
    message = printable(" ".join(message.split()))
    console.print(f"error: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(2)
