"""What is typed for layers, units and slownesses -> what is meant."""

from __future__ import annotations

from stjax import zoo
from stjax.errors import UsageError, nearest
from stjax.figures import bare
from stjax.model import Model
from stjax.networks.geometry import layer as layer_of
from stjax.types import STREAMS

FEW = 9
"""Units that are shown if none are asked for: a page of them."""


def layers_named(model: Model, text: str) -> list[str]:
    """The layer of a name, or both streams' layers of a bare one.

    Raises:
      UsageError: there is none; its text names the nearest, or a network that has it.
    """
    known = [layer.name for layer in model.network.layers]
    if text in known:
        return [text]
    both = [f"{stream}/{text}" for stream in STREAMS if f"{stream}/{text}" in known]
    if both:
        return both
    near = nearest(text, dict.fromkeys([*known, *map(bare, known)]))
    for entry in zoo.ENTRIES.values():
        if text in {name for full in entry.layers for name in (full, bare(full))}:
            near = f"{entry.name} has it: --model {entry.name}"
    raise UsageError(f"a layer must be one of the network's: {text!r} is not, of {model.name}; {near}")


def chosen_units(text: str | None, model: Model, name: str) -> list[int]:
    """`0:9` (9 excluded), `3,7`, names of classes, any mixture, or `all`; None for all classes, or a few other units.

    Raises:
      UsageError: a unit that the layer has not, or no unit at all.
    """
    layer = layer_of(model.network, name)
    classes = layer.role == "classes"
    if text is None:
        return list(range(layer.units if classes else min(FEW, layer.units)))
    return parsed_units(text, layer.units, name, model.class_names if classes else ())


def parsed_units(text: str, count: int, layer: str, names: tuple[str, ...] = ()) -> list[int]:
    """Units of a layer of `count`, as they are typed.

    >>> parsed_units("0:3,7", 64, "fc6")
    [0, 1, 2, 7]
    >>> parsed_units("walking,0", 2, "classes", ("running", "walking"))
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


def numbers(text: str) -> list[float]:
    """Slownesses with commas between.

    >>> numbers("10,0.5")
    [10.0, 0.5]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"chi must be numbers with commas between: got {text!r}; nearest: 10,5,1,0") from None
