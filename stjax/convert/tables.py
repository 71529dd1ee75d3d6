"""All tables, and how files of each architecture become a network.

A new architecture is a row in `stjax.networks.ARCHITECTURES` and a table here. Only where files must be joined, or
names alone do not tell what an array is, it needs a converter besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stjax.convert import direct
from stjax.convert.direct import NoOptions
from stjax.convert.i3d import assemble as i3d
from stjax.convert.i3d.tables import I3D_TABLES
from stjax.convert.readers.contents import Contents
from stjax.convert.table import Match, Table, match_names
from stjax.convert.two_stream import assemble, streams
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.tables import VGG16_TABLES
from stjax.errors import UsageError, choose

FEWEST = 8
"""Names that a table must know before a file counts as one of its architecture with faults, and not as something else;
half of them, if the file has fewer than twice as many."""


class Converter(NamedTuple):
    """How files of one architecture become a network.

    Args:
      assemble: (files, options, class names, name) -> the model, without statistics, and warnings, one line each.
      options: the class of what there is to choose; without arguments, it gives the defaults.
      complete: what a table makes of names -> the same, with what only shapes tell.
    """

    assemble: Callable[..., tuple[Any, list[str]]] = direct.assemble
    options: type = NoOptions
    complete: Callable[[Contents, Match], Match] = lambda contents, match: match


DIRECT = Converter()
CONVERTERS: dict[str, Converter] = {
    "two_stream": Converter(assemble.assemble, TwoStreamOptions, streams.complete),
    "i3d": Converter(i3d.assemble, complete=i3d.complete),
}
"""By architecture; one that is not here is converted by its tables alone, see `direct`."""

TABLES: dict[str, Table] = {table.name: table for table in (*VGG16_TABLES, *I3D_TABLES)}
"""In the order in which they are tried: of two that fit alike, the first is taken. Add one of your own:

    TABLES["toy"] = Table(name="toy", architecture="toy", containers=("PyTorch",), rows=(...))
"""


def match(contents: Contents, table: str | Table | None = None) -> Match:
    """The table that knows most names of a file.

    Args:
      contents: from a reader.
      table: one to use whatever the container, or its name.
    Raises:
      UsageError: no such table, or none knows the file.
    """
    if isinstance(table, str):
        table = choose("a table", table, TABLES)
    tables = [t for t in TABLES.values() if t.automatic and contents.container.startswith(t.containers)]
    matches = [_match(contents, each) for each in ([table] if table else tables)]
    best = max(matches, key=lambda m: len(m.ours), default=None)
    if best is None or len(best.ours) < min(FEWEST, (len(contents.arrays) + 1) // 2):
        names = ", ".join(name[:80] for name in list(contents.arrays)[:4])
        raise UsageError(
            f"a file must hold a network as one of the tables spells it: this {contents.container} file is of another "
            f"architecture, {len(contents.arrays)} arrays: {names}, ..."
        )
    return best


def _match(contents: Contents, table: Table) -> Match:
    converter = CONVERTERS.get(table.architecture, DIRECT)
    return converter.complete(contents, match_names(contents, table))
