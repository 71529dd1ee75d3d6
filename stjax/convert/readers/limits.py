"""What a stranger's file may cost: every limit of the readers, with its reason.

Work and memory are at most in proportion to the file. A byte of it may stand for at most so much, names, depths and
counts end where no network comes near, and whoever takes them asks here first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MOST_AXES = 32
"""Of an array. Weights have five at most; NumPy ends at 64, and MATLAB writes as many as it likes."""
MOST_ARRAYS = 20_000
"""In a file. The largest networks that are published in one file have some thousands."""
MOST_LETTERS = 1_000
"""Of one name. The longest published ones have about 150."""
MOST_LETTERS_TOGETHER = 10_000_000
"""Of all names. Dicts within dicts repeat what they begin with, so that a short file can spell long ones."""
DEEPEST = 32
"""Groups, cells, structs and dicts within one another. MatConvNet's and Keras's files have six levels."""
MOST_STEPS = 500_000
"""Instructions of a pickle: a tensor takes about 30, so this is 15,000 of them, and one second."""
MOST_FIELDS = 500_000
"""Of protocol-buffer messages. A blob takes five; beyond this a file is made of fields and not of weights."""
MOST_NODES = 200_000
"""Matrices of a .mat, groups and data sets of an .h5. The 21,841 classes of ImageNet have two texts each."""
LONGEST_TEXT = 1 << 16
"""Letters of one text in a .mat or .h5: a class's description, a layer's name. A longer one is passed over."""
LARGEST_NUMBER = 32
"""Bytes of one integer in a pickle; sizes have 8, PyTorch's mark has 10."""
LARGEST_HEADER = 16 << 20
"""Bytes of a safetensors header: four times what 20,000 names of 150 letters take. Once read, it is ten times that."""
SWELLING = 16
"""How many times larger than the file its arrays may be. Weights shrink by a tenth; with 9 of 10 at zero, tenfold."""
SPARE = 16 << 20
"""Bytes that arrays may have whatever the file's size: zeros shrink to almost nothing."""
LONGEST_MESSAGE = 600
"""Letters of a refusal, whatever the file says its names are."""


class Budget:
    """A count that ends.

    >>> budget = Budget(2, "fields")
    >>> budget.spend(), budget.spend(), budget.spend()
    Traceback (most recent call last):
    ...
    ValueError: more than 2 fields
    """

    def __init__(self, most: int, what: str) -> None:
        self.left, self._said = most, f"more than {most} {what}"

    def spend(self, count: int = 1) -> None:
        """Takes `count` away.

        Raises:
          ValueError: that was more than was left.
        """
        self.left -= count
        if self.left < 0:
            raise ValueError(self._said)


def size_of(shape: Sequence[int] | Iterable[int]) -> int:
    """How many numbers an array of a declared shape has, at a cost that the shape cannot choose.

    Raises:
      ValueError: too many axes, or one that is negative or longer than any file.

    >>> size_of((2, 3))
    6
    >>> size_of([1 << 70])
    Traceback (most recent call last):
    ...
    ValueError: an axis of a length that no file can have
    """
    axes = shape if isinstance(shape, list | tuple) else list(shape)
    if len(axes) > MOST_AXES:
        raise ValueError(f"an array of {len(axes)} axes")
    # Once each is known to be small, 32 of them are multiplied in no time.
    if not all(isinstance(n, int) and 0 <= n < 1 << 63 for n in axes):
        raise ValueError("an axis of a length that no file can have")
    return math.prod(axes)
