"""Damaged and hostile files are refused, cleanly: whatever the bytes, a reader returns or says why not, soon and in
little memory, and never values that a checksum in the file contradicts.

The same files by the thousand, and a table of what they took: scripts/attack_readers.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from damage import Seed, hdf5_seeds, seeds
from watched import PATIENCE, Watch, digest, watching
from writers import LAYOUTS

from stjax import UsageError
from stjax.convert.readers import container, hdf5

FEW, MANY = 40, 2000
FORK_PATIENCE = 2.0
"""Seconds for a fork, where a user's child has eight: one file in a hundred keeps the HDF5 library busy for ever."""
GIBIBYTE = 1 << 30
SMALL, LARGE = 2_000, 100_000
"""Magnitudes of hostile files, about bytes. What is quadratic takes 2,500 times longer with the second."""

HDF5 = ("MatConvNet DagNN, 7.3", "Keras 2", "Keras 3", "Keras 3, with checksums")
SEEDS = (
    *(name for name in LAYOUTS if "7.3" not in name and "Keras" not in name),
    *("PyTorch zip, its pickle", "safetensors, its header", "MatConvNet DagNN, inside what is compressed"),
    *("TensorFlow, its .index", "TensorFlow, its .data-00001-of-00002", "TensorFlow, inside its index"),
)


@pytest.fixture(scope="module")
def watch():
    """A process that reads, and may be ended."""
    with watching() as one:
        yield one


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Seed]:
    made = {seed.name: seed for seed in seeds(tmp_path_factory.mktemp("whole"))}
    assert set(made) == set(SEEDS)
    return made


def survive(seed: Seed, path: Path, watch: Watch, examples: int) -> None:
    """Reads a seed whole, then so many times damaged."""
    digests = []
    for number in range(examples + 1):
        outcome = watch.read(seed.write(number, path))
        assert not outcome.fault, (number, outcome)
        assert outcome.seconds < PATIENCE, (number, outcome)
        assert outcome.peak < GIBIBYTE, (number, outcome)
        digests.append(outcome.digest)
    assert digests[0]
    if seed.checked:
        assert set(digests) <= {digests[0], ""}


@pytest.mark.parametrize("name", SEEDS)
def test_a_few_damaged_files(tmp_path, watch, whole, name):
    survive(whole[name], tmp_path / "damaged", watch, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_two_thousand_damaged_files(tmp_path, watch, whole, name):
    survive(whole[name], tmp_path / "damaged", watch, MANY)


@pytest.mark.parametrize("n", [SMALL, LARGE])
@pytest.mark.parametrize("kind", ["pickle", "legacy", "zip", "caffe", "onnx", "safetensors", "matlab", "tensorflow"])
def test_hostile_structures(tmp_path, watch, kind, n):
    names = [name for name in hostile.ATTACKS if name.startswith(f"{kind}: ")]
    assert len(names) > 6
    for name in names:
        outcome = watch.read(hostile.write(name, n, tmp_path / "hostile"))
        assert not outcome.fault, (name, outcome)
        assert outcome.refused or name in hostile.HARMLESS, (name, outcome)
        assert outcome.seconds < PATIENCE, (name, outcome)
        assert outcome.peak < GIBIBYTE // 2, (name, outcome)


@pytest.mark.parametrize("name", hostile.HDF5)
def test_hostile_hdf5(tmp_path, watch, name):
    pytest.importorskip("h5py")
    outcome = watch.read(hostile.write(f"hdf5: {name}", LARGE, tmp_path / "hostile"))
    assert not outcome.fault, outcome
    assert outcome.refused or f"hdf5: {name}" in hostile.HARMLESS
    # A child counts what this process's child held before it became one of its own.
    assert outcome.peak < GIBIBYTE, outcome


def test_the_watch_sees_what_it_is_for(tmp_path):
    # A reader that hangs, one that fills the memory and one that ends its process, each in a file of a line.
    program = (
        "import sys, time, json, os\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if 'end' in line: os._exit(3)\n"
        "    print(json.dumps({'seconds': 0, 'peak': 0, 'refused': line.strip()}), flush=True)\n"
    )
    (tmp_path / "reader.py").write_text(program)
    watch = Watch(tmp_path / "reader.py")
    try:
        assert watch.read(Path("a")).refused == "a"
        assert watch.read(Path("end")).fault == "ends the process, 3"
        assert watch.read(Path("b")).refused == "b"
    finally:
        watch.end()


# HDF5 is read by a child process, which may crash or hang: that is a refusal. Here children are forks, to be fast.


def reading(path: Path) -> tuple[str, str]:
    """Why a file is refused, or the digest of what it holds; any other error is a failure of the test."""
    try:
        return "", digest(container.read(path))
    except UsageError as error:
        return str(error), ""


def survive_hdf5(seed: Seed, folder: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(examples):
        (folder / str(number)).write_bytes(seed.damaged(number))
    driver = Path(__file__).with_name("hdf5_forks.py")
    command = [sys.executable, str(driver), str(folder), str(FORK_PATIENCE)]
    codes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(codes) == examples
    digests = []
    # What came through is a tree of names and arrays: the rest of the way is in this process.
    for number, code in enumerate(codes):
        if code == 0:
            monkeypatch.setattr(hdf5, "read", lambda path, n=number: hdf5.load(folder / f"out-{n}"))
            refused, found = reading(folder / str(number))
            assert "\n" not in refused
            digests += [found] * bool(found)
    assert codes[0] == 0
    assert codes.count(0) < examples
    if seed.checked:
        assert len(set(digests)) == 1


@pytest.fixture(scope="module")
def whole_hdf5(tmp_path_factory) -> dict[str, Seed]:
    pytest.importorskip("h5py")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    return {seed.name: seed for seed in hdf5_seeds(tmp_path_factory.mktemp("whole"))}


@pytest.mark.parametrize("name", HDF5)
def test_a_few_damaged_hdf5_files(tmp_path, whole_hdf5, name, monkeypatch):
    survive_hdf5(whole_hdf5[name], tmp_path, FEW, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MatConvNet DagNN, 7.3", "Keras 3", "Keras 3, with checksums"])
def test_two_thousand_damaged_hdf5_files(tmp_path, whole_hdf5, name, monkeypatch):
    # In all: each is read by a child process.
    survive_hdf5(whole_hdf5[name], tmp_path, MANY // 3, monkeypatch)
