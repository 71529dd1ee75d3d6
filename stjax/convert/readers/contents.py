"""What every reader returns, and what it must keep to whatever the container."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from stjax.convert.readers.limits import (
    LONGEST_MESSAGE,
    MOST_ARRAYS,
    MOST_LETTERS,
    MOST_LETTERS_TOGETHER,
    SPARE,
    SWELLING,
)
from stjax.errors import UsageError, printable


class Contents(NamedTuple):
    """What a file holds.

    container: what kind of file it is, in words.
    arrays: published name -> array, in the file's own layout.
    class_names: of the classifier's units, () where the file has none.
    mean: what the file itself says is subtracted from its input, one number a channel; () if it does not.
    network: the name that the file gives to its network, "" if none.
    verified: whether each value stands under a checksum of its own, which was seen to hold.
    """

    container: str
    arrays: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    network: str = ""
    verified: bool = False


def refuse_duplicates(names: list[str], what: str) -> None:
    """One name, one array.

    Raises:
      UsageError: a name comes twice; such names are listed.
    """
    doubled = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if doubled:
        raise UsageError(f"{what} must name each array once: doubled: {listed(doubled)}")


def checked(contents: Contents, size: int) -> Contents:
    """What a reader returned, once it is seen that it cannot cost its users more than the file can.

    Args:
      contents: from any reader.
      size: bytes of the file.
    Returns:
      The same, names of classes and network fit for a terminal.
    Raises:
      UsageError: no arrays, too many, names that are too long, or arrays that stand for far more than the file holds.
    """
    arrays = contents.arrays
    if not arrays:
        raise UsageError(f"a file of weights must hold arrays: this one ({contents.container}) holds none")
    refuse_names(arrays)
    # Overlapping windows on one storage, and one storage under many names.
    total = sum(array.nbytes for array in arrays.values())
    if total > SWELLING * size + SPARE:
        raise UsageError(f"a file of {size} bytes must hold what it declares: its arrays have {total} bytes")
    names = tuple(printable(name[:MOST_LETTERS]) for name in contents.class_names)
    mean = contents.mean if all(map(math.isfinite, contents.mean)) else ()
    return contents._replace(class_names=names, mean=mean, network=printable(contents.network[:MOST_LETTERS]))


def refuse_names(names: Iterable[str]) -> None:
    """Names that are too many, or too long.

    Raises:
      UsageError: such names.
    """
    together = 0
    for count, name in enumerate(names, 1):
        together += len(name)
        if count > MOST_ARRAYS:
            raise UsageError(f"a file of weights must hold at most {MOST_ARRAYS} arrays: this one has more")
        if len(name) > MOST_LETTERS or together > MOST_LETTERS_TOGETHER:
            raise UsageError(
                f"arrays must have names of at most {MOST_LETTERS} letters, {MOST_LETTERS_TOGETHER} together: "
                f"this file's have more: {listed([name])}"
            )
        if not name.isprintable():
            raise UsageError(f"arrays must have names that can be printed: {printable(name[:100])} cannot")


def listed(names: list[str], most: int = 8) -> str:
    """Names for a message: some of many, and of each the beginning.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def reason(error: BaseException) -> str:
    """What an error says, fit for the end of a message."""
    said = str(error)
    # Cut first: an error may carry the whole file.
    said = printable(" ".join(said[: 2 * LONGEST_MESSAGE].split())) or type(error).__name__
    return said if len(said) <= LONGEST_MESSAGE else f"{said[:LONGEST_MESSAGE]}..."
