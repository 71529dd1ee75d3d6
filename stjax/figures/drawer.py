"""Pictures are drawn beside the work that finds them: by a thread, or by processes where there are cores to spare."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from types import TracebackType

from numpy.typing import ArrayLike

from stjax.endings import NOTHING_TO_SEE
from stjax.figures.draw import draw_record
from stjax.figures.records import Record, kinds, picture_paths


class Drawer:
    """Draws records as they are added; leaving the block waits for the last picture.

    After an error or Ctrl-C, what has not been begun is left out: `lacking` finds it later.

    Args:
      directory: the run's folder.
      mean: as for `draw_record`.
      workers: processes that draw; 0 for one thread of this process, which is ready at once.

    >>> with Drawer("atlas", 0.0) as drawer:
    ...     pass
    """

    def __init__(self, directory: str | Path, mean: ArrayLike, workers: int = 0) -> None:
        self._directory, self._mean = directory, mean
        self._error: BaseException | None = None
        self._executor: Executor = ThreadPoolExecutor(1)
        if workers:
            # Not forked: a fork of a process in which JAX runs may hang.
            start = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(workers, mp_context=start, initializer=_serve)

    def add(self, record: Record) -> None:
        self._executor.submit(draw_record, self._directory, record, self._mean).add_done_callback(self._note)

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown(cancel_futures=error is not None)
        if error is None and self._error is not None:
            raise self._error

    def _note(self, drawn: Future[list[Path]]) -> None:
        if not drawn.cancelled():
            self._error = self._error or drawn.exception()


def lacking(directory: str | Path, record: Record) -> bool:
    """Whether a picture of a record is missing that could be drawn: a run was stopped before, say."""
    paths = picture_paths(directory, record)
    shown = record["ending"] not in NOTHING_TO_SEE and isfinite(record.get("activation_end") or 0.0)
    return shown and not all(paths[kind].exists() for kind in kinds(record))


def _serve() -> None:
    """A worker leaves Ctrl-C to the process that gives it work, and goes when that one is gone, even killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
