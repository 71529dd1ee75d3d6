"""One file over HTTP, resumed where it broke off; whole, and what it should be, or absent."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from stjax.convert import answers
from stjax.convert.answers import Broken, Wrong
from stjax.convert.conversion import convert_files
from stjax.convert.description import architecture_of
from stjax.convert.release import Release
from stjax.errors import UsageError
from stjax.files import checksum

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PIECE = 1 << 18
PATIENCE = 20.0
"""Seconds without a byte before a server counts as silent."""
TRIES = 4
PART = ".stjax-part"
"""Behind a file's name while it is on its way: nobody else's, so that it may be written to and removed."""

Received = Callable[[int, int | None], None]
"""Called with the bytes there are and the bytes there will be, None if the server does not say."""


class _Part(NamedTuple):
    """What has come over of a file, open and locked; and the server's mark of the version that it is of."""

    path: Path
    file: BinaryIO

    @property
    def size(self) -> int:
        self.file.flush()
        return os.fstat(self.file.fileno()).st_size

    @property
    def tag(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tag")

    def begin_at(self, size: int) -> None:
        self.file.truncate(size)
        self.file.seek(size)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def cache() -> Path:
    """Where downloads are kept: $STJAX_CACHE, else the user's cache folder.

    Raises:
      UsageError: no variable says, and the user has no home.
    """
    own, base = os.environ.get("STJAX_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own or base:
        return Path(own) if own else Path(base or "") / "stjax"
    try:
        return Path.home() / ".cache" / "stjax"
    except RuntimeError:
        raise UsageError("a cache folder needs HOME, XDG_CACHE_HOME or STJAX_CACHE; nearest: --folder .") from None


def fetch(
    release: Release,
    folder: Path,
    *,
    insecure: bool = False,
    progress: Received = lambda done, total: None,
    patience: float = PATIENCE,
) -> Path:
    """Downloads a release; what came over before a connection broke is kept and built upon.

    What has come is compared with the published checksum, or, where there is none, with what the file must hold. What
    is wrong is not kept; what was in the folder before is never touched.

    Args:
      release: from `releases.release_named`.
      folder: to save into; made if need be.
      insecure: take what comes without checksum or encryption, so that anybody on the way could have changed it.
      progress: see `Received`.
      patience: in seconds.
    Returns:
      The file's path.
    Raises:
      UsageError: no answer, a connection that keeps breaking, another file than should be, or a folder that cannot
        take it; with the address and a next step.
    """
    target = folder / release.file
    if os.path.lexists(target):
        if damage := _damage(release, target):
            raise UsageError(
                f"{target} is there already, and is not {release.name}: {damage}; move it, or give another --folder"
            )
        return target
    if release.exposed and not insecure:
        raise UsageError(
            f"{release.name} comes over plain http and has no published checksum: whoever is on the way can put "
            "another file in its place; what comes is compared with what it must hold; nearest: --insecure"
        )
    try:
        with _part(folder / f"{release.file}{PART}") as part:
            _transfer(release, part, progress, patience)
            if damage := _damage(release, part.path):
                raise Wrong(damage)
            _settle(part, target)
    except Wrong as wrong:
        raise UsageError(f"{release.name} must be what was published: {release.address}: {wrong}; not kept") from None
    except OSError as error:
        raise UsageError(
            f"the folder must take downloads: {folder}: {error.strerror or error}; nearest: another --folder"
        ) from None
    return target


@contextmanager
def _part(path: Path) -> Iterator[_Part]:
    """The beginning of a file, made if it is not there; removed when the block ends by `Wrong`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # No link is followed, and nothing waited for: opening a pipe waits for its other end.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb+") as file:
        held = os.fstat(descriptor)
        if not stat.S_ISREG(held.st_mode) or held.st_nlink != 1:
            raise OSError(f"{path.name} is no file of its own")
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError("another process is downloading the same file into it") from None
        part = _Part(path, file)
        try:
            yield part
        except Wrong:
            part.remove()
            raise
        finally:
            if path.exists() and not part.size:
                part.remove()


def _settle(part: _Part, target: Path) -> None:
    """Its own name for a file that is whole; what has got that name meanwhile stays."""
    try:
        os.link(part.path, target)
    except FileExistsError:
        raise OSError(f"{target.name} has appeared in it meanwhile") from None
    except OSError:
        # A file system without hard links.
        if os.path.lexists(target):
            raise
        os.rename(part.path, target)
    part.remove()


def _transfer(release: Release, part: _Part, progress: Received, patience: float) -> None:
    """Until all has come."""
    for attempt in range(TRIES):
        before = part.size
        try:
            if _continue(release, part, progress, patience):
                return
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise _silent(release, f"the server answers {error.code} {answers.reason(error)}") from None
            # The part is no beginning of what is there now.
            part.begin_at(0)
        except (Broken, http.client.HTTPException, ValueError) as error:
            # A try that brought bytes over is progress, one that did not is the last.
            if part.size == before and (attempt or not before):
                raise _silent(release, answers.reason(error)) from None
    raise _silent(release, f"the connection broke {TRIES} times, {part.size:,} bytes are kept")


def _continue(release: Release, part: _Part, progress: Received, patience: float) -> bool:
    """One connection, from where the part ends; whether all has come."""
    request = urllib.request.Request(release.address, headers={"User-Agent": "stjax", "Accept-Encoding": "identity"})
    begin = part.size
    if begin and (mark := _known_tag(part)):
        # Only if the file is still the one that the part is of; else it is sent anew.
        request.add_header("Range", f"bytes={begin}-")
        request.add_header("If-Range", mark)
    with answers.connection():
        answer = answers.ask(request, patience)
    with answer:
        begin, total = answers.expected(answer, begin)
        room = shutil.disk_usage(part.path.parent).free
        if total is not None and total - begin > room:
            raise OSError(f"{total - begin:,} bytes are to come, {room:,} are free")
        part.begin_at(begin)
        _keep_tag(part, answer)
        progress(begin, total)
        while True:
            with answers.connection():
                piece = answer.read(PIECE)
            if not piece:
                break
            if not begin:
                answers.refuse_other(piece)
            begin += len(piece)
            if begin > answers.LARGEST:
                raise Wrong(f"more than {answers.LARGEST:,} bytes came: none of these files is as large")
            part.file.write(piece)
            progress(begin, total)
    return total is None or begin == total


_TAG = re.compile(r'"[!#-~]{1,200}"|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT')
"""A strong tag, or a date: what may be asked for again. A weak tag promises likeness, not equal bytes."""


def _known_tag(part: _Part) -> str:
    """What the server called the version that the part is of; "" if that is not known."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        # A pipe of that name would be waited for.
        if part.tag.is_file():
            with open(part.tag, "rb") as file:
                text = file.read(300).decode("ascii")
            return text if _TAG.fullmatch(text) else ""
    return ""


def _keep_tag(part: _Part, answer: Any) -> None:
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    part.tag.unlink(missing_ok=True)
    if _TAG.fullmatch(tag):
        with open(part.tag, "x") as file:
            file.write(tag)


def _damage(release: Release, path: Path) -> str:
    """Why a file is not what was published; "" if nothing says so."""
    if not path.is_file() or not path.stat().st_size:
        return "it is empty" if path.is_file() else "it is no file"
    if not release.digest:
        return _difference(release, path)
    algorithm, _, expected = release.digest.partition(":")
    actual = checksum(path, algorithm)
    return "" if actual.startswith(expected) else f"its {algorithm} must be {expected}: it is {actual}"


def _difference(release: Release, path: Path) -> str:
    """What a file without a checksum must hold, and does not."""
    try:
        network = convert_files([path], table=release.held.table).model.network
    except UsageError as error:
        return str(error)
    expected = release.held.network
    if type(network) is not type(expected):
        return f"it must make a {type(expected).__name__}: it makes a {type(network).__name__}"
    _, architecture = architecture_of(expected)
    pairs = {what: (getattr(expected, what), getattr(network, what)) for what in architecture.configuration}
    return "; ".join(f"{what} must be {one}: got {other}" for what, (one, other) in pairs.items() if one != other)


def _silent(release: Release, reason: str) -> UsageError:
    return UsageError(
        f"{release.name} could not be had from {release.address}: {reason}; try again later (it goes on where it "
        f"stopped), or fetch the file by other means and give it to stjax convert"
    )
