"""Tasks -> a folder to look at: the work behind `stjax visualize`, once it is clear what is asked for."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stjax import endings, figures
from stjax.ascent.recipes import Recipe
from stjax.atlas import fill, folder, hosts, plan, results, resume
from stjax.atlas import run as atlas
from stjax.atlas.fill import Share, Task
from stjax.atlas.meeting import Meeting, Place
from stjax.convert.store import Model
from stjax.errors import UsageError, printable
from stjax.figures.records import bare


class Stopped(Exception):
    """Ctrl-C, after what was finished has been stored and drawn. Its text is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What a command asks for, once it is clear that it can be met.

    Attributes:
      out: the folder; made if it is not there.
      network: with the statistics that the tasks have.
      recipe: not aimed.
      tasks: layers of one name, that of the sheets.
      kappa, chunk, precision: as for `visualize_units`.
      seed: of every layer's key.
    """

    out: Path
    network: Model
    recipe: Recipe
    tasks: Sequence[Task]
    kappa: float
    seed: int
    chunk: int | None
    precision: Any


def show(request: Request, meeting: Meeting, console: Console) -> bool:
    """Finds, stores and draws what a folder lacks of some tasks, and says so; True if then all of it is there.

    Each process finds and draws its own share. The first alone shows progress, waits at the end for the results of
    the others, and writes the sheets and the index.

    Args:
      request: what is asked for.
      meeting: of the processes that share the work.
      console: for progress and warnings.
    Raises:
      UsageError: the folder holds other work, or somebody else's files in the way, or cannot take the results; or
        another process has ended before the work began.
      Stopped: Ctrl-C.
    """
    out, tasks, place = request.out, request.tasks, meeting.place
    folder.prepare(out)
    with folder.hold(out, meeting):
        # Read and judged while nobody else can change it; touched only then.
        records = results.read(out)
        shares = [fill.share(out, task, records, place) for task in tasks]
        jobs = {task.probe.layer: share.jobs for task, share in zip(tasks, shares, strict=True)}
        folder.guard(out, records, jobs, place)
        # Nobody writes before all have read, so that all of them have read the same and share out the same.
        meeting.wait(resume.digest([[task.settings["work"], task.asked] for task in tasks]))
        meeting.end()
        return _fill(request, place, shares, records, console)


def _fill(
    request: Request, place: Place, shares: Sequence[Share], records: Sequence[Mapping[str, Any]], console: Console
) -> bool:
    out, network, recipe, tasks = request.out, request.network, request.recipe, request.tasks
    total, tally = sum(len(share.jobs) for share in shares), _Tally()
    try:
        with (
            figures.Drawer(out, network.preprocessing.mean, _drawers()) as drawer,
            _progress(console, shown=place.index == 0 and total > 0) as bar,
        ):
            meter = bar.add_task("compiling", total=total * recipe.steps, units=f"0/{total}", speed="")

            def finished(line: dict[str, Any]) -> None:
                tally.count(line)
                drawer.add(line)

            for task, share in zip(tasks, shares, strict=True):
                for record in _undrawn(out, task, share, records, place):
                    drawer.add(record)
                for name, flaw in share.damaged.items():
                    _say(console, f"damaged: {name}: {flaw}; it is found again", style="yellow")
                if share.jobs:
                    fill.fill(
                        out,
                        task,
                        recipe,
                        network.params,
                        plan.seed_key(request.seed),
                        share.jobs,
                        place=place,
                        kappa=request.kappa,
                        chunk=request.chunk,
                        precision=request.precision,
                        class_names=network.class_names,
                        finished=finished,
                        progress=_reporter(bar, meter, task.probe.layer, tally.finished, total, recipe.steps),
                    )
            left = _wait(out, tasks, tally, bar, meter) if place.index == 0 and place.count > 1 else 0
    except KeyboardInterrupt:
        # What is finished can be looked at.
        if tally.finished and place.index == 0:
            _draw_all(out, tasks, network)
        raise Stopped(f"stopped: {tally.finished} of {total} finished and kept in {out}") from None
    except OSError as error:
        raise _no_room(out, error, tally, total) from None
    tally.report(console)
    if place.index > 0:
        _say(Console(), f"process {place.index}: {tally.finished} results in {out}")
        return True
    try:
        _draw_all(out, tasks, network)
    except OSError as error:
        raise _no_room(out, error, tally, total) from None
    asked, lost = sum(len(task.asked) for task in tasks), _lost(out, tasks) - left
    if lost > 0:
        raise UsageError(
            f"a folder must be left alone while a run fills it: {lost} of {asked} results are gone from {out}; the "
            "same command again does what is missing"
        )
    earlier = f", {asked - total} of them from before" if place.count == 1 and total < asked else ""
    _say(Console(), f"{asked - left} results in {out}{earlier}; open {out / 'index.html'}")
    records = results.read(out)
    for task in tasks:
        of_layer = [record for record in records if record["layer"] == task.probe.layer]
        if said := figures.words(figures.spreads(out, of_layer)):
            _say(Console(), f"{task.probe.layer}: {said}")
    if left:
        _say(
            console,
            f"missing: {left} results of other processes: one has died, or has written to a folder that only its host "
            "sees; the same command again does what is missing",
            style="yellow",
        )
    return not left


class _Tally:
    """What this process has finished: how many, which ended low, and the longest time between two of them."""

    def __init__(self) -> None:
        self.finished, self.longest = 0, 0.0
        self._low: dict[tuple[str, str], dict[int, None]] = {}
        self._last = time.monotonic()

    def count(self, line: Mapping[str, Any]) -> None:
        self.finished += 1
        # That a slow optimum stays below its ahat is no mishap; the page counts those.
        words = [] if line["ending"] in (endings.REACHED, endings.LOW) else [line["ending"]]
        words += [f"no gradient for {stream}" for stream in endings.without_gradient(line)]
        for word in words:
            self._low.setdefault((line["layer"], word), {})[line["unit"]] = None
        self.longest = max(self.longest, time.monotonic() - self._last)
        self._last = time.monotonic()

    def report(self, console: Console) -> None:
        """One line for each way in which units of a layer ended low."""
        for (layer, word), units in self._low.items():
            listed = ", ".join(map(str, list(units)[:12])) + (", ..." if len(units) > 12 else "")
            _say(console, f"{word}: {layer} unit{'s' if len(units) > 1 else ''} {listed}", style="yellow")


def _no_room(out: Path, error: OSError, tally: _Tally, total: int) -> UsageError:
    return UsageError(
        f"the output folder must take all results: {out}: {error.strerror or error}; {tally.finished} of {total} "
        "finished and kept; the same command again does the rest"
    )


def _lost(out: Path, tasks: Sequence[Task]) -> int:
    """How many of the results asked for are not in the folder, their line or their arrays."""
    there = [record for record in results.read(out) if (out / record["arrays"]).is_file()]
    return sum(len(resume.missing(there, task.probe.layer, task.asked)) for task in tasks)


def _say(to: Console, text: str, style: str | None = None) -> None:
    """A line as it is: names of folders and layers may look like markup, or steer a terminal."""
    to.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)


def _drawers() -> int:
    """A CPU is busy with the ascent itself; beside an accelerator the cores that this process may use are free."""
    if jax.default_backend() == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 2, 16))


def _undrawn(
    out: Path, task: Task, share: Share, records: Sequence[Mapping[str, Any]], place: Place
) -> list[Mapping[str, Any]]:
    """This process's part of what an earlier run has found, but was stopped before it drew."""
    mine = hosts.share([record for record in records if record["layer"] == task.probe.layer], place)
    whole = [record for record in mine if (out / record["arrays"]).exists() and record["arrays"] not in share.damaged]
    return [record for record in whole if figures.lacking(out, record)]


def _wait(out: Path, tasks: Sequence[Task], tally: _Tally, bar: Progress, meter: TaskID) -> int:
    """Waits for the results of other processes, then for their pictures; how many results do not come."""

    def remaining() -> int:
        records = results.read(out)
        return sum(len(resume.missing(records, task.probe.layer, task.asked)) for task in tasks)

    def undrawn() -> int:
        layers = {task.probe.layer for task in tasks}
        return sum(figures.lacking(out, record) for record in results.read(out) if record["layer"] in layers)

    def report(left: int) -> None:
        bar.update(meter, description="waiting for other processes", units=f"{left} more", speed="")

    patience = max(hosts.PATIENCE_S, 2 * tally.longest)
    left = hosts.wait(remaining, patience, report)
    if not left:
        hosts.wait(undrawn, patience, report)
    return left


def _draw_all(out: Path, tasks: Sequence[Task], network: Model) -> None:
    """The sheets of the tasks' layer, and the page of all layers."""
    records = [record for record in results.read(out) if (out / record["arrays"]).exists()]
    layers = {bare(task.probe.layer) for task in tasks}
    figures.draw_layer(out, [r for r in records if bare(r["layer"]) in layers], network.preprocessing.mean)
    figures.write_index(out, records)


def _progress(console: Console, *, shown: bool) -> Progress:
    """Of this process's own jobs; of several processes the first alone shows any."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[units]} units"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
    )


def _reporter(
    bar: Progress, meter: TaskID, layer: str, before: int, total: int, steps: int
) -> Callable[[atlas.Progress], None]:
    """Shows one layer's progress within that of the whole command."""

    def report(at: atlas.Progress) -> None:
        bar.update(meter, completed=before * steps + at.unit_steps, units=f"{before + at.done}/{total}")
        speed = bar.tasks[meter].speed
        # The first steps include compilation and would show a rate that never comes back.
        bar.update(meter, speed=f"{speed:.0f} unit-steps/s" if speed else "")
        if at.unit_steps:
            bar.update(meter, description=layer)

    return report
