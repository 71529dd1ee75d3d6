"""How the authors start a two-stream network from an image network, and its fusion from nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from stjax.networks.two_stream import TwoStream, fusion_start
from stjax.types import Params


def cross_modality(tower: Params, channels: int) -> dict[str, Any]:
    """A motion tower that starts from an image network (Wang et al., 2015).

    kernel[:, :, k, :] = mean over rgb of conv1_1's kernel, for each of the flow channels k; biases and all
    other layers unchanged.
    """
    first = tower["conv1_1"]
    mean = first["kernel"].mean(axis=2, keepdims=True)
    return {**tower, "conv1_1": {**first, "kernel": np.tile(mean, (1, 1, channels, 1))}}


def fusion_layer(network: TwoStream) -> dict[str, Any]:
    """The fusion layer as the authors start it, under its name; nothing for a sum."""
    if not network.fused or network.fusion == "sum":
        return {}
    width = network.widths[-1][-1]
    shape = (2 * width, width) if network.fusion == "conv2d" else (3, 3, 3, 2 * width, width)
    return {network.fusion_name: {"kernel": fusion_start(None, shape), "bias": jnp.zeros(width)}}


def from_image_network(tower: Params, network: TwoStream) -> dict[str, Any]:
    """The two-stream network as the authors start theirs: both towers and the fusion from one image tower."""
    motion = cross_modality(tower, 2 * network.fields)
    return {"appearance": dict(tower), "motion": motion} | fusion_layer(network)
