"""The first of several processes: it listens, takes in the others, and says when all go on."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

from stjax.atlas import meeting, messages
from stjax.atlas.meeting import Clock, Meeting, Process, list_processes
from stjax.atlas.messages import Address, Channel
from stjax.errors import UsageError

MOST_UNKNOWN = 64
"""The most connections that have not said yet who they are."""


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
        super().__init__(Process(0, count))
        self._address, self._report = address, report
        self._peers: dict[int, Channel] = {}
        self._unknown: dict[Channel, float] = {}
        self._step, self._self = 0, uuid.uuid4().hex
        self._astray: str | None = None
        try:
            self._listener = messages.listen(address)
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
        clock = Clock(self._report)
        while missing := sorted(set(range(1, self.process.count)) - here):
            self._tell_who_is_missing(missing, clock)
            for channel, message in self._heard():
                index = next((i for i, peer in self._peers.items() if peer is channel), None)
                if index is None:
                    index = self._greet(channel, message)
                    here |= {index} - {None}
                elif message is None or "ended" in message:
                    self._give_up(messages.text_of(message, "ended", f"process {index} has gone before the work began"))
                elif message.get("ready") == self._step:
                    if message.get("word") != word:
                        self._give_up(f"process {index} must ask for the same work as process 0: it asks for another")
                    here.add(index)
        self._tell({"go": self._step})
        self._step += 1

    def end(self, reason: str = "") -> None:
        if reason:
            self._tell({"ended": reason[: messages.REASON]})
        for channel in (*self._peers.values(), *self._unknown):
            channel.close()
        self._listener.close()

    def _tell_who_is_missing(self, missing: Collection[int], clock: Clock) -> None:
        # Once all are here nobody has gone astray.
        if self._astray and not self._step:
            self._give_up(self._astray)
        who = f"{list_processes(missing)} of {self.process.count}"
        if clock.late():
            self._give_up(
                f"all processes must meet within {meeting.TIMEOUT_S:g} s: {who} did not come to {self._address}"
            )
        if clock.tell(f"waiting for {who} at {self._address}"):
            self._tell({"waiting": list(missing)})

    def _heard(self) -> Iterator[tuple[Channel, dict[str, Any] | None]]:
        """What has come in, from whom; None when a connection is gone."""
        with selectors.DefaultSelector() as selector:
            for one in (self._listener, *(c.socket for c in (*self._peers.values(), *self._unknown))):
                selector.register(one, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(messages.LOOK_S)}
        if self._listener in ready and len(self._unknown) < MOST_UNKNOWN:
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self._unknown[Channel(connection)] = time.monotonic()
        for channel in [c for c in (*self._peers.values(), *self._unknown) if c.socket in ready]:
            yield channel, channel.receive()
            while channel.unread:
                yield channel, channel.receive()
        for channel in [c for c, since in self._unknown.items() if time.monotonic() - since > messages.ANSWER_S]:
            self._dismiss(channel)

    def _greet(self, channel: Channel, message: dict[str, Any] | None) -> int | None:
        """Takes in one that is not known yet, or says why not; its number if it is one of us."""
        index, count = (message or {}).get("process"), (message or {}).get("processes")
        if channel not in self._unknown:
            return None
        if message is None or message.get("stjax") != 1 or type(index) is not int or type(count) is not int:
            self._dismiss(channel)
        elif message.get("self") == self._self:
            self._dismiss(channel, {"welcome": 0})
        elif count != self.process.count:
            self._report(f"turned away a process {index} of {count}: this run has {self.process.count}")
            self._dismiss(channel, {"refused": f"process 0 counts {self.process.count} processes, this one {count}"})
        elif index in (0, *self._peers) or not 0 < index < count:
            self._dismiss(channel, {"refused": f"each process must have a number of its own: {index} is here already"})
        else:
            del self._unknown[channel]
            self._peers[index] = channel
            channel.send({"welcome": index})
            return index
        return None

    def _dismiss(self, channel: Channel, message: dict[str, Any] | None = None) -> None:
        self._unknown.pop(channel, None)
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
            channel, answer = messages.dial(
                self._address, {"process": 0, "processes": self.process.count, "self": self._self}
            )
            channel.close()
        except ConnectionRefusedError:
            self._astray = f"process 0 must run on the coordinator's host: {self._address} is another"
        except socket.gaierror as error:
            self._astray = messages.unknown_host(self._address, error)
        except OSError:
            return  # Some networks do not let a host reach itself by its outer address.
        else:
            if not answer or "welcome" not in answer:
                self._astray = messages.text_of(
                    answer, "refused", f"something other than stjax answers at {self._address}"
                )
