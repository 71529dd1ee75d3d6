"""Processes that meet over TCP before they share work, in a way that can fail: whoever does not come is named, soon.

The first listens at the coordinator's address, the others connect. What they say is one line of JSON at a time:

    others: {"stjax": 1, "process": 3, "processes": 4}      the first: {"welcome": 3} or {"refused": "why"}
    others: {"ready": 2, "word": "..."}                     the first, once all are: {"go": 2}
    anyone: {"ended": "why"}                                the first, meanwhile: {"waiting": [1, 2]}
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from stjax.errors import UsageError

TIMEOUT_S = 300.0
"""How long processes wait for one another: hosts of a job do not start at the same moment."""
NAME_S = 10.0
"""How long a host's name may take to be known: where hosts have just been made, that may lag behind."""
ANSWER_S = 10.0
"""How long whoever is connected may take to say who it is."""
REPORT_S = 2.0, 30.0
"""Seconds of waiting before the first line about it, and between lines."""
LOOK_S = 0.1
LINE, REASON, STRANGERS = 4096, 600, 64
"""The longest message in bytes and the longest reason in letters, each of which JSON may make six bytes; and the most
connections that have not said yet who they are."""


class Place(NamedTuple):
    """A process among `count`."""

    index: int
    count: int


ALONE = Place(0, 1)


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


class Meeting:
    """Of a process that is alone, and what the others have in common. Leaving the block by an error tells them why.

    Args:
      place: of this process.
    """

    def __init__(self, place: Place = ALONE) -> None:
        self.place = place

    def wait(self, word: str = "") -> None:
        """Waits until every process is here, with the same word.

        Raises:
          UsageError: one is not, or has ended, or says another word; its text names it.
        """

    def end(self, reason: str = "") -> None:
        """Parts from the others; with a reason, they end as well."""

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.end()
        else:
            own = str(error).partition("\n")[0] if isinstance(error, UsageError) else type(error).__name__
            self.end(f"process {self.place.index} has ended: {own}")


class First(Meeting):
    """Process 0, which listens.

    Args:
      address: where.
      count: of processes, itself included.
      report: is given a line about who is waited for.
    Raises:
      UsageError: this is not the host of that address, or the port is taken.
    """

    def __init__(self, address: Address, count: int, report: Callable[[str], None]) -> None:
        super().__init__(Place(0, count))
        self._address, self._report = address, report
        self._peers: dict[int, _Channel] = {}
        self._strangers: dict[_Channel, float] = {}
        self._step, self._self = 0, uuid.uuid4().hex
        self._astray: str | None = None
        try:
            self._listener = _listen(address)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "it is taken, by another process 0 say" if taken else error.strerror or str(error)
            raise UsageError(
                f"process 0 must be able to listen at {address}: {reason}; give a free port of this host to all"
            ) from None
        self._listener.setblocking(False)
        # Is it us whom the others will find there?
        threading.Thread(target=self._look_at_oneself, daemon=True).start()

    def wait(self, word: str = "") -> None:
        here = {index for index in self._peers if self._step == 0}
        clock = _Clock(self._report)
        while missing := sorted(set(range(1, self.place.count)) - here):
            self._say_so(missing, clock)
            for channel, message in self._heard():
                index = next((i for i, peer in self._peers.items() if peer is channel), None)
                if index is None:
                    index = self._greet(channel, message)
                    here |= {index} - {None}
                elif message is None or "ended" in message:
                    self._give_up(_text(message, "ended", f"process {index} has gone before the work began"))
                elif message.get("ready") == self._step:
                    if message.get("word") != word:
                        self._give_up(f"process {index} must ask for the same work as process 0: it asks for another")
                    here.add(index)
        self._tell({"go": self._step})
        self._step += 1

    def end(self, reason: str = "") -> None:
        if reason:
            self._tell({"ended": reason[:REASON]})
        for channel in (*self._peers.values(), *self._strangers):
            channel.close()
        self._listener.close()

    def _say_so(self, missing: Collection[int], clock: _Clock) -> None:
        # Once all are here nobody has gone astray.
        if self._astray and not self._step:
            self._give_up(self._astray)
        who = f"{_processes(missing)} of {self.place.count}"
        if clock.late():
            self._give_up(f"all processes must meet within {TIMEOUT_S:g} s: {who} did not come to {self._address}")
        if clock.tell(f"waiting for {who} at {self._address}"):
            self._tell({"waiting": list(missing)})

    def _heard(self) -> Iterator[tuple[_Channel, dict[str, Any] | None]]:
        """What has come in, from whom; None when a connection is gone."""
        with selectors.DefaultSelector() as selector:
            for one in (self._listener, *(c.socket for c in (*self._peers.values(), *self._strangers))):
                selector.register(one, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(LOOK_S)}
        if self._listener in ready and len(self._strangers) < STRANGERS:
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self._strangers[_Channel(connection)] = time.monotonic()
        for channel in [c for c in (*self._peers.values(), *self._strangers) if c.socket in ready]:
            yield channel, channel.receive()
            while channel.unread:
                yield channel, channel.receive()
        for channel in [c for c, since in self._strangers.items() if time.monotonic() - since > ANSWER_S]:
            self._dismiss(channel)

    def _greet(self, channel: _Channel, message: dict[str, Any] | None) -> int | None:
        """Takes in a stranger, or says why not; its number if it is one of us."""
        index, count = (message or {}).get("process"), (message or {}).get("processes")
        if channel not in self._strangers:
            return None
        if message is None or message.get("stjax") != 1 or type(index) is not int or type(count) is not int:
            self._dismiss(channel)
        elif message.get("self") == self._self:
            self._dismiss(channel, {"welcome": 0})
        elif count != self.place.count:
            self._report(f"turned away a process {index} of {count}: this run has {self.place.count}")
            self._dismiss(channel, {"refused": f"process 0 counts {self.place.count} processes, this one {count}"})
        elif index in (0, *self._peers) or not 0 < index < count:
            self._dismiss(channel, {"refused": f"each process must have a number of its own: {index} is here already"})
        else:
            del self._strangers[channel]
            self._peers[index] = channel
            channel.send({"welcome": index})
            return index
        return None

    def _dismiss(self, channel: _Channel, message: dict[str, Any] | None = None) -> None:
        self._strangers.pop(channel, None)
        if message:
            channel.send(message)
        channel.close()

    def _tell(self, message: dict[str, Any]) -> None:
        for channel in self._peers.values():
            channel.send(message)

    def _give_up(self, reason: str) -> None:
        self.end(reason)
        raise UsageError(reason)

    def _look_at_oneself(self) -> None:
        try:
            channel, answer = _connect(self._address, {"process": 0, "processes": self.place.count, "self": self._self})
            channel.close()
        except ConnectionRefusedError:
            self._astray = f"process 0 must run on the coordinator's host: {self._address} is another"
        except socket.gaierror as error:
            self._astray = _unknown(self._address, error)
        except OSError:
            return  # Some networks do not let a host reach itself by its outer address.
        else:
            if not answer or "welcome" not in answer:
                self._astray = _text(answer, "refused", f"something other than stjax answers at {self._address}")


class Other(Meeting):
    """A process that is not the first: finds it, and is in as soon as it exists.

    Args:
      address: of the first.
      place: of this process.
      report: is given a line about who is waited for.
    Raises:
      UsageError: the first is not found, or will not have this one.
    """

    def __init__(self, address: Address, place: Place, report: Callable[[str], None]) -> None:
        super().__init__(place)
        self._address, self._report, self._step = address, report, 0
        clock, answer, tries = _Clock(report), None, 0
        while answer is None:
            try:
                self._channel, answer = _connect(address, {"process": place.index, "processes": place.count})
                reason = "the connection was closed"
                if answer is None:
                    self._channel.close()
                    tries += 1
            except socket.gaierror as error:
                if clock.seconds() > NAME_S:
                    raise UsageError(_unknown(address, error)) from None
                reason = error.strerror
            except OSError as error:
                reason = error.strerror or str(error)
            # A first one that is about to end closes too, but not five times.
            if tries == 5:
                answer = {}
            if answer is None:
                if clock.late():
                    raise UsageError(f"process 0 must answer at {address} within {TIMEOUT_S:g} s: {reason}")
                clock.tell(f"waiting for process 0 of {place.count} at {address}: {reason}")
                time.sleep(5 * LOOK_S)
        if "welcome" not in answer:
            self._channel.close()
            raise UsageError(_text(answer, "refused", f"something other than stjax answers at {address}"))

    def wait(self, word: str = "") -> None:
        if self._step:
            self._channel.send({"ready": self._step, "word": word})
        clock, missing = _Clock(self._report), []
        while True:
            self._channel.socket.settimeout(LOOK_S)
            message = self._channel.receive()
            if message is None or "ended" in message:
                self.end()
                raise UsageError(_text(message, "ended", "process 0 has gone before the work began"))
            if message.get("go") == self._step:
                self._step += 1
                return
            missing = [n for n in message.get("waiting") or missing if type(n) is int and n != self.place.index]
            if missing:
                clock.tell(f"waiting for {_processes(missing)} of {self.place.count}")
            # The first gives up before: this is for one that hangs.
            if clock.late(2):
                raise UsageError(f"process 0 at {self._address} must go on within {2 * TIMEOUT_S:g} s: it does not")

    def end(self, reason: str = "") -> None:
        if reason:
            self._channel.send({"ended": reason[:REASON]})
        self._channel.close()


class _Channel:
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


class _Clock:
    """How long one has waited, and when it is time to say so."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report, self._start, self._next = report, time.monotonic(), REPORT_S[0]

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def late(self, times: float = 1) -> bool:
        return self.seconds() > times * TIMEOUT_S

    def tell(self, text: str) -> bool:
        if self.seconds() < self._next:
            return False
        self._next = self.seconds() + REPORT_S[1]
        self._report(f"{text}; gives up in {math.ceil(TIMEOUT_S - self.seconds())} s")
        return True


def _listen(address: Address) -> socket.socket:
    if address.host == "localhost" or address.host.startswith("127.") or address.host == "::1":
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server(address, family=family)
    # At every address of this host: its own name may mean 127.0.1.1 to itself, and nothing else to others.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", address.port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", address.port))


def _connect(address: Address, who: dict[str, Any]) -> tuple[_Channel, dict[str, Any] | None]:
    """A connection, and the answer to its first line: None if it was closed, {} if it is no answer of ours."""
    try:
        channel = _Channel(socket.create_connection(address, timeout=ANSWER_S))
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "no host can have this name") from None
    channel.send({"stjax": 1, **who})
    clock = time.monotonic()
    while time.monotonic() - clock < ANSWER_S:
        if (message := channel.receive()) != {}:
            return channel, message
    return channel, {}


def _processes(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, list(numbers)[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"process {shown}" if len(numbers) == 1 else f"processes {shown}"


def _text(message: dict[str, Any] | None, name: str, otherwise: str) -> str:
    said = (message or {}).get(name)
    return said[:REASON] if isinstance(said, str) else otherwise


def _unknown(address: Address, error: socket.gaierror) -> str:
    return f"the coordinator must be a host that is known here: {address.host!r} is not ({error.strerror})"


def _host(text: str) -> str:
    """A guess at the host that was meant.

    >>> _host("http://node7/"), _host("node7"), _host("")
    ('node7', 'node7', 'localhost')
    """
    name = text.split("://")[-1].split("/")[0]
    return (name if name.count(":") != 1 else name.partition(":")[0]) or "localhost"
