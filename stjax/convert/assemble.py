"""From the towers that files hold to one fusion network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from stjax.convert.readers import unflatten
from stjax.errors import UsageError
from stjax.networks.two_stream import TwoStream, fusion_start
from stjax.types import Params


def rename(arrays: Mapping[str, np.ndarray], table: Mapping[str, str], source: str) -> dict[str, Any]:
    """Published names -> a tower's tree, listing every name that is missing.

    Raises:
      UsageError: a name of the table is absent.
    """
    missing = sorted(set(table) - set(arrays))
    if missing:
        raise UsageError(f"{source} must hold every name of its table: missing {', '.join(missing)}")
    return unflatten({ours: jnp.asarray(arrays[published], jnp.float32) for published, ours in table.items()})


def fold_std(tower: Params, std: tuple[float, float, float]) -> dict[str, Any]:
    """A tower for inputs (RGB/255 - mean)/std -> the same function of grey levels RGB - 255 mean.

    conv1_1's kernel is divided by 255 std, channel by channel. The bias stays, and so does the meaning of
    zero padding, because the network's own mean is kept as its preprocessing.
    """
    first = tower["conv1_1"]
    scale = 255.0 * jnp.asarray(std, jnp.float32).reshape(1, 1, -1, 1)
    return {**tower, "conv1_1": {**first, "kernel": first["kernel"] / scale}}


def cross_modality(tower: Params, channels: int) -> dict[str, Any]:
    """A motion tower that starts from an image network (Wang et al., 2015).

    kernel[:, :, k, :] = mean over rgb of conv1_1's kernel, for each of the flow channels k; biases and all
    other layers unchanged.
    """
    first = tower["conv1_1"]
    mean = first["kernel"].mean(axis=2, keepdims=True)
    return {**tower, "conv1_1": {**first, "kernel": jnp.tile(mean, (1, 1, channels, 1))}}


def from_image_network(tower: Params, module: TwoStream) -> dict[str, Any]:
    """The two-stream network as the authors start theirs: both towers and the fusion from one image tower."""
    params = {"appearance": dict(tower), "motion": cross_modality(tower, 2 * module.fields)}
    if module.fusion == "sum":
        return params
    width = module.widths[-1][-1]
    shape = (2 * width, width) if module.fusion == "conv2d" else (3, 3, 3, 2 * width, width)
    return params | {module.fusion_name: {"kernel": fusion_start(jnp.zeros(()), shape), "bias": jnp.zeros(width)}}
