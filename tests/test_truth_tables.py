"""The tables of scripts/check_truth.py: exact counts, ranges over starts, chance beside every number; a run goes on."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from stjax.analysis import recovery, scores
from stjax.training.generated import CLASSES

SCRIPTS = Path(__file__).parents[1] / "scripts"
CHI = (10.0, 0.0)
NAMES = len(recovery.NAMES)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def drawn(wrong: int = 0, chi: int = 2) -> scores.Measurements:
    """Optima whose motion matches their class's, but for the first `wrong` classes; judges 0 and 1 see all, none."""
    label = np.arange(len(CLASSES))
    correlation = np.zeros((len(CLASSES), chi, NAMES), np.float32)
    seen = np.asarray(recovery.TRUTH)[label].copy()
    seen[:wrong] = (seen[:wrong] + 1) % 4
    correlation[label, :, seen] = 1.0
    course = np.ones((len(CLASSES), chi, NAMES, 10), np.float32)
    answers = np.stack([np.repeat(label[:, None], chi, 1), np.full((len(CLASSES), chi), -1)])
    return scores.Measurements(label, correlation, course, answers, np.ones((len(CLASSES), chi, 2), np.float32))


def cell(tables, title: str, clips: str) -> list[str]:
    table = next(t for t in tables if t.title.startswith(title))
    return list(next(row for row in table.rows if row[0] == clips)[1:])


@pytest.fixture
def references():
    return {"generated clips, held out": drawn(chi=1), "chance: nothing": drawn(wrong=4, chi=1)}


def test_shares_are_counts_with_their_range_over_starts(script, references):
    tables = script("truth_tables").motion(CHI, {"a": [drawn(0), drawn(2)]}, [drawn(8)], references)
    assert cell(tables, scores.STEADY, "a") == ["19.0 (18-20)"] * 2
    assert cell(tables, scores.STEADY, "generated clips, held out") == ["20.0"] * 2
    assert cell(tables, scores.STEADY, "chance: untrained networks") == ["12.0"] * 2


def test_every_measure_of_motion_stands_beside_chance_and_beside_generated_clips(script, references):
    tables = script("truth_tables").motion(CHI, {"a": [drawn()]}, [drawn(8)], references)
    assert {t.title.partition(",")[0] for t in tables} == {m.partition(",")[0] for m in script("truth_tables").OF}
    for table in tables:
        first = [row[0] for row in table.rows]
        assert first[0] == "a"
        assert {"generated clips, held out", "chance: nothing", "chance: untrained networks"} <= set(first)
        assert "chance: the same optima, names shuffled" in first


def test_shuffled_names_are_at_chance(script, references):
    tables = script("truth_tables").motion(CHI, {"a": [drawn()]}, [], references)
    steady = [float(v) for v in cell(tables, scores.STEADY, "chance: the same optima, names shuffled")]
    # Of 28 names, 2 or 4 fit a steady optimum: 20 * 2.4 / 28.
    assert steady == pytest.approx([1.7, 1.7], abs=0.4)


def test_transfer_leaves_the_maker_out(script, references):
    tables = script("truth_tables").transfer(CHI, ["a", "b"], {"a": [drawn()], "b": [drawn()]}, [], references)
    assert cell(tables, "named right by itself", "a") == ["28.0"] * 2
    assert cell(tables, "named right by itself", "b") == ["0.0"] * 2
    assert cell(tables, "named right by the other networks", "a") == ["0.0"] * 2
    assert cell(tables, "named right by the other networks", "b") == ["28.0"] * 2


def test_a_run_is_remembered_by_its_settings_alone(script, tmp_path):
    raw = script("raw_runs")
    path = tmp_path / "one.npz"
    assert raw.stored(scores.Measurements, path, "60 steps") is None
    raw.store(path, "60 steps", drawn(3))
    for a, b in zip(raw.stored(scores.Measurements, path, "60 steps"), drawn(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert raw.stored(scores.Measurements, path, "61 steps") is None
