"""What only whole processes show: scaling over devices and processes, and the time to the first result.

A part of `benchmark.py`. Devices are simulated on the CPU, so equality of results and absence of exchanges are what
counts there; seconds only where devices are real.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from markdown_table import markdown_table

from stjax.atlas import results

MODEL, LAYER = "vgg16-imagenet", "motion/conv2_2"
COMMAND = ["visualize", LAYER, "-m", MODEL, "--units", "0:12", "--chi", "1", "--chunk", "1"]
"""All steps of the recipe: where two programs differ in a last bit, they make 100 grey levels of it."""

# Prints what the compiled step of a spread chunk exchanges between devices.
EXCHANGES = f"""
import dataclasses, jax, stjax
from stjax.atlas import run, sharding
recipe = dataclasses.replace(stjax.MAHENDRAN, steps=1)
step_chunk, exchanges = run.step_chunk, []
def step(*arguments):
    exchanges.extend(sharding.exchanges(step_chunk.lower(*arguments).compile().as_text()))
    return step_chunk(*arguments)
run.step_chunk = step
units = range(jax.device_count())
request = stjax.Request(model=stjax.load("{MODEL}"), layer="{LAYER}", units=units, chi=[1.0], recipe=recipe, chunk=1)
list(run.run_jobs(request))
print(",".join(exchanges) or "none")
"""


def scaling() -> list[dict[str, Any]]:
    """The same bytes by 1, 2, 4 and 8 simulated devices, and by two processes of four."""
    rows, reference = [], None
    with tempfile.TemporaryDirectory() as folder:
        for processes, devices in ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4)):
            out = Path(folder) / f"{processes}x{devices}"
            begin = time.perf_counter()
            _run(out, processes, devices)
            seconds, arrays = time.perf_counter() - begin, _arrays(out)
            reference = reference or arrays
            assert arrays.keys() == reference.keys(), "a result is missing"
            exchanged = _python(["-c", EXCHANGES], devices).communicate()[0].strip()
            rows.append(
                {
                    "processes": processes,
                    "devices": devices,
                    "results": len(arrays),
                    "largest_difference": max(float(np.abs(arrays[n] - reference[n]).max()) for n in reference),
                    "exchanges": exchanged,
                    "seconds": seconds,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    heads = ["processes x simulated devices", "results", "largest difference, grey levels"]
    lines = []
    for row in rows:
        cells = [f"{row['processes']} x {row['devices']}", row["results"], f"{row['largest_difference']:.1g}"]
        lines.append([*cells, row["exchanges"], f"{row['seconds']:.0f}"])
    return markdown_table([*heads, "exchanges in the compiled step", "s"], lines)


def first_results(layer: str, model: str) -> list[dict[str, Any]]:
    """Seconds from the start of the command to its first stored result and to its end: nothing compiled yet, then all.

    Four units at three chi, or at none where no input can be slow.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for when in ("nothing", "all"):
            out, begin = Path(folder) / when, time.perf_counter()
            words = ["-m", "stjax", "visualize", layer, "-m", model, "--units", "0:4", "--chi", "10,1,0"]
            running = _python([*words, "--out", str(out)], None, JAX_COMPILATION_CACHE_DIR=f"{folder}/compiled")
            while running.poll() is None and not list(out.glob("manifest.jsonl")):
                time.sleep(0.02)
            first = time.perf_counter() - begin
            output = running.communicate()
            assert running.returncode == 0, output
            row = {"layer": layer, "compiled_before": when, "first_s": first, "all_s": time.perf_counter() - begin}
            rows.append(row | {"results": len(results.read(out))})
    return rows


def first_table(rows: list[dict[str, Any]]) -> list[str]:
    heads = ["layer", "compiled before", "first result on the disk, s", "results", "all of them and their pictures, s"]
    lines = [
        [row["layer"], row["compiled_before"], f"{row['first_s']:.1f}", row["results"], f"{row['all_s']:.1f}"]
        for row in rows
    ]
    return markdown_table(heads, lines)


def _run(out: Path, processes: int, devices: int) -> None:
    command = ["-m", "stjax", *COMMAND, "--out", str(out)]
    if processes == 1:
        running = [_python(command, devices)]
    else:
        with socket.socket() as listening:
            listening.bind(("localhost", 0))
            address = f"localhost:{listening.getsockname()[1]}"
        command += ["--distributed", "--coordinator", address, "--processes", str(processes), "--process"]
        running = [_python([*command, str(index)], devices) for index in range(processes)]
    for each in running:
        output = each.communicate()
        assert each.returncode == 0, output


def _python(words: list[str], devices: int | None, **more: str) -> subprocess.Popen[str]:
    """A Python process; with simulated devices in place of real ones, if a number is given."""
    simulated = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)} if devices else {}
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | simulated | more,
    )


def _arrays(out: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for record in results.read(out):
        with np.load(out / record.arrays) as file:
            arrays |= {f"{record.arrays}/{name}": file[name] for name in file.files}
    return arrays
