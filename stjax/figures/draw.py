"""A finished unit -> its own pictures, beside its array."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from stjax.endings import NOTHING_TO_SEE
from stjax.figures import encode, layout
from stjax.figures.look import look
from stjax.figures.movement import load_movement
from stjax.figures.views import OWN_FLOW, array_path, clip_path, picture_paths, still_path, views
from stjax.files import claim, discard
from stjax.record import Record


def draw_record(directory: str | Path, record: Record) -> list[Path]:
    """Draws one unit's pictures beside its array: PNG of what stands still, GIF of what moves, with one frame as PNG.

    Files are named after the array: `NAME-STREAM.png` of RGB, with `NAME-STREAM.gif` where chi can make it slow; then
    also its slices, `NAME-STREAM-xt.png` and `NAME-STREAM-yt.png`, and where `save_movement` has told its flow,
    `NAME-STREAM-flow.gif`. Of flow: `NAME-direction.gif` and `NAME-components.gif`. They are enlarged by a whole
    number, to at least 90 px on the longer side. PNGs of what moves are its middle frame, for those who want nothing to
    move. Existing files are replaced. A unit without gradient, and one whose array is not finite, has no picture: noise
    or grey would pass for a finding; what an earlier run left is removed.

    Args:
      directory: the run's folder.
      record: of the unit.
    Returns:
      The files written.
    Raises:
      UsageError: the array is missing, has another shape than its record says, or a picture's name is taken by a file
        that stjax did not make.
    """
    directory, seen = Path(directory), look(directory, record)
    arrays = array_path(directory, record)
    if seen.word:
        for path in picture_paths(arrays, record.inputs):
            discard(path)
        return []
    written = []
    for view in (view for each in record.inputs for view in views(each)):
        if view.name not in seen.pictures:
            for path in (still_path(arrays, view), clip_path(arrays, view)):
                discard(path)
            continue
        frames = seen.pictures[view.name]
        height, width = frames.shape[1:3]
        # Whole numbers only, and never smaller: this is the picture at full detail.
        times = -(-layout.SMALLEST // max(height, width))
        enlarged = layout.scale(frames, times * height, times * width)
        middle = enlarged[(len(enlarged) - 1) // 2]
        written.append(encode.png(claim(directory, still_path(arrays, view)), middle))
        if view.moves:
            written.append(encode.gif(claim(directory, clip_path(arrays, view)), enlarged))
    return written


def lacks_pictures(directory: str | Path, record: Record) -> bool:
    """Whether a picture of a record is missing that could be drawn: a run was stopped before, say."""
    arrays = array_path(directory, record)
    known = {stream for stream, seen in load_movement(arrays, record.inputs).items() if seen.flow is not None}
    wanted = [
        view for each in record.inputs for view in views(each) if view.convention != OWN_FLOW or view.stream in known
    ]
    drawable = record.ending not in NOTHING_TO_SEE and isfinite(record.activation_end)
    return drawable and not all(path(arrays, view).exists() for view in wanted for path in (still_path, clip_path))
