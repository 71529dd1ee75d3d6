"""A clip of RGB is shown moving, cut along time, and with its own flow: by whom it is found, and what is drawn."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from records import film, flow, make_record, still, store_arrays
from test_displacement import texture

from stjax import arrays, figures
from stjax.atlas.movement import lacks_movement, store_movement
from stjax.errors import UsageError
from stjax.figures import color, layout, panels, sheets, slices
from stjax.figures.look import look
from stjax.figures.movement import Movement, load_movement, movement_path, save_movement
from stjax.record import Record
from stjax.video import optima

needs_library = pytest.mark.skipif(not optima.can_estimate(), reason="flow needs scikit-image")
SIDE, FRAMES = 40, 9


def sliding(step: int = 2, side: int = SIDE, frames: int = FRAMES) -> np.ndarray:
    """A texture that goes to the right."""
    big = 8 * texture(side + step * frames, 1.5)
    return np.stack([big[:side, step * (frames - t) :][:, :side] for t in range(frames)]).astype(np.float32)


def result(directory: Path, frames: np.ndarray, **changes: Any) -> Record:
    """A unit whose optimum these frames are."""
    record = make_record((film(*frames.shape[1:3], time=len(frames)),), layer="mixed", **changes)
    return store_arrays(directory, record, {"appearance": frames})


def drawn(directory: Path, **changes: Any) -> Record:
    record = result(directory, sliding(), **changes)
    store_movement(directory, record)
    figures.draw_record(directory, record)
    return record


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


# Slices


def test_speed_is_slant():
    """A bar that goes right by 2 px a frame, and a dot in it that goes down by 1."""
    frames = np.zeros((10, 30, 30, 3), np.uint8)
    for t in range(10):
        frames[t, :, 5 + 2 * t] = 99
        frames[t, 8 + t, 5 + 2 * t] = 255
    x_t, y_t = slices.x_t(frames, 4)[0, ..., 0], slices.y_t(frames, 5 + 2 * 6)[0, ..., 0]
    assert x_t.shape == y_t.shape == (30, 30)
    # Time is stretched from 10 frames to 30 px: 3 px a frame.
    assert [int(x_t[1 + 3 * t].argmax()) for t in range(10)] == [5 + 2 * t for t in range(10)]
    assert int(y_t.max(axis=0).argmax()) == 3 * 6 + 1
    assert int(y_t[:, 3 * 6 + 1].argmax()) == 8 + 6


def test_slices_are_where_the_change_is_and_not_at_the_edge():
    x = np.random.default_rng(0).normal(size=(5, 32, 48, 3)) * 0.01
    x[2, 20, 9] += 5
    x[3, 0, :] += 50
    assert slices.place(x) == (20, 9)


# Colours


def test_what_flow_does_not_explain_is_grey_however_fast():
    flow = np.zeros((1, 2, 2, 2))
    flow[0, 0] = (9, 0)
    picture = color.own_flow(flow, np.array([[[1.0, 0.2], [1.0, 0.2]]]), 9.0)[0]
    assert picture.tolist() == [[[255, 0, 0], [128] * 3], [[255] * 3, [128] * 3]]


def test_own_flow_is_full_from_its_speed_on():
    flow = np.array([[[[1.0, 0], [2, 0], [20, 0]]]])
    one = color.own_flow(flow, np.ones((1, 1, 3)), 2.0)
    assert one[0, 0].tolist() == [[255, 127, 127], [255, 0, 0], [255, 0, 0]]
    assert (color.own_flow(flow, np.ones((1, 1, 3)), 0.0) == 255).all()
    assert (color.own_flow(0 * flow, np.ones((1, 1, 3)), float("nan")) == 255).all()
    assert color.own_flow(flow, np.ones((1, 1, 3)), float("nan"))[0, 0, 2].tolist() == [255, 0, 0]


# The file


def test_movement_comes_back_as_it_was_stored(tmp_path):
    path, inputs = tmp_path / "arrays/a.npz", (film(4, time=3), film(4, time=3, name="motion"), still())
    flow = np.arange(2 * 4 * 4 * 2, dtype=np.float32).reshape(2, 4, 4, 2)
    found = Movement(flow, np.full((2, 4, 4), 0.5, np.float32), 3.0, 0.75, 0.25)
    save_movement(tmp_path, path, {"appearance": found, "motion": Movement(shifts=0.5)})
    read = load_movement(path, inputs)
    assert read.keys() == {"appearance", "motion"}
    np.testing.assert_array_equal(read["appearance"].flow, flow)
    assert read["appearance"][2:] == found[2:]
    assert read["motion"].flow is None
    assert (read["appearance"].words, read["motion"].words) == ("flow explains 75%", "shifts explain 50%")
    numbers = load_movement(path, inputs, numbers=True)["appearance"]
    assert (numbers.flow, numbers.share) == (None, 0.75)
    # Of a clip of another length, and of a stream that is flow.
    assert load_movement(path, (film(4, time=4),))["appearance"].flow is None
    assert Movement().words == ""


def test_a_damaged_file_says_nothing_and_somebody_elses_is_kept(tmp_path):
    path = tmp_path / "arrays/a.npz"
    assert load_movement(path, (film(4, time=3),)) == {}
    movement_path(path).parent.mkdir()
    movement_path(path).write_bytes(b"PK half of it")
    assert load_movement(path, (film(4, time=3),)) == {}
    with pytest.raises(UsageError, match="somebody else's"):
        save_movement(tmp_path, path, {"appearance": Movement()})


# Who finds it


@needs_library
def test_an_optimum_that_moves_is_found_to_move(tmp_path):
    record = drawn(tmp_path)
    seen = load_movement(tmp_path / record.arrays, record.inputs)["appearance"]
    assert seen.flow is not None
    np.testing.assert_allclose(np.median(seen.flow, axis=(0, 1, 2)), [2, 0], atol=0.1)
    assert seen.share > 0.9 < seen.shifts
    assert not lacks_movement(tmp_path, record)
    assert not figures.lacks_pictures(tmp_path, record)
    stem = tmp_path / "arrays/mixed/unit0003_chi0.5-appearance"
    with Image.open(f"{stem}-flow.gif") as image:
        image.seek(4)
        shown = np.asarray(image.convert("RGB"))[30:-30, 30:-30].astype(int)
    # Red is to the right.
    assert shown[..., 0].mean() > 200 > 120 > shown[..., 1:].mean()


def test_without_the_library_all_the_rest_is_drawn(tmp_path, no_library):
    record = drawn(tmp_path)
    seen = load_movement(tmp_path / record.arrays, record.inputs)["appearance"]
    assert seen.flow is None
    assert seen.shifts > 0.9
    assert not lacks_movement(tmp_path, record)
    assert not figures.lacks_pictures(tmp_path, record)
    names = {path.name.partition("appearance")[2] for path in (tmp_path / "arrays/mixed").glob("*appearance*")}
    assert names == {".png", ".gif", "-xt.png", "-yt.png"}
    plan = sheets._Plan.of(tmp_path, [record])
    sheet = plan.sheet("mixed", "frames", still=True)
    cell = plan.row([record], "frames", sheet).cells[0]
    assert cell.more[1] == "shifts explain 100%"
    assert any((picture == layout.placeholder(sheet.side, "no scikit-image")).all() for _, _, picture in cell.placed)
    figures.draw_layer(tmp_path, [record])
    page = figures.write_index(tmp_path, [record]).read_text(encoding="utf-8")
    assert page.count("no scikit-image") == 1
    assert "shifts explain 100%" in page


@needs_library
def test_the_flow_is_found_once_the_library_is_there(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        record = drawn(tmp_path)
    assert lacks_movement(tmp_path, record)
    store_movement(tmp_path, record)
    assert figures.lacks_pictures(tmp_path, record)
    figures.draw_record(tmp_path, record)
    assert not lacks_movement(tmp_path, record)
    assert not figures.lacks_pictures(tmp_path, record)


def test_what_cannot_be_seen_has_no_movement(tmp_path):
    record = drawn(tmp_path)
    path = movement_path(tmp_path / record.arrays)
    assert path.exists()
    for ending in ("dead", "no gradient from this start"):
        store_movement(tmp_path, replace(record, ending=ending))
        assert not path.exists()
        assert not lacks_movement(tmp_path, replace(record, ending=ending))
    for frames in (np.full((3, 12, 12, 3), np.nan, np.float32), np.zeros((3, 12, 12, 3), np.float32)):
        record = result(tmp_path, frames)
        store_movement(tmp_path, record)
        assert load_movement(tmp_path / record.arrays, record.inputs).keys() <= {"appearance"}
        figures.draw_record(tmp_path, record)
    (tmp_path / record.arrays).write_bytes(b"PK half of it")
    store_movement(tmp_path, record)
    assert not path.exists()


def test_stills_and_flow_have_no_movement(tmp_path):
    inputs = (still(), flow(fields=2))
    record = make_record(inputs)
    record = store_arrays(tmp_path, record, {each.name: np.ones(each.shape, np.float32) for each in inputs})
    store_movement(tmp_path, record)
    assert not lacks_movement(tmp_path, record)
    assert not movement_path(tmp_path / record.arrays).exists()


def test_hardly_any_pixels_or_frames_are_drawn_all_the_same(tmp_path):
    for shape in ((2, 5, 7, 3), (1, 12, 12, 3), (3, 9, 8, 3)):
        frames = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        record = result(tmp_path, frames)
        store_movement(tmp_path, record)
        assert not lacks_movement(tmp_path, record)
        assert figures.draw_record(tmp_path, record)
        assert figures.draw_layer(tmp_path, [record])
    assert figures.SMALLEST_CLIP == optima.SMALLEST


# Sheets


@needs_library
def test_a_still_sheet_shows_frames_and_below_them_slices_and_flow(tmp_path):
    record = drawn(tmp_path)
    seen, plan = look(tmp_path, record), sheets._Plan.of(tmp_path, [record])
    sheet = plan.sheet("mixed", "frames", still=True)
    cell = plan.row([record], "frames", sheet).cells[0]
    step = sheet.side + layout.TILE_GAP
    places = {(x // step, y // step): picture[0] for x, y, picture in cell.placed}
    assert places.keys() == {(x, y) for x in range(5) for y in range(2)}

    def at(view: str, number: int) -> np.ndarray:
        return layout.resize(seen.pictures[view][[number]], sheet.side)[0]

    assert (places[0, 1] == at("appearance-xt", 0)).all()
    assert (places[4, 1] == at("appearance-yt", 0)).all()
    for tile, number in enumerate(sheet.columns[0].tiles):
        # All but the marks at the edges.
        assert (places[tile, 0] == at("appearance", number)).mean() > 0.98
        if 0 < tile < 4:
            assert (places[tile, 1] == at("appearance-flow", number)).all()
    assert cell.aside in ("flow to 2 px/frame", "flow to 2.1 px/frame")
    assert cell.more[1] in [f"flow explains {n}%" for n in range(90, 101)]
    row, column = seen.places["appearance"]
    assert cell.more[0] == f"row {row}, column {column}"


@needs_library
def test_a_moving_sheet_plays_the_clip_and_its_flow_beside_slices_that_tell_the_time(tmp_path):
    record = drawn(tmp_path)
    plan = sheets._Plan.of(tmp_path, [record])
    sheet = plan.sheet("mixed", "frames", still=False)
    clip, y_t, x_t, own = (picture for _, _, picture in plan.row([record], "frames", sheet).cells[0].placed)
    assert [len(each) for each in (clip, y_t, x_t, own)] == [FRAMES] * 4
    later = [np.flatnonzero((x_t[t] != x_t[0]).any(axis=(1, 2))).max() for t in range(1, FRAMES)]
    assert later == sorted(later)
    assert len(set(later)) == FRAMES - 1
    # In the middle of the first frame's stripe, and of the last one's.
    stripe = sheet.side // (2 * FRAMES)
    changed = np.flatnonzero((y_t[-1] != y_t[0]).any(axis=(0, 2)))
    assert changed.tolist() == [stripe, sheet.side - 1 - stripe]


def test_marks_are_at_the_row_and_the_column_of_the_slices():
    frames = np.zeros((1, 60, 60, 3), np.uint8)
    beside = panels.Panels(frames, frames, None, "none", (0.75, 0.25), (30, 60))
    shown = panels.still(np.zeros((1, 60, 60, 3), np.uint8), beside, 60, (0,))[0][2][0, ..., 0]
    y, x = np.nonzero(shown)
    # The clip is half as high as the tile, in its middle.
    assert set(y[(x < 3) | (x > 56)]) == {15 + 22}
    assert set(x[(y < 18) | (y > 41)]) == {15}


def test_a_sheet_of_clips_stays_within_its_page(tmp_path):
    found = [result(tmp_path, sliding(), unit=unit, chi=chi) for unit in range(3) for chi in (10.0, 5.0, 1.0, 0.0)]
    for path in figures.draw_layer(tmp_path, found):
        limit = sheets.STILL_PAGE if path.suffix == ".png" else sheets.MOVING_PAGE
        with Image.open(path) as image:
            assert image.size[0] <= limit[0]
            assert image.size[1] <= limit[1]


def test_the_array_of_a_result_is_read_in_parts(tmp_path):
    digest = arrays.save(tmp_path / "a.npz", {"one": np.ones(2), "two": np.zeros(3)})
    assert arrays.load(tmp_path / "a.npz", digest, only={"two", "three"}).keys() == {"two"}
