"""Processes that meet over TCP before they share work, in a way that can fail: whoever does not come is named, soon.

The first listens at the coordinator's address, the others connect: see `first` and `other`. What they say is in
`messages`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import NamedTuple

from stjax.errors import UsageError

TIMEOUT_S = 300.0
"""How long processes wait for one another: hosts of a job do not start at the same moment."""
NAME_S = 10.0
"""How long a host's name may take to be known: where hosts have just been made, that may lag behind."""
REPORT_S = 2.0, 30.0
"""Seconds of waiting before the first line about it, and between lines."""


class Process(NamedTuple):
    """A process among `count`."""

    index: int
    count: int


ALONE = Process(0, 1)


class Meeting:
    """Of a process that is alone, and what the others have in common. Leaving the block by an error tells them why.

    Args:
      process: this one.
    """

    def __init__(self, process: Process = ALONE) -> None:
        self.process = process

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
            self.end(f"process {self.process.index} has ended: {own}")


class Clock:
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


def list_processes(numbers: Collection[int]) -> str:
    """Their numbers, the first few."""
    listed = ", ".join(map(str, list(numbers)[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"process {listed}" if len(numbers) == 1 else f"processes {listed}"
