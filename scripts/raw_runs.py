"""What was measured of one run, kept with the settings that it belongs to, so that a check goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stjax.files import replacing

Measured = TypeVar("Measured", bound=tuple)


def stored(kind: type[Measured], path: Path, settings: str) -> Measured | None:
    """What an earlier run with the same settings measured, a NamedTuple of arrays; None if there is none."""
    if not path.exists():
        return None
    with np.load(path) as file:
        fields: Any = kind._fields  # type: ignore[attr-defined]
        return kind(*(file[name] for name in fields)) if str(file["settings"]) == settings else None


def store(path: Path, settings: str, one: Any) -> None:
    """Keeps what was measured, with the settings that it belongs to."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, settings=np.asarray(settings), **one._asdict())
