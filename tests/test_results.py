"""What is on disk: whole or absent, whatever goes wrong between."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import slim

from stjax import Clip, UsageError, probe
from stjax.atlas import folder, results
from stjax.atlas.plan import Job
from stjax.atlas.run import Found, Summary

VIEW = probe(slim(), "conv3_fusion")


def found(unit: int = 7, chi: float | None = 0.5, end: float = 2.0) -> Found:
    clip = Clip(np.full((1, 4, 4, 3), end, np.float32), np.full((1, 3, 4, 4, 2), -end, np.float32))
    return Found(Job(unit, chi), clip, Summary(1.0, end, 3.0, {"norm": 0.25}, Clip(1.0, 0.5)))


def write(directory, one: Found) -> dict:
    line = results.record(VIEW, one, 5.0, {"kappa": 0.5, "seed": 0})
    return results.write(directory, line, one)


def files(directory) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_job_is_stored_whole(tmp_path):
    line = write(tmp_path, found())
    assert results.read(tmp_path) == [line]
    assert files(tmp_path) == ["arrays/conv3_fusion/unit0007_chi0.5.npz", "manifest.jsonl"]
    with np.load(tmp_path / line["arrays"]) as arrays:
        for stream, stored in found().clip._asdict().items():
            np.testing.assert_array_equal(arrays[stream], stored)


@pytest.mark.parametrize(
    ("layer", "chi", "name"),
    [
        ("motion/conv4_3", 0.5, "arrays/motion/conv4_3/unit0007_chi0.5.npz"),
        ("fc6", 10.0, "arrays/fc6/unit0007_chi10.npz"),
        ("appearance/conv1_1", None, "arrays/appearance/conv1_1/unit0007.npz"),
    ],
)
def test_names_follow_layer_unit_and_chi(layer, chi, name):
    assert results.array_name(layer, Job(7, chi)) == name


@pytest.mark.parametrize("name", ["arrays/conv3_fusion/unit0007_chi0.5.npz", results.MANIFEST])
def test_a_result_alone_replaces_nothing_of_others_either(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="; move it, or choose another"):
        write(tmp_path, found())
    assert (tmp_path / name).read_text() == "mine"
    assert files(tmp_path) == [name]


def test_close_values_of_chi_do_not_share_a_file():
    assert results.array_name("fc6", Job(7, 1.0, 2)) == "arrays/fc6/unit0007_chi1_start2.npz"
    assert results.array_name("fc6", Job(7, 1.0)) != results.array_name("fc6", Job(7, 1.0 + 1e-7))


def test_a_line_holds_what_is_needed_to_see_it_again():
    line = results.record(VIEW, found(), 5.0, {"kappa": 0.5})
    assert line["window"] == VIEW.window
    assert line["padding"] == "VALID"
    assert (line["activation_start"], line["activation_end"], line["value"]) == (1.0, 2.0, 3.0)
    assert json.loads(json.dumps(line)) == line


def test_classes_bear_their_names():
    classes = probe(slim(), "classes")
    names = [results.record(classes, found(unit), 1.0, {}, ("run", "jump"))["name"] for unit in (1, 2)]
    assert names == ["jump", None]
    assert results.record(VIEW, found(1), 1.0, {}, ("run", "jump"))["name"] is None


def test_the_line_comes_only_after_the_arrays(tmp_path, monkeypatch):
    def no_room(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    write(tmp_path, found(1))
    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, found(2))
    assert [line["unit"] for line in results.read(tmp_path)] == [1]
    assert files(tmp_path) == ["arrays/conv3_fusion/unit0001_chi0.5.npz", "manifest.jsonl"]


def test_an_older_array_outlives_a_failed_write(tmp_path, monkeypatch):
    line = write(tmp_path, found(end=2.0))
    monkeypatch.setattr(np, "savez", lambda file, **arrays: file.write(b"x") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, found(end=9.0))
    assert results.read(tmp_path) == [line]
    with np.load(tmp_path / line["arrays"]) as arrays:
        assert arrays["appearance"].max() == 2.0


def test_later_lines_replace_earlier_ones(tmp_path):
    for one in (found(1, end=2.0), found(2), found(1, end=8.0), found(1, chi=None)):
        write(tmp_path, one)
    read = {(line["unit"], line["chi"]): line["activation_end"] for line in results.read(tmp_path)}
    assert read == {(1, 0.5): 8.0, (2, 0.5): 2.0, (1, None): 2.0}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_last_line_cut_short_is_a_job_not_done(tmp_path, share):
    write(tmp_path, found(1))
    whole = (tmp_path / results.MANIFEST).read_text()
    write(tmp_path, found(2))
    text = (tmp_path / results.MANIFEST).read_text()
    cut = len(whole) + int(share * (len(text) - len(whole) - 1))
    (tmp_path / results.MANIFEST).write_text(text[:cut])
    assert [line["unit"] for line in results.read(tmp_path)] == [1]


def test_work_goes_on_after_a_line_cut_short(tmp_path):
    write(tmp_path, found(1))
    path = tmp_path / results.MANIFEST
    path.write_text(path.read_text() + '{"layer": "fc')
    for unit in (2, 3):
        write(tmp_path, found(unit))
    assert [line["unit"] for line in results.read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("text", [b"", b"\n\n", b'{"layer": "fc6", "uni', b'{"la', b"\0" * 50, b'{"layer": "\xff\n{'])
def test_lines_cut_short_are_passed_over(tmp_path, text):
    (tmp_path / results.MANIFEST).write_bytes(text)
    assert results.read(tmp_path) == []


GOOD = {"layer": "fc6", "unit": 3, "chi": 0.5, "ending": "reached", "arrays": "arrays/fc6/unit0003_chi0.5.npz"}
HOSTILE = {
    "no object": "[1, 2]",
    "null": "null",
    "a number": "3",
    "no more than a name": '{"layer": "fc6"}',
    "deep": "[" * 100_000,
    "a number of 5,000 digits": '{"unit": ' + "7" * 5000 + "}",
    "other things": '{"audio": "a.wav", "text": "yes"}',
    "a table": "name,size",
} | {
    f"{name} = {value!r:.30}": json.dumps(GOOD | {name: value})
    for name, values in {
        "layer": ([], None, 3, "a\x1b[31m", "a\nb"),
        "unit": ("3", 3.0, True, -1, None, 10**12, [3]),
        "chi": ("0.5", -1, float("inf"), float("nan"), {}, 10**400, True),
        "ending": (0, None, ["dead"]),
        "gradient_max": (3, [1], {"motion": "2"}),
        "arrays": (None, 3, [], "/etc/passwd", "../a.npz", "arrays/../../a.npz", "sheets/a.npz", "arrays/\0"),
        "sha256": (3, "abc", "A" * 64),
        "name": (3, ["a"], "\x1b]0;x\x07"),
        "ahat": ("5", [], {}, None, 10**400),
        "activation_end": ("2", {}, None),
        "penalties": (3, [1], {"norm": "2"}),
        "versions": ("1", {"stjax": 1}, [["jax", "1"]]),
        "steps": (1.5, "60"),
    }.items()
    for value in values
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_stjax_does_not_write_is_refused_in_one_line(tmp_path, text):
    good = json.dumps(GOOD)
    (tmp_path / results.MANIFEST).write_text(f"{good}\n{text}\n{good}\n")
    with pytest.raises(
        UsageError, match=r"manifest.jsonl: line 2 (is none|has .*, which must be |has no names)"
    ) as told:
        results.read(tmp_path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 400


def test_other_files_are_no_manifests(tmp_path):
    for name in ("manifest-old.jsonl", "manifest.jsonl.bak", "my-manifest.jsonl", "manifest-1a.jsonl"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "manifest-12.jsonl").write_text(json.dumps(GOOD))
    assert results.read(str(tmp_path)) == [GOOD]


def test_no_manifest_is_no_results(tmp_path):
    assert results.read(tmp_path) == []


def test_a_folder_is_made_with_its_parents(tmp_path):
    folder.prepare(tmp_path / "a" / "b")
    assert files(tmp_path) == []
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, where):
    # A file in the folder's place stops root too, whom permissions do not.
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"must be writable: .*file.*; choose another with --out"):
        folder.prepare(tmp_path / where)
    assert files(tmp_path) == ["file"]
