"""What a published network does before, between or behind its convolutions, folded into their kernels exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stjax.convert.table import Table
from stjax.errors import UsageError
from stjax.types import Moments

NORMALISATION = ("scale", "shift", "mean", "variance")
"""Of a batch normalisation: y = scale (x - mean) / sqrt(variance + epsilon) + shift, channel by channel."""


def fold_inputs(kernel: np.ndarray, kind: str, table: Table) -> np.ndarray:
    """The kernel that reads an input, for inputs as ours: RGB or interleaved flow, in grey levels minus a mean.

    Args:
      kernel: (..., in, out).
      kind: of the input, "rgb" or "flow".
      table: says in which order and scale the published network has its input.
    """
    if kind == "flow":
        return kernel if table.flow_std is None else fold_std(kernel, (table.flow_std,) * kernel.shape[-2])
    kernel = kernel[..., ::-1, :] if table.bgr else kernel
    return kernel if table.std is None else fold_std(kernel, table.std)


def fold_std(kernel: np.ndarray, std: tuple[float, ...]) -> np.ndarray:
    """A first kernel for inputs (x/255 - mean)/std -> the same function of grey levels x - 255 mean.

    Divided by 255 std, channel by channel. The bias stays, and so does the meaning of zero padding, because the
    network's own mean is kept as its preprocessing.
    """
    return kernel / (255.0 * np.asarray(std, np.float32).reshape(*[1] * (kernel.ndim - 2), -1, 1))


def interleave_kernel(kernel: np.ndarray) -> np.ndarray:
    """Input channels u1 .. un, v1 .. vn -> u1, v1, .. un, vn; kernel (..., in, out).

    >>> interleave_kernel(np.asarray([1, 2, -1, -2]).reshape(1, 1, 4, 1)).ravel().tolist()
    [1, -1, 2, -2]
    """
    *taps, channels, out = kernel.shape
    return kernel.reshape(*taps, 2, channels // 2, out).swapaxes(-3, -2).reshape(kernel.shape)


def check_normalisation(arrays: Mapping[str, np.ndarray], layers: Iterable[str]) -> tuple[list[str], list[str]]:
    """What the normalisations of some layers lack, and which of their vectors are not one number for each channel."""
    missing, misshapen = [], []
    for layer in layers:
        missing += [f"{layer}/{leaf}" for leaf in ("kernel", *NORMALISATION) if f"{layer}/{leaf}" not in arrays]
        if f"{layer}/kernel" not in arrays:
            continue
        units = arrays[f"{layer}/kernel"].shape[-1:]
        for name in (f"{layer}/{leaf}" for leaf in ("bias", *NORMALISATION)):
            if name in arrays and arrays[name].shape != units:
                misshapen.append(f"{name} {arrays[name].shape} instead of {units}")
    return missing, misshapen


def normalised(arrays: Iterable[str]) -> list[str]:
    """The layers behind which there is a normalisation, or part of one.

    >>> normalised(["a/kernel", "a/scale", "b/kernel", "a/mean"])
    ['a']
    """
    pairs = (name.rpartition("/")[::2] for name in arrays)
    return list(dict.fromkeys(layer for layer, leaf in pairs if leaf in NORMALISATION))


def unit_scales(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A scale of 1 for each channel that is normalised.

    >>> unit_scales({"a/shift": np.zeros(2), "b/kernel": np.zeros(2)})
    {'a/scale': array([1., 1.])}
    """
    layers = normalised(arrays)
    return {f"{layer}/scale": np.ones_like(arrays[f"{layer}/shift"]) for layer in layers if f"{layer}/shift" in arrays}


def moments(arrays: Mapping[str, np.ndarray], epsilon: float) -> dict[str, Moments]:
    """Mean and deviation of what each normalisation gave over the data that the network was trained on.

        mean = shift,  deviation = |scale| sqrt(variance / (variance + epsilon))

    Args:
      arrays: the four vectors of NORMALISATION of each layer that has one; see `check_normalisation`.
      epsilon: as the network was trained with.

    >>> one = dict(zip(("a/scale", "a/shift", "a/mean", "a/variance"), np.asarray([[-2.0], [0.5], [7.0], [3.0]])))
    >>> [v.tolist() for v in moments(one, epsilon=1.0)["a"]]
    [[0.5], [1.7320507764816284]]
    """
    found = {}
    for layer in normalised(arrays):
        scale, shift, _, variance = (arrays[f"{layer}/{leaf}"].astype(np.float64) for leaf in NORMALISATION)
        deviation = np.abs(scale) * np.sqrt(variance / (variance + epsilon))
        found[layer] = Moments(shift.astype(np.float32), deviation.astype(np.float32))
    return found


def fold_normalisation(arrays: Mapping[str, np.ndarray], epsilon: float) -> dict[str, np.ndarray]:
    """Batch normalisation behind each convolution -> the convolution that is both.

    kernel' = kernel s,  bias' = (bias - mean) s + shift,  s = scale / sqrt(variance + epsilon), in float64. Exact at
    borders too: zeros are padded before the convolution, and what is folded comes behind it.

    Args:
      arrays: `layer/kernel`, `layer/bias` if there is one, and the four vectors of NORMALISATION; other layers stay.
      epsilon: as the network was trained with.
    Raises:
      UsageError: a variance below zero.
    """
    folded = {name: array for name, array in arrays.items() if name.rpartition("/")[2] not in NORMALISATION}
    for layer in normalised(arrays):
        scale, shift, mean, variance = (arrays[f"{layer}/{leaf}"].astype(np.float64) for leaf in NORMALISATION)
        if not (variance >= 0).all():
            raise UsageError(f"the variance of a batch normalisation must be 0 or more: that behind {layer} is not")
        scale = scale / np.sqrt(variance + epsilon)
        bias = np.asarray(arrays.get(f"{layer}/bias", 0.0), np.float64)
        with np.errstate(over="ignore"):
            folded[f"{layer}/kernel"] = (arrays[f"{layer}/kernel"] * scale).astype(np.float32)
            folded[f"{layer}/bias"] = ((bias - mean) * scale + shift).astype(np.float32)
    return folded
