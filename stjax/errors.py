"""One kind of error for everything a user can mend: the rule, the value, the nearest right answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class UsageError(ValueError):
    """A request that cannot be met as it stands. Its text is one line, fit for a terminal."""


def nearest(name: str, options: Iterable[str]) -> str:
    """The sentence that names the option closest to `name`, or lists the first few options.

    >>> nearest("conv3_9", ["conv3_2", "conv3_3", "fc6"])
    'nearest: conv3_3'
    >>> nearest("zebra", ["conv3_2", "fc6"])
    'one of: conv3_2, fc6'
    """
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"nearest: {close[0]}"
    shown = ", ".join(options[:12])
    return f"one of: {shown}" + (", ..." if len(options) > 12 else "")


def choose(what: str, name: str, options: Mapping[str, Value]) -> Value:
    """The option of a name.

    Raises:
      UsageError: there is none of that name; its text says what it would be a name of.

    >>> choose("dtype", "half", {"half": 16, "single": 32})
    16
    """
    if name not in options:
        raise UsageError(f"{what} must be a known one: {name!r} is not; {nearest(name, options)}")
    return options[name]
