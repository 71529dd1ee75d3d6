"""Requests -> a folder to look at: what is missing in it is found, stored and drawn, by one process or by several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
from rich.console import Console

from stjax import figures
from stjax.atlas import fill, folder, hosts, movement, results, resume
from stjax.atlas.fill import Share
from stjax.atlas.meeting import Meeting, Process
from stjax.atlas.request import Request
from stjax.atlas.telling import Meter, Tally, meter, say
from stjax.errors import UsageError
from stjax.record import Record, Settings


class Stopped(Exception):
    """Ctrl-C, after what was finished has been stored and drawn. Its text is one line."""


def visualize(out: Path, requests: Sequence[Request], meeting: Meeting, console: Console) -> bool:
    """Finds, stores and draws what a folder lacks of some requests, and says so; True if then all of it is there.

    Each process finds and draws its own share. The first alone shows progress, waits at the end for the results of
    the others, and writes the sheets and the index.

    Args:
      out: the folder; made if it is not there.
      requests: of one layer each.
      meeting: of the processes that share the work.
      console: for progress and warnings.
    Raises:
      UsageError: the folder holds other work, or somebody else's files in the way, or cannot take the results; or
        another process has ended before the work began.
      Stopped: Ctrl-C.
    """
    process = meeting.process
    folder.prepare(out)
    with folder.hold(out, meeting):
        # Read and judged while nobody else can change it; touched only then.
        records = results.read(out)
        parts = []
        for request in requests:
            settings = resume.identify(request)
            parts.append(_Part(request, settings, fill.share_of(out, request, settings, records, process)))
        folder.guard(out, records, [(part.request, part.share.jobs) for part in parts], process)
        # Nobody writes before all have read, so that all of them have read the same and share out the same.
        meeting.wait(resume.digest([[part.settings.identity, part.request.jobs] for part in parts]))
        meeting.end()
        return _Session(out, parts, process, console).run(records)


@dataclass(frozen=True)
class _Part:
    """A request, its settings, and what this process has to do of it."""

    request: Request
    settings: Settings
    share: Share


@dataclass
class _Session:
    """The work of one process on a folder that it holds."""

    out: Path
    parts: Sequence[_Part]
    process: Process
    console: Console
    tally: Tally = field(default_factory=Tally)

    @property
    def first(self) -> bool:
        return self.process.index == 0

    @property
    def total(self) -> int:
        """Jobs that are to be found by this process."""
        return sum(len(part.share.jobs) for part in self.parts)

    @property
    def wanted(self) -> int:
        """Results that are to be there at the end."""
        return sum(len(part.request.jobs) for part in self.parts)

    def run(self, records: Sequence[Record]) -> bool:
        """Finds and draws; `records` are those that were there before."""
        steps = sum(len(part.share.jobs) * part.request.bound.steps for part in self.parts)
        try:
            with (
                figures.Drawer(self.out, _drawers(), movement.store_movement) as drawer,
                meter(self.console, self.total, steps, visible=self.first and self.total > 0) as bar,
            ):
                for part in self.parts:
                    self._find(part, records, drawer, bar)
                left = self._wait(bar) if self.first and self.process.count > 1 else 0
        except KeyboardInterrupt:
            # What is finished can be looked at.
            if self.tally.finished and self.first:
                self._draw()
            text = f"stopped: {self.tally.finished} of {self.total} finished and kept in {self.out}"
            raise Stopped(text) from None
        except OSError as error:
            raise self._no_room(error) from None
        self.tally.report(self.console)
        if not self.first:
            say(Console(), f"process {self.process.index}: {self.tally.finished} results in {self.out}")
            return True
        try:
            self._draw()
        except OSError as error:
            raise self._no_room(error) from None
        self._conclude(left)
        return not left

    def _find(self, part: _Part, records: Sequence[Record], drawer: figures.Drawer, bar: Meter) -> None:
        """What is missing of one request, and the pictures that an earlier run was stopped before it drew."""

        def finished(record: Record) -> None:
            self.tally.count(record)
            drawer.add(record)

        for record in self._undrawn(part, records):
            drawer.add(record)
        for name, damage in part.share.damaged.items():
            say(self.console, f"damaged: {name}: {damage}; it is found again", style="yellow")
        if part.share.jobs:
            fill.fill_folder(
                self.out,
                part.request,
                part.settings,
                part.share.jobs,
                process=self.process,
                finished=finished,
                progress=bar.layer(part.request.layer),
            )

    def _undrawn(self, part: _Part, records: Sequence[Record]) -> list[Record]:
        mine = hosts.partition([record for record in records if record.layer == part.request.layer], self.process)
        complete = [
            each for each in mine if (self.out / each.arrays).exists() and each.arrays not in part.share.damaged
        ]
        return [
            record
            for record in complete
            if figures.lacks_pictures(self.out, record) or movement.lacks_movement(self.out, record)
        ]

    def _missing(self, records: Sequence[Record]) -> int:
        return sum(len(resume.missing(records, part.request)) for part in self.parts)

    def _wait(self, bar: Meter) -> int:
        """Waits for the results of other processes, then for their pictures; how many results do not come."""
        layers = {part.request.layer for part in self.parts}

        def undrawn() -> int:
            records = [record for record in results.read(self.out) if record.layer in layers]
            return sum(figures.lacks_pictures(self.out, record) for record in records)

        patience = max(hosts.PATIENCE_S, 2 * self.tally.longest)
        left = hosts.wait(lambda: self._missing(results.read(self.out)), patience, bar.wait)
        if not left:
            hosts.wait(undrawn, patience, bar.wait)
        return left

    def _draw(self) -> None:
        """The sheets of the requests' layers, and the page of all layers."""
        records = [record for record in results.read(self.out) if (self.out / record.arrays).exists()]
        for name in {figures.bare(part.request.layer): None for part in self.parts}:
            figures.draw_layer(self.out, [record for record in records if figures.bare(record.layer) == name])
        figures.write_index(self.out, records)

    def _conclude(self, left: int) -> None:
        """Says what there is, and what is not: `left` results of other processes have not come."""
        records = results.read(self.out)
        lost = self._missing([record for record in records if (self.out / record.arrays).is_file()]) - left
        if lost > 0:
            raise UsageError(
                f"a folder must be left alone while a run fills it: {lost} of {self.wanted} results are gone from "
                f"{self.out}; the same command again does what is missing"
            )
        before = self.wanted - self.total if self.process.count == 1 else 0
        earlier = f", {before} of them from before" if before else ""
        say(Console(), f"{self.wanted - left} results in {self.out}{earlier}; open {self.out / 'index.html'}")
        for part in self.parts:
            layer = part.request.layer
            own = [record for record in records if record.layer == layer]
            if words := figures.describe_spreads(figures.spreads(self.out, own)):
                say(Console(), f"{layer}: {words}")
        if left:
            say(
                self.console,
                f"missing: {left} results of other processes: one has died, or has written to a folder that only its "
                "host sees; the same command again does what is missing",
                style="yellow",
            )

    def _no_room(self, error: OSError) -> UsageError:
        return UsageError(
            f"the output folder must take all results: {self.out}: {error.strerror or error}; {self.tally.finished} of "
            f"{self.total} finished and kept; the same command again does the rest"
        )


def _drawers() -> int:
    """A CPU is busy with the ascent itself; beside an accelerator the cores that this process may use are free."""
    if jax.default_backend() == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 2, 16))
