"""Networks as users write them, knowing nothing of ours: of video, of two RGB streams, and of images."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stjax import Clip

FRAMES, HEIGHT, WIDTH = 8, 28, 32


class Video(nn.Module):
    """Frames -> actions, with a branch, batch normalisation, and a classifier behind a global average."""

    num_classes: int = 5

    @nn.compact
    def __call__(self, clip: Clip) -> tuple[Any, dict[str, Any]]:
        layers = {}
        x = layers["stem"] = nn.Conv(6, (3, 3, 3), strides=(1, 2, 2), name="stem")(clip.appearance / 64.0)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.max_pool(nn.relu(x), (1, 2, 2), strides=(1, 2, 2))
        left = nn.Conv(4, (1, 1, 1), name="left")(x)
        right = nn.Conv(4, (3, 3, 3), name="right")(nn.relu(nn.Conv(4, (1, 1, 1), name="reduce")(x)))
        x = layers["mixed/concat"] = jnp.concatenate([left, right], axis=-1)
        x = layers["deep"] = nn.Conv(8, (3, 3, 3), strides=(2, 1, 1), name="deep")(nn.relu(x))
        scores = nn.Dense(self.num_classes, name="head")(nn.relu(x).mean(axis=(-4, -3, -2)))
        return scores, layers


def video() -> tuple[Any, Any, Clip]:
    module, clip = Video(), Clip(jnp.zeros((FRAMES, HEIGHT, WIDTH, 3)))
    return module, module.init(jax.random.key(0), clip), clip


def two_rgb() -> tuple[Any, Any, Clip]:
    """A slow and a fast pathway, both of frames, as a plain function; they meet in `both`."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32)

    params = {"slow": draw(1, 3, 3, 3, 6), "fast": draw(3, 3, 3, 3, 4), "both": draw(10, 7)}
    return convolve_two, params, Clip(jnp.zeros((1, 8, 24, 24, 3)), jnp.zeros((1, 8, 24, 24, 3)))


def convolve_two(params: Any, clip: Clip) -> tuple[None, dict[str, Any]]:
    names = ("NDHWC", "DHWIO", "NDHWC")
    slow, fast = (
        jax.lax.conv_general_dilated(x / 50.0, params[name], (1, 1, 1), "SAME", dimension_numbers=names)
        for name, x in (("slow", clip.appearance), ("fast", clip.motion))
    )
    both = jnp.maximum(jnp.concatenate([slow, fast], axis=-1), 0.0) @ params["both"]
    return None, {"slow": slow, "fast": fast, "both": both}


class Still(nnx.Module):
    """An image network, batched, with maps (batch, height, width, channels)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.second = nnx.Conv(6, 8, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(8 * 10 * 10, 4, rngs=rngs)

    def __call__(self, clip: Clip) -> tuple[Any, dict[str, Any]]:
        first = self.first(clip.appearance[:, 0] / 60.0)
        second = self.second(nnx.relu(first))
        return self.head(nnx.relu(second).reshape(len(second), -1)), {"first": first, "second": second}


def still() -> tuple[Any, Any, Clip]:
    graphdef, state = nnx.split(Still(nnx.Rngs(0)))
    return graphdef, state, Clip(jnp.zeros((1, 1, 20, 20, 3)))


@dataclasses.dataclass(frozen=True)
class Counting:
    """A network that counts how often it is traced."""

    network: Any
    log: list = dataclasses.field(compare=False)

    @property
    def inputs(self):
        return self.network.inputs

    @property
    def layers(self):
        return self.network.layers

    def for_layer(self, name, exact):
        own = self.network.for_layer(name, exact)
        return own and dataclasses.replace(self, network=own)

    def apply(self, variables, clip):
        self.log.append(1)
        return self.network.apply(variables, clip)
