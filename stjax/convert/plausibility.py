"""Where the numbers of a first layer contradict what its table declares: worth a warning, not a refusal."""

from __future__ import annotations

import numpy as np

from stjax.convert.folding import interleave_kernel
from stjax.convert.table import Table

SPREAD = 50.0
"""Rough standard deviation of both streams' inputs, in grey levels."""
FAINTEST, LOUDEST = 0.3, 400.0
"""Of the spread of conv1_1's output over that of its biases. Published networks: torchvision's 2.2, for inputs divided
by std, two of Caffe's 79 and 90. So kernels already folded for grey levels are seen where 0..1 is declared (0.04), and
kernels for 0..1 where grey levels are (550); but torchvision's and Caffe's, taken for one another (1.4 and 125), look
like the other: that cannot be told from a first layer."""
ALIKE = 0.2
"""By how much filters of green must resemble those of red and blue to be those of photographs: 0.55 in torchvision's,
0.0 in a network of generated clips, and by chance within the spread below."""
SPREADS = 3.0
"""Standard errors by which a mean over filters must differ from what chance gives. For red over blue, torchvision's
64 filters give 3.5; of networks with 64 random ones, 2 in 1,000 do, and none of those has filters alike in colour."""
CONTRAST, CHANCE = 0.2, 4.0
"""By how much the other order of channels must tell u from v better, see `contrast`, and how many standard deviations
of chance that must be at least: with 64 filters one is 0.024."""


def of(name: str, kind: str, kernel: np.ndarray, bias: np.ndarray | None, table: Table) -> list[str]:
    """One line for each contradiction.

    Args:
      name: of the layer that reads an input, for the message.
      kind: of the input, "rgb" or "flow".
      kernel: (..., in, out), for inputs in grey levels, RGB or interleaved flow.
      bias: (out,), None if the layer has none.
      table: what it was converted by.
    """
    lines = []
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    loudness = SPREAD * float(np.sqrt(np.square(kernel, dtype=np.float64).sum((0, 1)).mean()))
    still = 0.0 if bias is None else float(np.sqrt(np.square(bias, dtype=np.float64).mean()))
    # Normalisation fits a layer to whatever range its inputs have: what it was folded from tells nothing.
    if still > 0 and table.epsilon is None and not FAINTEST < loudness / still < LOUDEST:
        lines.append(
            f"{name}: its response to pictures is {loudness / still:.2g} times its biases; "
            f"the range of inputs may not be that of {table.name} ({'0..1' if table.std else '0..255'})"
        )
    if kind == "rgb":
        ratio = blue_over_red(kernel) if kernel.shape[-2] == 3 else 0.0
        if ratio > 1:
            declared = "BGR" if table.bgr else "RGB"
            lines.append(
                f"{name}: filters are {ratio:.2f} times as strong in blue as in red, the other way "
                f"round than in published networks; channels may not be {declared}, as {table.name} declares"
            )
    elif contrast(interleave_kernel(kernel)) > contrast(kernel) + max(CONTRAST, CHANCE * _chance(kernel)):
        lines.append(
            f"{name}: neighbouring flow fields resemble one another more if channels are in the other order; "
            "they may not be as declared: see --flow-order"
        )
    return lines


def blue_over_red(kernel: np.ndarray) -> float:
    """How much stronger filters are in blue than in red; 1 where that cannot be told from chance.

    ||K_blue|| / ||K_red||, if filters resemble one another across colours, as those of photographs do, and if
    their differences b_k = ||K_blue,k||^2 - ||K_red,k||^2 are further from 0 than chance puts them: mean(b) beyond
    SPREADS std(b) / sqrt(number of filters).

    Args:
      kernel: (..., rgb, filters).
    """
    flat = np.moveaxis(kernel, -2, 0).reshape(3, -1).astype(np.float64)
    if kernel.shape[-1] < 2 or not flat.std(axis=1).all():
        return 1.0
    alike = np.asarray(np.corrcoef(flat))
    if (alike[0, 1] + alike[1, 2]) / 2 < max(ALIKE, SPREADS / np.sqrt(flat.shape[1])):
        return 1.0
    red, blue = (np.square(flat[i]).reshape(-1, kernel.shape[-1]).sum(axis=0) for i in (0, 2))
    difference = blue - red
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return float(np.sqrt(blue.sum() / red.sum())) if abs(difference.mean()) > SPREADS * error else 1.0


def contrast(kernel: np.ndarray) -> float:
    """How much more alike filters of u (or v) in neighbouring fields are than those of u and v in one field.

    Correlations, averaged; channels u1, v1, u2, v2, ... as declared. In the wrong order the difference vanishes.
    """
    flat = np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1).astype(np.float64)
    if len(flat) < 4 or not flat.std(axis=1).all():
        return 0.0
    alike = np.corrcoef(flat)
    return float(np.diagonal(alike, offset=2).mean() - np.diagonal(alike, offset=1)[::2].mean())


def _chance(kernel: np.ndarray) -> float:
    """Standard deviation of the difference of two `contrast`s where all filters are independent noise.

    A correlation of n numbers has 1/sqrt(n - 1); one contrast has C - 2 of them minus C/2 of them.
    """
    channels, numbers = kernel.shape[-2], kernel.size // kernel.shape[-2]
    if channels < 4 or numbers < 2:
        return float("inf")
    return float(np.sqrt(2 / (numbers - 1) * (1 / (channels - 2) + 2 / channels)))
