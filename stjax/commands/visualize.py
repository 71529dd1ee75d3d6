"""The command that finds and draws what excites units most: visualize."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import typer

from stjax import compilation, zoo
from stjax.ascent import recipes
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import hosts, plan, session
from stjax.atlas.request import CHI, Request
from stjax.commands import completion
from stjax.commands.networks import MODEL_HELP
from stjax.commands.terminal import console, note
from stjax.commands.units import chosen_units, layers_named, numbers
from stjax.convert import store
from stjax.errors import UsageError, choose
from stjax.figures import bare
from stjax.model import resized
from stjax.networks.geometry import layer as layer_of

PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}
_COORDINATOR = "host:port of process 0. Cloud TPU, Slurm and Open MPI tell it themselves."


def visualize(
    layer: Annotated[
        str,
        typer.Argument(
            help="A name from `stjax layers`, or a bare one like conv3_2: both streams.",
            autocompletion=completion.layers,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help=MODEL_HELP, autocompletion=completion.models)
    ] = zoo.DEFAULT,
    units: Annotated[
        str | None,
        typer.Option(
            help="0:9 (9 excluded), 3,7, names of classes, or all. If not given: 0:9, all of a layer of classes."
        ),
    ] = None,
    chi: Annotated[
        str, typer.Option(help="How much slowness of motion counts; 10 gives slow motion, 0 leaves speed free.")
    ] = ",".join(f"{c:g}" for c in CHI),
    kappa: Annotated[float, typer.Option(help="Weight of smoothness in space.")] = KAPPA,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(recipes.RECIPES)}. If not given: the one that suits the layer.",
            autocompletion=completion.one_of(recipes.RECIPES),
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of ascent. If not given: the recipe's own number.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise that a run starts from, and of its jitter.")] = 0,
    starts: Annotated[int, typer.Option(help="How many optima of each unit to find, each from a seed of its own.")] = 1,
    chunk: Annotated[
        int | None, typer.Option(help="How many units a device steps together. If not given: chosen by the layer.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or bfloat16 for the network's arithmetic.", autocompletion=completion.one_of(PRECISIONS)
        ),
    ] = "float32",
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip, for a network that takes any number. If not given: its own.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Height and width of a clip in pixels, for a network that takes any. If not given: its own."),
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(help="A file from `stjax record`, in place of the model's own ahat.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder for arrays, pictures and index.html. If not given: atlas/MODEL/LAYER.", show_default=False
        ),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Share the work with the same command on other hosts.")
    ] = False,
    coordinator: Annotated[str | None, typer.Option(envvar="STJAX_COORDINATOR", help=_COORDINATOR)] = None,
    processes: Annotated[
        int | None, typer.Option(envvar="STJAX_PROCESSES", help="How many processes there are.")
    ] = None,
    process: Annotated[
        int | None, typer.Option(envvar="STJAX_PROCESS", help="The number of this process, from 0.")
    ] = None,
) -> None:
    """Find the input that excites each unit of a layer most, and draw it.

    The same command again does only what is missing in its folder. For example:

    - `stjax visualize classes`
    - `stjax visualize classes --units "star spinning left"`
    - `stjax visualize conv3_2 --units 3,7 --chi 10,0`
    - `stjax visualize conv3_3 --model vgg16-imagenet --units 0:16`
    - `stjax visualize classes --model i3d-kinetics400 --units "playing tennis"`
    - `stjax visualize mixed --model my_networks:make`
    """
    how = None if recipe is None else recipes.recipe_named(recipe)
    rounding = choose("precision", precision, PRECISIONS)
    slownesses = numbers(chi)
    plan.check_seed(seed)
    folder = _folder(out, model, layer)
    compilation.cache_programs()
    with hosts.connect(coordinator, processes, process, note) if distributed else hosts.Meeting() as meeting:
        loaded = resized(zoo.load(model), frames, size)
        if statistics is not None:
            loaded = dataclasses.replace(loaded, statistics=store.load_statistics(statistics))
        requests = []
        for name in layers_named(loaded, layer):
            own = how or recipes.suited(layer_of(loaded.network, name), loaded.network.inputs)
            requests.append(
                Request(
                    model=loaded,
                    layer=name,
                    units=chosen_units(units, loaded, name),
                    chi=slownesses,
                    recipe=own if steps is None else dataclasses.replace(own, steps=steps),
                    seed=seed,
                    starts=starts,
                    kappa=kappa,
                    chunk=chunk,
                    precision=rounding,
                )
            )
        if not session.visualize(folder, requests, meeting, console):
            raise typer.Exit(1)


def _folder(out: str | None, model: str, layer: str) -> Path:
    if out == "":
        raise UsageError("the output folder must have a name: got ''; nearest: --out atlas")
    name = model.replace(":", ".") if ":" in model else Path(model).stem
    folder = Path("atlas", name, bare(layer)) if out is None else Path(out)
    if re.match(r"\w\w+:/", str(folder)):
        raise UsageError(f"the output folder must be a local or mounted one: got {folder}; mount it, with gcsfuse say")
    return folder
