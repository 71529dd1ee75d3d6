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
from damage import JSON, spoiled

from stjax import Model, Preprocessing, UsageError, zoo
from stjax.convert import store, tensors
from stjax.convert.folding import fold_std
from stjax.convert.readers.pickles import pickled_arrays
from stjax.convert.tree import flatten, unflatten
from stjax.convert.two_stream import imagenet
from stjax.convert.two_stream.start import cross_modality, from_image_network
from stjax.files import checksum
from stjax.model import Origin, Part, Statistics

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
        network=network,
        params=params,
        statistics=Statistics(ahat, "four clips of noise", {"conv3_fusion": "over 4 clips of noise"}),
        preprocessing=Preprocessing(mean=(1.0, 2.0, 3.0), flow_mean=127.5),
        parts=(Part("all", False, "random"),),
        class_names=("a", "b", "c", "d", "é"),
        sources=(Origin("a.mat", "0" * 64, "MATLAB 5", "matconvnet"),),
        made="2026-11-22, stjax 0.1.0",
    )


@pytest.mark.parametrize(
    "form", [{}, {"fusion": "conv3d", "samples": 2}, {"fusion": "sum", "motion_head": True}], ids=str
)
def test_a_model_is_rebuilt_from_its_file_alone(tmp_path, model, form):
    from conftest import draw_params

    network = slim(**form)
    saved = dataclasses.replace(model, network=network, params=draw_params(network), statistics=Statistics({}, ""))
    store.save(tmp_path / "slim.safetensors", saved)
    loaded = zoo.load(tmp_path / "slim.safetensors")
    assert loaded.network == network
    jax.tree.map(np.testing.assert_array_equal, loaded.params, saved.params)


def test_everything_beside_the_parameters_comes_back(tmp_path, model):
    store.save(tmp_path / "slim.safetensors", model)
    loaded = store.load(tmp_path / "slim.safetensors")
    for name in ("name", "network", "preprocessing", "parts", "class_names", "sources", "made"):
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
        store.check(model.network, params, "some file")
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
        ({"stjax": json.dumps({"format": 99})}, "must have format 2: .* has 99"),
        ({"stjax": json.dumps({"format": 2, "configuration": {"depth": 3}})}, "must carry stjax metadata"),
    ],
    ids=str,
)
def test_somebody_else_s_file_is_told_apart(tmp_path, metadata, message):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(UsageError, match=message):
        store.load(path)


# Hostile files


def file_of(header: bytes, numbers: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + numbers


def one(**changes: object) -> bytes:
    """A header of one array of 12 bytes, in part replaced; what is None is left out."""
    tensor = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]} | changes
    return file_of(json.dumps({"a": {k: v for k, v in tensor.items() if v is not None}}).encode(), bytes(12))


DEEP = b"[" * 100_000
HEADERS = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a length alone": (2**63).to_bytes(8, "little"),
    "longer than the file": (100).to_bytes(8, "little") + b"{}",
    "longer than any of ours": file_of(b" " * (5 << 20) + b"{}"),
    "no JSON": file_of(b"{]"),
    "no UTF-8": file_of(b'{"\xff": 1}'),
    "a list": file_of(b"[]"),
    "deep": file_of(b'{"a": ' + DEEP),
    "a number of 5,000 digits": file_of(b'{"a": ' + b"9" * 5000 + b"}"),
    "one name twice": file_of(b'{"a": {}, "a": {}}'),
    "metadata of numbers": file_of(b'{"__metadata__": {"a": 1}}'),
    "metadata in a list": file_of(b'{"__metadata__": ["stjax"]}'),
    "a tensor that is a number": file_of(b'{"a": 1}'),
    "no shape": one(shape=None),
    "more than asked for": one(more=1),
    "no such type": one(dtype="F8"),
    "a type that is a list": one(dtype=["F32"]),
    "a shape of text": one(shape=["3"]),
    "a shape of halves": one(shape=[1.5, 2]),
    "a shape of truth": one(shape=[True, 3]),
    "a negative shape": one(shape=[-1, -3]),
    "a huge shape": one(shape=[2**40, 2**40, 2**40]),
    "too many axes": one(shape=[1] * 70 + [3]),
    "another shape": one(shape=[4]),
    "one offset": one(data_offsets=[12]),
    "offsets of text": one(data_offsets="ab"),
    "the end before the beginning": one(data_offsets=[12, 0]),
    "beyond the file": one(shape=[30], data_offsets=[0, 120]),
    "a gap before it": one(shape=[2], data_offsets=[4, 12]),
    "bytes behind it": one(shape=[2], data_offsets=[0, 8]),
    "negative offsets": one(data_offsets=[-12, 0]),
    "one over the other": file_of(
        json.dumps({n: {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]} for n in "ab"}).encode(), bytes(12)
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be_true(tmp_path, case):
    path = tmp_path / "a.safetensors"
    path.write_bytes(HEADERS[case])
    for read in (store.load, store.read_tensors):
        with pytest.raises(UsageError, match="a weights file must be a whole safetensors file of stjax") as caught:
            read(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[dict, dict]:
    """The arrays of a small network's file, and what its metadata say."""
    from conftest import draw_params

    network = slim(widths=((2,), (2,)), dense=(), num_classes=2, input_size=4)
    path = tmp_path_factory.mktemp("plain") / "a.safetensors"
    statistics = Statistics({"motion/conv1_1": np.ones(2, np.float32)}, "noise")
    model = Model(name="a", network=network, params=draw_params(network), statistics=statistics, class_names=("a", "b"))
    sources, parts = (Origin("a", "b", "c", "d"),), (Part("all", True, "drawn"),)
    store.save(path, dataclasses.replace(model, sources=sources, parts=parts, made="today"))
    arrays, metadata = store.read_tensors(path)
    return arrays, json.loads(metadata["stjax"])


def with_metadata(path, arrays, text: str):
    store.write_tensors(path, arrays, {"stjax": text})
    return path


def places(value, place=()):
    """Every place in a JSON tree: of the values, and of the lists and objects that hold them."""
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*place, key))


def put(tree, place, value):
    if not place:
        return value
    changed = dict(tree) if isinstance(tree, dict) else list(tree)
    changed[place[0]] = put(tree[place[0]], place[1:], value)
    return changed


HOSTILE = (
    None, True, -1, 1.5, 2**63, 10**400, float("nan"), float("inf"), "", "\ud800\x1b[2J", "a" * 100_001,
    [], [[]], ["x", 1], {"a": 1}, [2] * 1001,
)  # fmt: skip


def test_metadata_of_wrong_types(tmp_path, plain):
    """Every value of the metadata replaced by every kind of wrong one: one line, soon; or what it says is possible."""
    arrays, described = plain
    refused = taken = 0
    for place in places(described):
        for value in HOSTILE:
            path = tmp_path / "a.safetensors"
            try:
                text = json.dumps(put(described, place, value))
            except ValueError:  # Python does not write numbers that long
                continue
            with_metadata(path, arrays, text)
            try:
                model = store.load(path)
            except UsageError as error:
                refused += 1
                assert str(error).isprintable(), (place, value)  # noqa: PT017
                assert len(str(error)) < 1000, (place, value)  # noqa: PT017
            else:
                taken += 1
                hash(model.network)
                json.dumps([model.parts, model.class_names, model.sources, model.made]).encode("utf-8")
    assert refused > 500
    assert taken > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configuration": {"widths": [[2], [2] * 90]}}, r"a network of 91 layers needs more than \d+ arrays"),
        ({"configuration": {"input_size": 5000}}, r"configuration\.input_size must lie in 1\.\.4096: got 5000"),
        ({"configuration": {"input_size": 3}}, "an input of 3 px is too small for 2 blocks"),
        (
            {"configuration": {"fusion": "conv4d"}},
            r"\.fusion must be one of conv2d, conv3d, sum, late: got 'conv4d'",
        ),
        ({"configuration": {"streams": ["motion", "appearance"]}}, "once at most, in the order appearance, motion"),
        ({"configuration": {"fields": True}}, r"configuration\.fields must be a whole number: got True"),
        ({"configuration": {"motion_head": 1}}, r"configuration\.motion_head must be true or false: got 1"),
        ({"configuration": {"depth": 3}}, "configuration has the unknown name 'depth'"),
        (
            {"architecture": ["two_stream"]},
            r"a registered architecture \(two_stream, i3d\): it is of \['two_stream'\]",
        ),
        ({"preprocessing": {"mean": [1, 2, 256]}}, r"preprocessing\.mean must be a grey level, 0\.\.255: got 256"),
        ({"class_names": ["a"]}, "2 classes cannot have 1 names"),
        ({"class_names": ["a", "b" * 201]}, "class_names must have up to 200 letters: got 201"),
        ({"more": 1}, "metadata has the unknown name 'more'"),
        ({"format": True}, "it must have format 2: it has True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metadata_are_refused_with_the_reason(tmp_path, plain, changes, message):
    arrays, described = plain
    merged = {name: described[name] | value if isinstance(value, dict) else value for name, value in changes.items()}
    path = with_metadata(tmp_path / "a.safetensors", arrays, json.dumps(described | merged))
    with pytest.raises(UsageError, match=f"must carry stjax metadata: .*{message}"):
        store.load(path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ahat/motion/conv1_1", np.ones(3), "a positive number for each of 2 units"),
        ("ahat/motion/conv1_1", np.asarray([1.0, np.nan]), "a positive number"),
        ("ahat/motion/conv1_1", np.asarray([1.0, 0.0]), "a positive number"),
        ("ahat/motion", np.ones(2), "must be of the network's layers: .* has it of motion"),
        ("params/motion", np.ones(2), "unexpected: motion"),
        ("params/motion/conv1_1/bias/x", np.ones(2), "unexpected: motion/conv1_1/bias/x"),
        ("else/x", np.ones(2), "unexpected: else/x"),
    ],
)
def test_arrays_that_do_not_belong(tmp_path, plain, name, values, message):
    arrays, described = plain
    path = with_metadata(tmp_path / "a.safetensors", arrays | {name: values}, json.dumps(described))
    with pytest.raises(UsageError, match=message):
        store.load(path)


def test_a_file_cut_while_it_is_read(tmp_path, model):
    """A map of it would end the process by SIGBUS."""
    path = tmp_path / "slim.safetensors"
    store.save(path, model)

    def read():
        with tensors.opened(path) as file:
            os.truncate(path, path.stat().st_size // 2)
            dict(file.arrays())

    with pytest.raises(UsageError, match="it was cut while it was read, at "):
        read()


def test_a_file_changed_while_it_is_read(tmp_path, model):
    path = tmp_path / "slim.safetensors"
    store.save(path, model)

    def read():
        with tensors.opened(path) as file:
            dict(file.arrays())
            with open(path, "rb+") as other:
                other.write(b"x")
            os.utime(path, ns=(0, 0))

    with pytest.raises(UsageError, match="it was changed while it was read"):
        read()


def test_a_checksum_is_of_what_was_read(tmp_path, model):
    path = tmp_path / "slim.safetensors"
    store.save(path, model)
    digest = checksum(path)
    with tensors.opened(path) as file:
        os.replace(path, tmp_path / "away")
        path.write_bytes(b"something else")
        assert file.checksum() == digest


@pytest.mark.parametrize("examples", [200, pytest.param(800, marks=pytest.mark.slow)])
def test_damaged_files_of_our_own(tmp_path, plain, examples):
    """Bytes changed, moved and lost, half of them in the header; every second time inside of right lengths."""
    arrays, described = plain
    whole = with_metadata(tmp_path / "whole.safetensors", arrays, json.dumps(described)).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path, refused = tmp_path / "a.safetensors", 0
    for seed in range(examples):
        header = spoiled(whole[8 : 8 + length], seed, JSON)
        path.write_bytes(file_of(header, whole[8 + length :]) if seed % 2 else spoiled(whole, seed, JSON))
        try:
            store.load(path)
        except UsageError as error:
            refused += 1
            assert str(error).isprintable()  # noqa: PT017
    assert examples // 2 < refused < examples


def test_only_files_of_the_same_kind_are_replaced(tmp_path, model):
    path = tmp_path / "a.safetensors"
    store.write_tensors(path, {"a": np.zeros(3)}, {"provenance": "mine"})
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is not one that stjax wrote"):
        store.save(path, model)
    assert path.read_bytes() == before
    store.write_tensors(path, {"a": np.ones(3)}, {"provenance": "newer"})
    assert store.read_tensors(path)[0]["a"].tolist() == [1, 1, 1]


def test_a_file_of_an_earlier_format_is_refused_with_what_to_do(tmp_path, plain):
    arrays, _ = plain
    path = with_metadata(tmp_path / "old.safetensors", arrays, json.dumps({"format": 1, "module": {"towers": 2}}))
    with pytest.raises(UsageError, match="must have format 2: it has 1; make the file anew, with stjax convert or the"):
        store.load(path)


@pytest.mark.parametrize("name", ["embedded", "embedded-seed1", "embedded-seed2"])
def test_what_ships_still_loads(name):
    loaded = zoo.load(name)
    assert len(loaded.class_names) == loaded.network.num_classes == 28
    assert loaded.statistics.ahat.keys() == {layer.name for layer in loaded.network.layers}


# Statistics in a file of their own

RECORDED = Statistics(
    {"a/x": np.asarray([1.0, 2.0, 3.0], np.float32), "b": np.asarray([4.0], np.float32)},
    "noise",
    {"b": "over noise"},
    {"a/x": (0, 2)},
)


def test_statistics_come_back(tmp_path):
    path = tmp_path / "a.safetensors"
    store.save_statistics(path, RECORDED, {"growth": "{}"})
    loaded = store.load_statistics(path)
    assert loaded.ahat.keys() == RECORDED.ahat.keys()
    for layer, values in RECORDED.ahat.items():
        np.testing.assert_array_equal(loaded.ahat[layer], values)
        assert loaded.ahat[layer].dtype == np.float32
    assert loaded[1:] == RECORDED[1:]
    assert store.read_tensors(path)[1]["growth"] == "{}"
    # An earlier one is replaced; a network is not.
    store.save_statistics(path, RECORDED)
    assert "growth" not in store.read_tensors(path)[1]
    with pytest.raises(UsageError, match="a weights file must carry stjax metadata"):
        store.load(path)


def test_a_network_is_no_file_of_statistics(tmp_path, model):
    path = tmp_path / "slim.safetensors"
    store.save(path, model)
    with pytest.raises(UsageError, match=r"a file of statistics must carry stjax metadata: .* does not: it has none"):
        store.load_statistics(path)
    with pytest.raises(UsageError, match="is not one that stjax wrote"):
        store.save_statistics(path, RECORDED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ahat": {"a": np.zeros(3)}}, "ahat must be a positive number for each unit: a has others"),
        ({"ahat": {"a": np.ones((3, 1))}}, "a positive number for each unit"),
        ({"ahat": {"a": np.ones(0)}}, "a positive number for each unit"),
        ({"ahat": {"a": np.asarray([1, np.inf])}}, "a positive number for each unit"),
        ({"rough": {"c": "noise"}}, "rough must be of layers that have ahat: c has none"),
        ({"floored": {"c": (0,)}}, "floored must be of layers that have ahat: c has none"),
        ({"floored": {"b": (1,)}}, "floored must name units of b: it names others"),
        ({"floored": {"b": (-1,)}}, r"statistics.floored.b must lie in 0..1048576: got -1"),
        ({"provenance": 3}, "statistics.provenance must be a text: got 3"),
    ],
    ids=str,
)
def test_statistics_that_cannot_be_loaded_are_not_saved(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        store.save_statistics(tmp_path / "a.safetensors", RECORDED._replace(**({"rough": {}, "floored": {}} | changes)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"format": 0}), "must have format 1: it has 0; record them anew, with stjax record"),
        (json.dumps({"format": 9}), "must have format 1: it has 9$"),
        (json.dumps({"format": 1, "more": 1}), "statistics has the unknown name 'more'"),
        (json.dumps({"format": 1, "rough": {"a/x": 1}}), "statistics.rough.a/x must be a text: got 1"),
        (json.dumps({"format": 1, "floored": {"b": [True]}}), "must be a whole number: got True"),
        ("[]", "no JSON object"),
    ],
)
def test_a_stranger_s_statistics_are_checked(tmp_path, text, message):
    path = tmp_path / "a.safetensors"
    arrays = {f"ahat/{layer}": values for layer, values in RECORDED.ahat.items()}
    store.write_tensors(path, arrays, {"stjax-statistics": text})
    with pytest.raises(UsageError, match=message) as caught:
        store.load_statistics(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (RECORDED, "ahat must be of the network's layers: here has it of a/x"),
        (Statistics({"classes": np.ones(4)}, ""), "a positive number for each of 5 units: here: classes has others"),
        (Statistics({}, "", {}, {"classes": (5,)}), "floored must name units of classes, 0..4: here names others"),
    ],
)
def test_statistics_of_another_network(network, statistics, message):
    with pytest.raises(UsageError, match=message):
        store.check_statistics(statistics, network, "here")


# The zoo


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg16-imagnet", "nearest: vgg16-imagenet"),
        ("nowhere.safetensors", "must be an existing .safetensors file: nowhere.safetensors is not"),
        ("some/where", "must be an existing .safetensors file"),
        ("weights.pth", "must be an existing .safetensors file"),
        ("a" * 5000, "a weights file must be readable: a+: File name too long"),
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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet, "package_file", lambda: path)
    with pytest.raises(UsageError, match=r"must have sha256 2ecbe4ce.*: found [0-9a-f]{64}; reinstall it"):
        zoo.load("vgg16-imagenet")
    path.unlink()
    with pytest.raises(UsageError, match="found no such file; reinstall it"):
        zoo.load("vgg16-imagenet")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
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
def test_a_network_assembled_from_one_tower_fits(params, fusion):
    network = slim(num_classes=0, fusion=fusion)
    store.check(network, from_image_network(params["appearance"], network), "assembled")
