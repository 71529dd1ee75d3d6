"""Readers for the values by which a network is rebuilt from a file: type and range of each is checked.

An architecture declares them beside its module, one for each argument that makes it another network:

    CONFIGURATION = {"widths": tuple_of(whole(1, 4096), 1, 20), "num_classes": whole(0, 100_000)}

A file may come from anybody, so a reader lets nothing through that it does not name, and bounds what that can cost.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from stjax.errors import printable

WIDEST = 1 << 20
"""Units of a layer."""

Value = TypeVar("Value")

Reader = Callable[[Any, str], Any]
"""A value as JSON has it, and its name -> the value as an argument; or `Malformed`."""


class Malformed(ValueError):
    """What a file says of itself cannot be true. Its text goes into a UsageError that names the file."""


def _accept(values: Mapping[str, Any], arrays: int) -> None:
    """Whatever the readers let through goes together."""


class Architecture(NamedTuple):
    """What is needed to write a network to a file, and to rebuild it from there: a row of `networks.ARCHITECTURES`.

    Args:
      network: the class. Called with the configuration by keyword, it gives the network; an argument that a file does
        not mention has its default. Its objects have those arguments as attributes, and `init(key, clip)`, which gives
        {"params": ...}.
      configuration: a reader for each argument that makes it another network; not for how it is evaluated.
      check: (values, arrays of the file) raises `Malformed` where values that are each in range do not go together, or
        would cost more than a file of so many arrays may.
    """

    network: Callable[..., Any]
    configuration: Mapping[str, Reader] = {}
    check: Callable[[Mapping[str, Any], int], None] = _accept


def read(values: Any, what: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values of an object; one that is absent is left to its default.

    Raises:
      Malformed: it is no object, or a value is unknown, of a wrong type or out of range.

    >>> read({"depth": 3}, "configuration", {"depth": whole(1, 9)})
    {'depth': 3}
    """
    refuse_unknown(typed(values, what, dict, "an object"), what, readers)
    return {name: readers[name](value, f"{what}.{name}") for name, value in values.items()}


def refuse_unknown(values: Iterable[str], what: str, names: Iterable[str]) -> None:
    """Names that nobody reads.

    Raises:
      Malformed: there is one.
    """
    known = set(names)
    unknown = [name for name in values if name not in known]
    if unknown:
        raise Malformed(f"{what} has the unknown name {reprlib.repr(unknown[0])}")


def typed(value: Any, what: str, kind: type[Value], named: str) -> Value:
    """A value of just that type: True is no number here."""
    if type(value) is not kind:
        raise Malformed(f"{what} must be {named}: got {reprlib.repr(value)}")
    return value


def truth(value: Any, what: str) -> bool:
    """True or false."""
    return typed(value, what, bool, "true or false")


def whole(least: int, most: int) -> Reader:
    """A whole number, both ends included."""

    def read(value: Any, what: str) -> int:
        number = typed(value, what, int, "a whole number")
        if not least <= number <= most:
            raise Malformed(f"{what} must lie in {least}..{most}: got {reprlib.repr(number)}")
        return number

    return read


def number(least: float, most: float, named: str = "a number") -> Reader:
    """A number, both ends included; not NaN."""

    def read(value: Any, what: str) -> float:
        if type(value) not in (int, float) or not least <= value <= most:
            raise Malformed(f"{what} must be {named}, {least:g}..{most:g}: got {reprlib.repr(value)}")
        return float(value)

    return read


def text(most: int) -> Reader:
    """A text of up to so many letters, made printable: a string of JSON may hold halves of pairs, and colours."""

    def read(value: Any, what: str) -> str:
        string = typed(value, what, str, "a text")
        if len(string) > most:
            raise Malformed(f"{what} must have up to {most:,} letters: got {len(string):,}")
        return printable(string)

    return read


def chosen(*options: str) -> Reader:
    """One of some texts."""

    def read(value: Any, what: str) -> str:
        if value not in options:
            raise Malformed(f"{what} must be one of {', '.join(options)}: got {reprlib.repr(value)}")
        return value

    return read


def optional(reader: Reader) -> Reader:
    """What a reader takes, or None."""
    return lambda value, what: None if value is None else reader(value, what)


def tuple_of(item: Reader, least: int, most: int) -> Reader:
    """A list of so many items, as a tuple."""

    def read(value: Any, what: str) -> tuple[Any, ...]:
        items = typed(value, what, list, "a list")
        if not least <= len(items) <= most:
            raise Malformed(f"{what} must have {least}..{most} items: got {len(items)}")
        return tuple(item(each, what) for each in items)

    return read


def ordered(*names: str) -> Reader:
    """Some of the names, at least one, each once and in this order."""
    read_names = tuple_of(chosen(*names), 1, len(names))

    def read(value: Any, what: str) -> tuple[str, ...]:
        found = read_names(value, what)
        if list(found) != sorted(set(found), key=names.index):
            raise Malformed(f"{what} must have each name once at most, in the order {', '.join(names)}")
        return found

    return read
