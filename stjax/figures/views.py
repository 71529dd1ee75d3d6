"""What there is to draw of a record, in which files, and under which heading: asked of the inputs that it declares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import NamedTuple

from stjax.errors import UsageError
from stjax.figures.movement import clips
from stjax.record import Record
from stjax.types import STREAMS, Input

CONVENTIONS = ("direction", "components")
"""The two ways to draw flow, by the names of their functions in `color`."""
FRAMES = "frames"
"""The way to draw RGB; of sheets, those on which there is no flow."""


X_T, Y_T, OWN_FLOW = "x-t", "y-t", "flow"
"""What stands beside a clip of RGB: a row and a column of it over time, and the flow that is seen in it."""


class View(NamedTuple):
    """One way to look at an input.

    name: of its files.
    stream: that is looked at.
    convention: one of CONVENTIONS, FRAMES, or of what stands beside a clip of RGB.
    length: frames of the clip that is drawn; a still has one, and is no clip.
    moves: whether it is a clip.
    """

    name: str
    stream: str
    convention: str
    length: int
    moves: bool


class Column(NamedTuple):
    """Of a sheet and of the page: one stream, at one chi where it can be slow, from one start.

    stream: that is shown.
    slow: whether chi can make it slow.
    chi: of the results in it; of a stream that cannot be slow the largest that was run, None if there is none.
    start: of the results in it.
    words: above it, but for the start.
    """

    stream: str
    slow: bool
    chi: float | None
    start: int
    words: str

    @property
    def title(self) -> str:
        return f"start {self.start}" if self.start else self.words


def bare(layer: str) -> str:
    """A layer's name without its stream; a slash after anything else belongs to the name.

    >>> bare("appearance/conv3_3"), bare("fc6"), bare("block1/conv")
    ('conv3_3', 'fc6', 'block1/conv')
    """
    stream, _, name = layer.partition("/")
    return name if name and stream in STREAMS else layer


def views(input: Input) -> tuple[View, ...]:
    """The ways to look at an input: flow moves, in either convention; RGB moves if chi can make it slow.

    >>> still = Input(name="appearance", kind="rgb", shape=(1, 8, 8, 3))
    >>> [(view.name, view.moves) for view in views(still)]
    [('appearance', False)]
    >>> film = Input(name="appearance", kind="rgb", shape=(16, 8, 8, 3), slow="time")
    >>> [view.name for view in views(film)]
    ['appearance', 'appearance-xt', 'appearance-yt', 'appearance-flow']
    """
    stream = input.name
    if input.kind == "flow":
        length = input.length("time") * input.length("fields")
        prefix = "" if stream == "motion" else f"{stream}-"
        return tuple(View(f"{prefix}{way}", stream, way, length, moves=True) for way in CONVENTIONS)
    moves = input.slow is not None
    frames = View(stream, stream, FRAMES, input.length("time") if moves else 1, moves)
    if not clips([input]):
        return (frames,)
    return (
        frames,
        View(f"{stream}-xt", stream, X_T, 1, moves=False),
        View(f"{stream}-yt", stream, Y_T, 1, moves=False),
        View(f"{stream}-flow", stream, OWN_FLOW, frames.length, moves=True),
    )


def view_in(input: Input, convention: str) -> View:
    """How a sheet of a convention shows an input: RGB looks the same on all of them."""
    ways = views(input)
    return next((view for view in ways if view.convention == convention), ways[0])


def conventions(records: Iterable[Record]) -> tuple[str, ...]:
    """Those that a layer has sheets of: two where there is flow."""
    flow = any(each.kind == "flow" for record in records for each in record.inputs)
    return CONVENTIONS if flow else (FRAMES,)


def columns(records: Sequence[Record]) -> list[Column]:
    """What stands side by side for each unit of a layer.

    First every stream that cannot be slow, once; then every stream that can, at each chi, falling: slow motion to the
    left. Each as often as there are starts.
    """
    slow = {each.name: False for stream in STREAMS for record in records if (each := record.input(stream))}
    for record in records:
        for each in record.inputs:
            slow[each.name] |= each.slow is not None
    starts = sorted({record.start for record in records})
    side_by_side = []
    for stream in sorted(slow, key=lambda stream: slow[stream]):
        chis = sorted({record.chi for record in records if record.input(stream)}, key=_slowness, reverse=True)
        alone = slow[stream] and sum(slow.values()) == 1
        for chi in chis if slow[stream] else chis[:1]:
            words = [] if alone and chi is not None else [stream]
            words += [] if chi is None else [f"chi = {chi:g}"]
            side_by_side += [Column(stream, slow[stream], chi, start, ", ".join(words)) for start in starts]
    return side_by_side


def in_column(records: Iterable[Record], column: Column) -> Record | None:
    """Which of a unit's records a column shows; None if it was not run.

    A unit that sees a still beside what moves has a still for every chi; as in the paper one is shown, that of the
    largest chi.
    """
    those = [each for each in records if each.start == column.start and each.input(column.stream)]
    if column.slow:
        return next((each for each in those if each.chi == column.chi), None)
    return max(those, key=lambda each: _slowness(each.chi), default=None)


def array_path(directory: str | Path, record: Record) -> Path:
    """Where a record's array is. Raises UsageError if the name leads out of the run's folder."""
    relative = Path(record.arrays)
    if relative.is_absolute() or ".." in relative.parts:
        raise UsageError(f"a manifest names files below its own folder, not {record.arrays!r}")
    return Path(directory) / relative


def clip_path(arrays: Path, view: View) -> Path:
    """Where a view is, beside its array: the clip, or the still."""
    return arrays.with_name(f"{arrays.name.removesuffix('.npz')}-{view.name}.{'gif' if view.moves else 'png'}")


def still_path(arrays: Path, view: View) -> Path:
    """Where one frame of a view is, beside its array."""
    return clip_path(arrays, view).with_suffix(".png")


def picture_paths(arrays: Path, inputs: Iterable[Input]) -> list[Path]:
    """All files that are drawn of an array file, stills first."""
    paths = [path(arrays, view) for each in inputs for view in views(each) for path in (still_path, clip_path)]
    return list(dict.fromkeys(paths))


def gain(record: Record) -> str:
    """What a unit reached, as a multiple of ahat, with ~ where that is rough; the number itself where ahat is none."""
    end, ahat = record.activation_end, record.ahat
    if not isfinite(end):
        return ""
    if not (isfinite(ahat) and ahat > 0):
        return f"a = {end:.3g}"
    ratio = end / ahat
    return f"{'~' if record.settings.rough else ''}{ratio:.{1 if abs(ratio) < 99.95 else 0}f} x ahat"


def _slowness(chi: float | None) -> float:
    return -inf if chi is None else chi
