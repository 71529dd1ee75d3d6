"""What is trained: a network as it is, or with batch normalisation that is folded away afterwards.

Both hold the parameters of the network itself, name by name, so either may start from the other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from stjax.errors import UsageError
from stjax.networks.convolution import max_pool
from stjax.networks.two_stream import TwoStream, interleave
from stjax.networks.vgg import convolutions
from stjax.types import STREAMS, Activations, Clip, Params

EPSILON = 1e-3
"""Added to a variance before its root is taken."""


class Moments(NamedTuple):
    """Mean and variance of each channel of each normalised layer, before normalisation: layer -> (channels,)."""

    mean: dict[str, Array]
    variance: dict[str, Array]


@runtime_checkable
class Trainable(Protocol):
    """A network as the training loop sees it. Hashable, since it is static in the compiled step."""

    @property
    def network(self) -> TwoStream: ...

    def initial(self, key: Array, clip: Clip) -> tuple[Params, Any]:
        """Parameters, and moments to be tracked (a tree of arrays, possibly empty)."""
        ...

    def train(self, params: Params, moments: Any, clip: Clip) -> tuple[Array, Activations, Any]:
        """Scores, endpoints and new moments of a batch that is trained on."""
        ...

    def fold(self, params: Params, moments: Any) -> Params:
        """Parameters of the network itself, that compute what training arrived at."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unnormalised:
    """The network as it is: for fine-tuning what has been trained before."""

    network: TwoStream

    def initial(self, key: Array, clip: Clip) -> tuple[Params, Any]:
        return self.network.init(key, clip)["params"], ()

    def train(self, params: Params, moments: Any, clip: Clip) -> tuple[Array, Activations, Any]:
        scores, activations = cast(Any, self.network.apply({"params": params}, clip))
        return scores, activations, moments

    def fold(self, params: Params, moments: Any) -> Params:
        return params


@dataclass(frozen=True, kw_only=True)
class BatchNormalised:
    """The network with every layer but the last normalised over the batch, for training from nothing.

        y = (x * kernel - mean) / sqrt(variance + 0.001) + bias

    There is no gain: the next layer's kernel does its work, since a ReLU lets factors pass. Afterwards mean and
    variance are numbers, so kernel / sqrt(..) and bias - mean / sqrt(..) do the same without normalisation.
    From nothing, a plain slim VGG learned motion and stayed at chance on shape.

    Args:
      network: fusion "conv2d" or "sum".
      momentum: share of the old moments in a running mean over batches.

    Ioffe & Szegedy, Batch normalization, ICML 2015.
    """

    network: TwoStream
    momentum: float = 0.98

    def __post_init__(self) -> None:
        if self.network.fusion not in ("conv2d", "sum"):
            form = self.network.fusion
            raise UsageError(f'a network trained with normalisation must be fused by "conv2d" or "sum", not "{form}"')

    def initial(self, key: Array, clip: Clip) -> tuple[Params, Moments]:
        params = self.network.init(key, clip)["params"]
        shapes = {name: _layer(params, name)["bias"].shape for name in self.layers}
        return params, Moments(*({name: jnp.full(s, v, jnp.float32) for name, s in shapes.items()} for v in (0.0, 1.0)))

    @property
    def layers(self) -> tuple[str, ...]:
        """What is normalised: all but the classifiers, and a fusion without parameters."""
        without = ("classes", self.network.fusion_name if self.network.fusion == "sum" else "classes")
        return tuple(name for name in self.network.layer_names if name.rpartition("/")[2] not in without)

    def train(self, params: Params, moments: Moments, clip: Clip) -> tuple[Array, Activations, Moments]:
        scores, activations, seen = self.forward(params, None, clip)
        keep = self.momentum
        return scores, activations, jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, moments, seen)

    def forward(self, params: Params, moments: Moments | None, clip: Clip) -> tuple[Array, Activations, Moments]:
        """The network's own forward pass, normalised with the batch's moments (None) or with given ones.

        Returns:
          Scores, every endpoint after normalisation and before its ReLU, and the moments used.
        """
        network, seen, activations = self.network, Moments({}, {}), {}

        def normalised(name: str, x: Array) -> Array:
            bias = _layer(params, name)["bias"].reshape((1,) * (x.ndim - 1) + (-1,))
            if name in self.layers:
                x = _normalise(name, x, moments, seen)
            activations[name] = x + jnp.broadcast_to(bias, x.shape)
            return jax.nn.relu(activations[name])

        def head(prefix: str, x: Array) -> None:
            x = max_pool(x)
            for name, _ in network.head:
                kernel = _layer(params, prefix + name)["kernel"]
                flat = x.reshape(*x.shape[:-3], 1, 1, -1)
                x = normalised(prefix + name, flat @ kernel.reshape(-1, kernel.shape[-1]))

        tops: dict[str, Array] = {}
        for stream in STREAMS:
            x = clip.appearance if stream == "appearance" else interleave(clip.motion)
            for name, _ in convolutions(network.widths):
                if name.endswith("_1") and name != "conv1_1":
                    x = max_pool(x)
                x = normalised(f"{stream}/{name}", _convolve(x, params[stream][name]["kernel"]))
            tops[stream] = x
        if network.motion_head:
            head("motion/", tops["motion"])
        if network.fusion == "sum":
            activations[network.fusion_name] = tops["appearance"] + tops["motion"]
            fused = jax.nn.relu(activations[network.fusion_name])
        else:
            kernel = params[network.fusion_name]["kernel"]
            fused = normalised(network.fusion_name, jnp.concatenate([tops[s] for s in STREAMS], -1) @ kernel)
        head("", fused.max(axis=-4, keepdims=True))
        ends = [activations[name].mean((-4, -3, -2)) for name in ("classes", "motion/classes") if name in activations]
        return sum(ends[1:], ends[0]) / len(ends), activations, seen

    def fold(self, params: Params, moments: Moments) -> Params:
        """Parameters of the plain network that equal this form with fixed moments."""
        folded = jax.tree.map(lambda a: a, dict(params))
        for name in self.layers:
            layer = _layer(folded, name)
            scale = 1 / jnp.sqrt(moments.variance[name] + EPSILON)
            spread = scale.reshape((1,) * (layer["kernel"].ndim - 1) + (-1,))
            layer["kernel"] = layer["kernel"] * spread
            layer["bias"] = layer["bias"] - moments.mean[name] * scale
        return folded


def _layer(params: Params, name: str) -> Any:
    stream, _, layer = name.rpartition("/")
    return params[stream][layer] if stream else params[layer]


def _convolve(x: Array, kernel: Array) -> Array:
    # XLA's own form, since maps are slim here. `conv3x3` is tuned for ascent through wide layers: 24 maps of 64 px with
    # 16 channels take 115 ms with it on CPU, and 11 with this.
    flat = x.reshape(-1, *x.shape[-3:])
    y = jax.lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _normalise(name: str, x: Array, moments: Moments | None, seen: Moments) -> Array:
    axes = tuple(range(x.ndim - 1))
    if moments is None:
        mean = x.mean(axes)
        seen.mean[name], seen.variance[name] = mean, jnp.maximum((x * x).mean(axes) - mean * mean, 0.0)
    else:
        seen.mean[name], seen.variance[name] = moments.mean[name], moments.variance[name]
    mean, variance = (m[name].reshape((1,) * (x.ndim - 1) + (-1,)) for m in seen)
    return (x - jnp.broadcast_to(mean, x.shape)) * jnp.broadcast_to(jax.lax.rsqrt(variance + EPSILON), x.shape)
