"""One published file, as every way to make a network of it takes it."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Sequence
from typing import NamedTuple

from stjax.convert.description import LONGEST_NAME
from stjax.convert.readers.contents import Contents
from stjax.convert.table import Match
from stjax.errors import UsageError, printable
from stjax.model import Origin


class Published(NamedTuple):
    """Where a file comes from, what it holds, and what the table that fits it makes of its names."""

    origin: Origin
    contents: Contents
    match: Match


def made() -> str:
    """When, and by which version."""
    return f"{datetime.date.today()}, stjax {importlib.metadata.version('stjax')}"


def class_names(files: Sequence[Published], classes: int, given: Sequence[str]) -> tuple[str, ...]:
    """The names that are given, else those that a file holds, if they are one for each class.

    Raises:
      UsageError: there are names given, but not so many.
    """
    if given and len(given) != classes:
        raise UsageError(f"class names must be one for each of {classes} classes: got {len(given)}")
    held = next((file.contents.class_names for file in files if len(file.contents.class_names) == classes), ())
    # Those of a file are a stranger's: what is too long to be a name is cut, and says so.
    cut = (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in held)
    return tuple(given) or tuple(map(printable, cut))


def rgb_mean(file: Published) -> tuple[float, float, float]:
    """The mean that is subtracted from RGB: the file's own, else that of its table.

    Raises:
      UsageError: the file's is no grey level.
    """
    own = file.contents.mean
    # A fused two-stream file lists flow's channels first, then RGB.
    r, g, b = map(float, own[-3:] if len(own) >= 3 else file.match.table.mean)
    if not all(0 <= value <= 255 for value in (r, g, b)):
        raise UsageError(f"a mean of RGB must be grey levels, 0..255: {file.origin.file} says {r:g}, {g:g}, {b:g}")
    return r, g, b
