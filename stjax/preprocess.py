"""Pixels and flow displacements <-> network units (grey levels): every mean, scale and clip lives here.

Frames and flow share one scale. A frame is RGB 0..255 minus a mean. A flow field is clipped to +-20 px,
coded in 8 bits as round(255 (v + 20) / 40), and then minus 128: 6.375 grey levels per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from stjax.types import Clip, Input, streams

VGG_MEAN = (123.68, 116.779, 103.939)
"""Mean RGB of ILSVRC-2012 as published with VGG-16 (Simonyan & Zisserman, 2015)."""

TORCHVISION_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
"""The mean that torchvision's weights were trained with: (123.675, 116.28, 103.53)."""

FLOW_MEAN = 128.0
FLOW_BOUND = 20.0
FLOW_SCALE = 255.0 / (2.0 * FLOW_BOUND)
"""Grey levels per pixel of displacement: 6.375."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What must be subtracted from a frame and from 8-bit flow.

    Args:
      mean: RGB mean in grey levels, 0..255.
      flow_mean: of flow in grey levels, 0..255; 128 for every published network but two-stream-pytorch's (127.5).
    """

    mean: tuple[float, float, float] = VGG_MEAN
    flow_mean: float = FLOW_MEAN

    def frames(self, rgb: Any) -> Float[Array, "*batch height width rgb=3"]:
        """RGB frames 0..255 -> network units."""
        rgb = jnp.asarray(rgb, jnp.float32)
        return rgb - jnp.broadcast_to(jnp.asarray(self.mean, jnp.float32), rgb.shape)

    def pixels(self, appearance: Any) -> Float[Array, "*batch height width rgb=3"]:
        """Network units -> RGB 0..255, clipped."""
        x = jnp.asarray(appearance)
        return jnp.clip(x + jnp.broadcast_to(jnp.asarray(self.mean, jnp.float32), x.shape), 0.0, 255.0)


def encode_flow(flow: Any, mean: float = FLOW_MEAN) -> Float[Array, "*batch uv=2"]:
    """Displacements in pixels -> network units, round(255 (v + 20) / 40) - 128 after clipping to +-20.

    Zero motion becomes round(127.5) - 128 = 0 (round half to even).

    Args:
      flow: (..., 2), u to the right and v downward, in pixels per frame.
      mean: the `flow_mean` of the network's preprocessing.
    Returns:
      Float32 of the same shape, whole numbers in -128..127.

    >>> encode_flow([[0.0, 1.0], [-20.0, 99.0]]).tolist()
    [[0.0, 6.0], [-128.0, 127.0]]
    """
    flow = jnp.clip(jnp.asarray(flow, jnp.float32), -FLOW_BOUND, FLOW_BOUND)
    return jnp.round((flow + FLOW_BOUND) * FLOW_SCALE) - mean


def decode_flow(motion: Any) -> Float[Array, "*batch uv=2"]:
    """Network units -> displacements in pixels: x / 6.375.

    The code 0 stands for no motion; the half grey level lost by 8-bit rounding is not restored.

    >>> decode_flow([[0.0, 6.375]]).tolist()
    [[0.0, 1.0]]
    """
    return jnp.asarray(motion, jnp.float32) / FLOW_SCALE


def flip(inputs: tuple[Input, ...], clip: Clip) -> Clip:
    """A clip seen in a mirror: x reversed, and u negated where a stream is flow, since a flow vector is mirrored too.

    Args:
      inputs: what the clip's streams are; only their kinds are read.
      clip: *batch time ..., in network units.

    >>> flow = Input(name="motion", kind="flow", shape=(1, 1, 1, 2, 2))
    >>> flip((flow,), Clip(motion=jnp.arange(4.0).reshape(flow.shape))).motion.ravel().tolist()
    [-2.0, 3.0, -0.0, 1.0]
    """

    def mirror(each: Input, x: Array) -> Array:
        x = jnp.flip(x, axis=-2)
        return x * jnp.broadcast_to(jnp.asarray([-1.0, 1.0], x.dtype), x.shape) if each.kind == "flow" else x

    return clip._replace(**{each.name: mirror(each, jnp.asarray(x)) for each, x in streams(inputs, clip)})
