"""Receptive fields: the published numbers, and what a gradient really reaches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params, slim

import stjax
from stjax import Field, TwoStream, UsageError, probe, receptive_field
from stjax.networks import geometry
from stjax.networks.geometry import PIXEL, join, seen, slide, window
from stjax.types import Extent

# layer: side and stride in pixels, centre of unit 0 in pixels; pools drop an odd last row and column
VGG16 = {
    "conv1_1": (3, 1, 0.0),
    "conv1_2": (5, 1, 0.0),
    "conv2_1": (10, 2, 0.5),
    "conv2_2": (14, 2, 0.5),
    "conv3_1": (24, 4, 1.5),
    "conv3_2": (32, 4, 1.5),
    "conv3_3": (40, 4, 1.5),
    "conv4_1": (60, 8, 3.5),
    "conv4_2": (76, 8, 3.5),
    "conv4_3": (92, 8, 3.5),
    "conv5_1": (132, 16, 7.5),
    "conv5_2": (164, 16, 7.5),
    "conv5_3": (196, 16, 7.5),
}
FUSED = {
    ("conv2d", "conv5_fusion"): (196, 16, 7.5),
    ("conv3d", "conv5_fusion"): (228, 16, 7.5),
    ("sum", "conv5_fusion"): (196, 16, 7.5),
    ("conv2d", "fc6"): (404, 32, 111.5),
    ("conv2d", "fc7"): (404, 32, 111.5),
    ("conv2d", "classes"): (404, 32, 111.5),
    ("conv2d", "motion/fc6"): (404, 32, 111.5),
    ("conv2d", "motion/classes"): (404, 32, 111.5),
}


@pytest.mark.parametrize(("layer", "expected"), VGG16.items())
@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_fields_of_the_towers(stream, layer, expected):
    field = receptive_field(TwoStream(), f"{stream}/{layer}")
    assert tuple(field.y) == tuple(field.x) == expected
    assert field.t == PIXEL


@pytest.mark.parametrize(("case", "expected"), FUSED.items(), ids=str)
def test_fields_after_fusion(case, expected):
    fusion, layer = case
    network = TwoStream(fusion=fusion, motion_head=True, num_classes=101)
    field = receptive_field(network, layer)
    assert tuple(field.y) == tuple(field.x) == expected
    # A 3-D fusion reads three samples; a head is shown what all of them have in common.
    assert field.t == (slide(PIXEL, 3, padding=1) if fusion == "conv3d" else PIXEL if "conv" in layer else None)


@pytest.mark.parametrize("fusion", ["conv2d", "conv3d", "sum"])
@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_the_field_is_what_a_gradient_reaches(fusion, stream):
    """With kernels of ones and positive inputs nothing cancels: the gradient's support is the field itself."""
    network = slim(fusion=fusion, samples=3 if fusion == "conv3d" else 1, num_classes=0, input_size=64)
    ones = jax.tree.map(lambda a: jnp.full(a.shape, float(a.ndim > 1)), draw_params(network))
    clip = jax.tree.map(jnp.ones_like, draw_clip(network))
    for layer in network.layer_names:
        if stream not in network.sees(layer):
            continue
        described = geometry.layer(network, layer)
        field, middle = described.field.y, (described.grid[1] - 1) // 2
        until = network.clone(until=layer)

        def unit(x, until=until, layer=layer, middle=middle):
            changed = clip._replace(**{stream: x})
            return until.apply({"params": ones}, changed)[1][layer][0, middle, middle, 0]

        gradient = np.asarray(jax.grad(unit)(getattr(clip, stream)))
        reached = (gradient != 0).any(axis=tuple(i for i in range(gradient.ndim) if i != gradient.ndim - 3))
        expected = field.centre + field.stride * middle + (field.side - 1) / 2 * np.asarray([-1, 1])
        assert np.flatnonzero(reached)[[0, -1]].tolist() == expected.tolist(), layer
        assert reached.sum() == field.side, layer


@pytest.mark.parametrize(
    ("settings", "layer", "side", "padding"),
    [
        ({}, "appearance/conv1_1", 3, "VALID"),
        ({}, "appearance/conv4_3", 92, "VALID"),
        ({}, "motion/conv5_3", 196, "VALID"),
        ({}, "conv5_fusion", 196, "VALID"),
        ({"fusion": "conv3d", "samples": 5}, "conv5_fusion", 224, "SAME"),
        ({"num_classes": 101}, "fc6", 224, "SAME"),
        ({"num_classes": 101, "motion_head": True}, "motion/classes", 224, "SAME"),
        # 196 px hold the field, but not around the centre unit of the 12x12 map: it would begin at -10.
        ({"input_size": 196}, "conv5_fusion", 196, "SAME"),
    ],
    ids=str,
)
def test_a_probe_is_the_cone_or_else_the_whole_input(settings, layer, side, padding):
    network = TwoStream(**settings)
    own = probe(network, layer)
    assert {each.shape[-3:-1] for each in own.inputs} == {(side, side)}
    assert (own.network.padding, own.network.until) == (padding, layer)
    assert own.whole == (own.inputs == tuple(each for each in network.inputs if each.name in own.layer.inputs))


def test_probes_say_what_is_shown():
    network = slim(samples=2)
    # Of two samples, which nothing joins, the unit at the centre sees the first.
    assert probe(network, "appearance/conv1_1").canvas(2).appearance.shape == (1, 5, 5, 3)
    assert probe(network, "appearance/conv1_1").canvas().motion is None
    assert probe(network, "motion/conv1_2").canvas().motion.shape == (1, 3, 5, 5, 2)
    assert None not in probe(network, "conv3_fusion").canvas()
    assert probe(network, "appearance/conv1_1", whole=True).canvas().appearance.shape == (2, 32, 32, 3)
    assert [probe(network, f"{s}/conv1_1").slows for s in ("appearance", "motion")] == [False, True]


def test_equal_probes_are_one_static_argument():
    one, other = (probe(slim(), "motion/conv2_1") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != probe(slim(), "motion/conv3_1")


@pytest.mark.parametrize("layer", ["conv1_1", "motion/conv9_1", "fc6", ""])
def test_an_unknown_layer_is_named(layer):
    with pytest.raises(UsageError, match=f"one of the network's: '{layer}' is not"):
        probe(slim(num_classes=0), layer)


class Foreign:
    """With what a Protocol asks for, by name."""

    inputs, layers = None, ["first"]

    def apply(self, variables, clip):
        return None, {"first": clip.appearance}


@pytest.mark.parametrize("ask", [probe, receptive_field])
def test_a_network_that_does_not_describe_itself_is_told_who_can(ask):
    with pytest.raises(UsageError, match=r"Foreign does not; nearest: stjax\.wrap\(network") as refused:
        ask(Foreign(), "first")
    assert "\n" not in str(refused.value)


# Windows one behind the other, and branches, against what really reaches a unit


def reached(length: int, windows: list[tuple[int, int, int]], position: int) -> tuple[int, int]:
    """First and last pixel that the unit at a position reads, by following every index down."""
    first = last = position
    for side, stride, padding in reversed(windows):
        first, last = first * stride - padding, last * stride - padding + side - 1
    return first, last


def positions(length: int, windows: list[tuple[int, int, int]]) -> int:
    for side, stride, padding in windows:
        length = (length + 2 * padding - side) // stride + 1
    return length


def chains(count: int) -> list[tuple[int, list[tuple[int, int, int]]]]:
    rng = np.random.default_rng(0)
    found = []
    while len(found) < count:
        windows = [
            (side := int(rng.integers(1, 6)), int(rng.integers(1, 3)), int(rng.integers(0, side // 2 + 1)))
            for _ in range(rng.integers(1, 5))
        ]
        length = int(rng.integers(20, 60))
        if positions(length, windows) >= 1:
            found.append((length, windows))
    return found


@pytest.mark.parametrize(("length", "windows"), chains(60))
def test_a_field_is_what_the_windows_reach(length, windows):
    extent = PIXEL
    for one in windows:
        extent = slide(extent, *one)
    for position in range(min(4, positions(length, windows))):
        first, last = reached(length, windows, position)
        assert last - first + 1 == extent.side
        assert seen(extent, position) == (first, last)


@pytest.mark.parametrize(("length", "windows"), chains(60))
def test_a_window_holds_the_middle_unit_at_the_middle_of_its_own_map(length, windows):
    extent, grid = PIXEL, positions(length, windows)
    for one in windows:
        extent = slide(extent, *one)
    start, stop = window(length, extent, grid)
    first, last = reached(length, windows, (grid - 1) // 2)
    if first < 0 or last >= length:
        assert (start, stop) == (0, length)
        return
    assert start <= first <= last < stop
    # All windows fall where they fall in the whole, and the unit is at the centre of what is left.
    assert start % extent.stride == (length - stop) % extent.stride == 0
    left = grid - (start + length - stop) // extent.stride
    assert start // extent.stride + (left - 1) // 2 == (grid - 1) // 2
    # As small as that allows: a stride less at either end would lose a pixel, or the centre.
    assert first - start < extent.stride or length - 1 - last < first - start + 2 * extent.stride


def test_where_branches_meet_the_largest_field_wins():
    short, long, shifted = PIXEL, slide(PIXEL, 3, padding=1), slide(PIXEL, 2)
    assert join([short, long]) == long
    assert join([short, shifted]) == shifted
    assert join([long, shifted]) == long
    assert join([slide(PIXEL, 2, padding=1), shifted]) == Extent(3, 1, 0.0)
    assert join([short, None]) is None
    with pytest.raises(ValueError, match="one stride: got 1, 2"):
        join([short, slide(PIXEL, 1, 2)])


def test_inputs_of_different_length_are_not_cut():
    """A slow and a fast pathway: a window of one cannot be a window of the other."""

    class Two:
        def __init__(self, fast):
            self.inputs = tuple(
                stjax.Input(name=name, kind="rgb", shape=(time, 16, 16, 3), slow="time")
                for name, time in (("appearance", 4), ("motion", fast))
            )
            extent = slide(PIXEL, 3, padding=1)
            self.layers = (
                stjax.Layer(
                    name="both", units=2, inputs=("appearance", "motion"), field=Field(PIXEL, extent, extent),
                    grid=(4, 16, 16),
                ),
            )  # fmt: skip

        def apply(self, variables, clip):
            return None, {}

    assert [each.shape[:3] for each in probe(Two(8), "both").inputs] == [(4, 3, 3), (8, 3, 3)]
    assert [each.shape[:3] for each in probe(Two(4), "both").inputs] == [(1, 3, 3), (1, 3, 3)]
