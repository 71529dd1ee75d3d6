"""Tables of what the scripts measure, to be read on a terminal and pasted into the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of Markdown.

    >>> markdown_table(["layer", "px"], [["conv1_1", 3]])
    ['| layer | px |', '|---|---|', '| conv1_1 | 3 |']
    """
    return [_line(heads), "|---" * len(heads) + "|", *map(_line, rows)]


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
