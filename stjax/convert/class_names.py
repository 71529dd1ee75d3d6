"""Names of classes, from a text file with one a line."""

from __future__ import annotations

from pathlib import Path

from stjax.convert.description import LONGEST_NAME
from stjax.errors import UsageError, printable

LARGEST = 4 << 20
"""Bytes."""


def read(path: Path) -> tuple[str, ...]:
    """The names in a file, one a line, in the order of the classifier's units.

    Numbers that count the lines, as in UCF101's classInd.txt (`1 ApplyEyeMakeup`), are left out.

    Raises:
      UsageError: no such file, no text in UTF-8, an empty line, or a name too long to be one.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "classInd.txt"
    >>> _ = file.write_text("1 ApplyEyeMakeup\\n2 ApplyLipstick\\n")
    >>> read(file)
    ('ApplyEyeMakeup', 'ApplyLipstick')
    """
    try:
        if not path.is_file():
            raise UsageError(f"class names must be in a file, one a line: {path} is none")
        if path.stat().st_size > LARGEST:
            raise UsageError(f"class names must be in a file of up to {LARGEST >> 20} MiB: {path} is larger")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"class names must be text in UTF-8: {path} is not, at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"class names must be readable: {path}: {error.strerror}") from None
    # Not splitlines: it breaks lines at letters that a name may hold, form feed for one.
    lines = [line.strip() for line in text.rstrip().split("\n")]
    for number, line in enumerate(lines, start=1):
        if not line or len(line) > LONGEST_NAME:
            what = "empty" if not line else f"{len(line):,} letters long"
            raise UsageError(f"class names must have 1 to {LONGEST_NAME} letters: line {number} of {path} is {what}")
    return tuple(map(printable, _uncounted(lines)))


def _uncounted(lines: list[str]) -> list[str]:
    pairs = [line.split(maxsplit=1) for line in lines]
    for first in (0, 1):
        if all(len(pair) == 2 and pair[0] == str(number) for number, pair in enumerate(pairs, start=first)):
            return [name for _, name in pairs]
    return lines
