"""Finished units -> files to look at: a unit's own pictures, and the contact sheets of a layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from stjax.errors import UsageError
from stjax.figures import color, encode, layout
from stjax.figures.records import (
    CONVENTIONS,
    Look,
    Record,
    bare,
    chis_of,
    gain,
    identity,
    look,
    picture_paths,
    starts,
)
from stjax.files import claim, discard

SHEETS = "sheets"
"""The folder, below the run's, in which the sheets are."""

STILL_PAGE, MOVING_PAGE = (2600, 2200), (1520, 1280)
"""Largest page in pixels. A GIF of ten frames at this size takes 3 to 8 MB; a still may be printed."""

KEY_WORDS = {
    "direction": ("hue: direction of motion", "white: still", "full colour: fastest pixel of the clip"),
    "components": ("red: u, to the right", "green: v, downward", "blue: speed; grey: still"),
}


def draw_record(directory: str | Path, record: Record, mean: ArrayLike) -> list[Path]:
    """Draws one unit's pictures beside its array: appearance as PNG, motion as GIF in both conventions.

    Files are named after the array, `NAME-appearance.png`, `NAME-direction.gif`, `NAME-components.gif`, and
    are enlarged by a whole number to at least 90 px. `NAME-direction.png` and `NAME-components.png` are the middle
    fields, for those who want nothing to move. Existing files are replaced. A unit without gradient, and one whose
    array is not finite, has no picture: noise or grey would pass for a finding; what an earlier run left is removed.

    Args:
      directory: the run's folder.
      record: one manifest line.
      mean: (rgb=3,) or a number, grey levels; what preprocessing took from appearance.
    Returns:
      The files written.
    Raises:
      UsageError: the array is missing, has another shape than documented, or a picture's name is taken by a file
        that stjax did not make.
    """
    directory, paths = Path(directory), picture_paths(directory, record)
    seen = look(directory, record, mean)
    if seen.word:
        for path in paths.values():
            discard(path)
        return []
    # Whole numbers only, and never smaller: this is the picture at full detail.
    side = seen.side * -(-layout.SMALLEST // seen.side)
    written = []
    if seen.appearance is not None:
        path = claim(directory, paths["appearance"])
        written.append(encode.png(path, layout.resize(seen.appearance, side)[0]))
    for convention, frames in seen.motion.items():
        enlarged = layout.resize(frames, side)
        middle = enlarged[(len(enlarged) - 1) // 2]
        written.append(encode.png(claim(directory, paths[f"{convention} still"]), middle))
        written.append(encode.gif(claim(directory, paths[convention]), enlarged))
    return written


def draw_layer(directory: str | Path, records: Sequence[Record], mean: ArrayLike, *, mp4: bool = False) -> list[Path]:
    """Draws the contact sheets of one layer, laid out like the paper's figures: a row for each unit.

    Columns are appearance, then motion at each chi, falling; each as often as there are starts. Each motion
    convention gives animated pages (GIF) and still pages (PNG, with the first, middle and last field), in
    `sheets/LAYER-CONVENTION-PAGE.*`. A layer of which only appearance was run gives still pages,
    `sheets/LAYER-appearance-PAGE.png`.

    A fused unit has an appearance for every chi; as in the paper one is shown, that of the largest chi. Where
    records repeat a (layer, unit, chi, start), the last one counts.

    Args:
      directory: the run's folder.
      records: manifest lines of one bare layer, both streams.
      mean: (rgb=3,) or a number, grey levels; what preprocessing took from appearance.
      mp4: write each animated page as MP4 as well: a tenth of the size, all colours.
    Returns:
      The files written. Pages left by an earlier, longer run of this layer are removed.
    Raises:
      UsageError: no records, records of several layers, an array that is missing or misshapen, or a sheet's name is
        taken by a file that stjax did not make.
    """
    names = sorted({bare(record["layer"]) for record in records})
    if len(names) != 1:
        raise UsageError(f"a sheet shows one layer; these records are of {', '.join(names) or 'none'}")
    directory, name = Path(directory), names[0]
    latest = {identity(record): record for record in records}
    units: dict[int, list[Record]] = {}
    for record in sorted(latest.values(), key=lambda record: record["unit"]):
        units.setdefault(record["unit"], []).append(record)

    plan = _Plan.of(directory, list(latest.values()), mean)
    written: list[Path] = []
    for convention in CONVENTIONS if plan.chis else ("appearance",):
        sheets = [plan.sheet(name, convention, still) for still in ((False, True) if plan.chis else (True,))]
        # The same units on the animated page as on the still one of that number.
        pages = -(-len(units) // min(_capacity(sheet, len(units)) for sheet in sheets))
        length = -(-len(units) // pages)
        for sheet in sheets:
            still = sheet.still
            _, down = layout.grid(length, (sheet.block_width, sheet.row_height), _limit(still))
            for page in range(pages):
                shown = list(units)[page * length : (page + 1) * length]
                rows = [plan.row(units[unit], convention) for unit in shown]
                part = replace(sheet, note=_note(sheet.note, shown, len(units), page, pages))
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
    pattern = re.compile(re.escape(name) + r"-(appearance|direction|components)-\d+\.(png|gif|mp4)")
    folder = directory / SHEETS
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)] if folder.is_dir() else []


def _limit(still: bool) -> tuple[int, int]:
    return STILL_PAGE if still else MOVING_PAGE


def _capacity(sheet: layout.Sheet, count: int) -> int:
    """How many of a layer's units one page can take."""
    across, down = layout.grid(count, (sheet.block_width, sheet.row_height), _limit(sheet.still))
    return across * down


class _Plan(NamedTuple):
    """What the sheets of a layer have in common, found by looking at one living unit of each stream."""

    chis: list[float]
    starts: list[int]
    chi_of_appearance: float | None
    has_appearance: bool
    side: int
    fields: int
    named: bool
    provenance: str
    look: Callable[[Record], Look]

    @classmethod
    def of(cls, directory: Path, records: Sequence[Record], mean: ArrayLike) -> _Plan:
        living: dict[str, Look] = {}
        for record in records:
            if record["layer"] not in living and not (seen := look(directory, record, mean)).word:
                living[record["layer"]] = seen
        chis = chis_of(records)
        streams = {record["layer"].partition("/")[0] for record in records if "/" in record["layer"]}
        count = len({record["unit"] for record in records})
        side = layout.fit(max((seen.side for seen in living.values()), default=layout.SMALLEST), count)
        by_key = {identity(record): record for record in records}

        # Four sheets show each record: up to half a GiB of coloured clips (10 fields, twice) is kept.
        @lru_cache(maxsize=max(1, 2**29 // (60 * side**2)))
        def at_size(which: tuple[Any, ...]) -> Look:
            seen = look(directory, by_key[which], mean)
            still = None if seen.appearance is None else layout.resize(seen.appearance, side)
            motion = {convention: layout.resize(frames, side) for convention, frames in seen.motion.items()}
            return seen._replace(appearance=still, motion=motion)

        return cls(
            chis=chis,
            starts=starts(records),
            chi_of_appearance=chis[0] if chis and not streams else None,
            has_appearance="appearance" in streams or any(s.appearance is not None for s in living.values()),
            side=side,
            fields=max((len(frames) for s in living.values() for frames in s.motion.values()), default=10),
            named=any(record.get("name") for record in records),
            provenance=_provenance(records),
            look=lambda record: at_size(identity(record)),
        )

    def sheet(self, name: str, convention: str, still: bool) -> layout.Sheet:
        fields = tuple(sorted({0, (self.fields - 1) // 2, self.fields - 1})) if still else (0,)
        of = "" if self.chi_of_appearance is None else f", chi = {self.chi_of_appearance:g}"
        heads = [("appearance" + of, (0,))] if self.has_appearance else []
        heads += [(f"chi = {chi:g}", fields) for chi in self.chis]
        columns = [
            layout.Column(f"start {start}" if start else title, shown)
            for title, shown in heads
            for start in self.starts
        ]
        moving = convention in CONVENTIONS
        note = f"motion as {convention.replace('components', 'x, y, magnitude')}" if moving else "appearance"
        if moving and still:
            note += f" \u00b7 fields {', '.join(str(number + 1) for number in fields)} of each clip"
        sheet = layout.Sheet(
            title=name,
            note=note,
            columns=tuple(columns),
            side=self.side,
            named=self.named,
            still=still,
            key=color.legend(convention, 52) if moving else None,
            key_words=KEY_WORDS.get(convention, ()),
            provenance=self.provenance,
        )
        # Many chi make a wide row: cells give way before the page does.
        excess = sheet.block_width - (_limit(still)[0] - 2 * layout.MARGIN)
        if excess > 0:
            tiles = sum(len(column.shown) if still else 1 for column in columns)
            sheet = replace(sheet, side=max(48, self.side - -(-excess // tiles)))
        return sheet

    def row(self, records: Sequence[Record], convention: str) -> layout.Row:
        """One unit's cells. A fused record fills a motion cell, and one of them the appearance cell too."""
        looks = [(record, self.look(record)) for record in records]
        cells = []
        for start in self.starts if self.has_appearance else ():
            own = [pair for pair in looks if not pair[0]["layer"].startswith("motion/")]
            own = [pair for pair in own if pair[0].get("start", 0) == start]
            own.sort(key=lambda pair: -1.0 if pair[0]["chi"] is None else pair[0]["chi"])
            if own:
                cells.append(_cell(*own[-1], own[-1][1].appearance, ""))
            else:
                cells.append(layout.Cell(None, layout.PENDING))
        for chi, start in ((chi, start) for chi in self.chis for start in self.starts):
            pair = next((p for p in looks if p[0]["chi"] == chi and p[0].get("start", 0) == start), None)
            if pair is None:
                cells.append(layout.Cell(None, layout.PENDING))
            else:
                cells.append(_cell(*pair, pair[1].motion.get(convention), f"max {pair[1].fastest:.1f} px"))
        name = next((record["name"] for record in records if record.get("name")), None)
        unit = str(records[0]["unit"])
        return layout.Row(f"{unit}  {name}" if name else unit, tuple(cells))


def _cell(record: Record, look: Look, frames: color.Picture | None, aside: str) -> layout.Cell:
    if frames is None:
        return layout.Cell(None, look.word or layout.PENDING)
    return layout.Cell(frames, caption=gain(record), aside=aside)


def _note(note: str, shown: Sequence[int], count: int, page: int, pages: int) -> str:
    units = f"unit {shown[0]}" if len(shown) == 1 else f"units {shown[0]} to {shown[-1]}"
    return f"{note} \u00b7 {units}" + (f" of {count} \u00b7 page {page + 1} of {pages}" if pages > 1 else "")


def _provenance(records: Sequence[Record]) -> str:
    """Where a sheet comes from, in one line; "several" where its records differ."""

    def one(key: str) -> str:
        values = {record.get(key) for record in records} - {None}
        value = values.pop() if len(values) == 1 else "several" if values else "not recorded"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    parts = [f"model {one('model')}", f"recipe {one('recipe')}", f"{one('steps')} steps"]
    parts += [f"seed {one('seed')}", f"kappa {one('kappa')}"]
    parts += ["~: ahat is rough"] * any(record.get("rough") for record in records)
    return " \u00b7 ".join([*parts, "drawn by stjax"])
