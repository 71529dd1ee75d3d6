"""Is a clip of consecutive frames still what it was, seen otherwise? Its other views, and what each is named.

An optimum that shows its class is named so wherever it lies, at another size, in a mirror, in every second frame. One
that only drives a network is not. Time reversed or shuffled is another matter: then it depends on the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.model import Model, resized
from stjax.types import Clip, Network, Params

Frames = Float[np.ndarray, "_time _height _width rgb=3"]

NOISE, BLUR = 8.0, 1.0
"""Standard deviations: of noise in grey levels, of a Gaussian in pixels."""
LASTING = (
    *("plain", "enlarged", "reduced", "larger", "smaller", "moved", "mirrored", "8 bits", "blurred", "noisy", "pale"),
    *("every 2nd frame", "every 3rd frame"),
)
"""Views in which an action is the same: the clip itself; its middle 3/4, enlarged; 7/8 of its size, in a frame of edge
colour; clips of 5/4 and 3/4 of its size; moved by 1/16 down and 1/12 to the left; a quarter of its contrast; ..."""
UNTIMELY = ("reversed", "shuffled", "mean frame")
"""Views in which time runs backwards, in no order, or not at all."""
VIEWS = (*LASTING, *UNTIMELY)


def views(frames: Frames, mean: Sequence[float], *, seed: int = 0) -> dict[str, Frames]:
    """A clip in every view of VIEWS, by name.

    Args:
      frames: grey levels minus a mean.
      mean: RGB that was taken away, for what 8 bits can hold.
      seed: of the noise and of the order of shuffled frames.

    >>> shown = views(np.zeros((6, 16, 16, 3), np.float32), (127.5,) * 3)
    >>> shown["larger"].shape, shown["every 3rd frame"].shape, tuple(shown) == VIEWS
    ((6, 20, 20, 3), (2, 16, 16, 3), True)
    """
    x, draw = np.asarray(frames, np.float32), np.random.default_rng(seed)
    time, height, width, _ = x.shape
    top, left = height // 8, width // 8
    edges = (height // 16, width // 16)
    around = [(0, 0), *((edge, edge) for edge in edges), (0, 0)]
    small = _scaled(x, height - 2 * edges[0], width - 2 * edges[1])
    rows, columns = np.arange(height) - height // 16, np.arange(width) + width // 12
    grey = np.asarray(mean, np.float32)
    return {
        "plain": x,
        "enlarged": _scaled(x[:, top : height - top, left : width - left], height, width),
        "reduced": np.pad(small, around, mode="edge"),
        "larger": _scaled(x, height * 5 // 4, width * 5 // 4),
        "smaller": _scaled(x, height * 3 // 4, width * 3 // 4),
        "moved": x[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)],
        "mirrored": x[:, :, ::-1],
        "8 bits": np.clip(np.round(x + grey), 0, 255) - grey,
        "blurred": _blurred(x),
        "noisy": x + NOISE * draw.normal(size=x.shape).astype(np.float32),
        "pale": x / 4,
        "every 2nd frame": x[::2],
        "every 3rd frame": x[::3],
        "reversed": x[::-1],
        "shuffled": x[draw.permutation(time)],
        "mean frame": np.repeat(x.mean(0, keepdims=True), time, 0),
    }


def _scaled(x: Frames, height: int, width: int) -> Frames:
    return np.asarray(jax.image.resize(jnp.asarray(x), (len(x), height, width, 3), "linear", antialias=True))


def _blurred(x: Frames) -> Frames:
    """Each frame under a Gaussian, cut off at 4 sigma, edges repeated."""
    radius = int(4 * BLUR)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / BLUR) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        places = (np.arange(x.shape[axis]) + offsets[:, None]).clip(0, x.shape[axis] - 1)
        x = np.asarray(sum(k * np.take(x, p, axis) for k, p in zip(kernel, places, strict=True)), np.float32)
    return x


def scrambled(frames: Frames, seed: int = 0) -> Frames:
    """Noise of a clip's contrast and spectrum: the magnitudes of its frequencies in time and space, with random phases.

    Colours go with the same phases, so that the clip's own colours stay.
    """
    x = np.asarray(frames, np.float32)
    mean = x.mean((0, 1, 2))
    spectrum = np.fft.fftn(x - mean, axes=(0, 1, 2))
    white = np.fft.fftn(np.random.default_rng(seed).normal(size=x.shape[:3]))
    turned = spectrum * (white / np.abs(white))[..., None]
    return (np.fft.ifftn(turned, axes=(0, 1, 2)).real + mean).astype(np.float32)


@partial(jit, static_argnums=0)
def _scores(network: Network, params: Params, frames: Array) -> Array:
    return network.apply({"params": params}, Clip(appearance=frames))[0]


def seen(model: Model, shown: Mapping[str, Frames]) -> Float[np.ndarray, "views classes"]:
    """Class scores of each view; NaN for one that the network does not take, being of another size, or too short.

    One at a time: a batch of 3-D convolutions is no faster on a CPU, and each size is compiled once.
    """
    rows = []
    for frames in shown.values():
        network = _taking(model, frames.shape)
        scores = None if network is None else np.asarray(_scores(network, model.params, jnp.asarray(frames)))
        rows.append(np.full(len(model.class_names), np.nan) if scores is None else scores)
    return np.asarray(rows, np.float32)


def _taking(model: Model, shape: tuple[int, ...]) -> Network | None:
    """The network for clips of a shape, if it takes such."""
    if shape == model.network.inputs[0].shape:
        return model.network
    if shape[1] != shape[2]:
        return None
    try:
        return resized(model, shape[0], shape[1]).network
    except UsageError:
        return None


class Naming(NamedTuple):
    """How well scores name a class; NaN where there are none.

    rank: how many other classes have a higher score; 0 for the first.
    probability: softmax.
    log_odds: log p / (1 - p), which does not saturate.
    """

    rank: Float[np.ndarray, "*batch"]
    probability: Float[np.ndarray, "*batch"]
    log_odds: Float[np.ndarray, "*batch"]


def name(scores: Float[np.ndarray, "*batch classes"], label: Int[np.ndarray, "*batch"]) -> Naming:
    """How well scores name the class of each label; of a label below 0 nothing is known.

    >>> [float(v) for v in name(np.log([0.5, 0.3, 0.2]), np.asarray(1))]  # doctest: +ELLIPSIS
    [1.0, 0.3..., -0.847...]
    """
    z = np.where(np.asarray(label)[..., None] < 0, np.nan, np.asarray(scores, np.float64))
    own = np.arange(z.shape[-1]) == np.asarray(label)[..., None]
    mine = np.where(own, z, 0.0).sum(-1)
    others = np.where(own, -np.inf, z)
    highest = others.max(-1)
    log_odds = mine - highest - np.log(np.exp(others - highest[..., None]).sum(-1))
    rank = np.where(np.isnan(log_odds), np.nan, (others > mine[..., None]).sum(-1))
    # NumPy warns of NaN here, and NaN is what is meant.
    with np.errstate(invalid="ignore"):
        return Naming(rank, np.exp(-np.logaddexp(0.0, -log_odds)), log_odds)
