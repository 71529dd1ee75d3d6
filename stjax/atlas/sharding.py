"""Where a chunk lives: its units spread over the devices of this process, the parameters on each of them.

Nothing couples two units, so the compiled step of a spread chunk is that of one device, run on each of them without
a word between; `exchanges` looks whether that is so. No mesh spans two processes: what a host computes needs no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

UNITS = "units"
"""Name of the mesh's one axis."""


def unit_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A line of devices.

    Args:
      devices: of this process; None for all of them.
    """
    return Mesh(np.asarray(jax.local_devices() if devices is None else list(devices)), (UNITS,))


def spread(mesh: Mesh, tree: Any) -> Any:
    """Arrays whose first axis counts units, an equal share of it on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(UNITS)))


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """Arrays that every device needs whole."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def exchanges(program: str) -> list[str]:
    """The operations by which a compiled program moves data from device to device; none, if all is well.

    Args:
      program: the text of a compiled function, `jitted.lower(...).compile().as_text()`.

    >>> exchanges("%a = f32[8] all-gather-start(%b)\\n%c = f32[] add(%d, %d)")
    ['all-gather']
    """
    names = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast|send|recv"
    return sorted(set(re.findall(rf"\b({names})(?:-start|-done)?(?:\.\d+)?\(", program)))
