"""Commands that say what there is: models, layers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stjax import zoo
from stjax.ascent import recipes
from stjax.commands import completion
from stjax.commands.terminal import cell, print_parts
from stjax.convert.store import count
from stjax.errors import UsageError
from stjax.model import Model
from stjax.networks.geometry import probe
from stjax.types import Input, Layer, Probe

MODEL_HELP = "A name from `stjax models`, a .safetensors file, or package.module:factory."


def models(
    model: Annotated[
        str | None,
        typer.Argument(
            help="One name, a .safetensors file or package.module:factory; all names if not given.",
            autocompletion=completion.models,
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the networks by name, and say what is trained on what."""
    if model is not None and model not in zoo.ENTRIES:
        loaded = zoo.load(model)
        print_parts(f"{loaded.name}: {count(loaded.params):,} parameters", loaded.parts)
        return
    for entry in [zoo.ENTRIES[model]] if model else zoo.ENTRIES.values():
        print_parts(f"{entry.name}: {entry.summary}", entry.parts)


def layers(
    name: Annotated[
        str | None,
        typer.Argument(
            help=f"{MODEL_HELP} {zoo.DEFAULT} if not given.", autocompletion=completion.models, show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The same, spelled as in `visualize`.", autocompletion=completion.models),
    ] = None,
) -> None:
    """List a network's layers: units, receptive field, stride and canvas, in frames and pixels.

    A unit is evaluated on a window of the input: its cone, exactly what it sees; a little more where strides ask for
    it; or the whole input.
    """
    if name is not None and model is not None and name != model:
        raise UsageError(f"one network must be named: got {name} and --model {model}; nearest: stjax layers {name}")
    loaded = zoo.load(next((given for given in (name, model) if given is not None), zoo.DEFAULT))
    statistics = loaded.statistics
    table = Table(title=cell(f"{loaded.name}: {declared(loaded.network.inputs)}"), title_justify="left")
    for heading in ("layer", "units", "field", "stride", "canvas", "window", "ahat"):
        words = heading in ("layer", "window", "ahat")
        table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=heading == "layer")
    for layer in loaded.network.layers:
        known = "rough" if layer.name in statistics.rough else "yes" if layer.name in statistics.ahat else "none"
        table.add_row(cell(layer.name), *_row(loaded, layer), known)
    Console().print(table)
    for why in dict.fromkeys(statistics.rough.values()):
        Console().print(cell(f"rough: ahat was recorded {why}"), soft_wrap=True)


def _row(model: Model, layer: Layer) -> tuple[str, ...]:
    own = probe(model.network, layer.name)
    whole = "whole input" if own.whole else "more" if _larger(own) else "its cone"
    still = all(each.length("time") == 1 for each in own.inputs)
    field = _size(*(extent.side if extent else None for extent in layer.field), still=still)
    stride = _size(*(extent.stride if extent else None for extent in layer.field), still=still)
    margin = recipes.MAHENDRAN.bind(own).margin
    first = own.inputs[0]
    canvas = _size(first.length("time"), first.length("height") + margin, first.length("width") + margin, still=still)
    return str(layer.units), field, stride, canvas, whole


def _larger(own: Probe) -> bool:
    """Whether a window holds more than the unit sees."""
    first = own.inputs[0]
    lengths = (first.length("time"), first.length("height"), first.length("width"))
    return any(extent is not None and n > extent.side for n, extent in zip(lengths, own.layer.field, strict=True))


def _size(t: int | None, y: int | None, x: int | None, *, still: bool) -> str:
    """Frames, if there are several, and pixels; one number for a square.

    >>> _size(1, 40, 40, still=True), _size(7, 23, 19, still=False), _size(None, 21, 21, still=False)
    ('40', '7 x 23 x 19', 'all x 21')
    """
    lengths = (y, x) if still else (t, y, x)
    if not any(lengths):
        return "all"
    sides = [str(n) if n else "all" for n in lengths]
    return " x ".join(sides[:-1] if y == x else sides)


def declared(inputs: tuple[Input, ...]) -> str:
    """What a network is shown, in one line.

    >>> declared((Input(name="appearance", kind="rgb", shape=(16, 112, 112, 3), slow="time"),))
    'appearance rgb 16 x 112 x 112'
    """
    return "; ".join(f"{each.name} {each.kind} {' x '.join(map(str, each.shape[:-1]))}" for each in inputs)
