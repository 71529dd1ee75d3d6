"""ReLU, with the gradient's own backward rule or with one that finds a way through a closed layer.

A unit that reads a few channels only, as a fused unit reads one of each tower, has no gradient wherever all of them
are off, and noise leaves most of them off: activation maximisation would never begin. The forward pass is max(x, 0)
under either rule, so values, objective and optima are those of the network; only the path to them differs.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

Backward = Literal["gradient", "uphill"]


def relu(x: Array, backward: Backward = "gradient") -> Array:
    """max(x, 0).

        gradient   dx = g [x > 0]
        uphill     dx = g [x > 0], and max(g, 0) where that is 0 for the whole map of a clip

    `uphill` is for what is to grow: g is then the gain of opening a channel, and only channels that are worth opening
    are told so. As soon as one channel that matters is on, anywhere on the map, the rule is the gradient's own again;
    should all go off later, it takes over once more. Each clip of a batch, and each stream, decides for itself.
    Reverse mode and first derivatives only.

    Args:
      x: (*batch, time, height, width, channels).
      backward: "gradient" or "uphill".

    >>> x, worth = jnp.asarray([-3.0, -1.0]).reshape(1, 1, 1, 2), jnp.asarray([2.0, -1.0]).reshape(1, 1, 1, 2)
    >>> gain = lambda x, backward: jnp.sum(relu(x, backward) * worth)
    >>> [jax.grad(gain)(x, backward).ravel().tolist() for backward in ("gradient", "uphill")]
    [[0.0, 0.0], [2.0, 0.0]]
    >>> jax.grad(gain)(x + 2.0, "uphill").ravel().tolist()
    [0.0, -1.0]
    """
    return jax.nn.relu(x) if backward == "gradient" else _uphill(x)


@jax.custom_vjp
def _uphill(x: Array) -> Array:
    return jax.nn.relu(x)


def _forward(x: Array) -> tuple[Array, Array]:
    return jax.nn.relu(x), x


def _backward(x: Array, g: Array) -> tuple[Array]:
    gradient = jnp.where(x > 0, g, 0.0)
    blocked = ~jnp.any(gradient != 0, axis=(-4, -3, -2, -1), keepdims=True)
    return (jnp.where(jnp.broadcast_to(blocked, g.shape), jnp.maximum(g, 0.0), gradient),)


_uphill.defvjp(_forward, _backward)
