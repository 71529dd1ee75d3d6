"""How one source spells a network: published names -> ours, in one declarative table.

A row is a pattern for a whole published name, what it becomes, and the order of its axes:

    (r"conv(\\d)\\.weight", r"conv\\1/kernel", "OIDHW")

Everything else that a source does differently is a field of its table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stjax.convert.readers.contents import Contents
from stjax.errors import UsageError
from stjax.preprocess import FLOW_MEAN, VGG_MEAN

AXES = "DHWIO"
"""Depth (time), height and width, inputs, outputs: the order of our kernels."""

RGB = tuple[float, float, float]
Row = tuple[str, str] | tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """How one source spells, lays out and scales the parameters of one architecture.

    Args:
      name: for --table and messages.
      about: which files these are.
      architecture: the name of the network's class in `networks.ARCHITECTURES`.
      containers: how `Contents.container` begins.
      rows: pattern of a published name, our path of that parameter (`conv1/kernel`), and the letters of its axes as
        they come, e.g. OIDHW of a 3-D convolution or OI of a dense layer in PyTorch, with a 1 for each axis of length 1
        that ours has not; left out if they are as ours.
      configuration: arguments of the network that are the same in every such file.
      sizes: arguments of the network, each with the parameter of ours whose last axis says it: {"classes": "fc/bias"}.
      first: input -> the kernel that reads it: {"appearance": "conv1/kernel"}. It absorbs `bgr` and the scales.
      bgr: whether the first of three input channels is blue.
      mean: of RGB, in grey levels, unless the file says its own.
      std: of inputs in 0..1, None for inputs in grey levels. Inputs in -1..1 have the mean 127.5 and the std 0.5.
      flow_mean, flow_std: likewise for flow.
      epsilon: of batch normalisations, whose four vectors (see `folding.NORMALISATION`) stand beside the kernel before
        them, and are folded into it; None where there is none.
      scaled: whether normalisations have a scale, the first of the four; if not, it is 1.
      ignored: patterns of names that are no part of the network, and are left out.
      automatic: whether it may be chosen without being asked for.

    Raises:
      UsageError: a row whose pattern or axes cannot be.
    """

    name: str
    about: str
    architecture: str
    containers: tuple[str, ...]
    rows: tuple[Row, ...]
    configuration: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    bgr: bool = False
    mean: RGB = VGG_MEAN
    std: RGB | None = None
    flow_mean: float = FLOW_MEAN
    flow_std: float | None = None
    epsilon: float | None = None
    scaled: bool = True
    ignored: tuple[str, ...] = ()
    automatic: bool = True

    def __post_init__(self) -> None:
        for pattern, _, *axes in self.rows:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(f"a row's pattern must be a regular expression: {pattern!r}: {error}") from None
            letters = axes[0].replace("1", "") if axes else ""
            if not (set(letters) <= set(AXES) and len(set(letters)) == len(letters)):
                raise UsageError(f"a row's axes must be letters of {AXES}, each once: {pattern!r} has {axes[0]!r}")


class Match(NamedTuple):
    """What a table makes of a file's names.

    ours: published name -> ours, `layer/kernel`, `stream/layer/bias`, ...
    axes: published name -> the letters of its axes, "" if they are as ours.
    unknown: published names that the table does not know.
    """

    table: Table
    ours: dict[str, str]
    axes: dict[str, str]
    unknown: list[str]


def match_names(contents: Contents, table: Table) -> Match:
    """Each published name by the first row whose pattern is that of the whole name."""
    rows = [(re.compile(pattern), ours, "".join(axes)) for pattern, ours, *axes in table.rows]
    ignored = [re.compile(pattern) for pattern in table.ignored]
    match = Match(table, {}, {}, [])
    for published in contents.arrays:
        for pattern, ours, axes in rows:
            if found := pattern.fullmatch(published):
                match.ours[published], match.axes[published] = found.expand(ours), axes
                break
        else:
            if not any(pattern.fullmatch(published) for pattern in ignored):
                match.unknown.append(published)
    return match


def lay_out(array: np.ndarray, axes: str) -> np.ndarray:
    """An array whose axes are named by letters, with its axes in our order, as a view; see `Table`.

    One of another rank stays as it is, to be reported as misshapen.

    >>> lay_out(np.zeros((8, 4, 3, 5, 5)), "OIDHW").shape, lay_out(np.zeros((1, 1, 8)), "11O").shape
    ((3, 5, 5, 4, 8), (8,))
    """
    if array.ndim != len(axes) or any(n != 1 for n, letter in zip(array.shape, axes, strict=True) if letter == "1"):
        return array
    lengths = [n for n, letter in zip(array.shape, axes, strict=True) if letter != "1"]
    letters = axes.replace("1", "")
    return array.reshape(lengths).transpose([letters.index(letter) for letter in AXES if letter in letters])
