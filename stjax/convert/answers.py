"""One answer over HTTP that can be the file asked for, or the reason why it cannot."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from stjax.convert.readers.container import NOT_WEIGHTS

REDIRECTS = 5
LARGEST = 1 << 30
"""Bytes of a file: a VGG-16 of 1,000 classes in float32 takes 553 MB."""


class Wrong(Exception):
    """What comes is not the file, and is not kept. Its text is the reason."""


class Broken(Exception):
    """The connection, where an OSError would be taken for one of the folder."""


@contextmanager
def connection() -> Iterator[None]:
    """Where only the network can fail: an OSError becomes `Broken`."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        raise Broken(reason(error)) from None


def ask(request: urllib.request.Request, patience: float) -> Any:
    """What a server answers; redirects lead to https, or from http to http: not to files, nor to where others listen.

    urllib's own opens files and FTP too, and reads whatever a server sends beside the address that it sends on to.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    for _ in range(REDIRECTS):
        try:
            return opener.open(request, timeout=patience)
        except urllib.error.HTTPError as error:
            error.close()
            where = error.headers.get("Location")
            if error.code not in (301, 302, 303, 307, 308) or not where:
                raise
        address = urljoin(request.full_url, where)
        if urlsplit(address).scheme not in ("https", urlsplit(request.full_url).scheme):
            raise Wrong(f"the server sends on to {address[:200]}, which is not https")
        request = urllib.request.Request(address, headers=dict(request.header_items()))
    raise Wrong("the server sends on and on")


def expected(answer: Any, held: int) -> tuple[int, int | None]:
    """Where the bytes of an answer begin in the file, and how many that is to have; None if the server does not say."""
    if answer.status not in (200, 206):
        raise Wrong(f"the server answers {answer.status}, with something else than a file")
    if (kind := answer.headers.get_content_type()) == "text/html":
        raise Wrong(f"the server sends {kind}: a web page")
    if (coding := answer.headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
        raise Wrong(f"the server sends it packed ({coding[:40]})")
    begin = 0
    if answer.status == 206:
        place = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
        begin = int(place[1]) if place else -1
        if begin != held:
            raise Wrong(f"the server sends another part than asked for: {answer.headers.get('Content-Range')}")
    lengths = set(answer.headers.get_all("Content-Length") or ())
    if not lengths:
        return begin, None
    length = lengths.pop()
    if lengths or not re.fullmatch(r"\s*[0-9]{1,18}\s*", length, re.ASCII):
        raise Wrong(f"the server gives no sensible length: {length[:40]}")
    if begin + int(length) > LARGEST:
        raise Wrong(f"{begin + int(length):,} bytes are announced, none of these files has more than {LARGEST:,}")
    return begin, begin + int(length)


def refuse_other(head: bytes) -> None:
    """Refuses what begins as no file of weights does: a page, gzip."""
    for sign, what in NOT_WEIGHTS.items():
        if head.lstrip().startswith(sign):
            raise Wrong(f"the server sends {what.partition(':')[0]}")


def reason(error: Exception) -> str:
    """What an error says, in one line of some length at most."""
    return " ".join(str(getattr(error, "reason", error)).split())[:300] or type(error).__name__
