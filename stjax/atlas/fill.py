"""A folder is filled with a layer's results: what is missing is found, and stored while the next chunk is under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from stjax.atlas import hosts, results, resume, run
from stjax.atlas.hosts import ALONE, Process
from stjax.atlas.plan import Job
from stjax.atlas.request import Request
from stjax.atlas.run import Advance, Result
from stjax.atlas.writer import Writer
from stjax.record import Record, Settings

WAITING = 64
"""Finished jobs that may wait to be stored, before the device waits for the disk: memory stays flat."""


class Share(NamedTuple):
    """What of a request a process has to do.

    jobs: to find.
    damaged: array file -> what is wrong with it; their jobs are among `jobs`.
    """

    jobs: list[Job]
    damaged: dict[str, str]


def share_of(
    directory: Path, request: Request, settings: Settings, records: Sequence[Record], process: Process = ALONE
) -> Share:
    """A process's part of what a folder lacks. Each array file that is asked for is read, by one of the processes.

    Args:
      directory: the run's folder.
      request: what is wanted, by whichever process, in this run or an earlier one.
      settings: of the request, from `resume.identify`.
      records: from `results.read`, taken before any process writes, so that all of them share out the same.
      process: whose part it is.
    Raises:
      UsageError: the folder holds results of the layer that were found with other settings.
    """
    resume.check_settings(directory, records, request.layer, settings)
    jobs = hosts.partition(resume.missing(records, request), process)
    wanted, damaged = set(request.jobs), {}
    for record in hosts.partition([record for record in records if record.layer == request.layer], process):
        job = resume.job(record)
        if job in wanted and (damage := resume.damage(directory, record)):
            damaged[record.arrays] = damage
            jobs.append(job)
    return Share(jobs, damaged)


def fill_folder(
    directory: Path,
    request: Request,
    settings: Settings,
    jobs: Sequence[Job],
    *,
    process: Process = ALONE,
    finished: Callable[[Record], None] | None = None,
    progress: Callable[[Advance], None] | None = None,
) -> None:
    """Finds jobs and stores each as soon as its chunk is finished.

    Args:
      directory: the run's folder, which exists.
      request: that the jobs are part of.
      settings: of the request, from `resume.identify`.
      jobs: from `share_of`.
      process: whose manifest is written.
      finished: is given each record once it is on the disk, in a thread that does nothing else.
      progress: as for `visualize_units`.
    Raises:
      OSError: the folder has no room, say. What was stored before stays.
    """

    def store(result: Result) -> None:
        record = results.write(directory, request, settings, result, process, guarded=True)
        if finished:
            finished(record)

    with Writer(store, room=WAITING) as writer:
        for part in run.run_jobs(request, jobs, progress=progress):
            for result in part:
                writer.put(result)
    results.compact(directory, process)
