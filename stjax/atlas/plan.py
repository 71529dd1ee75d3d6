"""What is asked for: jobs of a unit, a chi and a start, and how many of them a device steps together.

That number, the chunk, is fixed by the layer, the network's precision and the kind of device, never by how many jobs
there are or how much memory is free: a convolution's form and the order of its sums follow from it, and an ascent
amplifies round-off until it can be seen. So one compiled program finds every unit of a layer, the last chunk is padded,
and the bytes of a result do not tell what ran beside it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stjax.ascent.recipes import Recipe
from stjax.errors import UsageError
from stjax.types import Params, Probe

BUDGET = {"cpu": 640 << 20, "accelerator": 2 << 30}
"""Bytes that a chunk may take, by the estimate of `bytes_per_unit`; fixed, so that two devices of one kind agree. A
padded place costs what a unit does, so on a CPU deep layers get fewer than would be fastest: the last of VGG-16 in
chunks of 2, 4 and 7 makes 5.9, 6.4 and 6.6 unit-steps/s, and a single unit waits for all of them. Maps are not computed
twice to fit more: forward again costs a third more. The accelerators' budget is a guess, not measured."""
CACHE = 7 << 20
"""Bytes of maps beyond which a larger chunk is slower on a CPU: on 2 cores, unit-steps/s of conv3_3 (0.9 MB a unit) in
chunks of 6, 7, 8, 9, 10, 12: 386, 416, 447, 354, 339, 360."""
FEWEST = 8
"""On a CPU, memory allowing: with fewer, deep kernels are transformed for too few tiles (see `networks.convolution`;
conv4_3 in 5, 6, 8, 10, 12: 32.9, 35.5, 36.8, 36.1, 37.8)."""
MOST = {"cpu": 64, "accelerator": 32}
"""Beyond 64 nothing is gained on a CPU: conv2_2 in 16, 32, 48, 64, 96: 4481, 5128, 5723, 5788, 5647. The accelerators'
number is so small that nine units at four chi are shared by two of them, or fill little more than one chunk."""


class Job(NamedTuple):
    """One input to find. chi is None where no input of the layer can be slow; `start` counts the seeds."""

    unit: int
    chi: float | None
    start: int = 0


def jobs(probe: Probe, units: Iterable[int], chi: Iterable[float], starts: int = 1) -> list[Job]:
    """Every unit at every chi from every start, each once, the start counting fastest.

    A layer none of whose inputs can be slow is run without chi.

    Raises:
      UsageError: a chi is negative or not a number, starts is below 1, or nothing is asked for.
    """
    if starts < 1:
        raise UsageError(f"starts must be at least 1: got {starts}; nearest: 1")
    chi = list(dict.fromkeys(float(c) for c in chi))
    for c in chi:
        if not (c >= 0.0 and math.isfinite(c)):
            raise UsageError(f"chi must be a number >= 0 (large: slow, 0: speed left free): got {c:g}; nearest: 0")
    if not probe.slows:
        chi = [None]  # type: ignore[list-item]
    asked = [Job(int(unit), c, start) for unit in dict.fromkeys(units) for c in chi for start in range(starts)]
    if not asked:
        raise UsageError("at least one unit and one chi must be asked for: got none")
    return asked


def check_seed(seed: int) -> None:
    """Refuses a seed that a key has no room for, so that no two seeds are one.

    Raises:
      UsageError: its text says which are allowed.
    """
    if not 0 <= seed < 1 << 64:
        near = 0 if seed < 0 else (1 << 64) - 1
        raise UsageError(f"the seed must be in 0..2^64-1, the bits of a key: got {seed}; nearest: {near}")


def seed_key(seed: int) -> jax.Array:
    """`jax.random.key(seed)`, of which JAX itself may see the lower 32 bits alone: here all 64 count.

    >>> bool(seed_key(7) == jax.random.key(7)), bool(seed_key(2**32 + 7) == jax.random.key(7))
    (True, False)
    """
    check_seed(seed)
    small = jax.random.key(0)
    words = jax.random.key_data(small).shape[0]
    halves = np.asarray([seed >> 32, seed & 0xFFFFFFFF] * (words // 2), np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(halves), impl=jax.random.key_impl(small))


def prng() -> str:
    """What turns a seed into numbers here: JAX's generator, and how it is asked.

    >>> prng()
    'threefry2x32'
    """
    # Not of `config.values`, which does not know of `with jax.threefry_partitionable(...)`.
    partitionable = jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    plain = "" if partitionable else ", not partitionable"
    return f"{jax.random.key_impl(jax.random.key(0))}{plain}"


def unit_key(key: jax.Array, layer: str, unit: jax.Array | int, start: jax.Array | int = 0) -> jax.Array:
    """The key of a unit: from (seed, layer, unit, start), never from its place in a chunk.

    chi has no part in it: all chi of a unit start from the same noise, so they can be compared. Another start is
    another seed; start 0 is the seed itself.
    """
    another = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"starts")), start)
    seed = jnp.where(jnp.asarray(start) == 0, key, another)
    return jax.random.fold_in(jax.random.fold_in(seed, zlib.crc32(layer.encode())), unit)


def map_bytes(probe: Probe, params: Params) -> int:
    """Bytes of one unit's endpoints."""
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in _endpoints(probe, params).values())


def bytes_per_unit(probe: Probe, recipe: Recipe, params: Params) -> int:
    """Estimate of what one unit's step holds at once.

    Every endpoint is kept for the gradient, with its ReLU and what the convolution's form unfolds: 2 to 4 times the
    endpoints' own bytes by XLA's account on a CPU (2, 20 and 118 MB at the last layers of VGG-16's third, fourth and
    fifth block), so 4. The canvas counts 8 times: itself, gradients, optimiser state, and their copies.
    """
    canvas = sum(math.prod(x.shape) * 4 for x in probe.canvas(recipe.margin) if x is not None)
    return 4 * map_bytes(probe, params) + 8 * canvas


def chunk(probe: Probe, recipe: Recipe, params: Params) -> int:
    """How many units a device of this kind steps together: a power of two, as a layer's number of units is.

    On a CPU a chunk has to amortise the cost of a call and of transformed kernels, and then to stay in the cache. On
    an accelerator it is what the budget allows, up to MOST.
    """
    kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    fitting = BUDGET[kind] // bytes_per_unit(probe, recipe, params)
    wanted = max(FEWEST, CACHE // map_bytes(probe, params)) if kind == "cpu" else MOST[kind]
    most = getattr(probe.network, "most_on_cpu", MOST[kind]) if kind == "cpu" else MOST[kind]
    return 1 << (max(1, min(fitting, wanted, most)).bit_length() - 1)


def _endpoints(probe: Probe, params: Params) -> dict[str, jax.ShapeDtypeStruct]:
    _, activations = jax.eval_shape(lambda p, c: probe.network.apply({"params": p}, c), params, probe.canvas())
    return activations


def flops(probe: Probe, params: Params) -> int:
    """Floating-point operations of one forward pass over a probe, counting what its endpoints need.

    2 * (positions of an endpoint) * (elements of each kernel below its name), summed; a step costs twice that, forward
    and the gradient with respect to the input. Of a block with several kernels, those inside count as often as its
    output has positions, which is the least. Pooling and penalties are left out.
    """
    total = 0
    for layer, shape in _endpoints(probe, params).items():
        node: Any = params
        for name in layer.split("/"):
            node = node.get(name, {})
        positions = math.prod(shape.shape[:-1])
        leaves = jax.tree_util.tree_leaves_with_path(node)
        kernels = [array for path, array in leaves if getattr(path[-1], "key", None) == "kernel"]
        total += sum(2 * positions * math.prod(kernel.shape) for kernel in kernels)
    return total
