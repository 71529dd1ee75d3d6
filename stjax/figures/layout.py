"""Pictures -> contact sheets: rows of units, columns of pictures, captions, a key and a line of provenance.

Pure functions of uint8 arrays and words; files are written by `encode`, records are read by `look`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

INK, SOFT, FAINT, WHITE = (24, 24, 27), (112, 112, 118), (222, 222, 226), (255, 255, 255)
GROUND = (244, 244, 246)
"""Of a cell beside a picture that is not square: told from the white of flow that stands still."""
SMALLEST, LARGEST, MANY = 90, 168, 100
"""Side of a cell on a sheet, in pixels: smaller canvases are enlarged by a whole number, larger ones reduced.
The longer side of a picture fills it. Cells of layers with more than MANY units are two thirds of that."""
PENDING = "not run"
MARGIN, GAP, CAPTION, HEADER, FOOTER = 28, 8, 19, 82, 46
WORDS = 640
"""Width that a page of few pictures may grow to for the sake of its words, and a little more for the key."""
TITLE, NAME, LINE = 22, 20, 16
"""Heights: of the titles of columns, of a unit's name above its cells, and of one more line of either."""
TILE_GAP = 2
"""Between the frames of one clip."""


class Cell(NamedTuple):
    """One picture of one unit. `frames` (time, height, width, 3) uint8, or None and a `word` that says why.

    `caption` stands below at the left, `aside` at the right where there is room for both; `more` likewise, one line
    below. A cell of several pictures has them in `placed`, in place of frames: x and y in the cell, and frames.
    """

    frames: Picture | None
    word: str = ""
    caption: str = ""
    aside: str = ""
    more: tuple[str, str] = ("", "")
    placed: tuple[tuple[int, int, Picture], ...] = ()


class Row(NamedTuple):
    """One unit: its label, and one cell for each column."""

    label: str
    cells: tuple[Cell, ...]


class Column(NamedTuple):
    """A title, of which what follows a comma may go to a second line, and the frames that a still sheet shows.

    `size`: how many tiles a cell is wide and high, where that does not follow from the frames.
    """

    title: str
    tiles: tuple[int, ...] = (0,)
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What does not change from page to page.

    Attributes:
      title, note: the layer, and what is drawn of it; `more` is a second line of the note.
      columns: from left to right.
      side: of a cell, pixels.
      named: labels are class names (on a line of their own), not bare numbers (in the margin).
      still: one frame, with some frames of each clip side by side; else all frames, played in place.
      key, key_words: the legend's picture and the lines beside it.
      provenance: the last line.
    """

    title: str
    note: str
    columns: tuple[Column, ...]
    side: int
    named: bool = False
    still: bool = True
    key: Picture | None = None
    key_words: tuple[str, ...] = ()
    provenance: str = ""
    more: str = ""

    @property
    def gutter(self) -> int:
        return 0 if self.named else 34

    @property
    def gap(self) -> int:
        # Frames of one clip stand 2 px apart: clips must stand farther.
        return 2 * GAP if self.still or any(column.size for column in self.columns) else GAP

    @property
    def row_height(self) -> int:
        down = max([self.tiles(column)[1] for column in self.columns], default=1)
        # What is two tiles high has a second line of captions.
        captions = CAPTION + (14 if down > 1 else 0)
        return down * self.side + (down - 1) * TILE_GAP + captions + (NAME if self.named else 0) + GAP

    @property
    def title_size(self) -> int:
        """Of the letters above columns, pixels: smaller letters above narrow ones."""
        return 13 if self.side >= 80 else 11

    @property
    def titles(self) -> list[list[str]]:
        """The lines of each column's title: as many as it takes for none to reach into the next column."""
        return [_lines(column.title, self.title_size, self.column_width(column)) for column in self.columns]

    @property
    def titles_height(self) -> int:
        return TITLE + LINE * (max(map(len, self.titles), default=1) - 1)

    @property
    def header(self) -> int:
        """Height of what stands above the titles of columns."""
        return HEADER + (10 if self.more else 0)

    @property
    def block_width(self) -> int:
        return self.gutter + sum(self.column_width(column) + self.gap for column in self.columns) - self.gap

    def tiles(self, column: Column) -> tuple[int, int]:
        """How many tiles a cell of a column is wide and high."""
        return column.size or (len(column.tiles) if self.still else 1, 1)

    def column_width(self, column: Column) -> int:
        across = self.tiles(column)[0]
        return across * self.side + (across - 1) * TILE_GAP

    def cell_height(self, column: Column) -> int:
        down = self.tiles(column)[1]
        return down * self.side + (down - 1) * TILE_GAP


def fit(side: int, count: int = 1) -> int:
    """The side of a cell for canvases of `side` pixels: a whole multiple, from 90 px up, 168 px at most.

    >>> [fit(side) for side in (3, 14, 40, 92, 196)], [fit(side, 512) for side in (40, 92, 196)]
    ([90, 98, 120, 92, 168], [80, 92, 112])
    """
    smallest, largest = (SMALLEST, LARGEST) if count <= MANY else (2 * SMALLEST // 3, 2 * LARGEST // 3)
    return min(largest, side * -(-smallest // side))


def resize(frames: Picture, side: int) -> Picture:
    """Frames in a square: their longer side fills it, and what is left beside them is one pale grey.

    Args:
      frames: (time, height, width, 3) uint8.
      side: pixels.
    Returns:
      (time, side, side, 3) uint8.

    >>> resize(np.array([[[[0] * 3, [9] * 3]] * 2], np.uint8), 4)[0, 0, :, 0]
    array([0, 0, 9, 9], dtype=uint8)
    >>> resize(np.array([[[[0] * 3, [9] * 3]]], np.uint8), 4)[0, :, 0, 0]
    array([244,   0,   0, 244], dtype=uint8)
    """
    high, wide = inside(frames.shape[1:3], side)
    scaled = scale(frames, high, wide)
    if (high, wide) == (side, side):
        return scaled
    square = np.empty((len(frames), side, side, 3), np.uint8)
    square[:] = GROUND
    top, left = (side - high) // 2, (side - wide) // 2
    square[:, top : top + high, left : left + wide] = scaled
    return square


def inside(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of a picture in a square, whose longer side fills it.

    >>> inside((20, 40), 90)
    (45, 90)
    """
    high, wide = (max(1, round(side * each / max(shape))) for each in shape)
    return high, wide


def scale(frames: Picture, height: int, width: int) -> Picture:
    """Frames at another size: square pixels below 24 px, Lanczos interpolation above.

    Args:
      frames: (time, height, width, 3) uint8.
      height, width: pixels.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    # Below 24 px (first layers) the pixels are the message, and a smooth curve through them would be made up.
    how = Image.Resampling.NEAREST if max(frames.shape[1:3]) < 24 else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames])


def grid(count: int, block: tuple[int, int], limit: tuple[int, int]) -> tuple[int, int]:
    """How many units side by side, and how many below one another, on a page of at most `limit` pixels.

    Args:
      count: of units.
      block: width and height of one unit, pixels.
      limit: width and height of a page, pixels.
    Returns:
      (across, down), each at least 1; a sheet of few units is kept near the shape of the page.

    >>> page = (1400, 1300)
    >>> grid(81, (640, 150), page), grid(3, (640, 150), page), grid(9, (900, 160), page)
    ((2, 7), (1, 3), (1, 5))
    """
    across = max(1, (limit[0] - MARGIN) // (block[0] + MARGIN))
    down = max(1, (limit[1] - HEADER - FOOTER - TITLE - LINE) // block[1])
    if count < across * down:
        ratio = limit[0] / limit[1]
        across = min(across, max(1, round((count * ratio * block[1] / block[0]) ** 0.5)), count)
        across = max(across, -(-count // down))
        down = -(-count // across)
    pages = -(-count // (across * down))
    return across, -(-count // (pages * across))  # pages of like length, not a last one with a single unit


def draw(sheet: Sheet, rows: Sequence[Row], across: int) -> Picture:
    """One page: units run down the first block, then down the next.

    Args:
      sheet: what all pages share.
      rows: the units of this page.
      across: blocks side by side.
    Returns:
      (time, height, width, 3) uint8; time is 1 for a still.
    """
    down = -(-len(rows) // across)
    body = across * (sheet.block_width + MARGIN) - MARGIN
    longest = max(body, WORDS)
    sheet = replace(
        sheet,
        title=_clipped(sheet.title, 22, longest),
        note=_clipped(sheet.note, 12, longest),
        provenance=_clipped(sheet.provenance, 11, longest),
    )
    words = max(_width(sheet.title, 22), _width(sheet.note, 12), _width(sheet.more, 12))
    key = max([_width(word, 11) for word in sheet.key_words], default=0) + 64 if sheet.key is not None else 0
    width = 2 * MARGIN + max(body, words + key + MARGIN, _width(sheet.provenance, 11))
    top = sheet.header + sheet.titles_height
    height = top + down * sheet.row_height + FOOTER
    page = Image.new("RGB", (width, height), WHITE)
    pen = ImageDraw.Draw(page)
    _frame_page(sheet, page, pen)
    moving: list[tuple[int, int, Picture]] = []
    for block in range(-(-len(rows) // down)):
        left = MARGIN + block * (sheet.block_width + MARGIN)
        _titles(sheet, pen, left)
        for line, row in enumerate(rows[block * down : (block + 1) * down]):
            moving += _draw_row(sheet, page, pen, row, left, top + line * sheet.row_height)
    still = np.asarray(page)
    times = max([len(frames) for _, _, frames in moving], default=1)
    film = np.repeat(still[None], times, axis=0)
    for x, y, frames in moving:
        # A clip that is shorter than the others starts again.
        height, width = frames.shape[1:3]
        film[:, y : y + height, x : x + width] = frames[np.arange(times) % len(frames)]
    return film


def placeholder(side: int, word: str) -> Picture:
    """A cell without a picture, (side, side, 3): one word, hatched unless the unit is only not run yet."""
    ground = (250, 250, 251)
    large = Image.new("RGB", (side * 2, side * 2), ground)
    pen = ImageDraw.Draw(large)
    for start in range(-2 * side, 2 * side, 16) if word != PENDING else ():
        pen.line([(start, 2 * side), (start + 2 * side, 0)], fill=FAINT, width=3)
    cell = large.resize((side, side), Image.Resampling.LANCZOS)
    pen, size = ImageDraw.Draw(cell), 13 if side >= 64 else 9
    half = _width(word, size) // 2 + 6
    pen.rectangle([side // 2 - half, side // 2 - 11, side // 2 + half, side // 2 + 10], fill=ground)
    pen.text((side / 2, side / 2), word, fill=SOFT, font=_font(size), anchor="mm")
    return np.asarray(cell)


def _draw_row(
    sheet: Sheet, page: Image.Image, pen: ImageDraw.ImageDraw, row: Row, left: int, top: int
) -> list[tuple[int, int, Picture]]:
    """Draws what stands still on the page; returns what moves, with its place."""
    if sheet.named:
        pen.text((left, top), _clipped(row.label, 13, sheet.block_width), fill=INK, font=_font(13))
        top += NAME
    else:
        middle = top + max(sheet.cell_height(column) for column in sheet.columns) / 2
        pen.text((left + 26, middle), row.label, fill=INK, font=_font(13), anchor="rm")
    moving, x = [], left + sheet.gutter
    for column, cell in zip(sheet.columns, row.cells, strict=True):
        width, height = sheet.column_width(column), sheet.cell_height(column)
        pen.rectangle([x - 1, top - 1, x + width, top + height], outline=FAINT)
        if cell.placed:
            for right, down, frames in cell.placed:
                if len(frames) > 1:
                    moving.append((x + right, top + down, frames))
                else:
                    page.paste(Image.fromarray(frames[0]), (x + right, top + down))
        elif cell.frames is None:
            empty = placeholder(width, cell.word)
            page.paste(Image.fromarray(empty[(width - height) // 2 :][:height]), (x, top))
        elif sheet.still:
            for tile, number in enumerate(column.tiles):
                frame = resize(cell.frames[min(number, len(cell.frames) - 1)][None], sheet.side)[0]
                page.paste(Image.fromarray(frame), (x + tile * (sheet.side + TILE_GAP), top))
        else:
            moving.append((x, top, resize(cell.frames, sheet.side)))
        for line, (caption, aside) in enumerate([(cell.caption, cell.aside), cell.more]):
            below = top + height + 4 + 14 * line
            pen.text((x, below), _clipped(caption, 11, width), fill=SOFT, font=_font(11))
            if _width(caption, 11) + _width(aside, 11) + 6 <= width:
                pen.text((x + width, below), aside, fill=SOFT, font=_font(11), anchor="ra")
        x += width + sheet.gap
    return moving


def _titles(sheet: Sheet, pen: ImageDraw.ImageDraw, left: int) -> None:
    x = left + sheet.gutter
    for column, lines in zip(sheet.columns, sheet.titles, strict=True):
        for number, line in enumerate(lines):
            pen.text((x, sheet.header + LINE * number), line, fill=INK, font=_font(sheet.title_size))
        x += sheet.column_width(column) + sheet.gap


def _frame_page(sheet: Sheet, page: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    pen.text((MARGIN, 18), sheet.title, fill=INK, font=_font(22))
    pen.text((MARGIN, 48), sheet.note, fill=SOFT, font=_font(12))
    pen.text((MARGIN, 63), sheet.more, fill=SOFT, font=_font(12))
    if sheet.key is not None:
        x = page.width - MARGIN - len(sheet.key)
        page.paste(Image.fromarray(sheet.key), (x, 14))
        for line, word in enumerate(sheet.key_words):
            pen.text((x - 10, 17 + 15 * line), word, fill=SOFT, font=_font(11), anchor="ra")
    pen.line([(MARGIN, page.height - 34), (page.width - MARGIN, page.height - 34)], fill=FAINT)
    pen.text((MARGIN, page.height - 26), sheet.provenance, fill=SOFT, font=_font(11))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own face is the same on every machine. It knows no Greek, so sheets spell "chi" and "ahat".
    return ImageFont.load_default(size)


def _width(text: str, size: int) -> int:
    return round(_font(size).getlength(text)) + 1


def _lines(text: str, size: int, width: int) -> list[str]:
    """One line, or where that is too wide one for each part between commas; what is too wide even so is cut."""
    parts = [text] if _clipped(text, size, width) == text else text.split(", ")
    return [_clipped(part, size, width) for part in parts]


def _clipped(text: str, size: int, width: int) -> str:
    """A text on one line, cut with an ellipsis where it is wider than `width` pixels.

    >>> _clipped("Archery", 13, 100), _clipped("Archery with a long bow", 13, 100), _clipped("two\\nlines", 13, 100)
    ('Archery', 'Archery with a l...', 'two lines')
    """
    # Names come from other people's files. A letter is a pixel wide or more, so that no more than these are looked at.
    start = " ".join(text[: width + 1].split())
    if len(text) <= width + 1 and _width(start, size) <= width:
        return start
    kept = bisect_right(range(1, len(start) + 1), width, key=lambda count: _width(start[:count] + "...", size))
    return start[:kept].rstrip() + "..." if kept else ""
