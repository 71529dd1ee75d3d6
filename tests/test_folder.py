"""A results folder and other people's files in it: nothing of theirs is lost, whatever is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from stjax import UsageError, cli, compilation, files
from stjax.atlas import folder, results, session
from stjax.atlas.meeting import Meeting, Process
from stjax.errors import printable
from stjax.figures import encode


def within(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """The command in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["stjax", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code or 0, *capsys.readouterr()


def words(weights: Path, out: Path, **changes: object) -> list[object]:
    options = {"units": "0:1", "chi": "1", "steps": 1, "model": weights, "out": out} | changes
    layer = options.pop("layer", "conv3_fusion")
    return ["visualize", layer, *(f"--{name}={value}" for name, value in options.items())]


def tree(top: Path) -> dict[str, object]:
    """Everything below a folder: what kind it is, when it was made, and what is in it."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        kind = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(top))] = (stat.S_IFMT(kind.st_mode), kind.st_ino, content)
    return found


def put(path: Path, content: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


HARMLESS = [
    ".gitignore", ".indexrc", ".index.1f2e3d4c.html", ".manifest.bak", ".stjax", ".stjax-17", "notes.md",
    "manifest-old.jsonl",
    "sheets/.gitignore", "sheets/proj/.git", "sheets/.conv3_fusion-direction-1.1f2e3d4c.png", "sheets/mine.png",
    "sheets/conv3_fusion-direction-x.png", "arrays/.gitkeep", "arrays/conv3_fusion/.unit0000_chi1.1f2e3d4c.npz",
    "arrays/conv3_fusion/unit0000.npz", "arrays/conv3_fusion/unit0001_chi1-direction.gif", "index.htm",
]  # fmt: skip
"""Names that are near to ours, but that no run writes."""
REQUESTS = {
    "valid": {},
    "an unknown layer": {"layer": "nosuch"},
    "a unit past the end": {"units": "99"},
    "no steps": {"steps": 0},
    "an unknown model": {"model": "nosuch"},
    "an unknown option": {"colour": "red"},
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_what_is_not_in_the_way_stays(tmp_path, weights, capsys, monkeypatch, request_):
    out, home = tmp_path / "p", tmp_path / "home"
    for name in HARMLESS:
        put(out / name)
    for name in (".bashrc", "arrays/.profile", f".stjax-{32 * 'a'}.png"):
        put(home / name)
    for name in ("sheets/proj/home", "arrays/home", "home"):
        link(out / name, home)
    link(out / f".stjax-{32 * 'b'}", home / ".bashrc")
    link(out / f"arrays/.stjax-{32 * 'c'}.npz", home)
    before, valid = tree(tmp_path), not request_
    for _ in range(2):
        code, _, stderr = within(capsys, monkeypatch, *words(weights, out, **request_))
        assert code == (0 if valid else 2), stderr
        assert before.items() <= tree(tmp_path).items()
        assert valid == (tree(tmp_path) != before)
    assert tree(home).keys() == {k.removeprefix("home/") for k in before if k.startswith("home/")}


ARRAY = "arrays/conv3_fusion/unit0000_chi1"
FOREIGN = {
    "a page": lambda p, home: put(p / "index.html", "<title>My home page</title> made with stjax"),
    "an empty page": lambda p, home: put(p / "index.html", ""),
    "a folder for a page": lambda p, home: (p / "index.html").mkdir(),
    "a link for a page": lambda p, home: link(p / "index.html", home / "page.html"),
    "a dangling link for a page": lambda p, home: link(p / "index.html", home / "nosuch"),
    "a link for arrays": lambda p, home: link(p / "arrays", home),
    "a link for a layer's arrays": lambda p, home: link(p / "arrays/conv3_fusion", home),
    "a file for arrays": lambda p, home: put(p / "arrays"),
    "an array": lambda p, home: put(p / f"{ARRAY}.npz"),
    "a link for an array": lambda p, home: link(p / f"{ARRAY}.npz", home / "a.npz"),
    "a pipe for an array": lambda p, home: (put(p / f"{ARRAY}.x"), os.mkfifo(p / f"{ARRAY}.npz")),
    "a picture": lambda p, home: put(p / f"{ARRAY}-direction.gif"),
    "a link for a picture": lambda p, home: link(p / f"{ARRAY}-appearance.png", home / "a.png"),
    "a link for sheets": lambda p, home: link(p / "sheets", home),
    "a sheet": lambda p, home: put(p / "sheets/conv3_fusion-components-1.png"),
    "a later sheet": lambda p, home: put(p / "sheets/conv3_fusion-components-7.gif"),
    "a link for a sheet": lambda p, home: link(p / "sheets/conv3_fusion-direction-1.gif", home / "a.gif"),
    "a colour key": lambda p, home: put(p / "sheets/key-direction.png"),
    "a manifest of other things": lambda p, home: put(p / "manifest.jsonl", '{"name": "app", "audio": "a.wav"}\n'),
    "a manifest that is a table": lambda p, home: put(p / "manifest.jsonl", "name,size\na,1\n"),
    "another process's manifest": lambda p, home: put(p / "manifest-3.jsonl", "[1, 2]\n"),
    "a link for a manifest": lambda p, home: link(p / "manifest.jsonl", home / "empty"),
    "a dangling link for a manifest": lambda p, home: link(p / "manifest.jsonl", home / "nosuch"),
    "a pipe for a manifest": lambda p, home: os.mkfifo(p / "manifest.jsonl"),
    "a folder for a manifest": lambda p, home: (p / "manifest.jsonl").mkdir(),
}


@pytest.mark.parametrize("request_", [{}, {"layer": "nosuch"}], ids=["valid", "invalid"])
@pytest.mark.parametrize("plant", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_in_the_way_is_refused_and_stays(tmp_path, weights, capsys, monkeypatch, plant, request_):
    monkeypatch.setattr("stjax.atlas.run.run_jobs", lambda *_, **__: pytest.fail("nothing is to be found"))
    out, home = tmp_path / "p", tmp_path / "home"
    out.mkdir()
    for name in ("page.html", "a.npz", "a.png", "a.gif", ".bashrc", "conv3_fusion/.rc"):
        put(home / name)
    put(home / "empty", "")
    plant(out, home)
    put(out / f"old/.stjax-{32 * 'a'}")
    before = tree(tmp_path)
    code, stdout, stderr = within(capsys, monkeypatch, *words(weights, out, **request_))
    assert (code, stdout, stderr.count("\n")) == (2, "", 1), stderr
    assert tree(tmp_path) == before
    if not request_:
        assert re.search(f"{re.escape(str(out))}/[^ :]+:? .*; move it, or choose another", stderr), stderr


def test_a_folder_may_be_reached_through_a_link(tmp_path, weights, capsys, monkeypatch):
    (tmp_path / "scratch").mkdir()
    link(tmp_path / "atlas", tmp_path / "scratch")
    assert within(capsys, monkeypatch, *words(weights, tmp_path / "atlas"))[0] == 0
    assert (tmp_path / "scratch/index.html").is_file()


def test_what_stjax_wrote_is_known_as_its_own(tmp_path, weights, capsys, monkeypatch):
    assert within(capsys, monkeypatch, *words(weights, tmp_path))[0] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} == {".html", ".jsonl", ".npz", ".png", ".gif"}
    assert [path for path in written if not files.made(path)] == [tmp_path / "manifest.jsonl"]


def test_temporaries_of_a_killed_run_are_swept(tmp_path):
    ours = [f"{place}.stjax-{32 * 'f'}{end}" for place, end in (("", ""), ("arrays/a/b/", ".npz"), ("sheets/", ".png"))]
    theirs = [f"other/.stjax-{32 * 'f'}", f".stjax-{31 * 'f'}", ".stjax-1", "arrays/a.npz"]
    for name in (*ours, *theirs):
        put(tmp_path / name)
    with folder.hold(tmp_path, Meeting(Process(1, 2))):
        assert len(list(tmp_path.rglob(".stjax-*f*"))) == 5
    with folder.hold(tmp_path, Meeting()):
        pass
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(theirs)


def test_a_foreign_file_that_comes_in_between_is_not_replaced_either(tmp_path):
    put(tmp_path / "sheets/a.png")
    with pytest.raises(UsageError, match="somebody else's"):
        files.claim(tmp_path, tmp_path / "sheets/a.png")
    files.discard(tmp_path / "sheets/a.png")
    assert (tmp_path / "sheets/a.png").read_text() == "mine"


def test_a_folder_that_goes_during_the_run_is_no_success(tmp_path, weights, capsys, monkeypatch):
    draw = session._Session._draw

    def draw_and_lose(self):
        draw(self)
        shutil.rmtree(self.out)

    monkeypatch.setattr(session._Session, "_draw", draw_and_lose)
    code, stdout, stderr = within(capsys, monkeypatch, *words(weights, tmp_path / "p", units="0:2"))
    assert (code, stdout) == (2, "")
    assert "error: a folder must be left alone while a run fills it: 2 of 2 results are gone from" in stderr


@pytest.mark.parametrize("errno", [28, 13])
def test_a_disk_that_is_full_when_sheets_are_drawn_is_one_line(tmp_path, weights, capsys, monkeypatch, errno):
    def refuse(*_):
        raise OSError(errno, os.strerror(errno))

    monkeypatch.setattr("stjax.figures.draw_layer", refuse)
    code, stdout, stderr = within(capsys, monkeypatch, *words(weights, tmp_path))
    assert (code, stdout) == (2, "")
    told = stderr.splitlines()[-1]
    assert told.startswith(f"error: the output folder must take all results: {tmp_path}: {os.strerror(errno)}; 1 of 1")


@pytest.mark.parametrize("name", ["[/b]", "[red]x", "a\x1b[2Jb", "a\nb", "\u202eab", "\udcff"])
def test_names_that_look_like_markup_or_steer_a_terminal_are_shown_as_they_are(
    tmp_path, weights, capsys, monkeypatch, name
):
    code, stdout, _ = within(capsys, monkeypatch, *words(weights, tmp_path / name))
    assert code == 0
    assert stdout == f"1 results in {printable(tmp_path / name)}; open {printable(tmp_path / name)}/index.html\n"
    assert (tmp_path / name / "index.html").is_file()


LONG = 300 * "x"
TROUBLE = {
    "a long folder": ({"out": LONG}, "File name too long"),
    "a long model": ({"model": LONG}, "x"),
    "a long file of weights": ({"model": f"{LONG}.safetensors"}, "x"),
    "a long layer": ({"layer": LONG}, "a layer must be one of the network's"),
    "a layer that steers": ({"layer": "\x1b[2Jx"}, r"\x1b[2Jx"),
    "a seed of 67 bits": ({"seed": 10**20}, "the seed must be in 0..2^64-1, the bits of a key: got 1000"),
    "a seed of 65 bits": ({"seed": 1 << 64}, "nearest: 18446744073709551615"),
    "a seed below 0": ({"seed": -1}, "nearest: 0"),
}


@pytest.mark.parametrize(("changes", "message"), TROUBLE.values(), ids=TROUBLE.keys())
def test_trouble_is_one_line_and_leaves_nothing(tmp_path, weights, capsys, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = within(capsys, monkeypatch, *words(weights, **{"out": tmp_path / "p"} | changes))
    assert (code, stdout, stderr.count("\n")) == (2, "", 1), stderr
    assert message in stderr
    assert stderr[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_platform_that_is_not_there_is_one_line(tmp_path, weights):
    done = subprocess.run(
        [sys.executable, "-m", "stjax", *map(str, words(weights, tmp_path / "p"))],
        env=os.environ | {"JAX_PLATFORMS": "cuda"}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: JAX must find a device: JAX_PLATFORMS=cuda has none here: ")


def test_a_user_without_a_home_keeps_no_programs(monkeypatch):
    def nowhere(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setitem(jax.config.values, "jax_enable_compilation_cache", True)
    assert compilation.cache_programs() is None


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix(tmp_path, weights):
    """Started together, with two seeds: one has the folder, the other says so; never both in one layer."""
    out = tmp_path / "p"
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "stjax", *map(str, words(weights, out, units="all", seed=seed))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    said = [one.communicate(timeout=200)[1] for one in running]
    assert sorted(one.returncode for one in running) == [0, 2], said
    refused = said[[one.returncode for one in running].index(2)]
    assert "one run at a time" in refused or "with one set of settings" in refused
    assert len({record.settings.seed for record in results.read(out)}) == 1
    assert len(results.read(out)) == 8


def test_reports_and_pictures_replace_their_own_kind_alone(tmp_path):
    for name, text in (("a.md", "| a | b |"), ("a.json", json.dumps({"made": files.MARK}))):
        for _ in range(2):
            files.write_text(tmp_path / name, text)
        assert (tmp_path / name).read_text().startswith(text)
    for _ in range(2):
        encode.png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
        encode.gif(tmp_path / "a.gif", np.zeros((2, 4, 4, 3), np.uint8))
    before = tree(tmp_path)
    for name in ("b.md", "b.png", "b.gif"):
        put(tmp_path / name)
        link(tmp_path / f"c{name[1:]}", tmp_path / name)
    for name in ("b.md", "c.md"):
        with pytest.raises(UsageError, match="nothing but files that stjax made may be replaced"):
            files.write_text(tmp_path / name, "other")
    for name in ("b", "c"):
        with pytest.raises(UsageError, match="nothing but files"):
            encode.png(tmp_path / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(UsageError, match="nothing but files"):
            encode.gif(tmp_path / f"{name}.gif", np.zeros((2, 4, 4, 3), np.uint8))
    assert before.items() <= tree(tmp_path).items()
    assert {path.read_text() for path in tmp_path.glob("b.*")} == {"mine"}
