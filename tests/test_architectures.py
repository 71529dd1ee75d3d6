"""A network that stjax has never heard of: a class, a row, and a table, and it is stored, loaded and converted."""

from __future__ import annotations

import dataclasses
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import writers

from stjax import Clip, Field, Input, Layer, Model, Preprocessing, Statistics, UsageError, networks, probe, zoo
from stjax.convert import store, tables
from stjax.convert.conversion import convert_files
from stjax.convert.table import Table
from stjax.convert.tree import flatten
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.networks.configuration import Architecture, tuple_of, whole
from stjax.networks.geometry import PIXEL, slide

# What a user writes


class Toy(nn.Module):
    """Two 3-D convolutions over frames, and a classifier behind their average."""

    widths: tuple[int, ...] = (4, 6)
    num_classes: int = 5
    frames: int = 8
    side: int = 24

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name="appearance", kind="rgb", shape=(self.frames, self.side, self.side, 3), slow="time"),)

    @property
    def layers(self) -> tuple[Layer, ...]:
        extent, layers = PIXEL, []
        grid = (self.frames, self.side, self.side)
        for number, width in enumerate(self.widths, 1):
            extent = slide(extent, 3, padding=1)
            layers.append(
                Layer(name=f"conv{number}", units=width, inputs=("appearance",), field=Field(*[extent] * 3), grid=grid)
            )
        whole = Field(None, None, None)
        head = Layer(
            name="head", units=self.num_classes, inputs=("appearance",), field=whole, grid=(1, 1, 1), role="classes"
        )
        return (*layers, head)

    @nn.compact
    def __call__(self, clip):
        x, activations = clip.appearance, {}
        for number, width in enumerate(self.widths, 1):
            x = nn.Conv(width, (3, 3, 3), name=f"conv{number}")(x)
            activations[f"conv{number}"] = x
            x = nn.relu(x)
        scores = nn.Dense(self.num_classes, name="head")(x.mean(axis=(-4, -3, -2)))
        activations["head"] = scores[..., None, None, None, :]
        return scores, activations


ROW = Architecture(Toy, {"widths": tuple_of(whole(1, 512), 1, 9), "num_classes": whole(1, 1000)})

TABLE = Table(
    name="toy",
    about="PyTorch: the toy of these tests",
    architecture="toy",
    containers=("PyTorch", "safetensors"),
    rows=(
        (r"trunk\.(\d)\.0\.weight", r"conv\1/kernel", "OIDHW"),
        (r"trunk\.(\d)\.0\.bias", r"conv\1/bias"),
        (r"cls\.weight", "head/kernel", "OI"),
        (r"cls\.bias", "head/bias"),
    ),
    sizes={"num_classes": "head/bias"},
    first={"appearance": "conv1/kernel"},
    # Frames in -1..1.
    mean=(127.5, 127.5, 127.5),
    std=(0.5, 0.5, 0.5),
    ignored=(r".*\.num_batches_tracked",),
)


# What stjax does with it


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(networks.ARCHITECTURES, "toy", ROW)
    monkeypatch.setitem(tables.TABLES, "toy", TABLE)


def published(seed: int = 0, classes: int = 5) -> dict[str, np.ndarray]:
    """A toy as others publish it."""
    rng = np.random.default_rng(seed)
    shapes = {
        "trunk.1.0.weight": (4, 3, 3, 3, 3),
        "trunk.1.0.bias": (4,),
        "trunk.2.0.weight": (6, 4, 3, 3, 3),
        "trunk.2.0.bias": (6,),
        "cls.weight": (classes, 6),
        "cls.bias": (classes,),
    }
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3 x 3 x 3 convolution over (channels, t, y, x), one product at a time, as PyTorch defines it."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1)))
    y = np.zeros((len(weight), *x.shape[1:]))
    for t, i, j in np.ndindex(3, 3, 3):
        window = padded[:, t : t + x.shape[1], i : i + x.shape[2], j : j + x.shape[3]]
        y += np.einsum("oc,ctyx->otyx", weight[:, :, t, i, j], window)
    return y + bias[:, None, None, None]


def theirs(arrays: dict[str, np.ndarray], frames: np.ndarray) -> dict[str, np.ndarray]:
    """What the published network computes of frames in 0..255."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    x, found = (frames / 127.5 - 1).transpose(3, 0, 1, 2), {}
    for n in (1, 2):
        found[f"conv{n}"] = convolve(x, wide[f"trunk.{n}.0.weight"], wide[f"trunk.{n}.0.bias"])
        x = found[f"conv{n}"].clip(0)
    found["head"] = (wide["cls.weight"] @ x.mean(axis=(1, 2, 3)) + wide["cls.bias"])[:, None, None, None]
    return {name: a.transpose(1, 2, 3, 0) for name, a in found.items()}


def agree(model: Model, arrays: dict[str, np.ndarray]) -> None:
    frames = np.random.default_rng(1).uniform(0, 255, (8, 24, 24, 3))
    with jax.default_matmul_precision("float32"):
        params = jax.tree.map(jnp.asarray, model.params)
        _, ours = model.network.apply({"params": params}, Clip(model.preprocessing.frames(frames), None))
    for name, expected in theirs(arrays, frames).items():
        np.testing.assert_allclose(ours[name], expected, atol=2e-5 * np.abs(expected).max(), err_msg=name)


def toy() -> Model:
    network = Toy(widths=(3, 2, 2), num_classes=3)
    params = network.init(jax.random.key(0), Clip(jnp.zeros((1, 8, 24, 24, 3)), None))["params"]
    ahat = {layer.name: np.full(layer.units, 2.0, np.float32) for layer in network.layers}
    statistics = Statistics(ahat, "noise", {"conv1": "over noise"}, {"conv2": (1,)})
    return Model(
        name="toy",
        network=network,
        params=params,
        statistics=statistics,
        preprocessing=Preprocessing(mean=(1.0, 2.0, 3.0)),
        class_names=("run", "walk", "jump"),
    )


def test_a_file_is_written_and_read(tmp_path, registered):
    model = toy()
    store.save(tmp_path / "toy.safetensors", model)
    loaded = zoo.load(tmp_path / "toy.safetensors")
    assert loaded.network == model.network
    assert probe(loaded.network, "conv2").rho == 5
    for name, values in flatten(model.params).items():
        np.testing.assert_array_equal(flatten(loaded.params)[name], values)
    assert (loaded.class_names, loaded.preprocessing) == (model.class_names, model.preprocessing)
    assert (loaded.statistics.rough, loaded.statistics.floored) == (model.statistics.rough, model.statistics.floored)
    np.testing.assert_array_equal(loaded.statistics.ahat["conv3"], model.statistics.ahat["conv3"])
    metadata = json.loads(store.read_tensors(tmp_path / "toy.safetensors")[1]["stjax"])
    assert metadata["architecture"] == "toy"
    assert metadata["configuration"] == {"widths": [3, 2, 2], "num_classes": 3}


def test_what_is_not_registered_is_said_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"registered .* \(two_stream, i3d\): Toy is of none; .*\['toy'\] = Arch"):
        store.save(tmp_path / "toy.safetensors", toy())
    with monkeypatch.context() as patch:
        patch.setitem(networks.ARCHITECTURES, "toy", ROW)
        store.save(tmp_path / "toy.safetensors", toy())
    message = (
        r"registered architecture \(two_stream, i3d\): it is of 'toy'; import the module that adds it to "
        r"stjax.networks.ARCHITECTURES first, or give --model package.module:factory"
    )
    with pytest.raises(UsageError, match=message):
        zoo.load(tmp_path / "toy.safetensors")


class Fragile(Toy):
    """An architecture that cannot be built from everything that its readers let through."""

    def __post_init__(self) -> None:
        if len(self.widths) == 2:
            raise ZeroDivisionError("two\nlines")
        super().__post_init__()


class Odd(Toy):
    """One whose inputs are no inputs."""

    @property
    def inputs(self):
        return (Input(name="appearance", kind="rgb", shape=(self.frames, 0, self.side, 3)),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configuration": {"widths": []}}, r"configuration\.widths must have 1\.\.9 items: got 0"),
        ({"configuration": {"side": 24}}, "configuration has the unknown name 'side'"),
        ({"configuration": {"widths": [3, 3]}}, "makes no network of the architecture toy: two lines"),
        ({"configuration": {"widths": [3, 2, 2], "num_classes": 4}}, "4 classes cannot have 3 names"),
        ({"configuration": [1]}, r"configuration must be an object: got \[1\]"),
        ({"architecture": "odd", "configuration": {}}, r"architecture odd: an input of kind rgb must have the axes"),
        ({"architecture": None}, "it is of None"),
    ],
    ids=str,
)
def test_a_stranger_s_file_is_checked(tmp_path, monkeypatch, changes, message):
    monkeypatch.setitem(networks.ARCHITECTURES, "toy", ROW._replace(network=Toy))
    store.save(tmp_path / "toy.safetensors", toy())
    arrays, metadata = store.read_tensors(tmp_path / "toy.safetensors")
    monkeypatch.setitem(networks.ARCHITECTURES, "toy", ROW._replace(network=Fragile))
    monkeypatch.setitem(networks.ARCHITECTURES, "odd", ROW._replace(network=Odd))
    said = json.loads(metadata["stjax"]) | changes
    store.write_tensors(tmp_path / "toy.safetensors", arrays, {"stjax": json.dumps(said)})
    with pytest.raises(UsageError, match=message) as caught:
        store.load(tmp_path / "toy.safetensors")
    assert str(caught.value).isprintable()


def test_a_network_whose_sizes_do_not_go_together(tmp_path, monkeypatch):
    class Small(Toy):
        @nn.compact
        def __call__(self, clip):
            return None, {"x": nn.Conv(3, (9, 9), padding="VALID")(clip.appearance[..., :4, :4, :]) @ jnp.zeros((4, 4))}

    with pytest.raises(UsageError, match="a network must be able to start on the clip that it declares: Small: "):
        store.parameter_shapes(Small())


@pytest.mark.parametrize("container", ["safetensors", "PyTorch"])
def test_a_published_file_is_converted(tmp_path, registered, container):
    arrays = published()
    path = tmp_path / "toy.published"
    if container == "PyTorch":
        writers.zip_torch(arrays | {"bn.num_batches_tracked": np.ones(1, np.float32)}, path)
    else:
        path.write_bytes(safetensors.numpy.save(arrays))
    model, warnings = convert_files([path], class_names=tuple("abcde"), name="toy")
    assert warnings == ()
    assert model.network == Toy(num_classes=5)
    assert model.class_names == tuple("abcde")
    assert model.preprocessing.mean == (127.5, 127.5, 127.5)
    assert (model.sources[0].file, model.sources[0].table) == ("toy.published", "toy")
    agree(model, arrays)


def test_a_published_file_is_converted_by_the_command(tmp_path, registered, capsys, monkeypatch):
    from stjax import cli

    arrays = published(classes=7)
    (tmp_path / "a.st").write_bytes(safetensors.numpy.save(arrays))
    out = tmp_path / "a.safetensors"
    words = ["convert", tmp_path / "a.st", "--out", out, "--statistics", "none"]
    monkeypatch.setattr(sys, "argv", ["stjax", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    said = capsys.readouterr()
    assert not leaving.value.code, said.err
    assert f"next: stjax visualize head --model {out}" in said.out.replace("\n", "")
    model = zoo.load(out)
    assert model.network == Toy(num_classes=7)
    agree(model, arrays)


MODULE = """
from stjax import networks
from test_architectures import ROW, TABLE, Toy

networks.ARCHITECTURES["own"] = ROW
import dataclasses
OWN = dataclasses.replace(TABLE, architecture="own")
"""


def test_a_table_of_one_s_own_is_named_on_the_command_line(tmp_path, capsys, monkeypatch):
    from stjax import cli

    (tmp_path / "my_table.py").write_text(MODULE)
    (tmp_path / "a.st").write_bytes(safetensors.numpy.save(published()))
    monkeypatch.setattr(networks, "ARCHITECTURES", dict(networks.ARCHITECTURES))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["stjax", *words])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        said = capsys.readouterr()
        return leaving.value.code or 0, said.out + said.err

    code, said = run("inspect", "a.st", "--table", "my_table:OWN")
    assert code == 0
    assert "conv1/kernel" in said
    words = ("convert", "a.st", "--out", "a.safetensors", "--statistics", "none", "--table")
    code, said = run(*words, "my_table:OWN")
    assert code == 0, said
    assert zoo.load("a.safetensors").network == Toy()
    for table, message in (
        ("my_table:Toy", "a table must be a stjax.convert.table.Table: my_table:Toy is"),
        ("my_tables:OWN", "the module of my_tables:OWN must be importable"),
        ("my_table:", "a table of your own must be named package.module:table: got 'my_table:'"),
    ):
        code, said = run(*words, table)
        assert code == 2
        assert message in said.replace("\n", "")
        assert said.count("\n") == 1


def test_every_difference_is_named_in_one_message(tmp_path, registered):
    arrays = published()
    arrays["trunk.2.0.weight"] = arrays["trunk.2.0.weight"][:, :3]
    del arrays["trunk.2.0.bias"]
    arrays |= {"trunk.3.0.bias": np.zeros(2, np.float32), "extra": np.zeros(3, np.float32)}
    (tmp_path / "a").write_bytes(safetensors.numpy.save(arrays))
    with pytest.raises(UsageError) as caught:
        convert_files([tmp_path / "a"])
    for part in (
        "a network of toy must match the table toy, name by name",
        "missing: conv2/bias",
        "unexpected: trunk.3.0.bias, extra",
        "misshapen: conv2/kernel (3, 3, 3, 3, 6) instead of (3, 3, 3, 4, 6)",
    ):
        assert part in str(caught.value)


def test_names_that_mean_the_same_are_doubled(tmp_path, monkeypatch, registered):
    table = dataclasses.replace(TABLE, rows=(*TABLE.rows, (r"cls2\.bias", "head/bias")))
    monkeypatch.setitem(tables.TABLES, "toy", table)
    (tmp_path / "a").write_bytes(safetensors.numpy.save(published() | {"cls2.bias": np.zeros(5, np.float32)}))
    with pytest.raises(UsageError, match=r"doubled: head/bias \(cls\.bias, cls2\.bias\)"):
        convert_files([tmp_path / "a"])


def test_batch_normalisation_is_folded_wherever_a_table_says_so(tmp_path, monkeypatch, registered):
    leaves = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
    rows = tuple((rf"trunk\.(\d)\.1\.{name}", rf"conv\1/{leaf}") for name, leaf in leaves.items())
    monkeypatch.setitem(tables.TABLES, "toy", dataclasses.replace(TABLE, rows=(*TABLE.rows, *rows), epsilon=1e-5))
    rng, arrays = np.random.default_rng(3), published()
    vectors = {
        f"trunk.{n}.1.{leaf}": rng.uniform(0.5, 1.5, w).astype(np.float32)
        for n, w in ((1, 4), (2, 6))
        for leaf in leaves
    }
    (tmp_path / "a").write_bytes(safetensors.numpy.save(arrays | vectors))
    model, _ = convert_files([tmp_path / "a"])
    folded = dict(arrays)
    for n in (1, 2):
        scale, shift, mean, variance = (vectors[f"trunk.{n}.1.{leaf}"].astype(np.float64) for leaf in leaves)
        s = scale / np.sqrt(variance + 1e-5)
        folded[f"trunk.{n}.0.weight"] = arrays[f"trunk.{n}.0.weight"] * s[:, None, None, None, None]
        folded[f"trunk.{n}.0.bias"] = (arrays[f"trunk.{n}.0.bias"] - mean) * s + shift
    agree(model, folded)
    del vectors["trunk.2.1.weight"]
    (tmp_path / "a").write_bytes(safetensors.numpy.save(arrays | vectors))
    with pytest.raises(UsageError, match="missing: conv2/scale"):
        convert_files([tmp_path / "a"])


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ("two files", None, "a network of toy must be one file: got a, a"),
        ("a file of another", None, "files of one network must be of one architecture: got b of two_stream, a of toy"),
        (
            "one",
            TwoStreamOptions(fusion="sum"),
            "fusion must be chosen for a network that has it: a is of the arch",
        ),
        ("none", None, "a conversion must have a file: got none"),
        ("not finite", None, "not finite: conv1/bias"),
    ],
)
def test_what_a_conversion_needs(tmp_path, registered, made, options, message):
    arrays = published()
    if made == "not finite":
        arrays["trunk.1.0.bias"][0] = np.inf
    (tmp_path / "a").write_bytes(safetensors.numpy.save(arrays))
    writers.write("MatConvNet DagNN", writers.tower(), tmp_path / "b")
    files = {"two files": "aa", "a file of another": "ba", "none": ""}.get(made, "a")
    with pytest.raises(UsageError, match=message):
        convert_files([tmp_path / name for name in files], options=options)


def test_options_that_say_nothing_are_for_every_network(tmp_path, registered):
    (tmp_path / "a").write_bytes(safetensors.numpy.save(published()))
    assert convert_files([tmp_path / "a"], options=TwoStreamOptions()).model.network == Toy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "nowhere"},
            "a table's architecture must be in .*ARCHITECTURES: that of toy is not: 'nowhere'",
        ),
        ({"configuration": {"depth": 3}}, "must be one that the sizes of the table toy make: .*depth"),
        ({"first": {"motion": "conv1/kernel"}}, "that conv1/kernel reads motion; inputs: appearance"),
        ({"first": {"appearance": "conv9/kernel"}}, "that conv9/kernel reads appearance; inputs: appearance"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, monkeypatch, registered, changes, message):
    monkeypatch.setitem(tables.TABLES, "toy", dataclasses.replace(TABLE, **changes))
    (tmp_path / "a").write_bytes(safetensors.numpy.save(published()))
    with pytest.raises(UsageError, match=message):
        convert_files([tmp_path / "a"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a(", "a/kernel"), r"must be a regular expression: 'a\('"),
        (("a", "a/kernel", "OIXY"), "must be letters of DHWIO, each once: 'a' has 'OIXY'"),
        (("a", "a/kernel", "OO"), "each once"),
    ],
)
def test_a_row_that_cannot_be(row, message):
    with pytest.raises(UsageError, match=message):
        Table(name="a", about="", architecture="toy", containers=(), rows=(row,))
