"""What many units cost, and what rounding costs them. A part of `benchmark.py`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from markdown_table import markdown_table

import stjax
from stjax.networks import geometry

FEW, MANY, ROUNDED = 9, 90, 16


def compare(model: stjax.Model, layer: str) -> dict[str, Any]:
    """Seconds for few and for ten times as many units, and bfloat16 results over those in float32."""

    def find(count: int, precision: Any = None) -> tuple[float, stjax.Summary]:
        begin = time.perf_counter()
        request = stjax.Request(model=model, layer=layer, units=range(count), chi=[1.0], precision=precision)
        _, summary = stjax.visualize_units(request)
        return time.perf_counter() - begin, summary

    counts = [min(count, geometry.layer(model.network, layer).units) for count in (FEW, MANY, ROUNDED)]
    for count in counts[:2]:
        find(count)
    few, many = (float(np.median([find(count)[0] for _ in range(3)])) for count in counts[:2])
    exact, rounded = find(counts[2])[1], find(counts[2], precision="bfloat16")[1]
    return {
        "layer": layer,
        "counts": counts,
        "few_s": few,
        "many_s": many,
        "bfloat16_value": float(np.median(rounded.value / exact.value)),
        "bfloat16_activation": float(np.median(rounded.activation / exact.activation)),
    }


def table(compared: dict[str, Any]) -> list[str]:
    few, many, of = compared["counts"]
    heads = ["what", compared["layer"]]
    rows = [
        [f"{few} units, s", f"{compared['few_s']:.2f}"],
        [f"{many} units, s", f"{compared['many_s']:.2f}"],
        [f"bfloat16 over float32, value, median of {of}", f"{compared['bfloat16_value']:.3f}"],
        [f"bfloat16 over float32, activation, median of {of}", f"{compared['bfloat16_activation']:.3f}"],
    ]
    return markdown_table(heads, rows)
