"""convert, inspect and download on the command line: what they write, what they say, and their exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import writers
from test_cli import one_error_line, within
from writers import tower, write

from stjax import zoo
from stjax.convert import releases

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write("MatConvNet DagNN", tower(classes=6), folder / "image.mat")
    write("MatConvNet DagNN", tower(20, classes=6, seed=1), folder / "flow.mat")
    write("MatConvNet SimpleNN", tower(), folder / "imagenet.mat")
    return folder


@pytest.mark.slow
def test_two_files_become_a_network_that_can_be_visualised(tmp_path, published, capsys, monkeypatch):
    out = tmp_path / "new" / "ucf.safetensors"
    code, stdout, stderr = within(
        capsys, monkeypatch, "convert", published / "image.mat", published / "flow.mat", "--out", out
    )
    assert code == 0, stderr
    assert "conv5_fusion" in stdout
    assert "initialised, untrained: [0.25 I ; 0.75 I]" in stdout
    assert f"next: stjax visualize conv5_3 --model {out}" in stdout
    assert [path.name for path in out.parent.iterdir()] == ["ucf.safetensors"]
    network = zoo.load(out)
    assert "generated clips" in network.statistics.provenance
    assert "conv5_fusion" in network.statistics.ahat

    code, stdout, _ = within(capsys, monkeypatch, "models", out)
    assert code == 0
    assert "not trained" in stdout
    code, stdout, _ = within(capsys, monkeypatch, "layers", "--model", out)
    assert code == 0
    words = ("visualize", "conv5_fusion", "-m", out, "--units", "0:1", "--chi", "1", "--steps", 1)
    code, stdout, stderr = within(capsys, monkeypatch, *words, "--out", tmp_path / "atlas")
    assert code == 0, stderr
    assert "1 results" in stdout


def test_options_reach_the_network(tmp_path, published, capsys, monkeypatch):
    out = tmp_path / "a.safetensors"
    options = ("--fusion", "conv3d", "--samples", 3, "--towers", 1, "--dtype", "float16", "--statistics", "none")
    words = ("convert", published / "image.mat", published / "flow.mat", "--out", out, *options)
    code, _, stderr = within(capsys, monkeypatch, *words)
    assert code == 0, stderr
    network = zoo.load(out)
    assert (network.module.fusion, network.module.samples, network.module.towers) == ("conv3d", 3, 1)
    expected = tower(classes=6)["conv3_1"]["kernel"].astype(np.float16)
    np.testing.assert_array_equal(network.params["appearance"]["conv3_1"]["kernel"], expected)


def test_doubts_are_printed_and_do_not_stop(tmp_path, capsys, monkeypatch):
    made = tower()
    made["conv1_1"]["kernel"] = made["conv1_1"]["kernel"][:, :, ::-1]
    path = write("Caffe V2", made, tmp_path / "a.caffemodel")
    words = ("convert", path, "--out", tmp_path / "a.safetensors", "--statistics", "none")
    code, _, stderr = within(capsys, monkeypatch, *words)
    assert code == 0
    assert stderr.startswith("warning: appearance/conv1_1: filters are 1.")


def test_weights_whose_activations_overflow_leave_no_file(tmp_path, capsys, monkeypatch):
    made = tower()
    for leaves in made.values():
        leaves["kernel"] = leaves["kernel"] * 1e6
    path = write("Caffe V2", made, tmp_path / "a.caffemodel")
    code, _, stderr = within(capsys, monkeypatch, "convert", path, "--out", tmp_path / "a.safetensors")
    assert code == 2
    assert "activations must be finite" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.caffemodel"]


BAD = {
    "no such file": (("nowhere.mat",), (), "must exist: nowhere.mat is not there"),
    "twice the same": (("image.mat", "image.mat"), (), "image.mat and image.mat both hold appearance"),
    "another extension": (("image.mat",), ("--out", "a.npz"), "nearest: a.safetensors"),
    "an unknown dtype": (("image.mat",), ("--dtype", "float8"), "dtype must be a known one: 'float8' is not"),
    "an unknown fusion": (("image.mat",), ("--fusion", "conv"), "nearest: conv"),
    "an unknown order": (("image.mat",), ("--flow-order", "stack"), "nearest: stacked"),
    "an unknown table": (("image.mat",), ("--table", "matconv"), "nearest: matconvnet"),
    "a table of something else": (("image.mat",), ("--table", "keras"), "of another architecture"),
    "no number of samples": (("image.mat",), ("--samples", "0"), "samples"),
    "nothing to write to": (("image.mat",), ("--out", "image.mat/a.safetensors"), "must be writable"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_user_can_mend_is_one_line_and_no_file(published, tmp_path, capsys, monkeypatch, case):
    files, options, message = BAD[case]
    for path in published.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    words = ("convert", *files, *(() if "--out" in options else ("--out", "new.safetensors")), *options)
    code, stdout, stderr = within(capsys, monkeypatch, *words)
    one_error_line(code, stderr, message)
    assert stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_inspect_shows_names_shapes_and_what_they_become(published, capsys, monkeypatch):
    code, stdout, _ = within(capsys, monkeypatch, "inspect", published / "image.mat")
    assert code == 0
    assert stdout.startswith("image.mat: MATLAB 5, MatConvNet DagNN, 32 arrays; table matconvnet: MatConvNet")
    (line,) = [line for line in stdout.splitlines() if " layer38f " in line]
    assert "1 x 1 x 9 x 6" in line
    assert "classes/kernel" in line
    code, stdout, _ = within(capsys, monkeypatch, "inspect", published / "imagenet.mat")
    assert "mean: 123.680, 116.779, 103.939" in stdout
    assert "5 class names: class 0, class 1, class 2, ..." in stdout


def test_inspect_shows_a_file_that_is_no_vgg(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.pth").write_bytes(writers.legacy_torch({"[bold].weight": np.zeros((2, 3), np.float32)}))
    code, stdout, _ = within(capsys, monkeypatch, "inspect", tmp_path / "a.pth")
    assert code == 0
    assert "PyTorch (legacy), 1 arrays; no table knows it: not a VGG-16" in stdout
    assert "[bold].weight" in stdout


def test_download_lists_and_refuses(capsys, monkeypatch, tmp_path):
    code, stdout, _ = within(capsys, monkeypatch, "download")
    assert code == 0
    for name in releases.RELEASES:
        assert name in stdout
    code, _, stderr = within(capsys, monkeypatch, "download", "imagenet-cafe", "--folder", tmp_path)
    one_error_line(code, stderr, "nearest: imagenet-caffe")


def test_download_saves_and_says_what_comes_next(capsys, monkeypatch, tmp_path):
    source = tmp_path / "here.mat"
    source.write_bytes(b"weights")
    here = releases.Release("here", source.as_uri(), "a file", "none to speak of")
    monkeypatch.setitem(releases.RELEASES, "here", here)
    monkeypatch.setattr(
        "stjax.convert.download._continue", lambda one, part, progress, patience: bool(part.write_bytes(b"weights"))
    )
    code, stdout, _ = within(capsys, monkeypatch, "download", "here", "--folder", tmp_path / "cache")
    assert code == 0
    assert (tmp_path / "cache" / "here.mat").read_bytes() == b"weights"
    assert f"next: stjax convert {tmp_path / 'cache' / 'here.mat'}" in stdout
    assert "licence: none to speak of" in stdout


@pytest.mark.slow
def test_the_script_is_the_command(published, tmp_path):
    out = tmp_path / "a.safetensors"
    words = [published / "imagenet.mat", "--out", out, "--statistics", "none"]
    command = [sys.executable, ROOT / "scripts" / "convert_weights.py", *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert zoo.load(out).class_names == tuple(f"class {i}" for i in range(5))


@pytest.mark.parametrize("name", ["convert", "inspect", "download"])
def test_help_is_there(name, capsys, monkeypatch):
    code, stdout, _ = within(capsys, monkeypatch, name, "--help")
    assert code == 0
    assert "Usage" in stdout
