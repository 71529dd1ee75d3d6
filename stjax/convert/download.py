"""One file over HTTP, resumed where it broke off, and whole or absent."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from stjax.convert.releases import Release
from stjax.errors import UsageError
from stjax.files import checksum

PIECE = 1 << 18
PATIENCE = 20.0
"""Seconds without a byte before a server counts as silent."""
TRIES = 4

Progress = Callable[[int, int | None], None]
"""Called with the bytes there are and the bytes there will be, None if the server does not say."""


def cache() -> Path:
    """Where downloads are kept: $STJAX_CACHE, else the user's cache folder."""
    own = os.environ.get("STJAX_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stjax"


def fetch(
    release: Release, folder: Path, *, progress: Progress = lambda done, total: None, patience: float = PATIENCE
) -> Path:
    """Downloads a release; what came over before a connection broke is kept and built upon.

    Args:
      release: from `releases.named`.
      folder: to save into; made if need be.
      progress: see `Progress`.
      patience: in seconds.
    Returns:
      The file's path.
    Raises:
      UsageError: no answer, a connection that keeps breaking, or another checksum; with the address and a next step.
    """
    target = folder / release.file
    part = folder / f"{release.file}.part"
    if target.is_file():
        _verify(release, target)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        before = _size(part)
        try:
            whole = _continue(release, part, progress, patience)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise _silent(release, folder, f"the server answers {error.code} {error.reason}") from None
            # The part is no beginning of what is there now.
            part.unlink(missing_ok=True)
            continue
        except (OSError, http.client.HTTPException) as error:
            whole = False
            # A try that brought bytes over is progress, one that did not is the last.
            if _size(part) == before and (attempt or not before):
                raise _silent(release, folder, _reason(error)) from None
        if whole:
            _validator(part).unlink(missing_ok=True)
            _verify(release, part)
            os.replace(part, target)
            return target
    raise _silent(release, folder, f"the connection broke {TRIES} times, {_size(part):,} bytes are kept")


def _continue(release: Release, part: Path, progress: Progress, patience: float) -> bool:
    """One connection, from where the part ends; whether all has come."""
    request = urllib.request.Request(release.address, headers={"User-Agent": "stjax"})
    mark = _validator(part)
    if _size(part) and mark.is_file():
        # Only if the file is still the one that the part is of; else it is sent anew.
        request.add_header("Range", f"bytes={_size(part)}-")
        request.add_header("If-Range", mark.read_text())
    with urllib.request.urlopen(request, timeout=patience) as answer:
        resumed = answer.status == 206
        begin = _size(part) if resumed else 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length and length.isdigit() else None
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        # A weak tag promises likeness, not equal bytes.
        mark.write_text(tag) if tag and not tag.startswith("W/") else mark.unlink(missing_ok=True)
        with open(part, "ab" if resumed else "wb") as file:
            progress(begin, total)
            while piece := answer.read(PIECE):
                file.write(piece)
                begin += len(piece)
                progress(begin, total)
    return total is None or begin == total


def _verify(release: Release, path: Path) -> None:
    if not release.digest:
        return
    algorithm, _, expected = release.digest.partition(":")
    found = checksum(path, algorithm)
    if not found.startswith(expected):
        path.unlink()
        raise UsageError(
            f"{release.name} must have {algorithm} {expected}: {release.address} gave {found}; removed, try again"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__


def _silent(release: Release, folder: Path, reason: str) -> UsageError:
    return UsageError(
        f"{release.name} could not be had from {release.address}: {reason}; try again later (it goes on where it "
        f"stopped), or fetch the file by other means and give it to stjax convert"
    )
