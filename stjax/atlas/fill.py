"""A folder is filled with a layer's results: what is missing is found, and stored while the next chunk is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from stjax.ascent.recipes import Recipe
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import hosts, results, resume, run
from stjax.atlas.hosts import ALONE, Place
from stjax.atlas.plan import Job
from stjax.atlas.run import Advance as Progress
from stjax.atlas.run import Result as Found
from stjax.atlas.writer import Writer
from stjax.types import Probe
from stjax.types import Params

WAITING = 64
"""Finished jobs that may wait to be stored, before the device waits for the disk: memory stays flat."""


class Task(NamedTuple):
    """What is wanted of one layer, by whichever process, in this run or an earlier one.

    probe: of the layer.
    asked: every job.
    ahat: (channels,), the largest recorded activation of each unit.
    settings: from `resume.stamp`.
    floored: the units whose ahat is a floor, since they hardly fire.
    """

    probe: Probe
    asked: list[Job]
    ahat: np.ndarray
    settings: Mapping[str, Any]
    floored: frozenset[int] = frozenset()


class Share(NamedTuple):
    """What of a task a process has to do.

    jobs: to find.
    damaged: array file -> what is wrong with it; their jobs are among `jobs`.
    """

    jobs: list[Job]
    damaged: dict[str, str]


def share(directory: Path, task: Task, records: Sequence[Mapping[str, Any]], place: Place = ALONE) -> Share:
    """A process's part of what a folder lacks. Each array file that is asked for is read, by one of the processes.

    Args:
      directory: the run's folder.
      task: what is wanted.
      records: from `results.read`, taken before any process writes, so that all of them share out the same.
      place: of this process.
    Raises:
      UsageError: the folder holds results of the layer that were found with other settings.
    """
    layer = task.probe.layer
    resume.agree(directory, records, layer, task.settings)
    mine = hosts.share(resume.missing(records, layer, task.asked), place)
    asked, damaged = set(task.asked), {}
    for record in hosts.share([record for record in records if record["layer"] == layer], place):
        job = resume.job(record)
        if job in asked and (flaw := resume.flaw(directory, record)):
            damaged[record["arrays"]] = flaw
            mine.append(job)
    return Share(mine, damaged)


def fill(
    directory: Path,
    task: Task,
    recipe: Recipe,
    params: Params,
    key: Array,
    jobs: Sequence[Job],
    *,
    place: Place = ALONE,
    kappa: float = KAPPA,
    chunk: int | None = None,
    precision: Any = None,
    class_names: Sequence[str] = (),
    finished: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Finds jobs and stores each as soon as its chunk is finished.

    Args:
      directory: the run's folder, which exists.
      task: that the jobs belong to.
      recipe, params, key, kappa, chunk, precision, progress: as for `visualize_units`.
      jobs: from `share`.
      place: of this process, whose manifest is written.
      class_names: of the network.
      finished: is given each line once it is on the disk, in a thread that does nothing else.
    Raises:
      OSError: the folder has no room, say. What was stored before stays.
    """

    def store(one: Found) -> None:
        line = results.record(
            task.probe,
            one,
            float(task.ahat[one.job.unit]),
            task.settings,
            class_names,
            floored=one.job.unit in task.floored,
        )
        line = results.write(directory, line, one, place, guarded=True)
        if finished:
            finished(line)

    climbing = run.climb(
        task.probe,
        recipe,
        params,
        key,
        list(jobs),
        ahat=task.ahat,
        kappa=kappa,
        chunk=chunk,
        precision=precision,
        progress=progress,
    )
    with Writer(store, room=WAITING) as writer:
        for part in climbing:
            for one in part:
                writer.put(one)
    results.tidy(directory, place)
