"""Files that are whole or absent, and how ours are told from other people's.

Whatever stjax writes into a results folder says so inside: a page in its head, a picture in a comment, an array file in
the comment of its zip. Only a file that says so is ever replaced or removed, and no symbolic link is followed to do so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stjax.errors import UsageError

MARK = "stjax-made-this-file"
"""Stands near the beginning or the end of every file that stjax may replace later."""
MARGIN = 1 << 14
"""Bytes at either end of a file in which it is looked for: a GIF's follows a palette, an MP4's a table of frames."""
TEMPORARY = re.compile(r"\.stjax-[0-9a-f]{32}(\.\w+)?")
"""Names of files that are being written: nobody else's, so that what a killed run leaves can be swept."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` when the block ends well, removed when it does not.

    Args:
      path: of the file that is to be whole or as it was before; its folder is made.
      durable: the file is on the disk before it gets its name: for what a power failure must not take.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent, path.suffix)
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(directory: Path) -> None:
    """Makes a folder, and tries it out: OSError if it cannot be written to."""
    directory.mkdir(parents=True, exist_ok=True)
    probe = _temporary(directory)
    probe.touch(exist_ok=False)
    probe.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a report that bears our mark, in place of an earlier one at most.

    Args:
      path: of the file.
      text: with the mark in it, or Markdown, which gets it in a comment.
    Raises:
      UsageError: what is there was not made by stjax.
    """
    claim(path.parent, path)
    with replacing(path) as temporary:
        temporary.write_text(text if MARK in text else f"{text.rstrip()}\n\n<!-- {MARK} -->\n", encoding="utf-8")


def claim(directory: Path, path: Path, *, known: bool = False) -> Path:
    """`path`, if writing there can lose nothing of anybody else's.

    Args:
      directory: the user's, which may be a link itself.
      path: below it.
      known: that the file is ours is known without its mark: a manifest names it.
    Raises:
      UsageError: a link leads away on the way to it, or what is there was not made by stjax.
    """
    for parent in reversed(path.relative_to(directory).parents[:-1]):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR((directory / parent).lstat().st_mode):
                raise _foreign(directory / parent, "a link or a file; a folder must be")
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(kind):
        raise _foreign(path, "a link" if stat.S_ISLNK(kind) else "no file; one must be")
    if not (known or made(path)):
        raise _foreign(path, "somebody else's")
    return path


def made(path: Path) -> bool:
    """Whether a file bears our mark; what is no plain file does not.

    >>> made(Path(__file__).with_name("__main__.py")), made(Path("/dev/null"))
    (False, False)
    """
    # Asked before it is opened: opening a pipe waits for whoever writes to it.
    if not path.is_file() or path.is_symlink():
        return False
    if path.suffix in (".png", ".gif", ".mp4") and path.stat().st_size == 0:
        return True  # What a power failure leaves of a new picture; an empty one holds nothing of anybody's.
    with open(path, "rb") as file:
        head = file.read(MARGIN)
        file.seek(max(0, file.seek(0, os.SEEK_END) - MARGIN))
        return MARK.encode() in head or MARK.encode() in file.read()


def discard(path: Path) -> None:
    """Removes a file of ours; leaves anything else alone."""
    if made(path):
        path.unlink(missing_ok=True)


def sweep(directory: Path, below: tuple[str, ...] = ()) -> None:
    """Removes what killed runs were writing: in a folder itself, and anywhere below some of its own folders."""
    folders = [directory]
    for name in below:
        if not (directory / name).is_symlink():
            folders += [Path(root) for root, _, _ in os.walk(directory / name)]
    for folder in folders:
        for entry in os.scandir(folder):
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                Path(entry).unlink(missing_ok=True)


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """sha256, or another digest that hashlib knows, of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _temporary(directory: Path, suffix: str = "") -> Path:
    # Not tempfile: its files are readable by their owner alone, and the rename would keep that.
    return directory / f".stjax-{uuid.uuid4().hex}{suffix[:9]}"


def _foreign(path: Path, kind: str) -> UsageError:
    return UsageError(
        f"nothing but files that stjax made may be replaced: {path} is {kind}; move it, or choose another with --out"
    )
