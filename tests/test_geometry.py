"""Receptive fields: the published numbers, and what a gradient really reaches."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params, slim

from stjax import TwoStream, UsageError, probe, receptive_field
from stjax.networks.geometry import map_side

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
    assert tuple(receptive_field(TwoStream(), f"{stream}/{layer}")) == expected


@pytest.mark.parametrize(("case", "expected"), FUSED.items(), ids=str)
def test_fields_after_fusion(case, expected):
    fusion, layer = case
    network = TwoStream(fusion=fusion, motion_head=True, num_classes=101)
    assert tuple(receptive_field(network, layer)) == expected


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
        field, middle = receptive_field(network, layer), (map_side(network, layer) - 1) // 2
        until = network.clone(until=layer)

        def unit(x, until=until, layer=layer, middle=middle):
            seen = clip._replace(**{stream: x})
            return until.apply({"params": ones}, seen)[1][layer][0, middle, middle, 0]

        gradient = np.asarray(jax.grad(unit)(getattr(clip, stream)))
        reached = (gradient != 0).any(axis=tuple(i for i in range(gradient.ndim) if i != gradient.ndim - 3))
        expected = field.centre + field.stride * middle + (field.side - 1) / 2 * np.asarray([-1, 1])
        assert np.flatnonzero(reached)[[0, -1]].tolist() == expected.tolist(), layer
        assert reached.sum() == field.side, layer


@pytest.mark.parametrize(
    ("settings", "layer", "window", "padding"),
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
def test_a_view_is_the_cone_or_else_the_whole_input(settings, layer, window, padding):
    shown = probe(TwoStream(**settings), layer)
    assert (shown.window, shown.network.padding, shown.network.until) == (window, padding, layer)


def test_views_say_which_streams_are_shown():
    network = slim(samples=2)
    assert probe(network, "appearance/conv1_1").canvas(2).appearance.shape == (2, 5, 5, 3)
    assert probe(network, "appearance/conv1_1").canvas().motion is None
    assert probe(network, "motion/conv1_2").canvas().motion.shape == (2, 3, 5, 5, 2)
    assert None not in probe(network, "conv3_fusion").canvas()


def test_equal_views_are_one_static_argument():
    one, other = (probe(slim(), "motion/conv2_1") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != probe(slim(), "motion/conv3_1")


@pytest.mark.parametrize("layer", ["conv1_1", "motion/conv9_1", "fc6", ""])
def test_an_unknown_layer_is_named(layer):
    with pytest.raises(UsageError, match=f"one of the network's: '{layer}' is not"):
        probe(slim(num_classes=0), layer)


class Foreign(nn.Module):
    @nn.compact
    def __call__(self, clip):
        return None, {"first": nn.Conv(8, (5, 5), padding="VALID")(clip.appearance)}


@pytest.mark.parametrize("ask", [probe, receptive_field])
def test_a_network_of_somebody_else_is_told_to_bring_its_view(ask):
    with pytest.raises(
        UsageError, match=r"Foreign does not; write its view by hand: stjax\.Probe\(network="
    ) as refused:
        ask(Foreign(), "first")
    assert "\n" not in str(refused.value)
