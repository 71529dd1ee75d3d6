"""From requests of networks that are none of ours to a folder to look at, and back to it."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import toys
from PIL import Image
from rich.console import Console

from stjax import FAST, Request, Statistics, UsageError, figures
from stjax.atlas import results, session
from stjax.atlas.meeting import Meeting
from stjax.user_model import wrap

RECIPE = dataclasses.replace(FAST, steps=5)


def visualize(out, model, layer: str, **changes) -> str:
    """Units 0 and 1 at chi 10, 1 and 0; what was said on the way."""
    settings = {"units": [0, 1], "chi": [10, 1, 0], "recipe": RECIPE, "chunk": 6} | changes
    said = io.StringIO()
    request = Request(model=model, layer=layer, **settings)
    assert session.visualize(out, [request], Meeting(), Console(file=said))
    return said.getvalue()


def own_model(name: str, **ahat: int):
    module, params, clip = getattr(toys, name)()
    known = Statistics({layer: np.ones(units) for layer, units in ahat.items()}, "made up")
    return wrap(module, params, clip, name=name, statistics=known)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two streams of frames, both moving."""
    out, model = tmp_path_factory.mktemp("films"), own_model("two_rgb", both=7)
    visualize(out, model, "both")
    return out, model


def test_streams_that_move_are_found_at_each_chi_and_drawn_as_clips(films):
    out, _ = films
    records = results.read(out)
    assert [(record.unit, record.chi) for record in records] == [(u, c) for u in (0, 1) for c in (10.0, 1.0, 0.0)]
    assert {(each.name, each.kind, each.slow) for record in records for each in record.inputs} == {
        ("appearance", "rgb", "time"), ("motion", "rgb", "time")}  # fmt: skip
    names = ["both-frames-1.gif", "both-frames-1.png", "key-direction.png"]
    assert sorted(path.name for path in (out / "sheets").iterdir()) == names
    for record in records:
        with np.load(out / record.arrays) as arrays:
            assert {stream: arrays[stream].shape for stream in arrays.files} == {
                each.name: each.shape for each in record.inputs
            }
        for each in record.inputs:
            path = out / record.arrays.replace(".npz", f"-{each.name}.gif")
            with Image.open(path) as clip:
                assert getattr(clip, "n_frames", 1) > 1 or record.chi == 10.0
        moved = figures.load_movement(out / record.arrays, record.inputs)
        assert moved.keys() == {"appearance", "motion"}
        # A unit sees 3 px: too few for flow.
        assert all(each.flow is None for each in moved.values())
    assert "too small" in (out / "index.html").read_text()
    assert "Motion as" not in (out / "index.html").read_text()


def test_chi_makes_what_moves_slow(films):
    out, _ = films
    changes = {}
    for record in results.read(out):
        with np.load(out / record.arrays) as arrays:
            changes[record.unit, record.chi] = sum(np.square(np.diff(arrays[s], axis=0)).sum() for s in arrays.files)
    for unit in (0, 1):
        assert changes[unit, 10.0] < changes[unit, 1.0] < changes[unit, 0.0]


def test_the_same_requests_again_find_nothing_and_others_are_refused(films, monkeypatch):
    out, model = films
    before = (out / results.MANIFEST).read_bytes()
    monkeypatch.setattr("stjax.atlas.run.run_jobs", lambda *_, **__: pytest.fail("nothing is to be found"))
    visualize(out, model, "both")
    assert (out / results.MANIFEST).read_bytes() == before
    with pytest.raises(UsageError, match=r"has both with seed 0 \(now 7\); choose another with --out"):
        visualize(out, model, "both", seed=7)


def test_an_image_network_is_run_without_chi_and_stands_still(tmp_path):
    visualize(tmp_path, own_model("still", second=8), "second")
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [(line["unit"], line["chi"]) for line in lines] == [(0, None), (1, None)]
    pictures = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.[pg][ni][gf]")]
    assert sorted(pictures) == [
        "arrays/second/unit0000-appearance.png", "arrays/second/unit0001-appearance.png", "sheets/second-frames-1.png",
    ]  # fmt: skip
    assert "&chi;" not in (tmp_path / "index.html").read_text()


def test_a_film_in_windows_that_are_not_square_has_a_column_for_each_chi(tmp_path):
    visualize(tmp_path, own_model("video", **{"mixed/concat": 8}), "mixed/concat", chunk=1)
    (record, *_) = results.read(tmp_path)
    assert record.arrays == "arrays/mixed/concat/unit0000_chi10.npz"
    _, height, width, _ = record.inputs[0].shape
    with Image.open(tmp_path / "arrays/mixed/concat/unit0000_chi10-appearance.png") as picture:
        assert picture.width * height == picture.height * width
    assert (tmp_path / "sheets/mixed/concat-frames-1.gif").exists()
    assert (tmp_path / "index.html").read_text().count('<th scope="col">&chi; = ') == 3
