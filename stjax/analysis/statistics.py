"""The largest activation of every unit over a data set: the `ahat` that an objective divides by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from stjax.compilation import jit
from stjax.errors import UsageError
from stjax.types import Clip, Network, Params, streams

FLOOR_SHARE = 0.1
"""Least usable ahat, as a share of the median of a layer's positive ones."""

Maxima = dict[str, Float[np.ndarray, " channels"]]


@partial(jit, static_argnums=0)
def maxima(network: Network, params: Params, clip: Clip) -> dict[str, Array]:
    """Each unit's largest activation in one batch of clips.

        m_{l,c} = max over clips, times and positions of a_l(x)_c

    Args:
      network: static; `apply` returns (scores, activations) of one clip, before the ReLU for convolutions.
      params: traced, so other parameters cost no second compilation.
      clip: *batch time ..., in network units. Without a stream, the layers that see it are absent.
    Returns:
      Layer -> (channels,); NaN for a unit that has any activation that is not finite.
    """

    def one(clip: Clip) -> dict[str, Array]:
        return network.apply({"params": params}, clip)[1]

    given = streams(network.inputs, clip)
    batch = next((x.ndim - len(each.shape) for each, x in given), 0)
    if batch:
        flat = clip._replace(**{each.name: x.reshape(-1, *x.shape[batch:]) for each, x in given})
        activations = jax.vmap(one)(flat)
    else:
        activations = one(clip)
    return {layer: _finite_max(a, tuple(range(a.ndim - 1))) for layer, a in activations.items()}


def _finite_max(a: Array, axes: tuple[int, ...]) -> Array:
    # XLA's maximum on CPU drops NaN, so a plain max would hide a broken clip.
    return jnp.where(jnp.isfinite(a).all(axes), a.max(axes), jnp.nan)


def merge(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> Maxima:
    """The maxima of two data sets together; a layer that only one of them has is kept.

    >>> merged = merge({"a": np.array([1.0, 5.0])}, {"a": np.array([2.0, 3.0]), "b": np.array([4.0])})
    >>> {layer: values.tolist() for layer, values in merged.items()}
    {'a': [2.0, 5.0], 'b': [4.0]}
    """
    merged = dict(first)
    for layer, values in second.items():
        merged[layer] = np.maximum(merged[layer], values) if layer in merged else values
    return merged


def record_maxima(network: Network, params: Params, clips: Iterable[Clip]) -> Maxima:
    """Runs a network over a data set and keeps each unit's largest activation.

        ahat_{l,c} = max_x max_{t,y,x} a_l(x)_c

    Clips of one shape cost one compilation. How they are split into batches and ordered does not matter,
    up to float rounding of the convolutions.

    Args:
      network: any; static, see `maxima`.
      params: its parameters.
      clips: batches (or single clips) in network units; some may lack a stream, if the network takes such.
    Returns:
      Layer -> (channels,) float32, as measured: see `divisors` before dividing.
    Raises:
      UsageError: there is no clip, or an activation is not finite.

    Feichtenhofer et al., What have we learned from deep representations for action recognition?, CVPR 2018.
    """
    recorded: Maxima = {}
    for number, clip in enumerate(clips):
        batch = {layer: np.asarray(a, np.float32) for layer, a in maxima(network, params, clip).items()}
        broken = [layer for layer, a in batch.items() if not np.isfinite(a).all()]
        if broken:
            raise UsageError(f"activations must be finite: those of {broken[0]} are not, in batch {number}")
        recorded = merge(recorded, batch)
    if not recorded:
        raise UsageError("statistics must be recorded over at least one clip: none was given")
    return recorded


def divisors(ahat: Mapping[str, np.ndarray], share: float = FLOOR_SHARE) -> Maxima:
    """ahat that can be divided by: dead units are lifted to a share of their layer's median.

        max(ahat_{l,c}, share * median_c {ahat_{l,c} : ahat_{l,c} > 0})

    A unit that never fired has no dynamic range of its own; the floor keeps its objective finite.

    Args:
      ahat: layer -> (channels,), as `record_maxima` measured it.
      share: of the median, in (0, 1].
    Returns:
      Layer -> (channels,), positive.
    Raises:
      UsageError: no unit of a layer ever fired.

    >>> divisors({"conv1_1": np.array([-3.0, 40.0, 60.0])})["conv1_1"].tolist()
    [5.0, 40.0, 60.0]
    """
    usable: Maxima = {}
    for layer, values in ahat.items():
        if not (values > 0).any():
            raise UsageError(f"some unit of each layer must fire over the data set: none of {layer} does")
        usable[layer] = np.maximum(values, share * np.median(values[values > 0])).astype(values.dtype)
    return usable


def floored(measured: Mapping[str, np.ndarray], ahat: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The units that `divisors` lifted, of the layers that have any.

    >>> measured = {"conv1_1": np.array([-3.0, 40.0, 60.0]), "conv1_2": np.array([1.0])}
    >>> floored(measured, divisors(measured))
    {'conv1_1': (0,)}
    """
    lifted = {layer: np.flatnonzero(values > measured[layer]) for layer, values in ahat.items()}
    return {layer: tuple(map(int, units)) for layer, units in lifted.items() if len(units)}


def growth(half: Mapping[str, np.ndarray], whole: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far ahat still grows when the data set doubles: the median over units of whole / half - 1.

    Units that did not fire in the half are left out; 0.0 if none did.

    >>> growth({"a": np.array([1.0, 2.0, 4.0])}, {"a": np.array([1.0, 2.5, 8.0])})
    {'a': 0.25}
    """
    fired = {layer: half[layer] > 0 for layer in half}
    return {
        layer: float(np.median(whole[layer][on] / half[layer][on] - 1)) if on.any() else 0.0
        for layer, on in fired.items()
    }
