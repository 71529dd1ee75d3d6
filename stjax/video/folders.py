"""Folders of frames, and the layout in which the authors of the two-stream network keep frames and flow.

jpegs_256/<video>/frame000001.jpg            RGB, the short side 256 px
tvl1_flow/u/<video>/frame000001.jpg          flow to the right from this frame to the next, coded in 8 bits
tvl1_flow/v/<video>/frame000001.jpg          flow downward
"""

from __future__ import annotations

import re
from pathlib import Path

from stjax.errors import UsageError

RATE = 25.0
"""Frames a second of a folder that does not say."""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FRAMES, FLOW = "jpegs_256", "tvl1_flow"


def natural(path: Path) -> list[tuple[int, int, str]]:
    """By this names are sorted as people count: frame9 before frame10, whatever the case of letters.

    >>> sorted(map(Path, ["b", "frame10.jpg", "frame9.jpg"]), key=natural)
    [PosixPath('b'), PosixPath('frame9.jpg'), PosixPath('frame10.jpg')]
    """
    parts = re.split(r"([0-9]+)", path.name.casefold())
    # Ties by letters: frame1 and frame01 have an order too.
    numbers = [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]
    return [*numbers, (2, 0, path.name)]


def visible(folder: Path) -> list[Path]:
    """What is in a folder but for hidden files, sorted."""
    hidden = ("thumbs.db", "desktop.ini")
    return sorted(
        (each for each in folder.iterdir() if not each.name.startswith(".") and each.name.lower() not in hidden),
        key=natural,
    )


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is one frame."""
    return path.suffix.lower() in ENDINGS


def holds_frames(folder: Path) -> bool:
    """Whether a folder is one video: pictures, and nothing else that is visible."""
    inside = visible(folder)
    return bool(inside) and all(is_picture(each) for each in inside)


def pictures(folder: Path) -> list[Path]:
    """The frames of a folder, in order.

    Raises:
      UsageError: something else is in it, or nothing.
    """
    inside = visible(folder)
    others = [each for each in inside if not is_picture(each)]
    if not inside or others:
        what = f"{others[0].name} is none" if others else "it is empty"
        raise UsageError(f"a folder that is a video must hold pictures alone ({', '.join(ENDINGS)}): {what}")
    return inside
