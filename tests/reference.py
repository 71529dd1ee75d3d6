"""An independent forward pass in float64 NumPy, of layouts as published: no code of stjax, and none of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

BLOCKS = (2, 2, 3, 3, 3)


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, pad: int) -> np.ndarray:
    """Cross-correlation of (h, w, in) with (y, x, in, out)."""
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    high, wide = (n - k + 1 for n, k in zip(x.shape, kernel.shape[:2], strict=False))
    out = np.zeros((high, wide, kernel.shape[3])) + bias
    for dy in range(kernel.shape[0]):
        for dx in range(kernel.shape[1]):
            out += np.einsum("hwc,co->hwo", x[dy : dy + high, dx : dx + wide], kernel[dy, dx])
    return out


def pool(x: np.ndarray) -> np.ndarray:
    """2x2 maxima, an odd last row and column dropped."""
    h, w = (n // 2 * 2 for n in x.shape[:2])
    return np.maximum.reduce([x[i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)])


def run(x: np.ndarray, layer: Callable[[str], tuple[np.ndarray, np.ndarray]], head: bool) -> dict[str, np.ndarray]:
    """Every endpoint before its ReLU, for one input as the network was trained on it.

    `layer` gives the kernel (y, x, in, out) and bias of a layer by our name, in the publisher's channel order.
    """
    x = np.asarray(x, np.float64)
    endpoints: dict[str, np.ndarray] = {}
    for block, count in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            endpoints[name] = convolve(x, *layer(name), pad=1)
            x = np.maximum(endpoints[name], 0)
        x = pool(x)
    for name in ("fc6", "fc7", "classes") if head else ():
        endpoints[name] = convolve(x, *layer(name), pad=0)
        x = np.maximum(endpoints[name], 0)
    return endpoints


def matconvnet(params: Mapping[str, np.ndarray]) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Layers of a DagNN's parameters, (y, x, in, out)."""

    def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
        stem = "layer38" if name == "classes" else name
        return params[f"{stem}f"].astype(np.float64), params[f"{stem}b"].astype(np.float64).ravel()

    return layer


def caffe(blobs: Mapping[str, np.ndarray], side: int) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Layers of Caffe's blobs: (out, in, y, x), dense layers (out, in) over channels first."""

    def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = (blobs[f"{'fc8-1' if name == 'classes' else name}/{i}"].astype(np.float64) for i in (0, 1))
        if kernel.ndim == 2:
            y = side if name == "fc6" else 1
            kernel = kernel.reshape(len(kernel), -1, y, y)
        return np.moveaxis(kernel, (2, 3, 1, 0), (0, 1, 2, 3)), bias

    return layer
