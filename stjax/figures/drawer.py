"""Pictures are drawn beside the work that finds them: by a thread, or by processes where there are cores to spare."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from stjax.figures.draw import draw_record
from stjax.record import Record

Before = Callable[[str | Path, Record], object]


class Drawer:
    """Draws records as they are added; leaving the block waits for the last picture.

    After an error or Ctrl-C, what has not been begun is left out: `lacks_pictures` finds it later.

    Args:
      directory: the run's folder.
      workers: processes that draw; 0 for one thread of this process, which is ready at once.
      before: is called with the folder and a record before it is drawn, in the same thread or process: for what
        pictures show and figures do not compute. A function by name, which processes can be told.

    >>> with Drawer("atlas") as drawer:
    ...     pass
    """

    def __init__(self, directory: str | Path, workers: int = 0, before: Before | None = None) -> None:
        self._directory, self._before = directory, before
        self._error: BaseException | None = None
        self._executor: Executor = ThreadPoolExecutor(1)
        if workers:
            # Not forked: a fork of a process in which JAX runs may hang.
            start = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(workers, mp_context=start, initializer=_serve)

    def add(self, record: Record) -> None:
        self._executor.submit(_draw, self._before, self._directory, record).add_done_callback(self._note)

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown(cancel_futures=error is not None)
        if error is None and self._error is not None:
            raise self._error

    def _note(self, drawn: Future[list[Path]]) -> None:
        if not drawn.cancelled():
            self._error = self._error or drawn.exception()


def _draw(before: Before | None, directory: str | Path, record: Record) -> list[Path]:
    if before is not None:
        before(directory, record)
    return draw_record(directory, record)


def _serve() -> None:
    """A worker leaves Ctrl-C to the process that gives it work, and goes when that one is gone, even killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
