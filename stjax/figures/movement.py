"""What is known of the movement in a clip of RGB, in a file beside its array: found in another room, read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stjax import arrays as files
from stjax.files import claim
from stjax.types import Input

SMALLEST_CLIP = 8
"""The shortest side of a clip whose flow is asked for, in pixels."""


class Movement(NamedTuple):
    """Of one clip of n frames.

    flow: (n-1, height, width, uv=2), from each frame to the next, pixels; u right, v down. None if it was not
      estimated.
    explained: (n-1, height, width), the share of the change about each pixel that the flow explains, 0..1.
    speed: of the fastest parts, pixels per frame; NaN where there is no flow.
    share: of the clip's change that the flow explains; NaN where there is no flow, or no change.
    shifts: the share that the best shifts of blocks explain; NaN where there are no blocks, or no change.
    """

    flow: NDArray[np.float32] | None = None
    explained: NDArray[np.float32] | None = None
    speed: float = nan
    share: float = nan
    shifts: float = nan

    @property
    def words(self) -> str:
        """How much of what changes is displacement, as it stands below a picture."""
        if self.share == self.share:
            return f"flow explains {max(self.share, 0):.0%}"
        return f"shifts explain {max(self.shifts, 0):.0%}" if self.shifts == self.shifts else ""


def clips(inputs: Iterable[Input]) -> list[Input]:
    """The inputs whose movement can be asked for: RGB whose frames follow one another."""
    return [each for each in inputs if each.kind == "rgb" and each.slow and each.length("time") > 1]


def why_no_flow(input: Input) -> str:
    """In place of a clip's flow, a word or two; the first says what to install.

    >>> [why_no_flow(Input(name="motion", kind="rgb", shape=(9, n, 40, 3), slow="time")) for n in (40, 7)]
    ['no scikit-image', 'too small']
    """
    return "no scikit-image" if min(input.length("height"), input.length("width")) >= SMALLEST_CLIP else "too small"


def movement_path(arrays: Path) -> Path:
    """Where the movement of an array file's clips is."""
    return arrays.with_name(f"{arrays.name.removesuffix('.npz')}.movement")


def save_movement(directory: Path, arrays: Path, movements: Mapping[str, Movement]) -> None:
    """Writes the movement of a result's clips beside its array file.

    Args:
      directory: the run's folder.
      arrays: the array file of the result.
      movements: stream -> what is known of it.
    Raises:
      UsageError: somebody else's file has the name.
    """
    parts: dict[str, NDArray[np.floating]] = {}
    for stream, found in movements.items():
        parts[f"{stream}-summary"] = np.array([found.speed, found.share, found.shifts], np.float32)
        # Half precision is a hundredth of a pixel at 16 pixels.
        if found.flow is not None and found.explained is not None:
            parts[f"{stream}-flow"] = found.flow.astype(np.float16)
            parts[f"{stream}-explained"] = found.explained.astype(np.float16)
    files.save(claim(directory, movement_path(arrays)), parts)


def load_movement(arrays: Path, inputs: Iterable[Input], *, numbers: bool = False) -> dict[str, Movement]:
    """Stream -> its movement, of those inputs of which it is known; nothing where the file is missing or damaged.

    Args:
      arrays: the array file of the result.
      inputs: of the result.
      numbers: read no more than the numbers.
    """
    parts = ("summary",) if numbers else ("summary", "flow", "explained")
    wanted = {f"{each.name}-{part}" for each in inputs for part in parts}
    try:
        found = files.load(movement_path(arrays), only=wanted)
    except (files.Damaged, FileNotFoundError):
        return {}
    movements = {}
    for each in clips(inputs):
        summary, flow, explained = (found.get(f"{each.name}-{part}") for part in ("summary", "flow", "explained"))
        if summary is None or summary.shape != (3,):
            continue
        shape = (each.length("time") - 1, each.length("height"), each.length("width"))
        numbers_of = [float(number) for number in summary]
        if flow is None or explained is None or flow.shape != (*shape, 2) or explained.shape != shape:
            movements[each.name] = Movement(None, None, *numbers_of)
        else:
            movements[each.name] = Movement(flow.astype(np.float32), explained.astype(np.float32), *numbers_of)
    return movements
