"""How long does a whole layer take, stored results and compilation included? A part of `benchmark.py`.

Where that is longer than a given time, the run is broken off in the middle and the rest extrapolated from its pace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

from markdown_table import markdown_table

import stjax
from stjax.atlas import fill, plan, resume
from stjax.atlas.run import Advance
from stjax.networks import geometry


class _Enough(Exception):
    pass


def whole_layer(model: stjax.Model, layer: str, steps: int, precision: Any, limit: float) -> dict[str, Any]:
    """All units of a layer, at four chi where chi changes anything, by the program's own choice of chunk.

    Args:
      model: with statistics of the layer.
      layer: an endpoint name.
      steps: of MAHENDRAN, which costs as much a step as any recipe.
      precision: of the network's arithmetic.
      limit: seconds after which the rest is extrapolated.
    """
    recipe = dataclasses.replace(stjax.MAHENDRAN, steps=steps)
    units = range(geometry.layer(model.network, layer).units)
    request = stjax.Request(model=model, layer=layer, units=units, recipe=recipe, precision=precision)
    looks: list[tuple[float, int]] = []
    begin = time.perf_counter()

    def look(at: Advance) -> None:
        looks.append((time.perf_counter() - begin, at.unit_steps))
        if looks[-1][0] > limit and len([1 for _, done in looks if done]) > 2:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        fill.fill_folder(Path(folder), request, resume.identify(request), request.jobs, progress=look)
    taken, total = time.perf_counter() - begin, len(request.jobs) * steps
    (first, first_steps), (last, last_steps) = next(each for each in looks if each[1]), looks[-1]
    # Without the first call, which compiles; unless it is the only one.
    pace = (last_steps - first_steps) / (last - first) if last_steps > first_steps else last_steps / taken
    whole = last_steps == total
    return {
        "layer": layer,
        "results": len(request.jobs),
        "seconds": taken if whole else first + (total - first_steps) / pace,
        "measured": whole,
        "compile_s": first,
        "unit_steps_per_s": pace,
        "useful_gflops": pace * 2 * plan.flops(request.rounded_probe, model.params) / 1e9,
    }


def table(rows: list[dict[str, Any]], steps: int, matrix_gflops: float) -> list[str]:
    """Markdown, with a last line for all of them."""
    heads = ["layer", "results", f"{steps} steps, s", "to the first step, s", "unit-steps/s", "useful GFLOP/s"]
    lines = []
    for row in rows:
        seconds = f"{'' if row['measured'] else '~'}{row['seconds']:.1f}"
        cells = [row["layer"], row["results"], seconds, f"{row['compile_s']:.1f}", f"{row['unit_steps_per_s']:.1f}"]
        cells += [f"{row['useful_gflops']:.0f}", f"{row['useful_gflops'] / matrix_gflops:.0%}"]
        lines.append(cells)
    total = sum(row["seconds"] for row in rows)
    lines.append([f"all {len(rows)}", sum(row["results"] for row in rows), f"{total:.0f}", "", "", "", ""])
    return [*markdown_table([*heads, "of the matrix rate"], lines), "", "~: broken off and extrapolated."]
