"""Several processes, on one machine or many: they meet once, share the work, and part.

Flags, or the cluster that started them, tell each its number. They are no JAX cluster: once all have read what the
folder holds the meeting is over, and from there on each computes and writes its own jobs on its own devices. Nobody
waits for another, and one that dies takes nobody along (as members of a JAX cluster it would).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax

from stjax.atlas import meeting
from stjax.atlas.first import First
from stjax.atlas.meeting import ALONE as ALONE
from stjax.atlas.meeting import Meeting as Meeting
from stjax.atlas.meeting import Process as Process
from stjax.atlas.messages import Address
from stjax.atlas.other import Other
from stjax.errors import UsageError

Item = TypeVar("Item")

PATIENCE_S = 120.0
"""How long process 0, its own work done, waits for a next result of the others before it gives them up. Twice what its
own slowest chunk took, if that is longer; a mounted bucket may show a new line a minute late."""
LOOK_S = 1.0
"""Seconds between two looks at what the others have written."""


def connect(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    report: Callable[[str], None] = print,
) -> Meeting:
    """Waits until every process is there, then says which one this is. Before any other use of JAX.

    On Cloud TPU, under Slurm and Open MPI nothing needs to be given.

    Args:
      coordinator: host:port of process 0, reachable from all.
      processes: how many there are.
      process: number of this one, from 0.
      report: is given a line, now and then, about who is waited for.
    Returns:
      The meeting, at which they may wait for one another again.
    Raises:
      UsageError: nothing says who the others are, or they do not come; its text names them.
    """
    coordinator, processes, process, devices = _detect(coordinator, processes, process)
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if coordinator is None or processes is None or process is None:
        lacking = ", ".join(name for name, value in given.items() if value is None)
        raise UsageError(
            "a distributed run must be told its processes: neither Cloud TPU nor Slurm nor Open MPI does so here; "
            f"give {lacking}"
        )
    address = Address.parse(coordinator)
    if processes < 1 or not 0 <= process < processes:
        near = min(max(process, 0), max(processes, 1) - 1)
        raise UsageError(f"a process's number must be in 0..{processes - 1}: got {process}; nearest: {near}")
    if devices:
        # As JAX does for members of its own clusters: under Slurm and Open MPI each process has one device of its host.
        for kind in ("cuda", "rocm"):
            jax.config.update(f"jax_{kind}_visible_devices", ",".join(map(str, devices)))
    if processes == 1:
        return Meeting()
    this = Process(process, processes)
    met = First(address, processes, report) if process == 0 else Other(address, this, report)
    try:
        met.wait()
    except BaseException:
        met.end()
        raise
    return met


def _detect(
    coordinator: str | None, processes: int | None, process: int | None
) -> tuple[str | None, int | None, int | None, Sequence[int] | None]:
    """What is not given, from Cloud TPU, Slurm, Open MPI or another that JAX knows; and the devices to keep to."""
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    devices = [int(n) for n in re.findall(r"\d+", os.environ.get("JAX_LOCAL_DEVICE_IDS", ""))] or None
    try:
        # JAX has no public name for it but `jax.distributed.initialize`, which joins its cluster and aborts the
        # process when that fails.
        from jax._src.clusters import ClusterEnv

        return ClusterEnv.auto_detect_unset_distributed_params(  # pyright: ignore[reportReturnType]
            coordinator, processes, process, devices, None, round(meeting.NAME_S)
        )
    # A variable that is no number, a server of metadata that does not answer, another JAX.
    except Exception:
        return coordinator, processes, process, devices


def partition(items: Sequence[Item], process: Process) -> list[Item]:
    """Every `count`-th item, so that all processes have as many, but for one.

    >>> partition(range(10), Process(1, 4))
    [1, 5, 9]
    """
    return list(items[process.index :: process.count])


def wait(remaining: Callable[[], int], patience: float, report: Callable[[int], None]) -> int:
    """Waits while the others make progress; how much they left undone, 0 if they were all well.

    Args:
      remaining: how much is not there yet.
      patience: seconds without progress after which they are given up.
      report: is told what remains.
    """
    left, since = remaining(), time.monotonic()
    while left and time.monotonic() - since < patience:
        report(left)
        time.sleep(LOOK_S)
        now = remaining()
        if now != left:
            left, since = now, time.monotonic()
    return left
