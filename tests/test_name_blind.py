"""scripts/name_blind.py: answers are counted beside chance, and tiles show each clip in a row of its own."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from stjax import UsageError

KEY = {"A": "bowling", "B": "archery", "C": "ice skating"}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("name_blind")


@pytest.fixture
def blind(tmp_path):
    (tmp_path / "key.json").write_text(json.dumps({"key": KEY}))
    return tmp_path


def answered(folder: Path, text: str) -> Path:
    path = folder / "answers.txt"
    path.write_text(text)
    return path


def test_what_is_right_and_what_wrong(script, blind):
    text = script.judge(answered(blind, "A: bowling\n\nB:ice skating\n"), blind)
    assert text.splitlines() == [
        "1 of 3 named right; by chance so many or more: 0.67",
        "right: bowling",
        "wrong: archery (as ice skating), ice skating (as nothing)",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A bowling", "an answer must be a line such as"),
        ("D: bowling", "an answer must be a line such as"),
        ("A: bowlin", "must be one of names.txt: 'bowlin' is not; nearest: bowling"),
    ],
)
def test_what_is_no_answer(script, blind, line, message):
    with pytest.raises(UsageError, match=message):
        script.judge(answered(blind, line), blind)


def test_chance_is_that_of_random_permutations(script):
    fixed = [sum(i == place for i, place in enumerate(order)) for order in itertools.permutations(range(6))]
    for right in range(7):
        assert script.tail(right, 6) == pytest.approx(np.mean(np.asarray(fixed) >= right), abs=1e-12)


def test_a_tile_has_a_row_for_each_clip(script):
    rising = np.broadcast_to(np.arange(8.0)[:, None], (4, 8, 8, 3)).astype(np.float32)
    clips = [rising, -rising]
    shown = script.tile(clips, (127.5,) * 3, 3)
    side, gap = script.SIDE, script.GAP
    assert shown.shape == (2 * (side + gap), 3 * (side + gap), 3)
    for row, (left, right) in enumerate([(0, 255), (255, 0)]):
        middle = shown[row * (side + gap) + side // 2]
        assert (middle[[0, side - 1], 0] == [left, right]).all()
    assert (shown[side : side + gap] == 255).all()
