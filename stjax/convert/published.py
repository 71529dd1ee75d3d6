"""One published file, read and translated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stjax.convert.readers import container
from stjax.convert.readers.contents import Contents
from stjax.convert.store import Source
from stjax.convert.translate import Match, Translation, match, translate
from stjax.errors import UsageError, printable
from stjax.files import checksum


class Published(NamedTuple):
    """Where a file comes from, what it holds, and what that is in our terms."""

    source: Source
    contents: Contents
    translation: Translation


def read(path: Path, *, table: str | None = None, convolutions_only: bool = False, stacked: bool = False) -> Published:
    """Reads a published file and puts it into our names and layout.

    Args:
      path: of any container; it is told by its content.
      table: the name of a table to use; the one that fits best if None.
      convolutions_only: leave out the classifier and whatever the table does not know.
      stacked: flow channels are u1 .. u10, v1 .. v10 and not u1, v1, .., u10, v10.
    Raises:
      UsageError: the file is damaged, unsafe, of another architecture, or does not match its table name by name.
    """
    contents = container.read(path)
    try:
        translation = translate(contents, match(contents, table), convolutions_only, stacked)
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from None
    source = Source(printable(path.name), checksum(path), printable(contents.container), translation.table.name)
    return Published(source, contents, translation)


def inspect(path: Path, *, table: str | None = None) -> tuple[Contents, Match | None]:
    """What is in a file, and what its names would become; None where no table knows it.

    Raises:
      UsageError: the file cannot be read, or the table is unknown.
    """
    contents = container.read(path)
    try:
        return contents, match(contents, table)
    except UsageError:
        if table is not None:
            raise
        return contents, None
