"""One kind of error for everything a user can mend: the rule, the value, the nearest right answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def printable(text: object) -> str:
    r"""A text of strangers as one line that a terminal only shows: what is not printable stands as its escape.

    Names, origins, class names, file names and servers' replies may hold line breaks, colours, sequences that move
    the cursor or set the title, letters that turn the direction of reading, halves of pairs. Backslashes stay as they
    are, so that this may be done twice. Markup of rich is another matter: print with `markup=False`, or escape after.

    >>> printable("walking\x1b[2J\n\u202e")
    'walking\\x1b[2J\\n\\u202e'
    >>> printable("Fußgänger 歩く")
    'Fußgänger 歩く'
    """
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(error: Exception) -> str:
    """What somebody else's error says, in one line of some length at most; "" if it says nothing.

    >>> one_line(ValueError("  out of    luck "))
    'out of luck'
    """
    return " ".join(str(error).split())[:300]


class UsageError(ValueError):
    """A request that cannot be met as it stands. Its text is one line, fit for a terminal: see `printable`."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


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
