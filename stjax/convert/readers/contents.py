"""What every reader returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stjax.errors import UsageError


class Contents(NamedTuple):
    """What a file holds.

    container: what kind of file it is, in words.
    arrays: published name -> array, in the file's own layout.
    class_names: of the classifier's units, () where the file has none.
    mean: what the file itself says is subtracted from its input, one number a channel; () if it does not.
    network: the name that the file gives to its network, "" if none.
    """

    container: str
    arrays: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    network: str = ""


def refuse_duplicates(names: list[str], what: str) -> None:
    """One name, one array.

    Raises:
      UsageError: a name comes twice; all such names are listed.
    """
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UsageError(f"{what} must name each array once: doubled: {', '.join(doubled)}")
