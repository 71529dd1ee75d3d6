"""Pictures are drawn beside the work, by a thread or by processes, and nothing is left out unnoticed."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from records import flow, make_record, store_arrays

from stjax import figures
from stjax.figures import drawer
from stjax.record import Record


@pytest.fixture
def records(tmp_path) -> list[Record]:
    inputs = (flow(8, fields=2),)
    made = [make_record(inputs, layer="motion/conv1_1", unit=unit) for unit in range(3)]
    arrays = [{"motion": np.full((1, 2, 8, 8, 2), unit + 1.0, np.float32)} for unit in range(3)]
    return [store_arrays(tmp_path, record, each) for record, each in zip(made, arrays, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1], ids=["a thread", "a process"])
def test_everything_added_is_drawn_at_the_end(tmp_path, records, workers):
    assert all(figures.lacks_pictures(tmp_path, record) for record in records)
    with figures.Drawer(tmp_path, workers) as drawing:
        for record in records:
            drawing.add(record)
    assert not any(figures.lacks_pictures(tmp_path, record) for record in records)


def test_an_error_comes_back_and_the_rest_is_drawn_all_the_same(tmp_path, records):
    (tmp_path / records[0].arrays).unlink()

    def draw():
        with figures.Drawer(tmp_path) as drawing:
            for record in records:
                drawing.add(record)

    with pytest.raises(ValueError, match="which is not there"):
        draw()
    assert [figures.lacks_pictures(tmp_path, record) for record in records] == [True, False, False]


def test_ctrl_c_leaves_out_what_was_not_begun(tmp_path, records, monkeypatch):
    begun, go_on = [], threading.Event()
    monkeypatch.setattr(drawer, "draw_record", lambda *arguments: begun.append(arguments) or go_on.wait(60))

    def draw():
        with figures.Drawer(tmp_path) as drawing:
            for record in records:
                drawing.add(record)
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert len(begun) <= 1


def test_a_dead_unit_lacks_no_picture(tmp_path, records):
    assert not figures.lacks_pictures(tmp_path, replace(records[0], ending="dead"))
    assert not figures.lacks_pictures(tmp_path, replace(records[0], activation_end=float("nan")))


def test_a_damaged_array_has_no_picture(tmp_path, records):
    (tmp_path / records[0].arrays).write_bytes(b"PK half of it")
    assert figures.draw_record(tmp_path, records[0]) == []
