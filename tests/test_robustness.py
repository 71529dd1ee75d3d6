"""What the comparison of recipes measures: disturbances against plain loops, and real patches in their places."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params
from test_displacement import texture
from test_i3d import slim as slim_i3d
from test_views import NAMES, Brightness

import stjax
from stjax import Clip, probe
from stjax.analysis import views
from stjax.ascent.recipes import FAST
from stjax.model import Statistics
from stjax.networks import geometry
from stjax.preprocess import Preprocessing

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "benchmark"))

import compare_recipes
import references
import robustness


@pytest.mark.parametrize("margin", [0, 4])
def test_shares_are_those_of_plain_slices(network, params, margin):
    window = probe(network, "conv3_fusion")
    rho = window.inputs[0].length("height")
    wide = draw_clip(network, 2, side=rho + 2 * margin)
    model = SimpleNamespace(params=params, preprocessing=Preprocessing())
    units = np.asarray([1, 6])
    a, left = robustness.kept(window, FAST.bind(window), model, units, wide, margin)

    def alone(change):
        _, maps = window.network.apply({"params": params}, Clip(*(jnp.asarray(change(np.asarray(x))) for x in wide)))
        return np.asarray([float(maps[window.layer.name][job, 0, 0, 0, unit]) for job, unit in enumerate(units)])

    def moved(x, down, right):
        edge = 4 - margin
        pads = [(0, 0)] * (x.ndim - 3) + [(edge, edge), (edge, edge), (0, 0)]
        return np.pad(x, pads, mode="edge")[..., 4 + down : 4 + down + rho, 4 + right : 4 + right + rho, :]

    np.testing.assert_allclose(a, alone(lambda x: moved(x, 0, 0)), rtol=1e-4)
    assert tuple(left) == robustness.KINDS
    for n in robustness.SHIFTS:
        four = [alone(lambda x, d=d: moved(x, *d)) for d in ((n, 0), (-n, 0), (0, n), (0, -n))]
        np.testing.assert_allclose(left[f"{n} px"], np.mean(four, axis=0) / a, rtol=1e-3, atol=1e-4)
    # Noise of one pixel's grain loses what it had under a blur, and nothing by rounding to whole grey levels.
    assert np.abs(left["8 bit"] - 1).max() < 0.05 < np.abs(left["blur"] - 1).min()


def test_blur_is_a_gaussian(network):
    x = np.zeros((1, 21, 21, 3), np.float32)
    x[0, 10, 10] = 1.0
    out = robustness.blurred(Clip(appearance=x), 1.5).appearance[0, :, :, 0]
    y, x = np.mgrid[-10:11, -10:11]
    expected = np.exp(-(y**2 + x**2) / (2 * 1.5**2))
    np.testing.assert_allclose(out, expected / expected.sum(), atol=1e-4)
    assert robustness.blurred(Clip(appearance=np.full((1, 5, 5, 3), 7.0))).appearance == pytest.approx(7.0)


@pytest.mark.parametrize(("layer", "margin"), [("appearance/conv2_1", 2), ("motion/conv3_1", 1), ("classes", 0)])
def test_a_real_patch_has_the_largest_activation_of_the_map(network, params, monkeypatch, layer, margin):
    """Found on whole pictures, cut out, and shown to the unit alone: the same number, and no larger one inside."""
    window = probe(network, layer)
    drawn = [draw_clip(network, 3, seed=s) for s in (1, 2)]
    batches = [Clip(**{each.name: getattr(clip, each.name) for each in window.inputs}) for clip in drawn]
    monkeypatch.setattr(references, "batches", lambda model, probe: iter(batches))
    model = SimpleNamespace(network=network, params=params)
    units = [0, 3]
    clips, has = references.strongest(model, window, units, margin)
    assert has == (margin if window.inputs[0].length("height") < network.input_size else 0)
    middle = robustness.shifted(clips, 0, 0, has)
    recipe = FAST.bind(window)
    a = robustness.activations(window, recipe, params, np.asarray(units), middle)
    maps = np.concatenate([np.asarray(network.apply({"params": params}, clip)[1][layer])[:, 0] for clip in batches])
    # Where a unit's field and its margin lie inside the picture.
    rho, stride, first = geometry.receptive_field(network, layer).y or geometry.PIXEL
    starts = first + stride * np.arange(maps.shape[1]) - (rho - 1) / 2
    inside = (starts >= margin) & (starts + rho + margin <= network.input_size)
    if has == 0:
        inside[:] = True
    assert inside.any()
    np.testing.assert_allclose(a, maps[:, inside][:, :, inside][..., units].max((0, 1, 2)), rtol=1e-4)


def test_a_real_window_is_cut_in_time_as_well_where_a_unit_sees_less_than_the_clip(monkeypatch):
    network = slim_i3d(streams=("appearance",), frames=20)
    window, params = probe(network, "appearance/Conv3d_2b_1x1"), draw_params(network)
    assert window.inputs[0].shape == (7, 11, 11, 3)
    clips = [draw_clip(network, 2, seed=seed) for seed in (1, 2)]
    monkeypatch.setattr(references, "batches", lambda model, probe: iter(clips))
    model = SimpleNamespace(network=network, params=params)
    found, margin = references.strongest(model, window, [0, 2], 1)
    middle = robustness.shifted(found, 0, 0, margin)
    a = robustness.activations(window, FAST.bind(window), params, np.asarray([0, 2]), middle)
    whole = jax.jit(network.clone(until=window.layer.name).apply)
    maps = np.concatenate([np.asarray(whole({"params": params}, clip)[1][window.layer.name]) for clip in clips])
    # Of 10, 12 and 12 positions with a stride of 2 and 4, those whose 7 frames and 11 + 2 pixels lie inside.
    t, y, _ = window.layer.field
    first, last = (np.asarray([e.centre - (e.side - 1) / 2, e.centre + (e.side - 1) / 2]) for e in (t, y))
    times = [i for i in range(10) if first[0] + 2 * i >= 0 and first[1] + 2 * i < 20]
    rows = [i for i in range(12) if last[0] + 4 * i >= 1 and last[1] + 4 * i < 44]
    assert 0 < len(times) < 10
    expected = maps[:, times][:, :, rows][:, :, :, rows][..., [0, 2]].max((0, 1, 2, 3))
    np.testing.assert_allclose(a, expected, rtol=1e-4)


def test_of_frames_it_is_measured_what_moves_and_in_how_many_views_a_class_is_first():
    network = Brightness()
    model = stjax.Model(
        name="brightness",
        network=network,
        params={"scale": np.ones(3, np.float32)},
        statistics=Statistics({"classes": np.ones(3)}, ""),
        class_names=NAMES,
    )
    judge = compare_recipes.Judge(model=model, others=(), layer="classes", units=(1, 2), chi=(1.0,))
    big = 8 * texture(64, 1.5) + 40
    moving = np.stack([big[:32, 2 * t : 2 * t + 32] for t in range(12)]).astype(np.float32)
    line = judge.measures(Clip(np.stack([moving, moving])), np.asarray([1, 2]))
    # Snow is as bright in each view that this network takes: not in every third frame, which are four.
    assert line["views in which it is named first"] == [len(views.LASTING) - 1, 0]
    assert line["gain"] == pytest.approx([moving.mean(), -moving.mean()], rel=1e-3)
    assert line["by_shifts"] == pytest.approx([1, 1], abs=1e-3)
    of = {"layer": "a", "recipe": "b", "others": [], "value": [1.0]}
    heads, _, row = compare_recipes.table([of | line])
    assert "| views first | px a frame | by flow | by shifts |" in heads
    assert "| 100% |" in row


def test_recipes_may_have_a_comma_in_their_name():
    named = compare_recipes.recipes_named
    assert named("moving,moving, free frames,global") == ["moving", "moving, free frames", "global"]
    with pytest.raises(stjax.UsageError, match="'movin' is not; nearest: moving"):
        named("fast,movin")


def test_cpu_time_and_lines_are_kept(network, params, tmp_path, monkeypatch):
    """A second call computes nothing, and the table has one row for each recipe and one for real input."""
    model = stjax.Model(
        name="slim", network=network, params=params, statistics=Statistics({"appearance/conv2_1": np.ones(8)}, "")
    )
    monkeypatch.setattr(references, "batches", lambda model, probe: iter([draw_clip(network, 3)._replace(motion=None)]))
    monkeypatch.setitem(compare_recipes.CANDIDATES, "short", dataclasses.replace(FAST, steps=2))
    judge = compare_recipes.Judge(model=model, others=(model,), layer="appearance/conv2_1", units=(0, 1), chi=(0.0,))
    lines = compare_recipes.compare(judge, ["short"], range(2), tmp_path)
    assert (tmp_path / "slim-appearance-conv2_1.png").is_file()
    assert all(line["seconds"] > 0 and line["slim"] == line["gain"] for line in lines[:2])
    monkeypatch.setattr(compare_recipes.Judge, "optima", None)
    assert compare_recipes.compare(judge, ["short"], range(2), tmp_path) == lines
    rows = compare_recipes.table(lines)[2:]
    assert [row.split(" | ")[1] for row in rows] == ["short", compare_recipes.REAL]
