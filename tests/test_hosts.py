"""Several processes fill one folder: together they find what one finds, and none of them needs another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stjax import UsageError
from stjax.atlas import hosts, results
from stjax.atlas.hosts import Place

# As in test_atlas.py: chunks of other sizes are summed in another order, through three steps.
GREY_LEVELS = 2e-3
# A process that waits for others gives them up soon.
START = "from stjax.atlas import hosts; hosts.PATIENCE_S = 5; from stjax import cli; cli.main()"


def begin(arguments: list[object], devices: int, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | more,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def told_by_flags(arguments: list[object]) -> list[subprocess.Popen[str]]:
    """Two processes of four devices each."""
    more = ["--distributed", "--coordinator", f"localhost:{free_port()}", "--processes", 2, "--process"]
    return [begin([*arguments, *more, index], 4) for index in (0, 1)]


def told_by_slurm(arguments: list[object]) -> list[subprocess.Popen[str]]:
    """The same, by what Slurm sets for each task of a step."""
    job = {"SLURM_JOB_ID": "4077", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    job["JAX_COORDINATOR_PORT"] = str(free_port())
    tasks = [{"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in (0, 1)]
    return [begin([*arguments, "--distributed"], 4, **job, **task) for task in tasks]


def end(running: subprocess.Popen[str]) -> tuple[int, str]:
    stdout, stderr = running.communicate(timeout=600)
    assert "Traceback" not in stderr, stderr
    return running.returncode, " ".join((stdout + stderr).split())


def named(out: Path, manifest: str) -> list[tuple[int, float]]:
    return [(line["unit"], line["chi"]) for line in map(json.loads, (out / manifest).read_text().splitlines())]


def same(out: Path, whole: Path) -> None:
    expected = {(r["unit"], r["chi"]): r for r in results.read(whole)}
    actual = {(r["unit"], r["chi"]): r for r in results.read(out)}
    assert actual.keys() == expected.keys()
    for job, record in expected.items():
        np.testing.assert_allclose(actual[job]["activation_end"], record["activation_end"], rtol=1e-4)
        with np.load(out / actual[job]["arrays"]) as found, np.load(whole / record["arrays"]) as wanted:
            for stream in wanted.files:
                np.testing.assert_allclose(found[stream], wanted[stream], atol=GREY_LEVELS)
    assert [path for path in out.rglob("*") if path.name.startswith(".")] == []


@pytest.fixture(scope="module")
def arguments(weights) -> list[object]:
    return ["visualize", "conv3_fusion", "-m", weights, "--units", "all", "--chi", "2,1,0", "--steps", 3, "--chunk", 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, arguments) -> Path:
    """One process with one device."""
    out = tmp_path_factory.mktemp("whole") / "atlas"
    code, said = end(begin([*arguments, "--out", out], 1))
    assert code == 0, said
    return out


@pytest.mark.slow
def test_two_processes_of_four_devices_find_what_one_of_one_finds(tmp_path, arguments, whole):
    out = tmp_path / "atlas"
    first, second = (end(running) for running in told_by_flags([*arguments, "--out", out]))
    assert (first[0], second[0]) == (0, 0), first[1] + second[1]
    assert f"24 results in {out}; open" in first[1]
    assert second[1] == f"process 1: 12 results in {out}", "the first alone shows progress and draws the index"
    shares = [named(out, f"manifest-{index}.jsonl") for index in (0, 1)]
    assert [len(share) for share in shares] == [12, 12]
    assert len({*shares[0], *shares[1]}) == 24
    assert (out / "index.html").exists()
    assert not (out / "manifest.jsonl").exists()
    same(out, whole)


@pytest.mark.slow
def test_a_process_that_dies_takes_nobody_along(tmp_path, arguments, whole):
    out = tmp_path / "atlas"
    first, second = told_by_slurm([*arguments, "--out", out])
    manifest, patience = out / "manifest-1.jsonl", time.monotonic() + 300
    while not manifest.exists() or not manifest.read_text():
        assert time.monotonic() < patience
        assert second.poll() is None, second.communicate()
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    done = len(named(out, "manifest-1.jsonl"))
    code, said = end(first)
    assert code == 1
    assert f"missing: {12 - done} results of other processes" in said
    assert len(named(out, "manifest-0.jsonl")) == 12
    # The next run may have one process, or as many as there are: nothing is done twice.
    code, said = end(begin([*arguments, "--out", out], 1))
    assert code == 0, said
    assert len(named(out, "manifest.jsonl")) == 12 - done
    same(out, whole)


def test_shares_are_even_and_leave_nothing_out():
    shares = [hosts.share(range(11), Place(index, 4)) for index in range(4)]
    assert sorted(item for share in shares for item in share) == list(range(11))
    assert sorted(map(len, shares)) == [2, 3, 3, 3]


def test_waiting_ends_with_the_work_or_with_patience(monkeypatch):
    monkeypatch.setattr(hosts, "LOOK_S", 0.01)
    left, told = iter([5, 3, 3, 1, 0]), []
    assert hosts.wait(lambda: next(left), 10.0, told.append) == 0
    assert told == [5, 3, 3, 1]
    assert hosts.wait(lambda: 2, 0.05, told.append) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None, None), r"nor Open MPI does so here; give --coordinator, --processes, --process$"),
        (("localhost:1", 2, None), r"give --process$"),
        (("localhost:1", 2, 2), r"must be told its processes: .*process_id < num_processes"),
    ],
)
def test_a_distributed_run_must_be_told_its_processes(monkeypatch, given, message):
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    with pytest.raises(UsageError, match=message):
        hosts.meet(*given)


def test_who_cannot_be_found_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: no answer\nmore")

    monkeypatch.setattr("jax.distributed.initialize", refuse)
    with pytest.raises(UsageError, match=r"must meet within 300 s: DEADLINE_EXCEEDED: no answer$"):
        hosts.meet("nowhere:1", 2, 1)
