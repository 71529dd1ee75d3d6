"""What real input excites a unit most: patches of photographs, and generated clips for what sees motion."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from record_statistics import photographs

import stjax
from stjax.networks.geometry import Probe, map_side, receptive_field
from stjax.training import generated
from stjax.types import Clip, Network, Params

GENERATED = 4
"""Clips of each of the 28 classes."""


@functools.partial(stjax.jit, static_argnames=("network", "layer"))
def _map(network: Network, layer: str, params: Params, clip: Clip) -> jax.Array:
    return network.apply({"params": params}, clip)[1][layer]


def batches(model: stjax.Model, probe: Probe) -> Iterator[Clip]:
    """Photographs where the layer sees appearance alone and they are the network's world, else generated clips."""
    if probe.streams == ("appearance",) and model.module.input_size == 224:
        yield from (clips for _, clips in photographs(1, np.random.default_rng(0)))
        return
    key = jax.random.key(generated.HELD_OUT)
    for number in range(GENERATED):
        made = generated.examples(key, number * len(generated.CLASSES), len(generated.CLASSES), model.module.input_size)
        yield Clip(**{stream: getattr(made.clip, stream) for stream in probe.streams})


def strongest(model: stjax.Model, probe: Probe, units: list[int], margin: int) -> tuple[Clip, int]:
    """(units, ...) windows that excite each unit most, with `margin` real pixels around where the layer has a cone.

    Returns:
      The clips, and the margin that they have: 0 where the layer sees the whole input.
    """
    rho, stride, first = receptive_field(model.module, probe.layer)
    side = map_side(model.module, probe.layer)
    cone = probe.window < model.module.input_size
    begins = np.round(first + stride * np.arange(side) - (rho - 1) / 2).astype(int) - margin
    inside = np.flatnonzero((begins >= 0) & (begins + rho + 2 * margin <= model.module.input_size))
    places = inside if cone else np.asarray([(side - 1) // 2])
    best = dict.fromkeys(units, -np.inf)
    found: dict[int, Clip] = {}
    network = model.module.clone(until=probe.layer)
    for clips in batches(model, probe):
        maps = np.asarray(_map(network, probe.layer, model.params, clips))[:, 0][:, places][:, :, places][..., units]
        for column, unit in enumerate(units):
            peak = np.unravel_index(np.argmax(maps[..., column]), maps.shape[:3])
            if maps[..., column][peak] > best[unit]:
                best[unit] = float(maps[..., column][peak])
                top, left = (int(begins[places[p]]) for p in peak[1:])
                found[unit] = Clip(
                    *(None if x is None else _cut(x[peak[0]], top, left, rho, margin, cone) for x in clips)
                )
    stacked = jax.tree.map(lambda *a: np.stack(a), *(found[unit] for unit in units))
    return stacked, margin if cone else 0


def _cut(x: jax.Array, top: int, left: int, rho: int, margin: int, cone: bool) -> np.ndarray:
    side = rho + 2 * margin
    return np.asarray(jnp.asarray(x)[..., top : top + side, left : left + side, :] if cone else x)
