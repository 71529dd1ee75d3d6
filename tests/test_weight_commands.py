"""convert, inspect and download on the command line: what they write, what they say, and their exit code."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import writers
from serving import serving
from test_cli import one_error_line, within
from writers import tower, write

from stjax import zoo
from stjax.convert import releases, store
from stjax.convert.release import Held, Release
from stjax.files import checksum
from stjax.model import Part


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
    model = zoo.load(out)
    assert "generated clips" in model.statistics.provenance
    assert "conv5_fusion" in model.statistics.ahat

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
    options = ("--fusion", "conv3d", "--samples", 3, "--no-motion-head", "--dtype", "float16", "--statistics", "none")
    words = ("convert", published / "image.mat", published / "flow.mat", "--out", out, *options)
    code, _, stderr = within(capsys, monkeypatch, *words)
    assert code == 0, stderr
    model = zoo.load(out)
    assert (model.network.fusion, model.network.samples, model.network.motion_head) == ("conv3d", 3, False)
    expected = tower(classes=6)["conv3_1"]["kernel"].astype(np.float16)
    np.testing.assert_array_equal(model.params["appearance"]["conv3_1"]["kernel"], expected)


def test_doubts_are_printed_and_do_not_stop(tmp_path, capsys, monkeypatch):
    made = tower()
    made["conv1_1"]["kernel"] = made["conv1_1"]["kernel"] / 2000
    path = write("Caffe V2", made, tmp_path / "a.caffemodel")
    words = ("convert", path, "--out", tmp_path / "a.safetensors", "--statistics", "none")
    code, _, stderr = within(capsys, monkeypatch, *words)
    assert code == 0
    assert stderr.startswith("warning: appearance/conv1_1: its response to pictures is ")


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
    assert "PyTorch (legacy), 1 arrays; no table knows its names" in stdout
    assert "[bold].weight" in stdout


def test_download_lists_and_refuses(capsys, monkeypatch, tmp_path):
    code, stdout, _ = within(capsys, monkeypatch, "download")
    assert code == 0
    for name in releases.RELEASES:
        assert name in stdout
    code, _, stderr = within(capsys, monkeypatch, "download", "imagenet-cafe", "--folder", tmp_path)
    one_error_line(code, stderr, "nearest: imagenet-caffe")


def here(port: int) -> Release:
    held = Held("matconvnet", writers.network())
    return Release("here", f"http://127.0.0.1:{port}/here.mat", "a file", "none to speak of", held)


def test_download_saves_and_says_what_comes_next(published, capsys, monkeypatch, tmp_path):
    saved = tmp_path / "cache" / "here.mat"
    with serving((published / "image.mat").read_bytes()) as server:
        monkeypatch.setitem(releases.RELEASES, "here", here(server.port))
        words = ("download", "here", "--folder", tmp_path / "cache")
        code, _, stderr = within(capsys, monkeypatch, *words)
        one_error_line(code, stderr, "over plain http and has no published checksum")
        assert list(tmp_path.iterdir()) == []
        code, stdout, _ = within(capsys, monkeypatch, *words, "--insecure")
    assert code == 0
    assert saved.read_bytes() == (published / "image.mat").read_bytes()
    assert f"Its own checksum, to compare with a colleague's: sha256 {checksum(saved)}" in stdout
    assert f"next: stjax convert {saved}" in stdout
    assert "licence: none to speak of" in stdout


# Nothing of a user's is lost


def test_a_source_is_never_its_own_result(published, tmp_path, capsys, monkeypatch):
    made = {name: torch["kernel"] for name, torch in tower().items()}
    safetensors.numpy.save_file(made, tmp_path / "x.safetensors")
    for source in (tmp_path / "x.safetensors", published / "image.mat"):
        target = tmp_path / "x.safetensors"
        before = target.read_bytes()
        code, stdout, stderr = within(capsys, monkeypatch, "convert", source, "--out", target, "--statistics", "none")
        one_error_line(
            code, stderr, f"x.safetensors is not one that stjax wrote; nearest: {tmp_path / 'x-2.safetensors'}"
        )
        assert stdout == ""
        assert target.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "link to ours"])
def test_what_is_no_file_of_ours_is_not_written_over(published, tmp_path, capsys, monkeypatch, kind):
    precious, out = tmp_path / "precious", tmp_path / "new.safetensors"
    precious.write_bytes(b"mine")
    words = ("convert", published / "image.mat", "--statistics", "none", "--out")
    if kind == "link to ours":
        assert within(capsys, monkeypatch, *words, tmp_path / "ours.safetensors")[0] == 0
    make = {
        "link": lambda: out.symlink_to(precious),
        "dangling link": lambda: out.symlink_to(tmp_path / "nowhere"),
        "folder": out.mkdir,
        "pipe": lambda: os.mkfifo(out),
        "link to ours": lambda: out.symlink_to(tmp_path / "ours.safetensors"),
    }
    make[kind]()
    before = sorted(tmp_path.iterdir())
    code, _, stderr = within(capsys, monkeypatch, *words, out)
    one_error_line(code, stderr, "must be new, or an earlier one of stjax's own")
    assert precious.read_bytes() == b"mine"
    assert sorted(tmp_path.iterdir()) == before
    assert out.is_symlink() is ("link" in kind)


def test_a_file_of_ours_is_made_anew(published, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new.safetensors"
    for dtype in ("float32", "float16"):
        words = ("convert", published / "image.mat", "--out", out, "--statistics", "none", "--dtype", dtype)
        assert within(capsys, monkeypatch, *words)[0] == 0
    assert out.stat().st_size < 25_000


def test_what_appears_during_the_work_stays(published, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new.safetensors"
    save = store.save

    def meanwhile(path, *rest):
        save(path, *rest)
        out.write_bytes(b"mine")

    monkeypatch.setattr(store, "save", meanwhile)
    words = ("convert", published / "image.mat", "--out", out, "--statistics", "none")
    one_error_line(*within(capsys, monkeypatch, *words)[::2], "is not one that stjax wrote")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"mine"


# Nothing of a stranger's reaches the terminal

EVIL = "\x1b[2J\x1b]0;title\x07\u202e\r[red]:bomb:\n"
SEEN = r"\x1b[2J\x1b]0;title\x07\u202e\r[red]:bomb:\n"


def test_names_in_a_file_are_only_shown(tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.pth"
    path.write_bytes(writers.legacy_torch({"[red]:bomb:[/nothing]\\": np.zeros((2, 3), np.float32)}))
    code, stdout, stderr = within(capsys, monkeypatch, "inspect", path)
    assert code == 0, stderr
    assert "│ [red]:bomb:[/nothing]\\ │" in stdout
    path.write_bytes(writers.legacy_torch({EVIL.replace("\u202e", ""): np.zeros((2, 3), np.float32)}))
    code, stdout, stderr = within(capsys, monkeypatch, "inspect", path)
    one_error_line(code, stderr, "arrays must have names that can be printed")
    assert (stdout + stderr).rstrip("\n").isprintable()


def test_names_of_files_are_only_shown(published, tmp_path, capsys, monkeypatch):
    folder = tmp_path / EVIL.replace("/", "")
    folder.mkdir()
    source, out = folder / f"{EVIL}.mat", folder / f"{EVIL}.safetensors"
    source.write_bytes((published / "image.mat").read_bytes())
    for words in (
        ("convert", source, "--out", out, "--statistics", "none"),
        ("convert", source, source, "--out", out),
        ("inspect", source),
        ("inspect", f"{source}x"),
        ("models", out),
    ):
        _, stdout, stderr = within(capsys, monkeypatch, *words)
        assert SEEN in (stdout + stderr).replace("\n", "") or "models" in words
        assert (stdout + stderr).replace("\n", "").isprintable()


def test_metadata_is_only_shown(tmp_path, weights, capsys, monkeypatch):
    path = tmp_path / "a.safetensors"
    parts = (Part(EVIL, True, EVIL),)
    store.save(path, dataclasses.replace(store.load(weights), parts=parts, class_names=(EVIL, *"bcde")))
    code, stdout, _ = within(capsys, monkeypatch, "models", path)
    assert code == 0
    assert stdout.count(SEEN) == 2
    assert stdout.replace("\n", "").isprintable()
    code, _, stderr = within(
        capsys, monkeypatch, "visualize", "classes", "-m", path, "--units", "f", "--out", tmp_path / "o"
    )
    assert code == 2
    assert stderr.rstrip("\n").isprintable()


# Class names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("walking\nrunning\r\nfalling down\na\nb\nc\n", ("walking", "running", "falling down", "a", "b", "c")),
        ("\ufeff1 a\n2 b b\n3 c\n4 d\n5 e\n6 f", ("a", "b b", "c", "d", "e", "f")),
        ("1 a\n2 b\n3 c\n4 d\n5 e\n7 f\n", ("1 a", "2 b", "3 c", "4 d", "5 e", "7 f")),
    ],
)
def test_class_names_can_be_given(published, tmp_path, capsys, monkeypatch, text, names):
    (tmp_path / "names.txt").write_text(text, newline="")
    out = tmp_path / "a.safetensors"
    words = ("convert", published / "image.mat", "--out", out, "--statistics", "none")
    code, _, stderr = within(capsys, monkeypatch, *words, "--class-names", tmp_path / "names.txt")
    assert code == 0, stderr
    assert zoo.load(out).class_names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\nb\n", "one for each of 6 classes: got 2"),
        (b"", "line 1 of .* is empty"),
        (b"a\nb\n\nc\nd\ne\nf\n", "line 3 of .* is empty"),
        (b"a\n" + b"b" * 5000, "line 2 of .* is 5,000 letters long"),
        (b"\xff\xfea", "must be text in UTF-8: .* is not, at byte 0"),
        (None, "must be in a file, one a line: .* is none"),
    ],
)
def test_class_names_that_are_none(published, tmp_path, capsys, monkeypatch, text, message):
    if text is not None:
        (tmp_path / "names.txt").write_bytes(text)
    words = ("convert", published / "image.mat", "--out", tmp_path / "a.safetensors", "--statistics", "none")
    code, _, stderr = within(capsys, monkeypatch, *words, "--class-names", tmp_path / "names.txt")
    one_error_line(code, stderr, "class names must")
    assert re.search(message, stderr)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("name", ["convert", "inspect", "download"])
def test_help_is_there(name, capsys, monkeypatch):
    code, stdout, _ = within(capsys, monkeypatch, name, "--help")
    assert code == 0
    assert "Usage" in stdout
