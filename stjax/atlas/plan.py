"""What is asked for: pairs of unit and chi, cut into equal chunks that fit the memory."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stjax.ascent.recipes import Recipe
from stjax.errors import UsageError
from stjax.networks.geometry import View
from stjax.types import Params

BUDGET = 1 << 30
"""Bytes that a chunk may take on a CPU, by the estimate of `bytes_per_unit`. Maps are not computed twice to fit more
units into it: conv5_3 in chunks of 2, 4 and 7 makes 5.9, 6.4 and 6.6 unit-steps/s; forward again costs a third more."""
SHARE = 0.6
"""Share of an accelerator's memory that a chunk may take; the rest is for parameters and the compiler."""
CACHE = 7 << 20
"""Bytes of maps beyond which a larger chunk is slower on a CPU: on 2 cores, unit-steps/s of conv3_3 (0.9 MB a unit) in
chunks of 6, 7, 8, 9, 10, 12: 386, 416, 447, 354, 339, 360; of conv2_2 (64 KB) in 16, 32, 48, 64, 96: 4481, 5128, 5723,
5788, 5647."""
FEWEST, MOST = 8, 512
"""Bounds of a chunk that memory allows: below 8 units deep kernels are transformed for too few tiles (see
`networks.convolution`; conv4_3 in 5, 6, 8, 10, 12: 32.9, 35.5, 36.8, 36.1, 37.8), beyond 512 nothing is gained on any
device."""


class Job(NamedTuple):
    """One input to find. chi is None for a layer that sees no motion."""

    unit: int
    chi: float | None


def jobs(view: View, units: Iterable[int], chi: Iterable[float]) -> list[Job]:
    """Every unit at every chi, or once where the layer sees no motion.

    Raises:
      UsageError: a chi is negative or not a number, or nothing is asked for.
    """
    chi = list(dict.fromkeys(float(c) for c in chi))
    for c in chi:
        if not (c >= 0.0 and math.isfinite(c)):
            raise UsageError(f"chi must be a number >= 0 (large: slow, 0: speed left free): got {c:g}; nearest: 0")
    if "motion" not in view.streams:
        chi = [None]  # type: ignore[list-item]
    asked = [Job(int(unit), c) for unit in dict.fromkeys(units) for c in chi]
    if not asked:
        raise UsageError("at least one unit and one chi must be asked for: got none")
    return asked


def unit_key(key: jax.Array, layer: str, unit: jax.Array | int) -> jax.Array:
    """The key of a unit: from (seed, layer, unit), never from its place in a chunk.

    chi has no part in it: all chi of a unit start from the same noise, so they can be compared.
    """
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(layer.encode())), unit)


def num_units(view: View, params: Params) -> int:
    """Channels of the view's layer, without computing it."""
    return _endpoints(view, params)[view.layer].shape[-1]


def map_bytes(view: View, params: Params) -> int:
    """Bytes of one unit's endpoints."""
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in _endpoints(view, params).values())


def bytes_per_unit(view: View, recipe: Recipe, params: Params) -> int:
    """Estimate of what one unit's step holds at once.

    Every endpoint is kept for the gradient, with its ReLU and what the convolution's form unfolds: 2 to 4
    times the endpoints' own bytes by XLA's account on a CPU (2, 20 and 118 MB at conv3_3, conv4_3 and
    conv5_3), so 4. The canvas counts 8 times: itself, gradients, optimiser state, and their copies.
    """
    canvas = sum(math.prod(x.shape) * 4 for x in view.clip(recipe.margin) if x is not None)
    return 4 * map_bytes(view, params) + 8 * canvas


def memory_budget() -> int:
    """Bytes that a chunk may take on the default device."""
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return int(SHARE * stats["bytes_limit"]) if stats and "bytes_limit" in stats else BUDGET


def chunk_limit(view: View, recipe: Recipe, params: Params) -> int:
    """The most units that are worth stepping together, and that fit the memory budget.

    On an accelerator that is what fits, up to MOST. On a CPU a chunk has to amortise the cost of a call
    and of transformed kernels, and then to stay in the cache.
    """
    fitting = max(1, memory_budget() // bytes_per_unit(view, recipe, params))
    if jax.default_backend() != "cpu":
        return min(fitting, MOST)
    return min(fitting, MOST, max(FEWEST, CACHE // map_bytes(view, params)))


def chunk_size(jobs: int, limit: int) -> int:
    """More than limit / 2 and at most `limit`, or all jobs where they are fewer: what pads least, then the largest.

    A padded place costs what a unit does, so few of them keep the cost linear in the number of units.

    >>> [chunk_size(jobs, 12) for jobs in (9, 90, 97)]
    [9, 10, 7]
    """
    sizes = range(limit // 2 + 1, limit + 1) if jobs > limit else (jobs,)
    return min(sizes, key=lambda size: (-jobs % size, -size))


def chunks(asked: Sequence[Job], limit: int) -> tuple[int, list[list[Job]]]:
    """Jobs in equal chunks, the last one possibly shorter, and the size of a chunk.

    >>> size, parts = chunks([Job(u, None) for u in range(15)], 6)
    >>> size, [len(part) for part in parts]
    (5, [5, 5, 5])
    """
    size = chunk_size(len(asked), limit)
    return size, [list(asked[i : i + size]) for i in range(0, len(asked), size)]


def _endpoints(view: View, params: Params) -> dict[str, jax.ShapeDtypeStruct]:
    window = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), view.clip())
    _, activations = jax.eval_shape(lambda p, c: view.network.apply({"params": p}, c), params, window)
    return activations


def flops(view: View, params: Params) -> int:
    """Floating-point operations of one forward pass over a view, counting what its endpoints need.

    2 * (elements of an endpoint) * (elements of a kernel that make one of them), summed; a step costs twice
    that, forward and the gradient with respect to the input. Pooling and penalties are left out.
    """
    total = 0
    for layer, shape in _endpoints(view, params).items():
        node: Any = params
        for name in layer.split("/"):
            node = node.get(name, {})
        if "kernel" in node:
            total += 2 * math.prod(shape.shape) * math.prod(node["kernel"].shape[:-1])
    return total
