"""Cone evaluation equals full evaluation: one unit on exactly the patch it sees, without padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params, slim

from stjax import Clip, TwoStream, probe, receptive_field
from stjax.networks.geometry import map_side

# Sums of the same float32 products in another order: 2^-24 times the square root of some thousand terms, of the
# spread of a layer. Only where Winograd serves one of the two does the error reach 2e-5.
TOLERANCE = 1e-5
FORMS = {
    "conv2d": {},
    "conv2d, three samples": {"samples": 3},
    "conv3d": {"fusion": "conv3d", "samples": 3},
    "sum, two towers": {"fusion": "sum", "motion_head": True},
    "late": {"fusion": "late"},
}


def seen_by(network: TwoStream, layer: str) -> slice:
    """The rows, and columns, that the centre unit of a layer sees."""
    field = receptive_field(network, layer)
    middle = (map_side(network, layer) - 1) // 2
    first = int(field.centre + field.stride * middle - (field.side - 1) / 2)
    return slice(first, first + field.side)


def patch(network: TwoStream, layer: str, clip: Clip) -> Clip:
    rows = seen_by(network, layer)
    streams = network.sees(layer)
    return Clip(
        clip.appearance[..., rows, rows, :] if "appearance" in streams else None,
        clip.motion[..., rows, rows, :] if "motion" in streams else None,
    )


def compare(network: TwoStream, layers: tuple[str, ...], params, clip: Clip, full) -> None:
    @jax.jit
    def tips(clip):
        def tip(layer):
            return probe(network, layer).network.apply({"params": params}, patch(network, layer, clip))[1][layer]

        return {layer: tip(layer) for layer in layers}

    for layer, seen in tips(clip).items():
        assert seen.shape[-3:-1] == (1, 1), "the cone's tip is one unit"
        middle = (map_side(network, layer) - 1) // 2
        expected = np.asarray(full[layer][..., middle, middle, :])
        assert np.abs(np.asarray(seen[..., 0, 0, :]) - expected).max() / np.std(full[layer]) < TOLERANCE, layer


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_layer_with_a_cone(form):
    network = slim(**FORMS[form])
    params, clip = draw_params(network), draw_clip(network)
    _, full = jax.jit(network.apply)({"params": params}, clip)
    coned = [layer for layer in network.layer_names if probe(network, layer).network.padding == "VALID"]
    head = [layer for layer in network.layer_names if layer.rpartition("/")[2] in ("fc4", "classes")]
    assert coned == [layer for layer in network.layer_names if layer not in head]
    compare(network, tuple(coned), params, clip, full)


@pytest.mark.parametrize("layer", ["fc4", "classes", "motion/classes"])
def test_without_a_cone_the_view_is_the_network_itself(layer):
    network = slim(motion_head=True)
    params, clip = draw_params(network), draw_clip(network)
    _, full = jax.jit(network.apply)({"params": params}, clip)
    shown = probe(network, layer)
    streams = Clip(*(x if name in shown.streams else None for name, x in clip._asdict().items()))
    _, seen = jax.jit(shown.network.apply)({"params": params}, streams)
    np.testing.assert_allclose(seen[layer], full[layer], rtol=TOLERANCE, atol=TOLERANCE * np.std(full[layer]))


def test_nothing_outside_the_patch_matters():
    network, layer = slim(num_classes=0), "conv3_fusion"
    params, clip = draw_params(network), draw_clip(network)
    inside = np.zeros(network.input_size, bool)
    inside[seen_by(network, layer)] = True
    mask = (inside[:, None] & inside[None, :])[..., None]
    middle = (map_side(network, layer) - 1) // 2

    @jax.jit
    def centre(clip):
        return network.apply({"params": params}, clip)[1][layer][..., middle, middle, :]

    other = draw_clip(network, seed=9)
    placed = jax.tree.map(lambda a, b: jnp.where(np.broadcast_to(mask, a.shape), a, b), clip, other)
    np.testing.assert_allclose(centre(placed), centre(clip), rtol=TOLERANCE)


@pytest.mark.slow
def test_full_width_vgg16():
    network, layer = TwoStream(), "motion/conv3_3"
    until = network.clone(until=layer)
    stream = layer.partition("/")[0]
    clip = draw_clip(network)
    clip = Clip(**{stream: getattr(clip, stream)})
    params = jax.jit(until.init)(jax.random.key(0), clip)["params"]
    _, full = jax.jit(until.apply)({"params": params}, clip)
    compare(network, (layer,), params, clip, full)
