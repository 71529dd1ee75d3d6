"""One VGG-16 tower: 3x3 convolutions and 2x2 pooling, every convolution a named endpoint.

Simonyan & Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015.
No batch normalisation, no LRN; pooling drops an odd last row and column (floor).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from stjax.networks.convolution import conv3x3, max_pool
from stjax.networks.relu import Backward, relu

Widths = tuple[tuple[int, ...], ...]

VGG16: Widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def convolutions(widths: Widths) -> Iterator[tuple[str, int]]:
    """Names and widths of a tower's convolutions, in forward order.

    >>> [name for name, _ in convolutions(((8, 8), (16,)))]
    ['conv1_1', 'conv1_2', 'conv2_1']
    """
    for b, block in enumerate(widths, start=1):
        for i, features in enumerate(block, start=1):
            yield f"conv{b}_{i}", features


class Convolution(nn.Module):
    """A 3x3 convolution with bias; parameters `kernel` (3, 3, in, out) and `bias` (out,)."""

    features: int
    padding: str = "SAME"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch h2 w2 features"]:
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (jnp.asarray(v, self.dtype) for v in (x, kernel, bias))
        return conv3x3(x, kernel, bias, padding=self.padding)


class Dense(nn.Module):
    """A fully connected layer as a side x side convolution, so that it slides over larger inputs."""

    features: int
    side: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch h2 w2 features"]:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (jnp.asarray(v, self.dtype) for v in (x, kernel, bias))
        flat = x.reshape(-1, *x.shape[-3:])
        if self.side == 1 or flat.shape[1:3] == (self.side, self.side):
            window = (1, 1, -1) if self.side > 1 else flat.shape[1:]
            y = flat.reshape(len(flat), *window) @ kernel.reshape(-1, self.features)
        else:
            y = lax.conv_general_dilated(flat, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = y.reshape(*x.shape[:-3], *y.shape[1:])
        return y + jnp.broadcast_to(bias, y.shape)


def classify(
    x: Array, head: tuple[tuple[str, int], ...], side: int, until: str | None, dtype: Any, backward: Backward
) -> dict[str, Array]:
    """The last pooling, 2 x 2 x T, then fc6, fc7, ..., classes: every one an endpoint before its ReLU or softmax.

    All temporal samples are pooled together, as the authors do, so the head sees one.

    Called inside a module's `__call__`, it makes the layers that module's own.
    """
    activations: dict[str, Array] = {}
    x = max_pool(x).max(axis=-4, keepdims=True)
    for name, features in head:
        activations[name] = Dense(features, side, dtype, name=name)(x)
        x, side = relu(activations[name], backward), 1
        if name == until:
            break
    return activations


class Tower(nn.Module):
    """One VGG-16 stream.

    Args:
      widths: channels of each convolution, block by block; 2x2 max-pooling between blocks.
      head: names and sizes of the layers after the last pooling; () for convolutions only.
      head_side: side of the map that the first of them spans.
      padding: "SAME", or "VALID" so that a map holds only what the patch determines.
      until: the last layer to evaluate, by name; None for all.
      dtype: of the computation; parameters stay float32.
      backward: rule of the ReLUs whose map is read by `until`, by a fusion or by a head, see `networks.relu`.
    """

    widths: Widths = VGG16
    head: tuple[tuple[str, int], ...] = ()
    head_side: int = 7
    padding: str = "SAME"
    until: str | None = None
    dtype: Any = jnp.float32
    backward: Backward = "gradient"

    @nn.compact
    def __call__(self, x: Float[Array, "*batch h w c"]) -> tuple[Array, dict[str, Array]]:
        """Returns the last convolution after its ReLU, and every endpoint."""
        activations: dict[str, Array] = {}
        names = [name for name, _ in convolutions(self.widths)]
        for (name, features), reader in zip(convolutions(self.widths), [*names[1:], None], strict=True):
            if name.endswith("_1") and activations:
                x = max_pool(x)
            activations[name] = Convolution(features, self.padding, self.dtype, name=name)(x)
            # Further down a map has too many channels and positions to be closed everywhere, and asking costs 5 %.
            x = relu(activations[name], self.backward if reader in (self.until, None) else "gradient")
            if name == self.until:
                return x, activations
        if self.head:
            activations |= classify(x, self.head, self.head_side, self.until, self.dtype, self.backward)
        return x, activations
