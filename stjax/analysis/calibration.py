"""ahat of a network that comes without: over generated clips, so that every installation can visualise it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from stjax.analysis.statistics import divisors, floored, record_maxima
from stjax.model import Model, Statistics
from stjax.preprocess import FLOW_MEAN, FLOW_SCALE, Preprocessing
from stjax.training import generated
from stjax.types import Clip, Input, streams

CLIPS = 8
PACES = (1, 2, 4)
"""What the speed of generated clips is multiplied by: theirs is 4 pixels per frame at most, real motion goes to 20."""


def calibrated(model: Model, count: int = CLIPS) -> Model:
    """The model with the largest activation of each unit over generated clips.

    They show moving shapes, not the world: the scale of a layer comes out right, that of a single unit roughly. Units
    and layers are comparable within a network; record over clips of your own for more.

    Args:
      model: of any network; statistics it has are replaced.
      count: clips, of classes spread over all of them.
    Returns:
      A model whose statistics lack the layers of which no unit fires.
    """
    inputs = model.network.inputs
    # One at a time: a batch is no faster on a CPU, and its activations would be the largest thing in memory.
    firsts = [number * len(generated.CLASSES) // count for number in range(count)]
    clips = (generated.clips(jax.random.key(0), first, 1, inputs) for first in firsts)
    measured = record_maxima(
        model.network, model.params, (in_units_of(model.preprocessing, inputs, clip) for clip in clips)
    )
    firing = {layer: values for layer, values in measured.items() if (values > 0).any()}
    sizes = " and ".join(dict.fromkeys(f"{each.length('height')}x{each.length('width')}" for each in inputs))
    provenance = (
        f"Largest activation before the ReLU over {count} generated clips of {sizes} px (moving shapes, exact flow; "
        "stjax.training.generated, seed 0). Rough: no photograph and no real video was seen."
    )
    rough = dict.fromkeys(firing, f"over {count} generated clips; no photograph and no real video was seen")
    ahat = divisors(firing)
    return dataclasses.replace(model, statistics=Statistics(ahat, provenance, rough, floored(firing, ahat)))


def in_units_of(preprocessing: Preprocessing, inputs: tuple[Input, ...], clip: Clip) -> Clip:
    """Generated clips with the means of a network's preprocessing in place of their own."""

    def shifted(each: Input, x: Array) -> Array:
        if each.kind == "flow":
            return x + (FLOW_MEAN - preprocessing.flow_mean)
        r, g, b = (theirs - own for theirs, own in zip(generated.PREPROCESSING.mean, preprocessing.mean, strict=True))
        return x + jnp.broadcast_to(jnp.asarray([r, g, b], jnp.float32), x.shape)

    return clip._replace(**{each.name: shifted(each, x) for each, x in streams(inputs, clip)})


def moving_shapes(
    inputs: tuple[Input, ...], preprocessing: Preprocessing, count: int, seed: int
) -> Iterator[tuple[int, Clip]]:
    """`count` generated clips of each class, each at every pace of `PACES` in one batch, and the number of the class.

    Flow is multiplied by the pace, and clipped to 20 pixels; of frames that follow one another some are left out.
    """
    longest = 20.0 * FLOW_SCALE
    # Where nothing follows anything, a frame is the same at every pace.
    paces = PACES if any(each.kind == "rgb" and each.slow for each in inputs) else (1,) * len(PACES)
    for number in range(count):
        key = jax.random.fold_in(jax.random.key(seed), number)
        for label in range(len(generated.CLASSES)):
            batch: dict[str, list[np.ndarray]] = {each.name: [] for each in inputs}
            for pace, frames in zip(PACES, paces, strict=True):
                clip = generated.clips(key, label, 1, inputs, frames)
                for each, x in streams(inputs, clip):
                    x = np.asarray(x)
                    batch[each.name].append(np.clip(pace * x, -longest, longest) if each.kind == "flow" else x)
            whole = Clip(**{name: jnp.asarray(np.concatenate(parts)) for name, parts in batch.items()})
            yield label, in_units_of(preprocessing, inputs, whole)
