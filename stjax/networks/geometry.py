"""Receptive field, stride and centre of each layer, and the view on which one unit is evaluated.

All of it follows from the module's sliding windows; nothing is looked up in a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stjax.errors import UsageError
from stjax.networks.two_stream import TwoStream
from stjax.types import Clip, Network


class Field(NamedTuple):
    """Receptive field of a layer: side (rho) and stride in pixels, centre of unit 0 in pixels from 0."""

    side: int
    stride: int
    centre: float


def receptive_field(network: Network, layer: str) -> Field:
    """The square of pixels that one unit of a layer sees.

    For windows of side k_i and stride s_i: rho = 1 + sum_i (k_i - 1) prod_{j<i} s_j. A pooling drops an
    odd last row and column (floor), so it never pads and the centre is that of the map it reads.

    Args:
      network: gives the sliding windows between its input and a layer.
      layer: an endpoint name.
    Raises:
      UsageError: the network has no such layer, or is not a TwoStream.

    >>> receptive_field(TwoStream(), "motion/conv3_3")
    Field(side=40, stride=4, centre=1.5)
    """
    network = _describing(network)
    side, stride, centre = 1, 1, 0.0
    for kernel, step, padding in network.operations(layer):
        centre += ((kernel - 1) / 2 - padding) * stride
        side += (kernel - 1) * stride
        stride *= step
    return Field(side, stride, centre)


def map_side(network: TwoStream, layer: str) -> int:
    """Side of a layer's map for an input of the network's size, with the network's own zero padding."""
    side = network.input_size
    for kernel, step, padding in network.operations(layer):
        side = (side + 2 * padding - kernel) // step + 1
    return side


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one unit of a layer is shown, and the network set up to evaluate just that.

    Args:
      network: evaluates the layer on windows of `window` pixels a side.
      layer: an endpoint name.
      window: side of what the network is given at each step, in pixels.
      rho: side of the receptive field; enters the objective's weight 1/(rho^2 ahat).
      stride: of the layer, in pixels; a share of it is the default jitter.
      streams: the inputs the layer sees.
      samples, fields: lengths of the time and fields axes.
    """

    network: Network
    layer: str
    window: int
    rho: int
    stride: int
    streams: tuple[str, ...] = ("appearance", "motion")
    samples: int = 1
    fields: int = 10

    def clip(self, margin: int = 0) -> Clip:
        """Shapes of a canvas `margin` pixels larger than the window, as a hashable Clip."""
        side = self.window + margin
        appearance = jax.ShapeDtypeStruct((self.samples, side, side, 3), jnp.float32)
        motion = jax.ShapeDtypeStruct((self.samples, self.fields, side, side, 2), jnp.float32)
        return Clip(
            appearance if "appearance" in self.streams else None,
            motion if "motion" in self.streams else None,
        )


def probe(network: Network, layer: str, *, whole: bool = False) -> Probe:
    """The smallest exact view of one unit of a layer: its cone where it has one, else the whole input.

    Inside the input some unit's receptive field (rho x rho pixels) meets no border, so VALID convolutions
    over exactly that patch give its value and nothing else: the map of `layer` is 1x1. Where the field is
    larger than the input (fully connected layers, 3-D fusion), or meets a border even at the centre of
    the map, the whole input is evaluated with zero padding, as in training.

    Args:
      network: its `padding`, `until` and `backward` are replaced.
      layer: an endpoint name.
      whole: the whole input in any case, for an objective that reads more of the map than one unit.
    Raises:
      UsageError: the network has no such layer, or is not a TwoStream.

    >>> v = probe(TwoStream(), "appearance/conv4_3")
    >>> v.window, v.network.padding, v.streams
    (92, 'VALID', ('appearance',))
    """
    network = _describing(network)
    streams = network.streams(layer)
    rho, stride, first = receptive_field(network, layer)
    middle = first + stride * ((map_side(network, layer) - 1) // 2)
    reach = (rho - 1) / 2
    cone = not whole and middle - reach >= 0 and middle + reach <= network.input_size - 1
    return Probe(
        network=network.clone(padding="VALID" if cone else "SAME", until=layer, backward="uphill"),
        layer=layer,
        window=rho if cone else network.input_size,
        rho=rho,
        stride=stride,
        streams=streams,
        samples=network.samples,
        fields=network.fields,
    )


def _describing(network: Network) -> TwoStream:
    if isinstance(network, TwoStream):
        return network
    raise UsageError(
        f"a network must say which windows its layers slide over: stjax.TwoStream does, {type(network).__name__} does "
        "not; write its view by hand: stjax.Probe(network=..., layer=..., window=..., rho=..., stride=..., streams=...)"
    )
