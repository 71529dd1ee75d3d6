"""How fast are units visualised, and what limits it? One call measures everything, on whatever device there is.

steps       some layers' unit-steps per second, useful GFLOP/s (what the cone needs, forward and backward), that over
            the rate of one large matrix product measured in the same run, compile time; memory of a chunk, as
            estimated and as compiled; and, where torch is installed, the ratio to the loop others use: the full
            network on a full clip, one unit at a time
layers      every layer that has statistics: seconds for all its units, and the same roofline
units       seconds for few and for many units, and what bfloat16 costs in value
processes   1 to 8 simulated devices, 1 or 2 processes: equality of results, absence of exchanges
first       seconds from the start of the command to the first of four units' results on the disk, and to its end

    python scripts/benchmark/benchmark.py --out benchmark
    python scripts/benchmark/benchmark.py --parts steps --layers appearance/conv3_3 --precision bfloat16
    python scripts/benchmark/benchmark.py --parts steps --model i3d-kinetics400
    python scripts/benchmark/benchmark.py --parts first --model i3d-kinetics400 --layers appearance/classes
    python scripts/benchmark/benchmark.py --parts layers --limit 600         on a fast device: no layer is extrapolated
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parents[1]))

import layers as whole_layers
import others
import processes
import units as many_units
from markdown_table import markdown_table

import stjax
from stjax import files
from stjax.atlas import plan, run
from stjax.networks import geometry

LAYERS = {
    "vgg16-imagenet": ("appearance/conv3_3", "appearance/conv4_3", "appearance/conv5_3", "conv5_fusion"),
    "i3d-kinetics400": ("appearance/Mixed_3c", "appearance/Mixed_4c", "appearance/classes"),
}
"""Of which the steps are measured if none are named; of the first also the parts units and first."""
PARTS = ("steps", "layers", "units", "processes", "first")


def seconds(call: Callable[[], Any]) -> float:
    """Mean over calls for a second or more; the first may compile, the second tells how many."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    repeats = max(2, math.ceil(1.0 / (time.perf_counter() - begin)))
    begin = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - begin) / repeats


def matrix_rate(dtype: Any) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if jax.default_backend() != "cpu" else 2048
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(dtype)
    product = stjax.jit(lambda a: a @ a)
    return 2 * side**3 / seconds(lambda: product(a))


class Ours:
    """The compiled step of one layer by the recipe that suits it, over one chunk."""

    def __init__(self, model: stjax.Model, layer: str, dtype: Any, chunk: int | None) -> None:
        request = stjax.Request(model=model, layer=layer, units=[0], chi=[1.0], chunk=chunk, precision=dtype)
        self.params, self.slots = model.params, request.chunk_size
        count = geometry.layer(model.network, layer).units
        jobs = [plan.Job(unit % count, 1.0) for unit in range(self.slots)]
        self.chunk = run._chunk(request, jobs)
        program = run.Program(probe=request.rounded_probe, recipe=request.bound)
        self.state = run.start_chunk(program, request.key, self.chunk, stjax.Clip())
        # On a CPU one call is one step, as in `run.run_jobs`; elsewhere a loop of them.
        self.steps = 1 if jax.default_backend() == "cpu" else run.STEPS_PER_CALL
        self.count = None if jax.default_backend() == "cpu" else jnp.asarray(self.steps)
        self.flops = 2 * plan.flops(request.rounded_probe, self.params)
        self.estimated = self.slots * plan.bytes_per_unit(request.rounded_probe, request.bound, self.params)
        begin = time.perf_counter()
        self.program = run.step_chunk.lower(program, self.params, self.chunk, self.state, self.count).compile()
        self.compile_s = time.perf_counter() - begin
        # Beside the parameters, which are there once for all chunks.
        self.compiled = getattr(self.program.memory_analysis(), "temp_size_in_bytes", float("nan"))

    def __call__(self) -> Any:
        self.state = self.program(self.params, self.chunk, self.state, self.count)
        return self.state

    def rate(self) -> float:
        """Unit-steps per second."""
        return self.slots * self.steps / seconds(self)


def measure(model: stjax.Model, layer: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one layer; each round measures the matrix product and both programs side by side."""
    dtype = jnp.dtype(options.precision)
    ours = Ours(model, layer, dtype, options.chunk)
    other = others.loop(model, layer)
    rows = []
    for _ in range(options.rounds):
        row = {"matrix": matrix_rate(dtype), "rate": ours.rate()}
        if other:
            row["torch"] = 1.0 / seconds(other)
        rows.append(row)
    rate = statistics.median(row["rate"] for row in rows)
    useful = rate * ours.flops
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {
        "layer": layer,
        "chunk": ours.slots,
        "unit_steps_per_s": rate,
        "useful_gflops": useful / 1e9,
        "matrix_gflops": statistics.median(row["matrix"] for row in rows) / 1e9,
        "of_matrix": statistics.median(row["rate"] * ours.flops / row["matrix"] for row in rows),
        "compile_s": ours.compile_s,
        "estimated_gb": ours.estimated / 1e9,
        "compiled_gb": ours.compiled / 1e9,
        "peak_gb": peak / 1e9,
        "torch_unit_steps_per_s": statistics.median(row["torch"] for row in rows) if other else None,
        "times_torch": statistics.median(row["rate"] / row["torch"] for row in rows) if other else None,
    }


def steps_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown. Memory: what the chunk was estimated to take, what its program asks for, and the most ever in use."""
    heads = ["layer", "chunk", "unit-steps/s", "useful GFLOP/s", "of the matrix rate", "compile s"]
    heads += ["chunk GB: estimate, program", "peak GB", "x PyTorch"]
    lines = []
    for r in rows:
        cells = [r["layer"], r["chunk"], f"{r['unit_steps_per_s']:.1f}", f"{r['useful_gflops']:.0f}"]
        cells += [f"{r['of_matrix']:.0%} of {r['matrix_gflops']:.0f}", f"{r['compile_s']:.1f}"]
        cells += [f"{r['estimated_gb']:.2f}, {r['compiled_gb']:.2f}", f"{r['peak_gb']:.1f}"]
        cells += [f"{r['times_torch']:.1f}" if r["times_torch"] else "-"]
        lines.append(cells)
    return markdown_table(heads, lines)


def main() -> None:
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--model", default=next(iter(LAYERS)), help="as for stjax: all parts but processes take it")
    parser.add_argument("--layers", help="full layer names, with commas between; the steps of some, the whole of all")
    parser.add_argument("--precision", default="float32" if on_cpu else "bfloat16")
    parser.add_argument("--chunk", type=int, help="units stepped together; the program's own choice if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="of a whole layer")
    parser.add_argument("--limit", type=float, default=20.0 if on_cpu else 600.0, help="seconds for a whole layer")
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md as well")
    options = parser.parse_args()
    parts, wanted = options.parts.split(","), options.layers.split(",") if options.layers else None
    if unknown := set(parts) - set(PARTS):
        parser.error(f"parts must be of {', '.join(PARTS)}: got {', '.join(sorted(unknown))}")
    some = wanted or LAYERS.get(options.model, ())
    if not some and {"first", "steps", "units"} & set(parts):
        parser.error(f"layers must be named unless the model is {' or '.join(LAYERS)}: got {options.model}")
    cores = f", {len(os.sched_getaffinity(0))} cores" if on_cpu else f" x {jax.device_count()}"
    machine = f"{jax.devices()[0].device_kind}{cores}, {platform.machine()}, jax {jax.__version__}, {options.precision}"
    results: dict[str, Any] = {"machine": machine}
    tables = [[machine]]

    def report(part: str, rows: Any, table: list[str]) -> None:
        """After each part, so that an interrupted benchmark keeps what it has."""
        results[part] = rows
        tables.append(table)
        print("\n".join(["", *table]), flush=True)
        if options.out:
            files.write_text(options.out.with_suffix(".json"), json.dumps({"made": files.MARK} | results, indent=2))
            files.write_text(options.out.with_suffix(".md"), "\n\n".join("\n".join(each) for each in tables))

    print(machine)
    if "first" in parts:
        # First of all: afterwards this process holds the accelerator.
        rows = processes.first_results(some[0], options.model)
        report("first", rows, processes.first_table(rows))
    if "processes" in parts:
        rows = processes.scaling()
        report("processes", rows, processes.table(rows))
    if {"steps", "layers", "units"} & set(parts):
        model = stjax.load(options.model)
        if "steps" in parts:
            rows = [measure(model, layer, options) for layer in some]
            report("steps", rows, steps_table(rows))
        if "units" in parts:
            compared = many_units.compare(model, some[0])
            report("units", compared, many_units.table(compared))
        if "layers" in parts:
            matrix = matrix_rate(jnp.dtype(options.precision))
            precision = None if options.precision == "float32" else options.precision
            known = [layer.name for layer in model.network.layers if layer.name in model.statistics.ahat]
            rows = [
                whole_layers.whole_layer(model, layer, options.steps, precision, options.limit)
                for layer in wanted or known
            ]
            report("layers", rows, whole_layers.table(rows, options.steps, matrix / 1e9))


if __name__ == "__main__":
    main()
