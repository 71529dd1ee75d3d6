"""Runs `stjax` again and again, each time killed at a random moment, and at last left alone.

    python tests/kills.py NUMBER SEED OUT visualize LAYER ... --out OUT

Each run is forked from this process, which has imported everything, so that the moments fall into the work. A third
of them fall anywhere from the start on, the others shortly after a run has finished its first or next results.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from stjax import cli


def finished(out: Path) -> int:
    manifest = out / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


def begin() -> int:
    if (child := os.fork()) == 0:
        cli.main()
    return child


def kill_one(out: Path, draw: random.Random) -> bool:
    """Whether it was killed, and not at its end already."""
    child, before, start = begin(), finished(out), time.monotonic()
    # However fast the machine, a run gets no further than a few results, so that there is work for all of them.
    early, wanted, delay = draw.random() < 1 / 3, draw.randrange(3), draw.uniform(0, 0.05)
    moment = draw.uniform(0, 1.5) if early else 200.0
    while time.monotonic() - start < moment and finished(out) < before + wanted + 1:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.002)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    number, seed, out = int(sys.argv.pop(1)), int(sys.argv.pop(1)), Path(sys.argv.pop(1))
    draw = random.Random(seed)
    for kill in range(number):
        assert kill_one(out, draw), f"run {kill} ended before it was killed"
        print(f"killed with {finished(out)} finished", flush=True)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(begin(), 0)[1]))


if __name__ == "__main__":
    main()
