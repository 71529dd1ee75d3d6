"""A thread that stores what is finished, in order, while the device works on the next chunk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Writer(Generic[Item]):
    """Hands items to a function in a thread of its own; leaving the block waits until all are through.

    The first error of the function comes back to the caller, at the next `put` or at the end of the block, and
    nothing is handed on after it: where one file finds no room, the next would not either. After Ctrl-C what was
    put is still stored.

    Args:
      store: is called with each item, by one thread.
      room: items that may wait; `put` blocks beyond, so that memory stays flat where storing is slow.

    >>> stored = []
    >>> with Writer(stored.append, room=2) as writer:
    ...     for item in range(5):
    ...         writer.put(item)
    >>> stored
    [0, 1, 2, 3, 4]
    """

    def __init__(self, store: Callable[[Item], Any], *, room: int) -> None:
        self._store = store
        self._items: queue.Queue[Item | None] = queue.Queue(room)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="stjax-writer", daemon=True)

    def put(self, item: Item) -> None:
        self._fail()
        self._items.put(item)

    def __enter__(self) -> Writer[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._items.put(None)
        self._thread.join()
        if error is None:
            self._fail()

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                # After an error items are still taken, or `put` could wait for ever.
                if self._error is None:
                    self._store(item)
            except BaseException as error:
                self._error = error

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error
