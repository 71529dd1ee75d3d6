"""Lines of JSON over TCP, and where they go: what processes that meet have between them.

others: {"stjax": 1, "process": 3, "processes": 4}      the first: {"welcome": 3} or {"refused": "why"}
others: {"ready": 2, "word": "..."}                     the first, once all are: {"go": 2}
anyone: {"ended": "why"}                                the first, meanwhile: {"waiting": [1, 2]}
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any, NamedTuple

from stjax.errors import UsageError

ANSWER_S = 10.0
"""How long whoever is connected may take to say who it is."""
LOOK_S = 0.1
"""Seconds between two looks at what has come in."""
LINE, REASON = 4096, 600
"""The longest message in bytes and the longest reason in letters, each of which JSON may make six bytes."""


class Address(NamedTuple):
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """host:port, or [host]:port where the host is an IPv6 address.

        Raises:
          UsageError: it is neither.

        >>> Address.parse("node7:8476")
        Address(host='node7', port=8476)
        >>> str(Address.parse("[::1]:80"))
        '[::1]:80'
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or "/" in text or (":" in host and not bracketed):
            raise UsageError(f"the coordinator must be host:port: got {text!r}; nearest: {_host(text)}:8476")
        if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 1 << 16):
            raise UsageError(f"the coordinator's port must be in 1..65535: got {port!r}; nearest: {_host(host)}:8476")
        return cls(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Channel:
    """Messages over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self._begun = connection, b""
        self.unread: list[dict[str, Any] | None] = []
        connection.settimeout(LOOK_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, message: dict[str, Any]) -> None:
        # Whether it is gone shows when it is read from.
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message; {} if none has come yet, None if the other is gone or talks something else."""
        if not self.unread:
            self._read()
        return self.unread.pop(0) if self.unread else {}

    def _read(self) -> None:
        try:
            data = self.socket.recv(LINE)
        except TimeoutError:
            return
        except OSError:
            data = b""
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            self.unread.append(message if isinstance(message, dict) else None)
        if not data or len(self._begun) > LINE:
            self.unread.append(None)

    def close(self) -> None:
        self.socket.close()


def listen(address: Address) -> socket.socket:
    """A socket that takes connections: from this host alone where the address is this host's own."""
    if address.host == "localhost" or address.host.startswith("127.") or address.host == "::1":
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server(address, family=family)
    # At every address of this host: its own name may mean 127.0.1.1 to itself, and nothing else to others.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", address.port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", address.port))


def dial(address: Address, who: dict[str, Any]) -> tuple[Channel, dict[str, Any] | None]:
    """A connection, and the answer to its first line: None if it was closed, {} if it is no answer of ours."""
    try:
        channel = Channel(socket.create_connection(address, timeout=ANSWER_S))
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "no host can have this name") from None
    channel.send({"stjax": 1, **who})
    clock = time.monotonic()
    while time.monotonic() - clock < ANSWER_S:
        if (message := channel.receive()) != {}:
            return channel, message
    return channel, {}


def text_of(message: dict[str, Any] | None, name: str, otherwise: str) -> str:
    """A text in a message, of some length at most; another where there is none."""
    said = (message or {}).get(name)
    return said[:REASON] if isinstance(said, str) else otherwise


def unknown_host(address: Address, error: socket.gaierror) -> str:
    """Why a coordinator's name leads nowhere."""
    return f"the coordinator must be a host that is known here: {address.host!r} is not ({error.strerror})"


def _host(text: str) -> str:
    """A guess at the host that was meant.

    >>> _host("http://node7/"), _host("node7"), _host("")
    ('node7', 'node7', 'localhost')
    """
    name = text.split("://")[-1].split("/")[0]
    return (name if name.count(":") != 1 else name.partition(":")[0]) or "localhost"
