"""What an input keeps of a unit's activation when it is shifted, blurred, or stored in 8 bits.

A stored window has no neighbours: what a shift uncovers repeats the row or column at the edge, and so does the blur.
Where real neighbours exist (photographs), `disturbed` may be given a window with a margin to shift within, and both
ways can be compared.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import stjax
from stjax.ascent import step
from stjax.ascent.recipes import Recipe
from stjax.preprocess import Preprocessing
from stjax.types import Clip, Input, Params, Probe, streams

SHIFTS = (1, 2, 3, 4)
"""Pixels, each up, down, left and right: the mean of four."""
SIGMA = 1.0
"""Of the Gaussian blur, in pixels."""
KINDS = (*(f"{n} px" for n in SHIFTS), "blur", "8 bit")


def _changed(change: Any, clip: Clip) -> Clip:
    return Clip(*(None if x is None else change(np.asarray(x)) for x in clip))


def shifted(clip: Clip, down: int, right: int, margin: int = 0) -> Clip:
    """The view that lies `down` rows below and `right` columns to the right of a clip's middle window.

    Args:
      clip: (..., height, width, channels) in each stream.
      down, right: pixels, also below 0.
      margin: rows and columns around the middle window that the clip has; beyond them its edge is repeated.

    >>> shifted(Clip(appearance=np.arange(4.0).reshape(1, 2, 2, 1)), 1, -1).appearance.ravel().tolist()
    [2.0, 2.0, 2.0, 2.0]
    """

    def move(x: np.ndarray) -> np.ndarray:
        height, width = (n - 2 * margin for n in x.shape[-3:-1])
        rows = np.clip(np.arange(height) + margin + down, 0, x.shape[-3] - 1)
        columns = np.clip(np.arange(width) + margin + right, 0, x.shape[-2] - 1)
        return x[..., rows, :, :][..., columns, :]

    return _changed(move, clip)


def blurred(clip: Clip, sigma: float = SIGMA) -> Clip:
    """Each frame and field under a Gaussian of `sigma` pixels, cut off at 4 sigma, edges repeated.

    >>> x = np.zeros((1, 3, 3, 1)); x[0, 1, 1, 0] = 1.0
    >>> round(float(blurred(Clip(appearance=x), 0.5).appearance[0, 1, 1, 0]), 3)
    0.619
    """
    radius = int(np.ceil(4 * sigma))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()

    def along(x: np.ndarray, axis: int) -> np.ndarray:
        places = np.clip(np.arange(x.shape[axis])[None] + offsets[:, None], 0, x.shape[axis] - 1)
        return sum((k * np.take(x, p, axis) for k, p in zip(kernel, places, strict=True)), start=np.zeros_like(x))

    return _changed(lambda x: along(along(x, x.ndim - 3), x.ndim - 2), clip)


def rounded(inputs: tuple[Input, ...], clip: Clip, preprocessing: Preprocessing) -> Clip:
    """What a picture file would hold: the mean added, rounded to whole grey levels in 0..255, and taken away again.

    >>> frame = Input(name="appearance", kind="rgb", shape=(1, 1, 1, 3))
    >>> clip = Clip(appearance=np.array([[[[0.4, 300.0, -300.0]]]]))
    >>> rounded((frame,), clip, Preprocessing(mean=(100.0, 100.0, 100.0))).appearance.ravel().tolist()
    [0.0, 155.0, -100.0]
    """

    def store(each: Input, x: np.ndarray) -> np.ndarray:
        mean = np.asarray(preprocessing.mean if each.kind == "rgb" else preprocessing.flow_mean, x.dtype)
        return np.clip(np.round(x + mean), 0, 255) - mean

    return clip._replace(**{each.name: store(each, np.asarray(x)) for each, x in streams(inputs, clip)})


def disturbed(
    inputs: tuple[Input, ...], clip: Clip, preprocessing: Preprocessing, margin: int = 0
) -> Iterator[tuple[str, Clip]]:
    """Every disturbance of a clip's middle window, by the names in KINDS; a shift comes in four directions."""
    for n in SHIFTS:
        for down, right in ((n, 0), (-n, 0), (0, n), (0, -n)):
            yield f"{n} px", shifted(clip, down, right, margin)
    middle = shifted(clip, 0, 0, margin)
    yield "blur", blurred(middle)
    yield "8 bit", rounded(inputs, middle, preprocessing)


@functools.partial(stjax.jit, static_argnames=("probe", "recipe"))
def activations(probe: Probe, recipe: Recipe, params: Params, units: jax.Array, clips: Clip) -> jax.Array:
    """(jobs,): of unit k on clip k."""
    with jax.default_matmul_precision("highest"):
        return jax.vmap(lambda unit, clip: step.activation(probe.network, recipe, params, clip, unit))(units, clips)


def kept(
    probe: Probe, recipe: Recipe, model: stjax.Model, units: np.ndarray, clips: Clip, margin: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(jobs,) activations of clips, and what share of them each disturbance of KINDS leaves.

    Args:
      probe: of the layer in `model`.
      recipe: bound to what is measured.
      model: its parameters and preprocessing.
      units: (jobs,) channel numbers.
      clips: (jobs, ...) windows, `margin` pixels larger on each side.
      margin: real neighbours that the clips have.
    """
    a = np.asarray(activations(probe, recipe, model.params, units, shifted(clips, 0, 0, margin)))
    left: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for kind, clip in disturbed(probe.inputs, clips, model.preprocessing, margin):
        left[kind].append(np.asarray(activations(probe, recipe, model.params, units, clip)))
    return a, {kind: np.mean(each, axis=0) / a for kind, each in left.items()}
