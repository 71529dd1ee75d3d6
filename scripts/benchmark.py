"""How fast are units visualised, and what limits it?

For each layer: unit-steps per second, useful GFLOP/s (what the cone needs, forward and backward), that over the
rate of one large matrix product measured in the same run, compile time, peak memory; and, where torch is
installed, the ratio to the loop others use: the full 224 x 224 network, one unit at a time.

    python scripts/benchmark.py --out benchmark
    python scripts/benchmark.py --layers conv3_3 --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stjax
from stjax.ascent.regularizers import KAPPA
from stjax.atlas import plan, run
from stjax.networks.vgg import VGG16, convolutions

LAYERS = ("appearance/conv3_3", "appearance/conv4_3", "appearance/conv5_3", "conv5_fusion")


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Mean of `repeats` calls after the first, which may compile."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - begin) / repeats


def matrix_rate(dtype: Any) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if jax.default_backend() != "cpu" else 2048
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / seconds(lambda: product(a), 5)


class Ours:
    """The compiled step of one layer, over one chunk."""

    def __init__(self, network: stjax.Model, layer: str, dtype: Any, chunk: int | None, recipe: stjax.Recipe) -> None:
        self.view = stjax.view(network.module.clone(dtype=dtype), layer)
        self.recipe = recipe.aim(layer, self.view.stride)
        self.params = network.params
        self.chunk = chunk or plan.chunk_limit(self.view, self.recipe, network.params)
        ahat = np.asarray(network.statistics.ahat[layer])
        jobs = [plan.Job(u % len(ahat), 1.0) for u in range(self.chunk)]
        self.units = jnp.asarray([job.unit for job in jobs])
        self.strengths = run.weigh(self.recipe, self.view.rho, ahat, KAPPA, jobs)
        states, self.keys, slope = run.begin(
            self.view, self.recipe, self.params, jax.random.key(0), self.units, self.strengths, stjax.Clip()
        )
        self.carry = (states, slope)
        # On a CPU one call is one step, as in `run.climb`; elsewhere a loop of them.
        self.steps = 1 if jax.default_backend() == "cpu" else run.STEPS_PER_CALL
        self.flops = 2 * plan.flops(self.view, self.params)
        begin = time.perf_counter()
        self()
        jax.block_until_ready(self.carry)
        self.compile_s = time.perf_counter() - begin

    def __call__(self) -> Any:
        count = None if jax.default_backend() == "cpu" else jnp.asarray(self.steps)
        arguments = (self.view, self.recipe, self.params, self.keys, self.units, self.strengths)
        self.carry = run.advance(*arguments, *self.carry, count)
        return self.carry

    def rate(self) -> float:
        """Unit-steps per second."""
        return self.chunk * self.steps / seconds(self, 3)


def torch_step(network: stjax.Model, layer: str) -> Callable[[], None] | None:
    """One step as others do it: PyTorch, full network, one unit through a hook on its layer, Adam."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    if not layer.startswith("appearance/"):
        return None
    name = layer.partition("/")[2]
    modules: list[Any] = []
    seen: dict[str, Any] = {}
    channels = 3
    for conv, features in convolutions(VGG16):
        if conv.endswith("_1") and modules:
            modules.append(torch.nn.MaxPool2d(2))
        weights = network.params["appearance"][conv]
        unit = torch.nn.Conv2d(channels, features, 3, padding=1)
        unit.weight.data = torch.from_numpy(np.array(weights["kernel"])).permute(3, 2, 0, 1).contiguous()
        unit.bias = torch.nn.Parameter(torch.from_numpy(np.array(weights["bias"])))
        if conv == name:
            unit.register_forward_hook(lambda module, inputs, output: seen.update(a=output.clone()))
        modules += [unit, torch.nn.ReLU()]
        channels = features
    vgg = torch.nn.Sequential(*modules).eval()
    for parameter in vgg.parameters():
        parameter.requires_grad_(False)
    x = torch.randn(1, 3, 224, 224, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=5.0)

    def step() -> None:
        optimizer.zero_grad()
        vgg(x)
        a = seen["a"]
        (-a[0, 0, a.shape[2] // 2, a.shape[3] // 2]).backward()
        optimizer.step()

    return step


def measure(network: stjax.Model, layer: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one layer; each round measures the matrix product and both programs side by side."""
    dtype = jnp.dtype(options.precision)
    ours = Ours(network, layer, dtype, options.chunk, stjax.FAST)
    other = torch_step(network, layer)
    rows = []
    for _ in range(options.rounds):
        row = {"matrix": matrix_rate(dtype), "rate": ours.rate()}
        if other:
            row["torch"] = 1.0 / seconds(other, 2)
        rows.append(row)
    rate = statistics.median(row["rate"] for row in rows)
    useful = rate * ours.flops
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {
        "layer": layer,
        "chunk": ours.chunk,
        "unit_steps_per_s": rate,
        "useful_gflops": useful / 1e9,
        "matrix_gflops": statistics.median(row["matrix"] for row in rows) / 1e9,
        "of_matrix": statistics.median(row["rate"] * ours.flops / row["matrix"] for row in rows),
        "compile_s": ours.compile_s,
        "peak_gb": peak / 1e9,
        "torch_unit_steps_per_s": statistics.median(row["torch"] for row in rows) if other else None,
        "times_torch": statistics.median(row["rate"] / row["torch"] for row in rows) if other else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default=",".join(LAYERS), help="full layer names, with commas between")
    parser.add_argument("--precision", default="float32" if jax.default_backend() == "cpu" else "bfloat16")
    parser.add_argument("--chunk", type=int, help="units stepped together; the program's own choice if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md as well")
    options = parser.parse_args()
    network = stjax.load("vgg16-imagenet")
    results = [measure(network, layer, options) for layer in options.layers.split(",")]
    cores = f", {len(os.sched_getaffinity(0))} cores" if jax.default_backend() == "cpu" else ""
    machine = f"{jax.devices()[0].device_kind}{cores}, {platform.machine()}, jax {jax.__version__}, {options.precision}"
    heading = "| layer | chunk | unit-steps/s | useful GFLOP/s | of the matrix rate | compile s | peak GB | x PyTorch |"
    lines = [machine, "", heading, "|---|---|---|---|---|---|---|---|"]
    for r in results:
        ratio = f"{r['times_torch']:.1f}" if r["times_torch"] else "-"
        cells = [r["layer"], r["chunk"], f"{r['unit_steps_per_s']:.1f}", f"{r['useful_gflops']:.0f}"]
        cells += [f"{r['of_matrix']:.0%} of {r['matrix_gflops']:.0f}", f"{r['compile_s']:.1f}", f"{r['peak_gb']:.1f}"]
        lines.append("| " + " | ".join(map(str, [*cells, ratio])) + " |")
    table = "\n".join(lines)
    print(table)
    if options.out:
        options.out.with_suffix(".json").write_text(json.dumps({"machine": machine, "results": results}, indent=2))
        options.out.with_suffix(".md").write_text(table + "\n")


if __name__ == "__main__":
    main()
