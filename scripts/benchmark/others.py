"""The loop others use: PyTorch, the full network on a full clip, one unit at a time through a hook, Adam.

Of VGG-16 at 224 x 224 and of I3D at 64 x 224 x 224, the appearance streams, with our parameters. Written as the usual
ports are, with batch normalisation folded, which spares them some work. A part of `benchmark.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stjax
from stjax.networks.convolution3d import same
from stjax.networks.i3d import AVERAGED, CLASSES, I3D, LAYERS
from stjax.networks.two_stream import TwoStream
from stjax.networks.vgg import convolutions
from stjax.types import Clip, Params

WINDOW = (64, 224)
"""Frames, and height and width, that I3D was trained on."""
TOLERANCE = 1e-4
"""Of the largest activation: what ours and theirs may differ by."""


class Loop:
    """One unit of a layer, stepped uphill; its network makes the same map as ours.

    Args:
      torch: the package.
      model: of ours.
      layer: in the stream of appearance, no pooling.
    Raises:
      ArithmeticError: the two networks differ.
    """

    def __init__(self, torch: Any, model: stjax.Model, layer: str) -> None:
        self.layer, self.found = layer, []
        stream, _, name = layer.partition("/")
        still, network = isinstance(model.network, TwoStream), model.network
        if isinstance(network, TwoStream):
            self.network = _vgg(torch, model.params[stream], network.widths)
        else:
            model = stjax.resized(model, *WINDOW)
            self.network = _i3d(torch, model.params[stream])
        self.network.get_submodule(name).register_forward_hook(lambda *call: self.found.append(call[2]))
        self.network.eval().requires_grad_(False)
        (shape,) = (each.shape for each in model.network.inputs if each.name == stream)
        clip = 40.0 * jax.random.normal(jax.random.key(0), shape)
        # A still has no axis of time in theirs.
        self.x = torch.from_numpy(np.array(_channels_first(clip[0] if still else clip)))
        self.difference = self._difference(torch, model, clip)
        if not self.difference <= TOLERANCE:
            raise ArithmeticError(f"{layer} of PyTorch's network and of ours differ by {self.difference:.1g}")
        self.x.requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.x], lr=5.0)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.network(self.x)
        a = self.found.pop()
        (-a[(0, 0, *(n // 2 for n in a.shape[2:]))]).backward()
        self.optimizer.step()

    def _difference(self, torch: Any, model: stjax.Model, clip: jax.Array) -> float:
        network, params = model.network, {"params": model.params}
        ours = stjax.jit(lambda x: network.apply(params, Clip(appearance=x))[1][self.layer])(clip)
        with torch.no_grad():
            self.network(self.x)
        theirs = self.found.pop().numpy()
        ours = np.asarray(_channels_first(ours)).reshape(theirs.shape)
        return float(np.abs(theirs - ours).max() / np.abs(ours).max())


def loop(model: stjax.Model, layer: str) -> Callable[[], None] | None:
    """One step as others do it; None without PyTorch, or for a layer or a network that is not written for it here."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    stream, _, name = layer.partition("/")
    stills = isinstance(model.network, TwoStream) and model.network.samples == 1 and name.startswith("conv")
    video = isinstance(model.network, I3D) and "Pool" not in name
    return Loop(torch, model, layer) if stream == "appearance" and (stills or video) else None


def _channels_first(x: jax.Array) -> jax.Array:
    """(..., channels) -> (1, channels, ...)."""
    return jnp.moveaxis(x, -1, 0)[None]


def _convolution(torch: Any, weights: Params, **options: Any) -> Any:
    """With our kernel, whose axes are those of space and time, then in, then out."""
    kernel, bias = (torch.from_numpy(np.array(weights[name])) for name in ("kernel", "bias"))
    *taps, c_in, c_out = kernel.shape
    kind = torch.nn.Conv2d if len(taps) == 2 else torch.nn.Conv3d
    module = kind(c_in, c_out, tuple(taps), **options)
    module.weight.data, module.bias.data = kernel.permute(-1, -2, *range(len(taps))).contiguous(), bias
    return module


def _vgg(torch: Any, params: Params, widths: Any) -> Any:
    network = torch.nn.Sequential()
    for name, _ in convolutions(widths):
        if name.endswith("_1") and len(network):
            network.add_module(f"pool{name[4]}", torch.nn.MaxPool2d(2))
        network.add_module(name, _convolution(torch, params[name], padding=1))
        network.add_module(f"relu{name[4:]}", torch.nn.ReLU())
    return network


def _i3d(torch: Any, params: Params) -> Any:
    nn = torch.nn

    class Same(nn.Module):
        """Zeros around its input as TensorFlow's SAME has them, then a module that adds none."""

        def __init__(self, module: Any, sides: Any, strides: Any) -> None:
            super().__init__()
            self.module, self.windows = module, list(zip(sides, strides, strict=True))

        def forward(self, x: Any) -> Any:
            edges = [same(length, *window) for length, window in zip(x.shape[2:], self.windows, strict=True)]
            return self.module(nn.functional.pad(x, tuple(itertools.chain(*reversed(edges)))))

    class Joined(nn.Module):
        def __init__(self, branches: list[Any]) -> None:
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x: Any) -> Any:
            return torch.cat([branch(x) for branch in self.branches], 1)

    class Mean(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean((2, 3, 4), keepdim=True)

    def conv(weights: Params, stride: tuple[int, ...] = (1, 1, 1)) -> Any:
        return Same(_convolution(torch, weights, stride=stride), weights["kernel"].shape[:3], stride)

    def pool(window: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        return Same(nn.MaxPool3d(window, stride), window, stride)

    def mixed(branches: Params) -> Any:
        def branch(number: int) -> Any:
            convolutions = [conv(weights) for _, weights in sorted(branches[f"Branch_{number}"].items())]
            between = [nn.ReLU()] if len(convolutions) == 2 else []
            before = [pool((3, 3, 3), (1, 1, 1))] if number == 3 else []
            return nn.Sequential(*before, *convolutions[:1], *between, *convolutions[1:])

        return Joined([branch(number) for number in range(4)])

    network = nn.Sequential()
    for name, window, stride in LAYERS:
        if name.startswith("MaxPool"):
            network.add_module(name, pool(window, stride))
            continue
        weights = params[name]
        network.add_module(name, mixed(weights) if name.startswith("Mixed") else conv(weights, stride))
        network.add_module(f"relu_{name}", nn.ReLU())
    if CLASSES in params:
        network.add_module("averaged", nn.Sequential(nn.AvgPool3d(AVERAGED, 1), Mean()))
        network.add_module(CLASSES, conv(params[CLASSES]))
    return network
