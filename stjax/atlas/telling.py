"""What a session says while it runs and at its end: progress, warnings, and one line about what is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stjax import endings
from stjax.atlas.run import Advance
from stjax.errors import printable
from stjax.record import Record


def say(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is: names of folders and layers may look like markup, or steer a terminal."""
    console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)


class Tally:
    """What this process has finished: how many, which ended low, and the longest time between two of them."""

    def __init__(self) -> None:
        self.finished, self.longest = 0, 0.0
        self._low: dict[tuple[str, str], dict[int, None]] = {}
        self._last = time.monotonic()

    def count(self, record: Record) -> None:
        self.finished += 1
        # That a slow optimum stays below its ahat is no mishap; the page counts those.
        words = [] if record.ending in (endings.REACHED, endings.LOW) else [record.ending]
        words += [f"no gradient for {stream}" for stream in endings.without_gradient(record.gradient_max)]
        for word in words:
            self._low.setdefault((record.layer, word), {})[record.unit] = None
        self.longest = max(self.longest, time.monotonic() - self._last)
        self._last = time.monotonic()

    def report(self, console: Console) -> None:
        """One line for each way in which units of a layer ended low."""
        for (layer, word), units in self._low.items():
            listed = ", ".join(map(str, list(units)[:12])) + (", ..." if len(units) > 12 else "")
            say(console, f"{word}: {layer} unit{'s' if len(units) > 1 else ''} {listed}", style="yellow")


class Meter:
    """A bar for all jobs of a session, of which those of one layer are under way."""

    def __init__(self, bar: Progress, jobs: int, steps: int) -> None:
        self._bar, self._jobs = bar, jobs
        self._task = bar.add_task("compiling", total=steps, units=f"0/{jobs}", speed="")
        self._done, self._steps = 0, 0

    def layer(self, name: str) -> Callable[[Advance], None]:
        """What takes the progress of one more layer, after those before it."""
        jobs, steps = self._done, self._steps

        def report(at: Advance) -> None:
            self._done, self._steps = jobs + at.total, steps + at.total_unit_steps
            self._bar.update(self._task, completed=steps + at.unit_steps, units=f"{jobs + at.done}/{self._jobs}")
            speed = self._bar.tasks[self._task].speed
            # The first steps include compilation and would show a rate that never comes back.
            self._bar.update(self._task, speed=f"{speed:.0f} unit-steps/s" if speed else "")
            if at.unit_steps:
                self._bar.update(self._task, description=name)

        return report

    def wait(self, left: int) -> None:
        """That this process's own jobs are done, and others' are not."""
        self._bar.update(self._task, description="waiting for other processes", units=f"{left} more", speed="")


@contextmanager
def meter(console: Console, jobs: int, steps: int, *, visible: bool) -> Iterator[Meter]:
    """A meter while the block lasts.

    Args:
      console: it is drawn on.
      jobs, steps: of all layers.
      visible: of several processes the first alone shows it.
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[units]} units"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not visible,
    )
    with bar:
        yield Meter(bar, jobs, steps)
