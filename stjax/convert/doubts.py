"""Where the numbers of a first layer contradict what its table declares: worth a warning, not a refusal."""

from __future__ import annotations

import numpy as np

from stjax.convert.tables import Table
from stjax.convert.translate import Stream, interleave_kernel

SPREAD = 50.0
"""Rough standard deviation of both streams' inputs, in grey levels."""
FAINTEST, LOUDEST = 0.3, 400.0
"""Of the spread of conv1_1's output over that of its biases. Published networks: torchvision's 2.2, for inputs divided
by std, two of Caffe's 79 and 90. So kernels already folded for grey levels are seen where 0..1 is declared (0.04), and
kernels for 0..1 where grey levels are (550); but torchvision's and Caffe's, taken for one another (1.4 and 125), look
like the other: that cannot be told from a first layer."""
BLUE_OVER_RED = 1.05
"""Filters trained on photographs are weakest in blue: 0.83 of red in torchvision's, .87 and .89 in two of Caffe's."""
CONTRAST = 0.2
"""By how much the other order of channels must tell u from v better, see `contrast`."""


def of(stream: Stream, table: Table) -> list[str]:
    """One line for each contradiction."""
    kernel, bias = stream.tower["conv1_1"]["kernel"], stream.tower["conv1_1"]["bias"]
    lines = []
    loudness = SPREAD * float(np.sqrt(np.square(kernel, dtype=np.float64).sum((0, 1, 2)).mean()))
    still = float(np.sqrt(np.square(bias, dtype=np.float64).mean()))
    if still > 0 and not FAINTEST < loudness / still < LOUDEST:
        lines.append(
            f"{stream.name}/conv1_1: its response to pictures is {loudness / still:.2g} times its biases; "
            f"the range of inputs may not be that of {table.name} ({'0..1' if table.std else '0..255'})"
        )
    if stream.name == "appearance":
        red, _, blue = np.sqrt(np.square(kernel, dtype=np.float64).sum((0, 1, 3)))
        if blue > BLUE_OVER_RED * red:
            declared = "BGR" if table.bgr else "RGB"
            lines.append(
                f"appearance/conv1_1: filters are {blue / red:.2f} times as strong in blue as in red, the other way "
                f"round than in published networks; channels may not be {declared}, as {table.name} declares"
            )
    elif contrast(interleave_kernel(kernel)) > contrast(kernel) + CONTRAST:
        lines.append(
            "motion/conv1_1: neighbouring flow fields resemble one another more if channels are in the other order; "
            "they may not be as declared: see --flow-order"
        )
    return lines


def contrast(kernel: np.ndarray) -> float:
    """How much more alike filters of u (or v) in neighbouring fields are than those of u and v in one field.

    Correlations, averaged; channels u1, v1, u2, v2, ... as declared. In the wrong order the difference vanishes.
    """
    flat = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1).astype(np.float64)
    if len(flat) < 4 or not flat.std(axis=1).all():
        return 0.0
    alike = np.corrcoef(flat)
    return float(np.diagonal(alike, offset=2).mean() - np.diagonal(alike, offset=1)[::2].mean())
