"""What commands print: one line as it stands, or a table; and what they refuse, in one line."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stjax.errors import printable
from stjax.model import Part

console = Console(stderr=True, emoji=False)
"""Progress, warnings and errors; results go to stdout."""


def say(text: object) -> None:
    """One line to stdout, as it stands: it may hold names from files."""
    Console().print(cell(text), soft_wrap=True)


def note(text: object, style: str = "dim") -> None:
    """One line to stderr."""
    console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)


def cell(text: object) -> Text:
    """Anybody's text as rich shows it untouched: neither markup nor emoji codes nor colours are read into it."""
    return Text(printable(text))


def print_parts(title: str, parts: tuple[Part, ...]) -> None:
    """A table of parts: which layers, whether they are trained, and where they come from."""
    table = Table(title=cell(title), title_justify="left")
    for heading in ("part", "state", "origin"):
        table.add_column(heading)
    for part in parts:
        table.add_row(cell(part.layers), "trained" if part.trained else "not trained", cell(part.origin))
    Console().print(table)


def refuse(message: str) -> NoReturn:
    """What a user can mend: one line, and exit code 2."""
    note(f"error: {' '.join(message.split())}", style="red")
    sys.exit(2)


def check_devices() -> None:
    """Says so where JAX has no device, which it may do by an assertion deep within."""
    try:
        jax.devices()
    except Exception as error:
        reason = str(error).partition("\n")[0] or "it is not installed"
        refuse(f"JAX must find a device: JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} has none here: {reason}")
