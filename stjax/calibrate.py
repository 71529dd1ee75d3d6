"""ahat of a network that comes without: over generated clips, so that every installation can visualise it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from stjax.convert.store import Model, Statistics
from stjax.preprocess import FLOW_MEAN
from stjax.training import generated
from stjax.types import Clip
from stjax.video.statistics import divisors, floored, record

CLIPS = 8


def calibrated(model: Model, count: int = CLIPS) -> Model:
    """The model with the largest activation of each unit over generated clips.

    They show moving shapes, not the world: the scale of a layer comes out right, that of a single unit roughly. Units
    and layers are comparable within a network; record over clips of your own for more.

    Args:
      model: of any width and input size; statistics it has are replaced.
      count: clips, of classes spread over all of them.
    Returns:
      A model whose statistics lack the layers of which no unit fires.
    """
    measured = record(model.module, model.params, _clips(model, count))
    firing = {layer: values for layer, values in measured.items() if (values > 0).any()}
    provenance = (
        f"Largest activation before the ReLU over {count} generated clips of {model.module.input_size} px (moving "
        "shapes, exact flow; stjax.training.generated, seed 0), recorded at conversion. Rough: no photograph and no "
        "real video was seen."
    )
    rough = dict.fromkeys(firing, f"over {count} generated clips; no photograph and no real video was seen")
    ahat = divisors(firing)
    return dataclasses.replace(model, statistics=Statistics(ahat, provenance, rough, floored(firing, ahat)))


def _clips(model: Model, count: int) -> Iterator[Clip]:
    module = model.module
    # From the means that generated clips are made with to those of this network.
    r, g, b = (theirs - own for theirs, own in zip(generated.PREPROCESSING.mean, model.preprocessing.mean, strict=True))
    shift = jnp.asarray([r, g, b], jnp.float32)
    field = jnp.arange(module.fields) % generated.FIELDS
    # One at a time: a batch is no faster on a CPU, and its activations would be the largest thing in memory.
    for number in range(count):
        first = number * len(generated.CLASSES) // count
        made = generated.examples(jax.random.key(0), first, 1, side=module.input_size).clip
        appearance = made.appearance + jnp.broadcast_to(shift, made.appearance.shape)
        motion = made.motion[:, :, field] + (FLOW_MEAN - model.preprocessing.flow_mean)
        streams = {"appearance": appearance, "motion": motion}
        yield Clip(**{s: jnp.repeat(streams[s], module.samples, axis=1) for s in module.inputs})
