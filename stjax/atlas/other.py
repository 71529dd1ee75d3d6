"""Any process but the first: it finds the first, and is in as soon as that exists."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from stjax.atlas import meeting, messages
from stjax.atlas.meeting import Clock, Meeting, Process, list_processes
from stjax.atlas.messages import Address
from stjax.errors import UsageError


class Other(Meeting):
    """A process that is not the first: finds it, and is in as soon as it exists.

    Args:
      address: of the first.
      process: this one.
      report: is given a line about who is waited for.
    Raises:
      UsageError: the first is not found, or will not have this one.
    """

    def __init__(self, address: Address, process: Process, report: Callable[[str], None]) -> None:
        super().__init__(process)
        self._address, self._report, self._step = address, report, 0
        clock, answer, tries = Clock(report), None, 0
        while answer is None:
            try:
                self._channel, answer = messages.dial(address, {"process": process.index, "processes": process.count})
                reason = "the connection was closed"
                if answer is None:
                    self._channel.close()
                    tries += 1
            except socket.gaierror as error:
                if clock.seconds() > meeting.NAME_S:
                    raise UsageError(messages.unknown_host(address, error)) from None
                reason = error.strerror
            except OSError as error:
                reason = error.strerror or str(error)
            # A first one that is about to end closes too, but not five times.
            if tries == 5:
                answer = {}
            if answer is None:
                if clock.late():
                    raise UsageError(f"process 0 must answer at {address} within {meeting.TIMEOUT_S:g} s: {reason}")
                clock.tell(f"waiting for process 0 of {process.count} at {address}: {reason}")
                time.sleep(5 * messages.LOOK_S)
        if "welcome" not in answer:
            self._channel.close()
            raise UsageError(messages.text_of(answer, "refused", f"something other than stjax answers at {address}"))

    def wait(self, word: str = "") -> None:
        if self._step:
            self._channel.send({"ready": self._step, "word": word})
        clock, missing = Clock(self._report), []
        while True:
            self._channel.socket.settimeout(messages.LOOK_S)
            message = self._channel.receive()
            if message is None or "ended" in message:
                self.end()
                raise UsageError(messages.text_of(message, "ended", "process 0 has gone before the work began"))
            if message.get("go") == self._step:
                self._step += 1
                return
            missing = [n for n in message.get("waiting") or missing if type(n) is int and n != self.process.index]
            if missing:
                clock.tell(f"waiting for {list_processes(missing)} of {self.process.count}")
            # The first gives up before: this is for one that hangs.
            if clock.late(2):
                raise UsageError(
                    f"process 0 at {self._address} must go on within {2 * meeting.TIMEOUT_S:g} s: it does not"
                )

    def end(self, reason: str = "") -> None:
        if reason:
            self._channel.send({"ended": reason[: messages.REASON]})
        self._channel.close()
