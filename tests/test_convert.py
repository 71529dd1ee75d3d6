"""Parameters come in whole, or not at all, and no file is ever trusted with more than arrays."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from conftest import slim

from stjax import Model, Preprocessing, UsageError, zoo
from stjax.convert import store
from stjax.convert.assemble import cross_modality, from_image_network
from stjax.convert.readers.pickles import pickled_arrays
from stjax.convert.store import Part, Source, Statistics
from stjax.convert.translate import fold_std
from stjax.convert.tree import flatten, unflatten

# Pickles


class Shell:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Shell(os.system, "touch {marker}"), "system"),
        (Shell(eval, "open('{marker}', 'w')"), "eval"),
        (Shell(shutil.rmtree, "{marker}"), "rmtree"),
        (Shell(np.load, "{marker}"), "load"),
        (Shell(getattr, np, "load"), "getattr"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused(tmp_path, call, named, protocol):
    marker = tmp_path / "marker"
    function, arguments = call.call
    aimed = Shell(function, *(a.format(marker=marker) if isinstance(a, str) else a for a in arguments))
    if function is getattr:
        aimed = Shell(getattr, np.ndarray, "tofile")
    data = pickle.dumps({"kernel": {"trap": aimed}}, protocol)
    with pytest.raises(UsageError, match=rf"numpy arrays only: this one asks for \w+\.{named}"):
        pickled_arrays(data)
    assert not marker.exists()


@pytest.mark.parametrize(
    "tree",
    [
        {"a": np.asarray([object(), None])},
        {"a": np.asarray(["text"])},
        {"a": np.arange(3)},
        {"a": [1.0, 2.0]},
        {"a": 1.0},
        {},
        [],
        None,
        np.zeros(3),
    ],
    ids=["objects", "text", "integers", "a list", "a number", "empty", "no dict", "nothing", "one array"],
)
def test_a_pickle_of_anything_else_is_refused(tree):
    with pytest.raises(UsageError, match="a pickle"):
        pickled_arrays(pickle.dumps(tree))


def test_nested_arrays_come_out_flat():
    tree = {"VGG16_0": {"Conv_0": {"kernel": np.ones((3, 3, 3, 4), np.float32), "bias": np.zeros(4, np.float16)}}}
    found = pickled_arrays(pickle.dumps(tree))
    assert found.keys() == {"VGG16_0/Conv_0/kernel", "VGG16_0/Conv_0/bias"}
    np.testing.assert_array_equal(found["VGG16_0/Conv_0/kernel"], 1.0)
    assert found["VGG16_0/Conv_0/bias"].dtype == np.float16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a cut may leave an odd dtype or escape behind
def test_a_pickle_cut_anywhere_is_refused():
    data = pickle.dumps({"a": {"kernel": np.ones((4, 4), np.float32)}, "b": np.ones(3, np.float32)})
    for length in range(len(data)):
        with pytest.raises(UsageError, match="a pickle"):
            pickled_arrays(data[:length])


# The store


@pytest.fixture(scope="module")
def model(network, params, ahat) -> Model:
    return Model(
        name="slim",
        module=network,
        params=params,
        statistics=Statistics(ahat, "four clips of noise", {"conv3_fusion": "over 4 clips of noise"}),
        preprocessing=Preprocessing(mean=(1.0, 2.0, 3.0), flow_mean=127.5),
        parts=(Part("all", False, "random"),),
        class_names=("a", "b", "c", "d", "é"),
        sources=(Source("a.mat", "0" * 64, "MATLAB 5", "matconvnet"),),
        made="2026-11-22, stjax 0.1.0",
    )


@pytest.mark.parametrize("form", [{}, {"fusion": "conv3d", "samples": 2}, {"fusion": "sum", "towers": 2}], ids=str)
def test_a_model_is_rebuilt_from_its_file_alone(tmp_path, model, form):
    from conftest import draw_params

    module = slim(**form)
    saved = dataclasses.replace(model, module=module, params=draw_params(module), statistics=Statistics({}, ""))
    store.save(tmp_path / "slim.safetensors", saved)
    loaded = zoo.load(tmp_path / "slim.safetensors")
    assert loaded.module == module
    jax.tree.map(np.testing.assert_array_equal, loaded.params, saved.params)


def test_everything_beside_the_parameters_comes_back(tmp_path, model):
    store.save(tmp_path / "slim.safetensors", model)
    loaded = store.load(tmp_path / "slim.safetensors")
    for name in ("name", "module", "preprocessing", "parts", "class_names", "sources", "made"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.statistics.provenance == model.statistics.provenance
    assert loaded.statistics.rough == model.statistics.rough
    assert loaded.statistics.ahat.keys() == model.statistics.ahat.keys()
    for layer, values in model.statistics.ahat.items():
        np.testing.assert_array_equal(loaded.statistics.ahat[layer], values)
    assert len(loaded.checksum) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["slim.safetensors"]


def test_half_precision_rounds_parameters_only(tmp_path, model):
    store.save(tmp_path / "slim.safetensors", model, np.float16)
    loaded = store.load(tmp_path / "slim.safetensors")
    for name, values in flatten(model.params).items():
        found = flatten(loaded.params)[name]
        assert found.dtype == jnp.float32
        # eleven bits of mantissa, and none to speak of below 6e-5
        np.testing.assert_allclose(found, values, rtol=2**-11, atol=3e-8)
    for layer, values in model.statistics.ahat.items():
        np.testing.assert_array_equal(loaded.statistics.ahat[layer], values)


def test_the_safetensors_package_reads_what_we_write(tmp_path):
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.float16([1.5]), "c": np.zeros((0, 2))}
    store.write_tensors(tmp_path / "a.safetensors", tensors, {"said": "é"})
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert store.read_tensors(tmp_path / "a.safetensors")[1] == {"said": "é"}


def test_what_float16_cannot_hold_is_refused(tmp_path, model):
    big = dataclasses.replace(model, params=broken(model, classes__bias=jnp.full(5, 1e5)))
    with pytest.raises(UsageError, match="float16 holds numbers up to 65504: params/classes/bias has larger ones"):
        store.save(tmp_path / "a.safetensors", big, np.float16)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = tmp_path / "slim.safetensors"
    store.save(path, model)
    before = path.read_bytes()

    def no_room(array, dtype):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "ascontiguousarray", no_room)
    with pytest.raises(OSError, match="No space left"):
        store.save(path, model)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def broken(model, **changes):
    """The model with parameters renamed, dropped or replaced by name; None drops."""
    flat = flatten(model.params) | {name.replace("__", "/"): value for name, value in changes.items()}
    return unflatten({name: value for name, value in flat.items() if value is not None})


def test_every_difference_is_named_in_one_message(model):
    params = broken(
        model,
        motion__conv1_1__bias=None,
        fc4__kernel=None,
        motion__conv9_1__bias=jnp.zeros(3),
        conv3_fusion__bias=jnp.zeros(9),
        classes__bias=jnp.full(5, jnp.nan),
    )
    with pytest.raises(UsageError) as caught:
        store.check(params, model.module, "some file")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "some file",
        "missing: fc4/kernel, motion/conv1_1/bias",
        "unexpected: motion/conv9_1/bias",
        "misshapen: conv3_fusion/bias (9,) instead of (8,)",
        "not finite: classes/bias",
    ):
        assert part in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_when_loaded(tmp_path, model, value):
    bias = np.zeros(5, np.float32)
    bias[3] = value
    store.save(tmp_path / "slim.safetensors", dataclasses.replace(model, params=broken(model, classes__bias=bias)))
    with pytest.raises(UsageError, match="not finite: classes/bias"):
        store.load(tmp_path / "slim.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, model, share):
    path = tmp_path / "slim.safetensors"
    store.save(path, model)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UsageError, match="whole safetensors file"):
        store.load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "must carry stjax metadata"),
        ({"format": "pt"}, "must carry stjax metadata"),
        ({"stjax": "{"}, "must carry stjax metadata"),
        ({"stjax": "[]"}, "must carry stjax metadata"),
        ({"stjax": json.dumps({"format": 99})}, "must have format 1: .* has 99"),
        ({"stjax": json.dumps({"format": 1, "module": {"depth": 3}})}, "must carry stjax metadata"),
    ],
    ids=str,
)
def test_somebody_else_s_file_is_told_apart(tmp_path, metadata, message):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(UsageError, match=message):
        store.load(path)


# The zoo


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg16-imagnet", "nearest: vgg16-imagenet"),
        ("nowhere.safetensors", "must be an existing .safetensors file: nowhere.safetensors is not"),
        ("some/where", "must be an existing .safetensors file"),
        ("weights.pth", "must be an existing .safetensors file"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, message):
    with pytest.raises(UsageError, match=message):
        zoo.load(name)


def test_a_file_of_others_is_to_be_converted_first(tmp_path):
    (tmp_path / "net.mat").write_bytes(b"MATLAB")
    with pytest.raises(UsageError, match=r"must be a \.safetensors file: .*; nearest: stjax convert .*net\.mat"):
        zoo.load(tmp_path / "net.mat")


def test_a_published_file_with_another_checksum_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(b"not what was published")
    monkeypatch.setattr(zoo, "_lpips_weights", lambda: path)
    with pytest.raises(UsageError, match=r"must have sha256 2ecbe4ce.*: found [0-9a-f]{64}; reinstall it"):
        zoo.load("vgg16-imagenet")
    path.unlink()
    with pytest.raises(UsageError, match="found no such file; reinstall it"):
        zoo.load("vgg16-imagenet")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'stjax\[vgg16\]'"):
        zoo.load("vgg16-imagenet")


# Assembly


def test_the_standard_deviation_is_folded_into_the_first_layer(params):
    tower, std = params["appearance"], (0.2, 0.3, 0.4)
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 3, 3)), jnp.float32)
    scale = 255 * np.asarray(std, np.float32).reshape(1, 1, 3)
    folded = fold_std(np.asarray(tower["conv1_1"]["kernel"]), std)
    expected = np.einsum("yxc,yxco->o", x, tower["conv1_1"]["kernel"])
    np.testing.assert_allclose(np.einsum("yxc,yxco->o", x * scale, folded), expected, rtol=1e-5, atol=1e-5)


def test_a_motion_tower_starts_from_the_mean_over_colours(network, params):
    tower = params["appearance"]
    started = cross_modality(tower, 2 * network.fields)
    kernel = started["conv1_1"]["kernel"]
    assert kernel.shape == (3, 3, 6, 4)
    for channel in range(6):
        np.testing.assert_allclose(kernel[:, :, channel], np.mean(tower["conv1_1"]["kernel"], axis=2), rtol=1e-5)
    assert all(started[name] is tower[name] for name in tower if name != "conv1_1")


@pytest.mark.parametrize("fusion", ["conv2d", "conv3d", "sum"])
def test_a_network_assembled_from_one_tower_fits_its_module(params, fusion):
    module = slim(num_classes=0, fusion=fusion)
    store.check(from_image_network(params["appearance"], module), module, "assembled")
