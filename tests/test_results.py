"""What is on disk: whole or absent, whatever goes wrong between."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import slim
from records import film, make_record

from stjax import Clip, Model, Request, Statistics, UsageError
from stjax.atlas import folder, results, resume
from stjax.atlas.plan import Job
from stjax.atlas.run import Result, Summary
from stjax.record import SCHEMA, Record, Settings

NETWORK = slim()
LAYERS = {layer.name: layer.units for layer in NETWORK.layers}


def ask(layer: str = "conv3_fusion", **changes) -> Request:
    """A request of the slim network, whose ahat is 5 for every unit."""
    statistics = {
        "ahat": {name: np.full(units, 5.0) for name, units in LAYERS.items()},
        "provenance": "made up",
        "rough": {"fc4": "over two clips"},
        "floored": {"classes": (1,)},
    }
    model = Model(name="slim", network=NETWORK, params={}, statistics=Statistics(**statistics),
                  class_names=("run", "jump"), checksum="abc")  # fmt: skip
    return Request(model=model, layer=layer, units=[0, 1, 2], chi=[0.5], kappa=0.5, chunk=8, **changes)


REQUEST = ask()
SETTINGS = resume.identify(REQUEST)


def result(
    unit: int = 7, chi: float | None = 0.5, end: float = 2.0, request: Request = REQUEST, start: int = 0
) -> Result:
    shapes = request.probe.canvas()
    clip = Clip(*(None if x is None else np.full(x.shape, end, np.float32) for x in shapes))
    return Result(Job(unit, chi, start), clip, Summary(1.0, end, 3.0, {"norm": 0.25}, Clip(1.0, 0.5)))


def write(directory, one: Result, request: Request = REQUEST) -> Record:
    return results.write(directory, request, resume.identify(request), one)


def files(directory) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_job_is_stored_whole(tmp_path):
    line = write(tmp_path, result())
    assert results.read(tmp_path) == [line]
    assert files(tmp_path) == ["arrays/conv3_fusion/unit0007_chi0.5.npz", "manifest.jsonl"]
    with np.load(tmp_path / line.arrays) as arrays:
        for stream, stored in result().clip._asdict().items():
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
        write(tmp_path, result())
    assert (tmp_path / name).read_text() == "mine"
    assert files(tmp_path) == [name]


def test_close_values_of_chi_do_not_share_a_file():
    assert results.array_name("fc6", Job(7, 1.0, 2)) == "arrays/fc6/unit0007_chi1_start2.npz"
    assert results.array_name("fc6", Job(7, 1.0)) != results.array_name("fc6", Job(7, 1.0 + 1e-7))


@pytest.mark.parametrize("layer", ["../up", "/etc/x", "a//b", "", ".", "a/../../b", "a\0b", "a\nb", "a\\b"])
def test_a_layer_whose_name_no_folder_can_have_is_refused(layer):
    with pytest.raises(UsageError, match="a layer must have a name that folders can have"):
        results.array_name(layer, Job(0, None))


def test_a_record_holds_what_is_needed_to_see_it_again(tmp_path):
    """And comes back from its line as it was."""
    record = write(tmp_path, result())
    assert record.inputs == REQUEST.probe.inputs
    assert {each.name: (each.kind, each.slow) for each in record.inputs} == {
        "appearance": ("rgb", None), "motion": ("flow", "fields")}  # fmt: skip
    assert (record.role, record.whole, record.rho) == ("convolution", False, REQUEST.probe.rho)
    assert (record.activation_start, record.activation_end, record.value, record.ahat) == (1.0, 2.0, 3.0, 5.0)
    assert record.gradient_max == {"appearance": 1.0, "motion": 0.5}
    assert record.settings == SETTINGS
    assert (SETTINGS.kappa, SETTINGS.weights, SETTINGS.chunk) == (0.5, "abc", 8)
    assert Record.from_json(record.to_json()) == record
    assert (tmp_path / results.MANIFEST).read_text() == record.to_json() + "\n"


def test_classes_bear_their_names(tmp_path):
    classes, rough = ask("classes"), ask("fc4")
    written = [write(tmp_path, result(unit, request=classes), classes) for unit in (0, 1, 2)]
    assert [record.name for record in written] == ["run", "jump", None]
    assert {record.role for record in written} == {"classes"}
    assert write(tmp_path, result(1)).name is None
    assert write(tmp_path, result(1, request=rough), rough).settings.rough == "over two clips"


def test_the_ending_knows_a_unit_whose_ahat_is_a_floor(tmp_path):
    classes = ask("classes")
    still = Summary(0.0, 0.0, 0.0, {}, Clip(0.0, 0.0))
    written = [write(tmp_path, result(unit, request=classes)._replace(summary=still), classes) for unit in (0, 1)]
    assert [record.ending for record in written] == ["no gradient from this start", "dead"]


def test_the_line_comes_only_after_the_arrays(tmp_path, monkeypatch):
    def no_room(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    write(tmp_path, result(1))
    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, result(2))
    assert [line.unit for line in results.read(tmp_path)] == [1]
    assert files(tmp_path) == ["arrays/conv3_fusion/unit0001_chi0.5.npz", "manifest.jsonl"]


def test_an_older_array_outlives_a_failed_write(tmp_path, monkeypatch):
    line = write(tmp_path, result(end=2.0))
    monkeypatch.setattr(np, "savez", lambda file, **arrays: file.write(b"x") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, result(end=9.0))
    assert results.read(tmp_path) == [line]
    with np.load(tmp_path / line.arrays) as arrays:
        assert arrays["appearance"].max() == 2.0


def test_later_lines_replace_earlier_ones(tmp_path):
    for one in (result(1, end=2.0), result(2), result(1, end=8.0), result(1, chi=None)):
        write(tmp_path, one)
    read = {(line.unit, line.chi): line.activation_end for line in results.read(tmp_path)}
    assert read == {(1, 0.5): 8.0, (2, 0.5): 2.0, (1, None): 2.0}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_last_line_cut_short_is_a_job_not_done(tmp_path, share):
    write(tmp_path, result(1))
    whole = (tmp_path / results.MANIFEST).read_text()
    write(tmp_path, result(2))
    text = (tmp_path / results.MANIFEST).read_text()
    cut = len(whole) + int(share * (len(text) - len(whole) - 1))
    (tmp_path / results.MANIFEST).write_text(text[:cut])
    assert [line.unit for line in results.read(tmp_path)] == [1]


def test_work_goes_on_after_a_line_cut_short(tmp_path):
    write(tmp_path, result(1))
    path = tmp_path / results.MANIFEST
    path.write_text(path.read_text() + '{"schema": 1, "layer": "fc')
    for unit in (2, 3):
        write(tmp_path, result(unit))
    assert [line.unit for line in results.read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b'{"schema": 1, "layer": "fc6", "uni', b'{"sch', b"\0" * 50, b'{"schema": "\xff\n{']
)
def test_lines_cut_short_are_passed_over(tmp_path, text):
    (tmp_path / results.MANIFEST).write_bytes(text)
    assert results.read(tmp_path) == []


GOOD = json.loads(make_record().to_json())
HOSTILE = {
    "no object": "[1, 2]",
    "null": "null",
    "a number": "3",
    "no more than a schema": f'{{"schema": {SCHEMA}}}',
    "no schema": '{"name": "fc6"}',
    "deep": "[" * 100_000,
    "a number of 5,000 digits": '{"unit": ' + "7" * 5000 + "}",
    "other things": '{"audio": "a.wav", "text": "yes"}',
    "a table": "name,size",
    "a schema that is none": json.dumps(GOOD | {"schema": "1"}),
    "another name": json.dumps(GOOD | {"note": "mine"}),
    "another setting": json.dumps(GOOD | {"settings": GOOD["settings"] | {"note": "mine"}}),
    "no settings": json.dumps(GOOD | {"settings": None}),
    "an input of another kind": json.dumps(GOOD | {"inputs": {"motion": {"kind": "x", "shape": [1], "slow": None}}}),
}
HOSTILE |= {f"without {name}": json.dumps({n: x for n, x in GOOD.items() if n != name}) for name in list(GOOD)[1:]}
HOSTILE |= {
    f"{name} = {value!r:.30}": json.dumps(
        GOOD | ({"settings": GOOD["settings"] | {name: value}} if name in GOOD["settings"] else {name: value})
    )
    for name, values in {
        "layer": ([], None, 3, "a\x1b[31m", "a\nb"),
        "role": ("other", None, []),
        "unit": ("3", 3.0, True, -1, None, 10**12, [3]),
        "chi": ("0.5", -1, float("inf"), float("nan"), {}, 10**400, True),
        "start": (None, -1, 1.5),
        "inputs": (None, [], {}, {"audio": 3}, {"motion": {}}, {"motion": [1]}, {"motion": {"kind": [], "shape": [1]}}),
        "ending": (0, None, ["dead"], "well"),
        "gradient_max": (3, [1], {"motion": "2"}, None),
        "arrays": (None, 3, [], "/etc/passwd", "../a.npz", "arrays/../../a.npz", "sheets/a.npz", "arrays/\0"),
        "sha256": (3, "abc", "A" * 64, None),
        "name": (3, ["a"], "\x1b]0;x\x07"),
        "ahat": ("5", [], {}, None, 10**400),
        "whole": (0, None, "yes"),
        "activation_end": ("2", {}, None),
        "penalties": (3, [1], {"norm": "2"}),
        "versions": ("1", {"stjax": 1}, [["jax", "1"]]),
        "steps": (1.5, "60"),
        "seed": (-1, 2**64, 0.5),
        "bound": ("160", {"rgb": "160"}, None),
        "mean": (128, [1, 2], [1, 2, "3"]),
        "identity": ("abc", None, 16 * "G"),
        "rough": (3, "a\x1b[31m"),
    }.items()
    for value in values
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_stjax_does_not_write_is_refused_in_one_line(tmp_path, text):
    good = json.dumps(GOOD)
    (tmp_path / results.MANIFEST).write_text(f"{good}\n{text}\n{good}\n")
    with pytest.raises(UsageError, match=r"manifest.jsonl: line 2: .*; move it, or choose another") as told:
        results.read(tmp_path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500


OLDER = '{"layer": "fc6", "unit": 3, "chi": 0.5, "ending": "reached", "arrays": "arrays/fc6/unit0003_chi0.5.npz"}'
VERSIONS = {
    "older": (OLDER, "older"),
    "older, its keys in another order": (json.dumps(dict(reversed(json.loads(OLDER).items()))), "older"),
    "older, cut short": (OLDER[:30], "older"),
    "newer": (json.dumps(GOOD | {"schema": SCHEMA + 1, "more": 3}), "newer"),
}


@pytest.mark.parametrize(("text", "age"), VERSIONS.values(), ids=VERSIONS.keys())
def test_a_folder_of_another_version_is_refused_and_stays(tmp_path, text, age):
    (tmp_path / results.MANIFEST).write_text(f"{text}\n")
    with pytest.raises(UsageError) as told:
        write(tmp_path, result())
    assert str(told.value) == (
        f"a folder must be filled by one version of stjax: {tmp_path} holds results of one that is {age} than this; "
        "they stay as they are; choose another folder with --out"
    )
    assert files(tmp_path) == [results.MANIFEST]
    assert (tmp_path / results.MANIFEST).read_text() == f"{text}\n"


def test_other_files_are_no_manifests(tmp_path):
    for name in ("manifest-old.jsonl", "manifest.jsonl.bak", "my-manifest.jsonl", "manifest-1a.jsonl"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "manifest-12.jsonl").write_text(json.dumps(GOOD))
    assert results.read(str(tmp_path)) == [make_record()]


UNUSUAL = {
    "bounds by kind": make_record(settings={"bound": {"rgb": 160.0, "flow": 40.0}}),
    "no numbers": make_record(activation_end=float("inf"), value=float("-inf")),
    "a film of its own": make_record((film(9, 13),), chi=0.0, layer="block1/conv", name="a name, ü", start=2),
    "a seed of 64 bits": make_record(settings={"seed": 2**64 - 1, "initial": 16 * "f", "rough": "over two clips"}),
}


@pytest.mark.parametrize("record", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_a_record_comes_back_from_its_line(record):
    text = record.to_json()
    assert Record.from_json(text) == Record.from_json(text.encode()) == record
    assert "\n" not in text


def test_a_line_names_every_field_and_its_schema_first(tmp_path):
    line = json.loads(make_record().to_json())
    assert list(line) == ["schema", *(each.name for each in fields(Record))]
    assert list(line["settings"]) == [each.name for each in fields(Settings)]
    assert make_record() != replace(make_record(), unit=4)


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
