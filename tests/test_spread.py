"""Several optima of one unit: how far they are one, as the page says it."""

from __future__ import annotations

import numpy as np
import pytest
from records import make_record, still, store_arrays

from stjax import figures
from stjax.figures.spread import describe_spreads, spreads

RNG = np.random.default_rng(0)
SAME, OTHER = (RNG.normal(size=(1, 8, 8, 3)).astype(np.float32) for _ in range(2))


def finish(tmp_path, start, picture, value, unit=4):
    record = make_record((still(8),), layer="appearance/conv3_1", unit=unit, start=start, value=value)
    record = store_arrays(tmp_path, record, {"appearance": picture})
    figures.draw_record(tmp_path, record)
    return record


def test_correlation_is_numpy_s_own_and_whole_for_one_picture(tmp_path):
    records = [finish(tmp_path, start, x, 10.0 + start) for start, x in enumerate((SAME, 2 * SAME + 5, OTHER))]
    (found,) = spreads(tmp_path, records)
    (once,) = spreads(tmp_path, records[:2])
    assert once.correlation == pytest.approx(1.0, abs=1e-6)
    pairs = np.corrcoef([SAME.ravel(), SAME.ravel(), OTHER.ravel()])
    assert found.correlation == pytest.approx((pairs[0, 1] + pairs[0, 2] + pairs[1, 2]) / 3, abs=1e-6)
    assert (found.unit, found.values) == (4, (10.0, 11.0, 12.0))
    said = f"their values differ by 18.2%, their optima correlate at {found.correlation:.2f}"
    assert said in describe_spreads([found])


def test_one_start_has_no_spread(tmp_path):
    records = [finish(tmp_path, 0, SAME, 1.0), finish(tmp_path, 0, OTHER, 2.0, unit=5)]
    assert (spreads(tmp_path, records), describe_spreads([])) == ([], "")


def test_starts_stand_side_by_side(tmp_path):
    """On the sheet one column each; on the page too, with their spread below the first."""
    records = [finish(tmp_path, start, x, 10.0) for start, x in enumerate((SAME, OTHER))]
    (sheet,) = figures.draw_layer(tmp_path, records)
    alone = tmp_path / "alone"
    alone.mkdir()
    (narrow,) = figures.draw_layer(alone, [finish(alone, 0, SAME, 10.0)])
    pictures = [_columns(path) for path in (sheet, narrow)]
    assert pictures == [2, 1]
    page = figures.write_index(tmp_path, records).read_text()
    assert page.count("start 1</th>") == 1
    assert page.count("2 starts: value 10 to 10, correlation") == 1
    assert "unit0004_start1-appearance.png" in page


def _columns(path):
    """Cells in a row of a sheet: runs of coloured pixels, which nothing else on it is."""
    from PIL import Image

    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    coloured = (np.ptp(picture, axis=-1) > 20).any(axis=0)
    runs = np.flatnonzero(np.diff(np.pad(coloured, 1).astype(int)) == 1)
    return int((np.diff(runs, prepend=-100) > 12).sum())
