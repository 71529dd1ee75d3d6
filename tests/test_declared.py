"""A network that does not describe itself is stored with what was found out of it, and found as it was."""

from __future__ import annotations

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from stjax import Clip, Model, Statistics, UsageError, networks, probe, zoo
from stjax.convert import store
from stjax.networks.configuration import Architecture, whole
from stjax.networks.discovery import describe


class Plain(nn.Module):
    """One convolution."""

    @nn.compact
    def __call__(self, clip):
        return None, {"only": nn.Conv(3, (1, 3, 3))(clip.appearance)}


ROW = Architecture(toys.Video, {"num_classes": whole(1, 1000)})


@pytest.fixture(scope="module")
def model() -> Model:
    module, params, clip = toys.video()
    network = describe(module, params, clip)
    ahat = {layer.name: np.full(layer.units, 3.0, np.float32) for layer in network.layers}
    return Model(name="video", network=network, params=params, statistics=Statistics(ahat, "none", {"deep": "a guess"}))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(networks.ARCHITECTURES, "video", ROW)


@pytest.fixture
def saved(tmp_path, model, registered):
    store.save(tmp_path / "video.safetensors", model)
    return tmp_path / "video.safetensors"


def test_it_comes_back_with_its_layers_and_all_its_variables(saved, model):
    loaded = zoo.load(saved)
    assert loaded.network == model.network
    assert set(loaded.params) == {"params", "batch_stats"}
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
    assert loaded.statistics.rough == {"deep": "a guess"}
    clip = Clip(jnp.asarray(np.random.default_rng(0).normal(0, 50, (12, 40, 48, 3)), jnp.float32))
    first, second = (m.network.apply({"params": m.params}, clip)[1] for m in (model, loaded))
    assert first.keys() == second.keys() == {"stem", "mixed/concat", "deep", "classes"}
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert probe(loaded.network, "mixed/concat") == probe(model.network, "mixed/concat")


def test_parameters_may_come_with_or_without_their_collection(tmp_path, registered, monkeypatch):
    clip = Clip(jnp.zeros((4, 8, 8, 3)))
    variables = Plain().init(jax.random.key(1), clip)
    monkeypatch.setitem(networks.ARCHITECTURES, "plain", Architecture(Plain))
    for params in (variables, variables["params"]):
        network = describe(Plain(), params, clip)
        model = Model(name="a", network=network, params=params, statistics=Statistics({}, ""))
        store.save(tmp_path / "a.safetensors", model)
        loaded = store.load(tmp_path / "a.safetensors")
        jax.tree.map(np.testing.assert_array_equal, loaded.params, dict(params))


def test_what_is_not_registered_is_said(tmp_path, model):
    with pytest.raises(UsageError, match=r"Video is of none; nearest: stjax\.networks\.ARCHITECTURES\['video'\] = "):
        store.save(tmp_path / "a.safetensors", model)
    module, params, clip = toys.two_rgb()
    other = Model(name="f", network=describe(module, params, clip), params=params, statistics=Statistics({}, ""))
    with pytest.raises(UsageError, match="function is of none"):
        store.save(tmp_path / "a.safetensors", other)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("layers", 0, "units"), 9, "a network must compute what its file declares: .*: stem it does not"),
        (("layers", 0, "name"), "stalk", "stalk it does not"),
        (("layers", 0, "grid"), [12, 20, 25], "stem it does not"),
        (("layers", 0, "inputs"), ["motion"], "stem it does not"),
        (("layers", 0, "role"), "stem", "adapted.layers.role must be one of convolution, dense, classes: got 'stem'"),
        (("layers", 0, "field", 0), [3, 0, 0], r"must lie in 1\.\.4096: got 0"),
        (("layers", 0, "field", 0), [3, 1, float("nan")], r"must be a number, -4096\.\.4096: got nan"),
        (("layers", 0, "field"), [None, None], r"must have 3\.\.3 items: got 2"),
        (("layers",), [], "must have 1..10000 items: got 0"),
        (("inputs", 0, "kind"), "flow", "an input of kind flow must have the axes"),
        (("inputs", 0, "shape"), [12, 40, 48, 4], "an input of kind rgb must have the axes"),
        (("inputs", 0, "shape"), [1, 2, 2, 3], "it does not|must be able to start"),
        (("batched",), 1, "adapted.batched must be true or false: got 1"),
        (("until",), "stem", "adapted has the unknown name 'until'"),
    ],
    ids=str,
)
def test_a_stranger_s_file_is_checked(saved, place, value, message):
    from test_convert import put

    arrays, metadata = store.read_tensors(saved)
    said = json.loads(metadata["stjax"])
    if place == ("until",):
        said["adapted"]["until"] = value
    else:
        said["adapted"] = put(said["adapted"], place, value)
    store.write_tensors(saved, arrays, {"stjax": json.dumps(said)})
    with pytest.raises(UsageError, match=message) as caught:
        store.load(saved)
    assert str(caught.value).isprintable()
