"""What the shell offers when Tab is pressed: names of networks, of layers, of whatever is chosen from a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from stjax import zoo
from stjax.errors import UsageError
from stjax.figures import bare


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """A callback that offers those of some names that begin like what is typed.

    >>> one_of(("fast", "global"))("g")
    ['global']
    """

    def offer(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return offer


def models(incomplete: str) -> list[str]:
    """The networks that have a name."""
    return one_of(zoo.ENTRIES)(incomplete)


def layers(context: typer.Context, incomplete: str) -> list[str]:
    """The layers of the network that the line names, and the bare names that stand for both streams."""
    try:
        names = [layer.name for layer in zoo.load(context.params.get("model") or zoo.DEFAULT).network.layers]
    except UsageError:
        return []
    return one_of(dict.fromkeys([*names, *map(bare, names)]))(incomplete)
