"""Several processes fill one folder: together they find what one finds, and none of them needs another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stjax import UsageError
from stjax.atlas import hosts, meeting, messages, results
from stjax.atlas.first import First
from stjax.atlas.meeting import Process
from stjax.atlas.messages import Address

# As in test_atlas.py: chunks of other sizes are summed in another order, through three steps.
GREY_LEVELS = 2e-3
# A process that waits for others gives them up soon.
START = """
from stjax.atlas import hosts, meeting
hosts.PATIENCE_S, meeting.NAME_S = 5, 1
from stjax import cli
cli.main()
"""


def begin(arguments: list[object], devices: int, start: str = START, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
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
    expected = {(record.unit, record.chi): record for record in results.read(whole)}
    actual = {(record.unit, record.chi): record for record in results.read(out)}
    assert actual.keys() == expected.keys()
    for job, record in expected.items():
        np.testing.assert_allclose(actual[job].activation_end, record.activation_end, rtol=1e-4)
        with np.load(out / actual[job].arrays) as found, np.load(whole / record.arrays) as wanted:
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
    shares = [hosts.partition(range(11), Process(index, 4)) for index in range(4)]
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
        (("localhost:1", 2, 2), r"number must be in 0..1: got 2; nearest: 1$"),
        (("localhost:1", 2, -1), r"number must be in 0..1: got -1; nearest: 0$"),
        (("localhost:1", 0, 0), r"number must be in"),
        (("localhost", 2, 1), r"must be host:port: got 'localhost'; nearest: localhost:8476$"),
        (("localhost:", 2, 1), r"port must be in 1..65535: got ''; nearest: localhost:8476$"),
        (("localhost:http", 2, 1), r"port must be in 1..65535: got 'http'; nearest: localhost:8476$"),
        (("localhost:99999", 2, 0), r"port must be in 1..65535: got '99999'; nearest: localhost:8476$"),
        (("localhost:0", 2, 0), r"port must be in 1..65535"),
        (("localhost:" + "9" * 5000, 2, 0), r"port must be in 1..65535"),
        (("http://node7:80/", 2, 1), r"must be host:port: got 'http://node7:80/'; nearest: node7:8476$"),
        (("::1", 2, 1), r"must be host:port: got '::1'"),
        ((":8476", 2, 1), r"must be host:port: got ':8476'; nearest: localhost:8476$"),
        (("", 2, 1), r"give --coordinator$"),
    ],
)
def test_a_distributed_run_must_be_told_its_processes(given, message):
    with pytest.raises(UsageError, match=message):
        hosts.connect(*given)


def test_slurm_tells_who_is_where(monkeypatch):
    """JAX's own reading of it, which has no public name; and each task keeps to its own device, as in JAX's cluster."""
    job = {"SLURM_JOB_ID": "4077", "SLURM_STEP_NODELIST": "node[07-09]", "SLURM_NTASKS": "12", "SLURM_PROCID": "5",
           "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "3"}  # fmt: skip
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert hosts._detect(None, None, None) == ("node07:65517", 12, 5, [1])
    monkeypatch.setenv("SLURM_PROCID", "five")
    with pytest.raises(UsageError, match="give --coordinator, --processes, --process"):
        hosts.connect()


@pytest.fixture
def soon(monkeypatch):
    """Who does not come is given up after 2 s."""
    monkeypatch.setattr(meeting, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(meeting, "NAME_S", 0.2)
    monkeypatch.setattr(messages, "ANSWER_S", 1.0)
    monkeypatch.setattr(meeting, "REPORT_S", (0.2, 0.3))


def attend(address: str, count: int, index: int, words: tuple[str, ...] = (), heard: list[str] | None = None) -> str:
    """What becomes of a process that meets the others and then waits for them with each word."""
    try:
        with hosts.connect(address, count, index, [].append if heard is None else heard.append) as met:
            for word in words:
                if word == "die":
                    return "gone"
                if word == "fail":
                    raise UsageError("a layer must be one of the network's")
                met.wait(word)
        return "well"
    except UsageError as error:
        return str(error)


def together(*calls: tuple) -> list[str]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=30) for future in [pool.submit(attend, *call) for call in calls]]


def local() -> str:
    return f"localhost:{free_port()}"


def test_all_who_come_go_on_together():
    address = local()
    assert together(*((address, 5, index, ("a", "b")) for index in (3, 1, 0, 4, 2))) == ["well"] * 5


def test_who_does_not_come_is_named_by_all(soon):
    address, heard = local(), []
    first, third = together((address, 5, 0, (), heard), (address, 5, 3, ()))
    assert first == third == f"all processes must meet within 2 s: processes 1, 2, 4 of 5 did not come to {address}"
    assert f"waiting for processes 1, 2, 4 of 5 at {address}; gives up in 2 s" in heard


def test_a_first_process_that_does_not_come_is_named(soon):
    address, heard = local(), []
    said = attend(address, 2, 1, (), heard)
    assert said == f"process 0 must answer at {address} within 2 s: Connection refused"
    assert heard[0] == f"waiting for process 0 of 2 at {address}: Connection refused; gives up in 2 s"


def test_one_that_dies_or_fails_on_the_way_ends_all():
    address = local()
    assert together((address, 3, 0, ("a",)), (address, 3, 1, ("a",)), (address, 3, 2, ("die",))) == [
        "process 2 has gone before the work began", "process 2 has gone before the work began", "gone"]  # fmt: skip
    address, reason = local(), "a layer must be one of the network's"
    assert together((address, 3, 0, ("fail",)), (address, 3, 1, ("a",)), (address, 3, 2, ("a",))) == [
        reason, f"process 0 has ended: {reason}", f"process 0 has ended: {reason}"]  # fmt: skip
    address = local()
    assert together((address, 3, 0, ("a",)), (address, 3, 1, ("a",)), (address, 3, 2, ("fail",))) == [
        f"process 2 has ended: {reason}", f"process 2 has ended: {reason}", reason]  # fmt: skip


def test_one_that_hangs_is_named(monkeypatch):
    address = local()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(hosts.connect, address, 2, 1)
        with hosts.connect(address, 2, 0) as first, other.result():
            monkeypatch.setattr(meeting, "TIMEOUT_S", 0.5)
            with pytest.raises(UsageError, match=r"must meet within 0.5 s: process 1 of 2 did not come to localhost"):
                first.wait("a")


def test_two_with_one_number_are_told_apart(soon):
    address = local()
    said = together((address, 3, 0, ()), (address, 3, 1, ()), (address, 3, 1, ()))
    assert said.count("each process must have a number of its own: 1 is here already") == 1
    assert said.count(f"all processes must meet within 2 s: process 2 of 3 did not come to {address}") == 2


def test_two_first_processes_are_told_apart(soon):
    address = local()
    said = together((address, 2, 0, ()), (address, 2, 0, ()))
    assert sum("it is taken, by another process 0 say; give a free port" in one for one in said) == 1
    # On another host, whose own port is free, but where the name leads to the first.
    with First(Address.parse(address), 2, print) as one:
        other = First(Address.parse(local()), 2, print)
        other._address = one._address
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(one.wait)
            other._look_at_oneself()
            with pytest.raises(UsageError, match="each process must have a number of its own: 0 is here already"):
                other.wait()
            with pytest.raises(UsageError, match="process 1 of 2 did not come"):
                waiting.result()


def test_a_first_process_on_another_host_than_the_coordinators(soon, monkeypatch):
    """Nobody listens at the coordinator's address, though this process does listen."""
    elsewhere = free_port()
    monkeypatch.setattr(messages, "listen", lambda address: socket.create_server(("localhost", elsewhere)))
    address = local()
    said = attend(address, 2, 0)
    assert said == f"process 0 must run on the coordinator's host: {address} is another"


def test_other_counts_and_other_work_are_not_taken_in(soon):
    address, heard = local(), []
    first, other = together((address, 2, 0, (), heard), (address, 4, 3, ()))
    assert other == "process 0 counts 2 processes, this one 4"
    assert "process 1 of 2 did not come" in first
    assert "turned away a process 3 of 4: this run has 2" in heard
    address = local()
    said = "process 1 must ask for the same work as process 0: it asks for another"
    assert together((address, 2, 0, ("a",)), (address, 2, 1, ("b",))) == [said, said]


@pytest.mark.parametrize("host", ["nosuch.invalid", "a" * 70, "a" * 300 + ".invalid", "..", "a b"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_host_that_nobody_knows(soon, host, index):
    assert attend(f"{host}:{free_port()}", 2, index).startswith(
        f"the coordinator must be a host that is known here: {host!r} is not ("
    )


def test_a_port_that_is_not_ours_to_listen_at(soon):
    with socket.create_server(("localhost", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        assert attend(address, 2, 0) == (
            f"process 0 must be able to listen at {address}: it is taken, by another process 0 say; "
            "give a free port of this host to all"
        )


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 400 Bad request\r\n\r\n", b"SSH-2.0-x\r\n", b"[1]\n", b"x" * 9000, b"", b"{}\n", b"[" * 4000 + b"\n"],
)
def test_something_else_at_the_coordinators_address(soon, monkeypatch, answer):
    monkeypatch.setattr(meeting, "TIMEOUT_S", 9.0)
    with socket.create_server(("localhost", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(answer)
                    if answer:
                        connection.close()
                    else:
                        kept.append(connection)

        kept: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        address = f"localhost:{server.getsockname()[1]}"
        assert attend(address, 2, 1) == f"something other than stjax answers at {address}"
        server.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


STRANGE = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"",
    b"{}\n",
    b"null\n",
    b"x" * 20000,
    b'{"stjax": 1, "process": true}\n',
    b'{"stjax": 1, "process": 1e400, "processes": 2}\n',
    b'{"stjax": 1, "process": 7, "processes": 2}\n' * 2,
    b'{"stjax": 1}\n' * 3,
]


def test_strangers_do_not_disturb_a_meeting():
    """What a port scan, a browser or a mistaken program says; or one that says nothing at all."""
    address = local()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(attend, address, 2, 0, ("a",))
        port, connections = int(address.partition(":")[2]), []
        for text in STRANGE:
            for _ in range(50):
                with contextlib.suppress(ConnectionRefusedError):
                    connections.append(socket.create_connection(("localhost", port)))
                    break
                time.sleep(0.01)
            with contextlib.suppress(OSError):
                connections[-1].sendall(text)
        assert attend(address, 2, 1, ("a",)) == "well"
        assert first.result() == "well"
    for connection in connections:
        connection.close()


MISHAPS = {
    "a missing peer": (lambda port: [f"localhost:{port}", 2, 0], "process 1 of 2 did not come to localhost:"),
    "a missing first": (lambda port: [f"localhost:{port}", 2, 1], "process 0 must answer at localhost:"),
    "no port": (lambda port: ["localhost", 2, 0], "nearest: localhost:8476"),
    "no such host": (lambda port: [f"nosuch.invalid:{port}", 2, 1], "'nosuch.invalid' is not"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("given", "message"), MISHAPS.values(), ids=MISHAPS.keys())
def test_a_process_ends_with_one_line_and_touches_nothing(tmp_path, arguments, given, message):
    names = ("--coordinator", "--processes", "--process")
    flags = [word for pair in zip(names, given(free_port()), strict=True) for word in pair]
    started = time.monotonic()
    impatient = START.replace("meeting.NAME_S = 5, 1", "meeting.NAME_S, meeting.TIMEOUT_S = 5, 1, 6")
    running = begin([*arguments, "--out", tmp_path / "atlas", "--distributed", *flags], 1, impatient)
    try:
        stdout, stderr = running.communicate(timeout=50)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 2, stderr
    assert stdout == ""
    *waiting, last = stderr.splitlines()
    assert last.startswith("error: "), stderr
    assert message in last
    assert all(line.startswith("waiting for ") for line in waiting)
    assert time.monotonic() - started < 60
    assert list(tmp_path.iterdir()) == []
