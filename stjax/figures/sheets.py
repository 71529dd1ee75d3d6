"""Finished units -> the contact sheets of a layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from stjax.errors import UsageError
from stjax.figures import color, encode, layout, panels
from stjax.figures.look import Look, look
from stjax.figures.movement import Movement, clips, why_no_flow
from stjax.figures.views import (
    CONVENTIONS,
    FRAMES,
    Column,
    View,
    bare,
    columns,
    conventions,
    gain,
    in_column,
    view_in,
    views,
)
from stjax.files import claim, discard
from stjax.record import Coordinates, Record
from stjax.types import Input

SHEETS = "sheets"
"""The folder, below the run's, in which the sheets are."""

STILL_PAGE, MOVING_PAGE = (2600, 2200), (1520, 1280)
"""Largest page in pixels. A GIF of ten frames at this size takes 3 to 8 MB; a still may be printed."""

KEY_WORDS = {
    "direction": ("hue: direction of motion", "white: still", "full colour: fastest pixel of the clip"),
    "components": ("red: u, to the right", "green: v, downward", "blue: speed; grey: still"),
}


OWN_FLOW_WORDS = (
    "hue: direction of the flow seen in a clip",
    "white: still \u00b7 grey: changes without moving",
    "full colour: the speed below the clip",
)


def draw_layer(directory: str | Path, records: Sequence[Record], *, mp4: bool = False) -> list[Path]:
    """Draws the contact sheets of one layer, laid out like the paper's figures: a row for each unit.

    Columns are those of `views.columns`: streams that cannot be slow, then those that can at each chi, falling. Each
    convention of flow gives animated pages (GIF) and still pages (PNG, with the first, middle and last frame of what
    moves), in `sheets/LAYER-CONVENTION-PAGE.*`. Without flow the convention is called `frames`, and pages on which
    nothing moves are PNG alone.

    Where records repeat a (layer, unit, chi, start), the last one counts.

    Args:
      directory: the run's folder.
      records: of layers of one name, in whatever stream.
      mp4: write each animated page as MP4 as well: a tenth of the size, all colours.
    Returns:
      The files written. Pages left by an earlier, longer run of this layer are removed.
    Raises:
      UsageError: no records, records of several layers, an array that is missing or misshapen, or a sheet's name is
        taken by a file that stjax did not make.
    """
    names = sorted({bare(record.layer) for record in records})
    if len(names) != 1:
        raise UsageError(f"a sheet shows one layer; these records are of {', '.join(names) or 'none'}")
    directory, name = Path(directory), names[0]
    latest = {record.coordinates: record for record in records}
    units: dict[int, list[Record]] = {}
    for record in sorted(latest.values(), key=lambda record: record.unit):
        units.setdefault(record.unit, []).append(record)

    plan = _Plan.of(directory, list(latest.values()))
    written: list[Path] = []
    for convention in conventions(latest.values()):
        moves = any(view.moves for view in plan.views(convention))
        sheets = [plan.sheet(name, convention, still) for still in ((False, True) if moves else (True,))]
        # The same units on the animated page as on the still one of that number.
        pages = -(-len(units) // min(_capacity(sheet, len(units)) for sheet in sheets))
        length = -(-len(units) // pages)
        for sheet in sheets:
            still = sheet.still
            _, down = layout.grid(length, (sheet.block_width, sheet.row_height), _limit(still))
            for page in range(pages):
                numbers = list(units)[page * length : (page + 1) * length]
                rows = [plan.row(units[unit], convention, sheet) for unit in numbers]
                part = replace(sheet, note=_note(sheet.note, numbers, len(units), page, pages))
                frames = layout.draw(part, rows, -(-len(rows) // down))
                path = directory / SHEETS / f"{name}-{convention}-{page + 1}.{'png' if still else 'gif'}"
                claim(directory, path)
                written.append(encode.png(path, frames[0]) if still else encode.gif(path, frames))
                if mp4 and not still:
                    written.append(encode.mp4(claim(directory, path.with_suffix(".mp4")), frames))
    for path in sheet_paths(directory, name):
        if path not in written:
            discard(path)
    return written


def sheet_paths(directory: Path, name: str) -> list[Path]:
    """What there is by the names of a layer's sheets."""
    stem = directory / SHEETS / name
    words = "|".join((*CONVENTIONS, FRAMES))
    pattern = re.compile(re.escape(stem.name) + rf"-({words})-\d+\.(png|gif|mp4)")
    folder = stem.parent
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)] if folder.is_dir() else []


def _limit(still: bool) -> tuple[int, int]:
    return STILL_PAGE if still else MOVING_PAGE


def _capacity(sheet: layout.Sheet, count: int) -> int:
    """How many of a layer's units one page can take."""
    across, down = layout.grid(count, (sheet.block_width, sheet.row_height), _limit(sheet.still))
    return across * down


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the sheets of a layer have in common.

    columns: from left to right.
    streams: how each is to be drawn, by convention.
    side: of a cell.
    named: whether units have names.
    provenance: where the records come from.
    clips: stream -> input, of those beside which slices and flow stand.
    look: what there is to see of a record, in squares of that side.
    """

    columns: Sequence[Column]
    clips: dict[str, Input]
    streams: dict[str, dict[str, View]]
    side: int
    named: bool
    provenance: str
    look: Callable[[Record], Look]

    @classmethod
    def of(cls, directory: Path, records: Sequence[Record]) -> _Plan:
        # A layer's records are all of one shape; of several layers, of one for each stream.
        inputs = {each.name: each for record in records for each in record.inputs}
        longest = max(max(each.length("height"), each.length("width")) for each in inputs.values())
        side = layout.fit(longest, len({record.unit for record in records}))
        by_coordinates = {record.coordinates: record for record in records}
        # Four sheets show each record: up to half a GiB of coloured clips is kept.
        frames = sum(view.length for each in inputs.values() for view in views(each))

        @lru_cache(maxsize=max(1, 2**29 // (3 * frames * side**2)))
        def at_size(which: Coordinates) -> Look:
            seen = look(directory, by_coordinates[which])
            return seen._replace(pictures={name: layout.resize(x, side) for name, x in seen.pictures.items()})

        return cls(
            columns=columns(records),
            clips={each.name: each for each in clips(inputs.values())},
            streams={
                each.name: {convention: view_in(each, convention) for convention in (*CONVENTIONS, FRAMES)}
                for each in inputs.values()
            },
            side=side,
            named=any(record.name for record in records),
            provenance=_provenance(records),
            look=lambda record: at_size(record.coordinates),
        )

    def views(self, convention: str) -> list[View]:
        """How the streams are drawn on a sheet, in the order of their columns."""
        return [self.streams[stream][convention] for stream in dict.fromkeys(each.stream for each in self.columns)]

    def sheet(self, name: str, convention: str, still: bool) -> layout.Sheet:
        heads = []
        for column in self.columns:
            view = self.streams[column.stream][convention]
            if column.stream in self.clips:
                tiles = _even_tiles(view.length)
                heads.append(layout.Column(column.title, tiles, panels.size(tiles) if still else panels.MOVING))
            else:
                heads.append(layout.Column(column.title, _tiles(view.length) if still and view.moves else (0,)))
        key = convention if convention in CONVENTIONS else "direction" if self.clips else None
        sheet = layout.Sheet(
            title=name,
            note=self._words(convention, still),
            columns=tuple(heads),
            side=self.side,
            named=self.named,
            still=still,
            key=color.legend(key, 52) if key else None,
            key_words=KEY_WORDS[convention] if convention in CONVENTIONS else OWN_FLOW_WORDS if key else (),
            provenance=self.provenance,
            more=self._more(still),
        )
        # Many chi make a wide row: cells give way before the page does.
        excess = sheet.block_width - (_limit(still)[0] - 2 * layout.MARGIN)
        if excess > 0:
            tiles = sum(sheet.tiles(column)[0] for column in heads)
            sheet = replace(sheet, side=max(48, self.side - -(-excess // tiles)))
        return sheet

    def row(self, records: Sequence[Record], convention: str, sheet: layout.Sheet) -> layout.Row:
        """One unit's cells on a sheet."""
        cells = []
        for column, head in zip(self.columns, sheet.columns, strict=True):
            record = in_column(records, column)
            view = self.streams[column.stream][convention]
            if record is None:
                cells.append(layout.Cell(None, layout.PENDING))
            elif view.stream in self.clips:
                cells.append(self._clip_cell(record, view, sheet, head))
            else:
                cells.append(self._cell(record, view))
        name = next((record.name for record in records if record.name), None)
        unit = str(records[0].unit)
        return layout.Row(f"{unit}  {name}" if name else unit, tuple(cells))

    def _cell(self, record: Record, view: View) -> layout.Cell:
        seen = self.look(record)
        frames = seen.pictures.get(view.name)
        if frames is None:
            return layout.Cell(None, seen.word or layout.PENDING)
        fastest = seen.fastest.get(view.stream)
        aside = "" if fastest is None else f"max {fastest:.1f} px"
        return layout.Cell(frames, caption=gain(record), aside=aside)

    def _clip_cell(self, record: Record, view: View, sheet: layout.Sheet, head: layout.Column) -> layout.Cell:
        """A clip of RGB with what stands beside it."""
        seen, stream = self.look(record), view.stream
        frames, xt, yt, flow = (seen.pictures.get(each.name) for each in views(self.clips[stream]))
        if frames is None or xt is None or yt is None:
            return layout.Cell(None, seen.word or layout.PENDING)
        input, (row, column) = self.clips[stream], seen.places[stream]
        shape = input.length("height"), input.length("width")
        place = (row + 0.5) / shape[0], (column + 0.5) / shape[1]
        beside = panels.Panels(xt, yt, flow, why_no_flow(input), place, shape)
        movement = seen.movements.get(stream, Movement())
        return layout.Cell(
            frames,
            caption=gain(record),
            aside=f"flow to {movement.speed:.2g} px/frame" if movement.speed > 0 else "",
            more=(f"row {row}, column {column}", movement.words),
            placed=tuple(
                panels.still(frames, beside, sheet.side, head.tiles)
                if sheet.still
                else panels.moving(frames, beside, sheet.side)
            ),
        )

    def _more(self, still: bool) -> str:
        """What stands beside clips of RGB, in a line."""
        if not self.clips:
            return ""
        each = next(iter(self.clips.values()))
        # Time fills the height of an x-t slice, and the width of a y-t slice.
        pace = [f"{each.length(side) / each.length('time'):.2g}" for side in ("height", "width")]
        slant = f"45 degrees: {' and '.join(dict.fromkeys(pace))} px/frame"
        right, below = "y-t, time to the right", "x-t, time downward"
        where = f"below: {below}; flow; {right}" if still else f"right: {right} \u00b7 below: {below}; flow"
        return f"{where} \u00b7 of the row and column that change most \u00b7 {slant}"

    def _words(self, convention: str, still: bool) -> str:
        """What is drawn, in a line."""
        drawn = self.views(convention)
        if convention in CONVENTIONS:
            flow = " and ".join(view.stream for view in drawn if view.convention == convention)
            words = f"{flow} as {convention.replace('components', 'x, y, magnitude')}"
        else:
            words = " and ".join(view.stream for view in drawn)
        parts = []
        if lengths := {view.length for view in drawn if view.stream in self.clips}:
            parts.append(_listed("frame", lengths, _even_tiles, "five frames"))
        if others := [view for view in drawn if view.moves and view.stream not in self.clips]:
            noun = "field" if others[0].convention in CONVENTIONS else "frame"
            parts.append(_listed(noun, {view.length for view in others}, _tiles, f"first, middle and last {noun}"))
        return f"{words} \u00b7 {' and '.join(parts)} of each clip" if still and parts else words


def _listed(noun: str, lengths: set[int], tiles: Callable[[int], tuple[int, ...]], otherwise: str) -> str:
    """Which frames of clips of some lengths are shown, in words."""
    if len(lengths) > 1:
        return otherwise
    return f"{noun}s {', '.join(str(number + 1) for number in tiles(*lengths))}"


def _even_tiles(length: int) -> tuple[int, ...]:
    """The frames of a clip of RGB that a still sheet shows: five, evenly.

    >>> _even_tiles(32), _even_tiles(2)
    ((0, 8, 16, 23, 31), (0, 1))
    """
    return tuple(sorted({round(place * (length - 1) / 4) for place in range(5)}))


def _tiles(length: int) -> tuple[int, ...]:
    """The frames of a clip that a still sheet shows."""
    return tuple(sorted({0, (length - 1) // 2, length - 1}))


def _note(note: str, units: Sequence[int], count: int, page: int, pages: int) -> str:
    words = f"unit {units[0]}" if len(units) == 1 else f"units {units[0]} to {units[-1]}"
    return f"{note} \u00b7 {words}" + (f" of {count} \u00b7 page {page + 1} of {pages}" if pages > 1 else "")


def common(values: Sequence[Any]) -> str:
    """What records have in common; "several" where they differ."""
    different = set(values)
    value = different.pop() if len(different) == 1 else "several" if different else "not recorded"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _provenance(records: Sequence[Record]) -> str:
    """Where a sheet comes from, in one line."""
    all_settings = [record.settings for record in records]

    def one(name: str) -> str:
        return common([getattr(each, name) for each in all_settings])

    parts = [f"model {one('model')}", f"recipe {one('recipe')}", f"{one('steps')} steps"]
    parts += [f"seed {one('seed')}", f"kappa {one('kappa')}"]
    parts += ["~: ahat is rough"] * any(each.rough for each in all_settings)
    return " \u00b7 ".join([*parts, "drawn by stjax"])
