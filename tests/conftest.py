"""Strict settings for every test, and the small networks they share.

Eight CPU devices are simulated, so that sharded code can be tested anywhere. Arrays of different rank never meet
unnoticed. The shapes in stjax's annotations are checked at each call; `--no-shape-check` leaves that out, when a
traceback is to be read without it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Most of a test's time is compilation, and slim networks gain nothing from optimised code: half the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# What a test compiles does not go into the user's cache, nor does it come from there.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jax
import numpy as np
import pytest

if TYPE_CHECKING:
    from stjax import Clip, Request, TwoStream

# Both before anything asks JAX for a device.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Not figures, whose arrays are NumPy's and annotated in its own way (ArrayLike cannot be checked at run time).
CHECKED = (
    *("types", "preprocess", "networks", "ascent", "video", "model"),
    *("convert", "atlas", "training", "analysis", "zoo"),
)


TESTS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-shape-check", action="store_true", help="do not check the shapes in stjax's annotations")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-shape-check"):
        return
    from jaxtyping import install_import_hook

    early = [name for name in sys.modules if name.partition(".")[0] == "stjax"]
    assert not early, f"the import hook must come first, but {early} are imported already"
    # A whole number where a float is asked for is what Python's own rules allow.
    checker = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
    install_import_hook([f"stjax.{room}" for room in CHECKED], checker)
    _check_clips()


def _check_clips() -> None:
    """Each clip that is made, too: JAX makes them of all sorts of leaves, but of no text, and of no other axes.

    What has fewer than four axes may be a number for each stream, of one unit or of many.
    """
    from stjax.types import Clip

    make, axes = Clip.__new__, {"appearance": {3: 4}, "motion": {2: 5, 3: 4}}

    def checked(cls: type, appearance: Any = None, motion: Any = None) -> Any:
        for name, x in (("appearance", appearance), ("motion", motion)):
            shape = getattr(x, "shape", ())
            assert not isinstance(x, str | list | dict | tuple), f"a clip's {name} is a {type(x).__name__}"
            if isinstance(shape, tuple) and len(shape) >= 4:
                assert len(shape) >= axes[name].get(shape[-1], 99), f"a clip's {name} has the shape {shape}"
        return make(cls, appearance, motion)

    Clip.__new__ = checked


def slim(**changes: Any) -> TwoStream:
    """A network of three blocks whose every form runs in milliseconds; every convolution of it has a cone."""
    from stjax import TwoStream

    settings = {"widths": ((4, 4), (8,), (8,)), "fields": 3, "input_size": 32, "dense": (16,), "num_classes": 5}
    return TwoStream(**settings | changes)


def draw_params(network: Any, seed: int = 0) -> dict[str, Any]:
    """Random kernels that keep activations at the size of the input, and random biases."""
    from stjax.convert.tree import flatten, unflatten

    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        spread = 3.0 if len(shape) == 1 else np.sqrt(2.0 / np.prod(shape[:-1]))
        return (spread * rng.normal(size=shape)).astype(np.float32)

    shapes = jax.eval_shape(network.init, jax.random.key(0), draw_clip(network))["params"]
    flat = {name: draw(leaf.shape) for name, leaf in flatten(shapes).items()}
    return jax.tree.map(jax.numpy.asarray, unflatten(flat))


def draw_clip(network: Any, *batch: int, seed: int = 1, side: int | None = None) -> Clip:
    """Noise in grey levels, of the shapes that a network declares; as high and wide as `side`, if that is given."""
    from stjax import Clip

    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> jax.Array:
        size = shape[-3:-1] if side is None else (side, side)
        drawn = rng.uniform(-100, 100, (*batch, *shape[:-3], *size, shape[-1]))
        return jax.numpy.asarray(drawn, jax.numpy.float32)

    return Clip(**{each.name: draw(each.shape) for each in network.inputs})


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[Path]:
    """What stjax keeps between runs goes into a folder of the tests' own, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield Path(folder)


def ask(network: Any, params: Any, ahat: Any, layer: str, **changes: Any) -> Request:
    """A request for one unit of a layer, with what is to be different."""
    from stjax import Model, Request, Statistics

    model = Model(name="slim", network=network, params=params, statistics=Statistics(ahat, "noise"))
    return Request(**{"model": model, "layer": layer, "units": [0]} | changes)


@pytest.fixture(autouse=True)
def forget_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drops now and then what JAX has compiled: a worker that keeps thousands of programs grows to 4 GB and crawls."""
    yield
    request.config.stash[TESTS] = request.config.stash.get(TESTS, 0) + 1
    if request.config.stash[TESTS] % 200 == 0:
        jax.clear_caches()


@pytest.fixture(scope="session")
def network() -> TwoStream:
    return slim(motion_head=True)


@pytest.fixture(scope="session")
def params(network: TwoStream) -> dict[str, Any]:
    return draw_params(network)


@pytest.fixture(scope="session")
def ahat(network: TwoStream, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The largest activation of each unit over four clips of noise, as a run divides by it."""
    from stjax.analysis.statistics import divisors, record_maxima

    return divisors(record_maxima(network, params, [draw_clip(network, 4, seed=2)]))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, network: TwoStream, params: Any, ahat: Any) -> Path:
    """A file of the slim network, for the command line; one layer has no statistics."""
    from stjax.convert import store
    from stjax.model import Model, Part, Statistics

    model = Model(
        name="slim",
        network=network,
        params=params,
        statistics=Statistics({layer: a for layer, a in ahat.items() if layer != "motion/fc4"}, "noise"),
        parts=(Part("all", False, "random"),),
        class_names=tuple("abcde"),
    )
    path = tmp_path_factory.mktemp("weights") / "slim.safetensors"
    store.save(path, model)
    return path
