"""Several processes, on one machine or many: they meet once, share the work, and part.

JAX tells each its number, then the meeting is over: from there on each computes and writes its own jobs on its own
devices. Nobody waits for another, and one that dies takes nobody along (as members of a JAX cluster it would).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax

from stjax.errors import UsageError

Item = TypeVar("Item")

TIMEOUT_S = 300
"""How long processes wait for one another at the start."""
PATIENCE_S = 120.0
"""How long process 0, its own work done, waits for a next result of the others before it gives them up. Twice what its
own slowest chunk took, if that is longer; a mounted bucket may show a new line a minute late."""
LOOK_S = 1.0
"""Seconds between two looks at what the others have written."""


class Place(NamedTuple):
    """A process among `count`."""

    index: int
    count: int


ALONE = Place(0, 1)


def meet(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Place:
    """Waits until every process is there, then says which one this is. Before any other use of JAX.

    On Cloud TPU, under Slurm and Open MPI nothing needs to be given.

    Args:
      coordinator: host:port of process 0, reachable from all.
      processes: how many there are.
      process: number of this one, from 0.
    Raises:
      UsageError: nothing says who the others are, or they do not come.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=TIMEOUT_S)
    except (ValueError, TypeError) as error:
        lacking = ", ".join(name for name, value in given.items() if value is None)
        if not lacking:
            raise UsageError(f"a distributed run must be told its processes: {str(error).splitlines()[0]}") from None
        raise UsageError(
            "a distributed run must be told its processes: neither Cloud TPU nor Slurm nor Open MPI does so here; "
            f"give {lacking}"
        ) from None
    except RuntimeError as error:
        raise UsageError(
            f"all processes of a distributed run must meet within {TIMEOUT_S} s: {str(error).splitlines()[0]}"
        ) from None
    # Devices are counted across processes when they are first asked for: before parting.
    jax.devices()
    place = Place(jax.process_index(), jax.process_count())
    jax.distributed.shutdown()
    return place


def share(items: Sequence[Item], place: Place) -> list[Item]:
    """Every `count`-th item, so that all processes have as many, but for one.

    >>> share(range(10), Place(1, 4))
    [1, 5, 9]
    """
    return list(items[place.index :: place.count])


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
