"""Networks of users, written without us in mind, through everything that a network of ours goes through."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from PIL import Image

import stjax
from stjax import UsageError, cli
from stjax.convert import store
from stjax.networks import ARCHITECTURES
from stjax.networks.configuration import Architecture, whole
from stjax.networks.geometry import PIXEL, join, slide
from stjax.types import Field, Layer
from stjax.user_model import fingerprint, load_factory, wrap

STEPS = 3


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    """flax adds biases by rank promotion, and one device is enough."""
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a module of the user's in it."""
    (tmp_path / "their_networks.py").write_text(Path(toys.__file__).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path(toys.__file__).parent))])
    monkeypatch.delitem(sys.modules, "their_networks", raising=False)
    return tmp_path


@pytest.fixture
def typed(capsys, monkeypatch):
    """A command line in this process: its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stjax", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "140")
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        return int(leaving.value.code or 0), *capsys.readouterr()

    return run


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        count, every = getattr(picture, "n_frames", 1), []
        for number in range(count):
            picture.seek(number)
            every.append(np.asarray(picture.convert("RGB"), np.int16))
    return every


@pytest.mark.slow
def test_a_video_network_goes_through_all_of_it(here, typed):
    code, said, complained = typed("layers", "their_networks:video")
    assert code == 0, complained
    rows = {line.split()[1]: line for line in said.splitlines() if line.startswith("│")}
    assert rows.keys() == {"stem", "mixed/concat", "deep", "classes"}
    assert "5 x 13" in rows["mixed/concat"]
    assert "whole input" in rows["classes"]
    assert all("rough" in row for row in rows.values())
    assert typed("models", "their_networks:video")[0] == 0

    words = ("visualize", "mixed/concat", "-m", "their_networks:video", "--units", "0:2", "--chi", "10,1,0")
    code, said, complained = typed(*words, "--steps", STEPS, "--out", "out")
    assert code == 0, complained
    assert said.startswith("6 results in out;")
    records = stjax.results.read("out")
    assert [(r.unit, r.chi) for r in records] == [(u, c) for u in (0, 1) for c in (10.0, 1.0, 0.0)]
    assert all(r.penalties["temporal"] > 0 for r in records if r.chi)
    clips = [np.load(Path("out") / r.arrays)["appearance"] for r in records[:3]]
    assert {clip.shape for clip in clips} == {(5, 20, 16, 3)}
    change = [np.abs(np.diff(clip, axis=0)).mean() for clip in clips]
    assert change[0] < change[1] < change[2], "chi slows"
    for r in records:
        moving = frames(Path("out") / r.arrays.replace(".npz", "-appearance.gif"))
        assert len(moving) > 1, "tiles move"
        assert np.abs(moving[0] - moving[-1]).max() > 8
    page = Path("out/index.html").read_text()
    assert all(f"&chi; = {c}" in page for c in (10, 1, 0))
    sheets = sorted(path.name for path in Path("out/sheets").rglob("*.*") if "key" not in path.name)
    assert [name.rpartition(".")[2] for name in sheets] == ["gif", "png"]

    before = {path: path.stat().st_mtime_ns for path in Path("out/arrays").rglob("*.npz")}
    code, said, _ = typed(*words, "--steps", STEPS, "--out", "out")
    assert (code, "6 of them from before" in said) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in Path("out/arrays").rglob("*.npz")} == before
    code, _, complained = typed(*words, "--steps", STEPS + 1, "--out", "out")
    assert (code, "steps" in complained) == (2, True)


@pytest.mark.slow
def test_two_streams_that_both_see_frames(here, typed):
    words = ("visualize", "both", "-m", "their_networks:two_rgb", "--units", "0:1", "--chi", "10,0", "--steps", STEPS)
    code, _, complained = typed(*words, "--out", "out")
    assert code == 0, complained
    records = stjax.results.read("out")
    assert [{each.name: (each.kind, each.slow) for each in r.inputs} for r in records] == [
        {"appearance": ("rgb", "time"), "motion": ("rgb", "time")}
    ] * 2
    for r in records:
        for stream in ("appearance", "motion"):
            assert len(frames(Path("out") / r.arrays.replace(".npz", f"-{stream}.gif"))) > 1
    for layer, stream in (("slow", "appearance"), ("fast", "motion")):
        assert typed("visualize", layer, *words[2:], "--out", "out")[0] == 0
        own = [r for r in stjax.results.read("out") if r.layer == layer]
        assert {each.name for r in own for each in r.inputs} == {stream}


def test_a_network_of_stills_has_one_column(here, typed):
    for layer in ("first", "classes"):
        words = ("visualize", layer, "-m", "their_networks:still", "--units", "0:2", "--chi", "10,0", "--steps", STEPS)
        code, _, complained = typed(*words, "--out", "out")
        assert code == 0, complained
    records = stjax.results.read("out")
    assert [(r.layer, r.unit, r.chi) for r in records] == [(n, u, None) for n in ("first", "classes") for u in (0, 1)]
    assert {r.settings.recipe for r in records if r.role == "classes"} == {"global"}
    assert not list(Path("out/arrays").rglob("*.gif"))
    assert len(list(Path("out/arrays").rglob("*-appearance.png"))) == 4


@pytest.mark.slow
def test_a_user_s_network_is_its_own_whatever_it_was_called_by(here):
    """The checksum follows from parameters and computation, not from a name or an address in memory."""
    module, params, clip = toys.video()
    model = wrap(module, params, clip, name="a")
    named = load_factory("their_networks:video")
    assert named.name == "their_networks.video"
    assert named.checksum == model.checksum == wrap(*toys.video()).checksum
    moved = jax.tree.map(lambda a: a + 1e-3, params)
    assert fingerprint(model.network, moved) != model.checksum
    other = toys.Video(num_classes=4)
    assert wrap(other, other.init(jax.random.key(0), clip), clip).checksum != model.checksum


def test_without_a_folder_results_go_where_module_and_factory_say(here, typed):
    words = ("visualize", "first", "-m", "their_networks:still", "--units", "0:1", "--steps", 1)
    code, said, complained = typed(*words)
    assert code == 0, complained
    assert "atlas/their_networks.still/first/index.html" in said


def test_statistics_of_one_s_own(here, typed):
    model = wrap(*toys.still())
    doubled = model.statistics._replace(ahat={n: 2 * np.asarray(a) for n, a in model.statistics.ahat.items()})
    store.save_statistics(Path("ahat.safetensors"), doubled, {})
    words = ("visualize", "first", "-m", "their_networks:still", "--units", "0:1", "--steps", STEPS)
    for extra, out in (((), "a"), (("--statistics", "ahat.safetensors"), "b")):
        assert typed(*words, *extra, "--out", out)[0] == 0
    (plain,), (own,) = (stjax.results.read(out) for out in ("a", "b"))
    assert own.ahat == pytest.approx(2 * plain.ahat)
    assert own.settings.identity != plain.settings.identity


T = slide(PIXEL, 3, padding=1)
# SAME of a window of 3 with stride 2 over an even length has its one zero behind.
YX = slide(PIXEL, 3, 2)
POOLED = slide(YX, 2, 2)
RIGHT = slide(POOLED, 3, padding=1)
SEES = {"inputs": ("appearance",)}


class Declared(toys.Video):
    """The same network, once it says itself what it is shown and which layers it has: its files can be shared."""

    inputs = (stjax.Input(name="appearance", kind="rgb", shape=(toys.FRAMES, toys.HEIGHT, toys.WIDTH, 3), slow="time"),)

    @property
    def layers(self):
        mixed = join([slide(T, 3, padding=1), T])
        deep = slide(RIGHT, 3, padding=1)
        return (
            Layer(name="stem", units=6, field=Field(T, YX, YX), grid=(8, 14, 16), **SEES),
            Layer(name="mixed/concat", units=8, field=Field(mixed, RIGHT, RIGHT), grid=(8, 7, 8), **SEES),
            Layer(name="deep", units=8, field=Field(slide(mixed, 3, 2), deep, deep), grid=(4, 7, 8), **SEES),
            Layer(
                name="classes", units=self.num_classes, field=Field(None, None, None), grid=(1, 1, 1), role="classes",
                **SEES,
            ),
        )  # fmt: skip

    def init(self, key, clip):
        return {"params": super().init(key, clip)}

    def apply(self, variables, clip):
        scores, activations = super().apply(variables["params"], clip)
        return scores, activations | {"classes": scores[..., None, None, None, :]}


def test_what_is_declared_is_what_is_found():
    """Where the border cut what a gradient shows, the whole was found; all else agrees."""
    found = {layer.name: layer for layer in wrap(*toys.video()).network.layers}
    for layer in Declared().layers:
        other = found[layer.name]
        assert (layer.units, layer.grid, layer.role, layer.inputs) == (
            other.units, other.grid, other.role, other.inputs
        )  # fmt: skip
        for declared, seen in zip(layer.field, other.field, strict=True):
            assert seen in (declared, None), layer.name


def test_a_network_that_declares_itself_is_saved_and_loaded(tmp_path, monkeypatch):
    module, params, _ = toys.video()
    found = wrap(module, params, stjax.Clip(jnp.zeros((toys.FRAMES, toys.HEIGHT, toys.WIDTH, 3))))
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture(Declared, {"num_classes": whole(0, 1000)}))
    model = dataclasses.replace(found, network=Declared())
    store.save(tmp_path / "toy.safetensors", model)
    loaded = stjax.load(tmp_path / "toy.safetensors")
    assert loaded.network == Declared()
    results = [
        stjax.visualize_units(stjax.Request(
            model=m, layer="stem", units=[1], chi=(1, 0), recipe=dataclasses.replace(stjax.FAST, steps=2), chunk=2
        ))
        for m in (model, loaded)
    ]  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, *results)
    monkeypatch.delitem(ARCHITECTURES, "toy")
    with pytest.raises(UsageError, match="toy"):
        stjax.load(tmp_path / "toy.safetensors")


FACTORIES = {
    "no such module": ("nowhere:make", "ModuleNotFoundError"),
    "no such function": ("their_networks:vidoe", "nearest: video"),
    "no name at all": ("their_networks:", "package.module:factory"),
    "a factory that raises": ("bad:raises", "raised ValueError: out of luck"),
    "a list": ("bad:returns_list", "returned a list"),
    "a tuple of four": ("bad:returns_four", "(module, params, stjax.Clip(...))"),
    "nothing says what it is shown": ("bad:no_clip", "an attribute `inputs`"),
    "no clip": ("bad:array_for_clip", "must be a stjax.Clip"),
    "no network": ("bad:no_network", "a flax.linen module, the graphdef"),
    "an nnx module that is not split": ("bad:whole_nnx", "nnx.split(module)"),
    "a module that raises": ("bad:module_raises", "ZeroDivisionError"),
    "what a module returns": ("bad:returns_array", "(scores or None, {layer: activations})"),
    "a number for a map": ("bad:returns_number", "activations must be arrays"),
    "a layer that no input reaches": ("bad:unreached", "no input moves"),
    "a module with a syntax error": ("broken:make", "SyntaxError"),
}

BAD = """
import jax.numpy as jnp, stjax, toys_copy
from flax import nnx

CLIP = stjax.Clip(jnp.zeros((4, 8, 8, 3)))

def raises(): raise ValueError("out of\\nluck")
def returns_list(): return [1, 2]
def returns_four(): return (lambda p, c: (None, {}), {}, CLIP, 4)
def no_clip(): return (lambda p, c: (None, {"a": c.appearance}), {})
def array_for_clip(): return (lambda p, c: (None, {"a": c.appearance}), {}, jnp.zeros((4, 8, 8, 3)))
def no_network(): return 7, {}, CLIP
def whole_nnx(): return toys_copy.Still(nnx.Rngs(0)), {}, CLIP
def module_raises(): return (lambda p, c: 1 / 0), {}, CLIP
def returns_array(): return (lambda p, c: c.appearance), {}, CLIP
def returns_number(): return (lambda p, c: (None, {"a": 3.0})), {}, CLIP
def unreached(): return (lambda p, c: (None, {"a": c.appearance, "b": jnp.ones((1, 2, 2, 3))})), {}, CLIP
"""


@pytest.mark.parametrize("case", FACTORIES)
def test_a_factory_that_does_not_do_is_told_what_was_expected(case, here, typed, monkeypatch):
    text, message = FACTORIES[case]
    (here / "bad.py").write_text(BAD)
    (here / "toys_copy.py").write_text(Path(toys.__file__).read_text())
    (here / "broken.py").write_text("def make(:\n")
    for name in ("bad", "toys_copy", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    code, said, complained = typed("visualize", "a", "-m", text, "--steps", 1, "--out", "out")
    assert (code, said) == (2, ""), complained
    assert complained.count("\n") == 1
    assert complained.startswith("error: ")
    assert message in complained, complained
    assert not (here / "out").exists()
