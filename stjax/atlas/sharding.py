"""Where a chunk lives: its units spread over the devices of this process, the parameters on each of them.

Nothing couples two units, so every device runs the program that one alone would run, over a chunk of its own and
without a word to the others; `exchanges` looks whether that is so. Were the chunk one array of all devices, its form
would be chosen by the number of devices, and a unit's last bits with it. No mesh spans two processes: what a host
computes needs no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

UNITS = "units"
"""Name of the mesh's one axis."""


def unit_mesh(devices: Sequence[Any] | None = None, most: int | None = None) -> Mesh:
    """A line of devices.

    Args:
      devices: of this process; None for all of them.
      most: how many there is work for; the others are left out, for nothing is gained by padding them.
    """
    return Mesh(np.asarray(jax.local_devices() if devices is None else list(devices))[:most], (UNITS,))


def spread(mesh: Mesh, tree: Any) -> Any:
    """Arrays whose first axis counts units, an equal share of it on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(UNITS)))


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """Arrays that every device needs whole."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def on_each(mesh: Mesh | None, function: Callable[..., Any], own: Any, whole: Any) -> Any:
    """function(own, whole) on every device, traced with the shapes that one device sees.

    Args:
      mesh: of the devices; None for one, without ceremony.
      function: of what a device has of its own and of what all have; what it returns has units as its first axis.
      own: arrays whose first axis counts units.
      whole: arrays that every device needs whole.
    """
    if mesh is None:
        return function(own, whole)
    specs = (PartitionSpec(UNITS), PartitionSpec())
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(own, whole)


def exchanges(program: str) -> list[str]:
    """The operations by which a compiled program moves data from device to device; none, if all is well.

    Args:
      program: the text of a compiled function, `jitted.lower(...).compile().as_text()`.

    >>> exchanges("%a = f32[8] all-gather-start(%b)\\n%c = f32[] add(%d, %d)")
    ['all-gather']
    """
    names = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast|send|recv"
    return sorted(set(re.findall(rf"\b({names})(?:-start|-done)?(?:\.\d+)?\(", program)))
