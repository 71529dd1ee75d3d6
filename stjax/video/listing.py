"""Files and folders -> videos, for commands that take several: what is none is reported, and the rest is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from stjax.video import folders
from stjax.video.reader import VideoError

Result = TypeVar("Result")


class Refusal(NamedTuple):
    """What could not be read, and why, in one line."""

    path: Path
    reason: str


def listing(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[Refusal]]:
    """All videos among files and in folders, and what can be seen without decoding not to be one.

    A folder of pictures alone is one video; of another, everything within counts, folders too, but for hidden files, in
    the order in which people count. Of a folder that holds the authors' layout, its frames count and not its flow.

    Args:
      paths: of files and folders, in whose order videos come.
    """
    found: list[Path] = []
    refused: list[Refusal] = []
    seen: set[Path] = set()

    def visit(path: Path) -> None:
        try:
            if not path.is_dir():
                _check(path)
                found.append(path)
                return
            if path.resolve() in seen:  # a link that leads back
                return
            seen.add(path.resolve())
            inside = folders.visible(path)
            if not inside:
                raise OSError(0, "this folder holds no video")
            if folders.holds_frames(path):
                found.append(path)
                return
            frames = [each for each in inside if each.name == folders.FRAMES]
        except OSError as error:
            refused.append(Refusal(path, error.strerror or str(error)))
            return
        for each in frames or inside:
            visit(each)

    for path in paths:
        visit(Path(path))
    return found, refused


def attempt(
    videos: Iterable[Path], work: Callable[[Path], Result], refused: list[Refusal]
) -> Iterator[tuple[Path, Result]]:
    """What is done with each video, as it is done; a video that cannot be read is added to those refused.

    Args:
      videos: see `listing`.
      work: a video's path -> its result. Of what it raises, a fault of the video alone is caught.
      refused: is added to.
    """
    for path in videos:
        try:
            result = work(path)
        except VideoError as error:
            refused.append(Refusal(path, error.reason))
            continue
        yield path, result


def _check(path: Path) -> None:
    """Raises OSError for a file that no decoder need be asked about."""
    if not path.exists():
        raise OSError(0, "there is no such file")
    if not path.is_file():
        raise OSError(0, "this is neither a file nor a folder")
    if not path.stat().st_size:
        raise OSError(0, "this file is empty")
    if not os.access(path, os.R_OK):
        raise OSError(0, "this file may not be read")
