"""Pictures are drawn beside the work, by a thread or by processes, and nothing is left out unnoticed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stjax import figures
from stjax.figures import drawer


@pytest.fixture
def records(tmp_path) -> list[dict]:
    made = []
    for unit in range(3):
        name = f"unit{unit}.npz"
        np.savez(tmp_path / name, motion=np.full((1, 2, 8, 8, 2), unit + 1.0, np.float32))
        made.append({"layer": "motion/conv1_1", "unit": unit, "chi": 1.0, "ending": "reached", "arrays": name})
    return made


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1], ids=["a thread", "a process"])
def test_everything_added_is_drawn_at_the_end(tmp_path, records, workers):
    assert all(figures.lacking(tmp_path, record) for record in records)
    with figures.Drawer(tmp_path, 0.0, workers) as drawing:
        for record in records:
            drawing.add(record)
    assert not any(figures.lacking(tmp_path, record) for record in records)


def test_an_error_comes_back_and_the_rest_is_drawn_all_the_same(tmp_path, records):
    (tmp_path / records[0]["arrays"]).unlink()

    def draw():
        with figures.Drawer(tmp_path, 0.0) as drawing:
            for record in records:
                drawing.add(record)

    with pytest.raises(ValueError, match="which is not there"):
        draw()
    assert [figures.lacking(tmp_path, record) for record in records] == [True, False, False]


def test_ctrl_c_leaves_out_what_was_not_begun(tmp_path, records, monkeypatch):
    begun, go_on = [], threading.Event()
    monkeypatch.setattr(drawer, "draw_record", lambda *arguments: begun.append(arguments) or go_on.wait(60))

    def draw():
        with figures.Drawer(tmp_path, 0.0) as drawing:
            for record in records:
                drawing.add(record)
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert len(begun) <= 1


def test_a_dead_unit_lacks_no_picture(tmp_path, records):
    assert not figures.lacking(tmp_path, records[0] | {"ending": "dead"})
    assert not figures.lacking(tmp_path, records[0] | {"activation_end": float("nan")})


def test_a_damaged_array_has_no_picture(tmp_path, records):
    (tmp_path / records[0]["arrays"]).write_bytes(b"PK half of it")
    assert figures.draw_record(tmp_path, records[0], 0.0) == []
