"""Conventions of the public names: documented, alike in the order of their arguments.

Their examples are run by tests/test_doctests.py.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import stjax

PUBLIC = {
    name: value for name, value in vars(stjax).items() if not name.startswith("_") and not inspect.ismodule(value)
}
CALLABLE = {name: value for name, value in PUBLIC.items() if callable(value)}
MODULES = [m.name for m in pkgutil.walk_packages(stjax.__path__, "stjax.") if not m.name.endswith("__main__")]
# What changes least comes first. A view or a module stands where the network does.
ORDER = ("network", "probe", "recipe", "params", "key", "target", "weights", "state")


def expected_names() -> set[str]:
    tree = ast.parse(Path(stjax.__file__).read_text())
    names = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name for name in names if not name.startswith("_") and not inspect.ismodule(getattr(stjax, name))}


def test_the_door_holds_imports_and_nothing_else():
    body = ast.parse(Path(stjax.__file__).read_text()).body
    assert all(isinstance(node, ast.ImportFrom) for node in body[1:])
    assert set(PUBLIC) == expected_names()


def test_the_version_is_said_once():
    assert stjax.__version__ == importlib.metadata.version("stjax")


@pytest.mark.parametrize("name", CALLABLE)
def test_public_names_are_documented(name):
    documented = inspect.getdoc(CALLABLE[name]) or ""
    # Of a dataclass and a NamedTuple Python makes one up: "State(step, clip, optimizer)".
    assert documented, f"{name} has no docstring"
    assert not documented.startswith(f"{name}("), f"{name} has no docstring of its own"
    summary = documented.split("\n\n")[0]
    assert "\n" not in summary, f"{name}: the first line must say it all: {summary!r}"
    assert len(summary) <= 120
    assert summary.endswith((".", ")", ":")), f"{name}: {summary!r} is no sentence"


@pytest.mark.parametrize("name", [*CALLABLE, "climb", "jobs", "record", "unit_key"])
def test_arguments_stand_in_one_order(name):
    function = CALLABLE.get(name)
    if function is None:
        homes = {"climb": "atlas.run", "jobs": "atlas.plan", "record": "video.statistics", "unit_key": "atlas.plan"}
        function = getattr(importlib.import_module(f"stjax.{homes[name]}"), name)
    if inspect.isclass(function):
        return
    known = [argument for argument in inspect.signature(function).parameters if argument in ORDER]
    assert known == sorted(known, key=ORDER.index)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_documented(module):
    loaded = importlib.import_module(module)
    assert (loaded.__doc__ or "").strip(), f"{module} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_of_every_module_have_a_docstring(module):
    loaded = importlib.import_module(module)
    own = {
        name: value
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module and callable(value)
    }
    bare = [name for name, value in own.items() if not (inspect.getdoc(value) or "").strip()]
    assert not bare


def test_no_drawer_for_odds_and_ends():
    names = {
        path.stem
        for folder in ("stjax", "scripts", "tests")
        for path in Path(stjax.__file__).parents[1].glob(f"{folder}/**/*.py")
    }
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize(
    "word",
    [
        r"\brng\b(?!\s*(=|\.|,|:)\s*np)",
        r"\bn_units\b",
        r"\bpmap\b",
        r"jax\.tree_map",
        r"jax\.random\.PRNGKey",
        r"num_filters",
    ],
)
def test_no_name_that_we_gave_up(word):
    """`key`, never rng, for JAX's random keys; `num_units`; and nothing that JAX has withdrawn."""
    uses = [
        f"{path.name}:{number}"
        for path in Path(stjax.__file__).parent.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(word, line) and "`pmap`" not in line
    ]
    assert not uses


def test_objects_of_the_interface_satisfy_their_protocols():
    from stjax import types
    from stjax.ascent import optimizers, regularizers, transforms

    assert isinstance(stjax.TwoStream(), types.Network)
    assert isinstance(stjax.Neuron("fc6"), types.Objective)
    assert isinstance(regularizers.LocalEnergy(), types.Regularizer)
    assert isinstance(transforms.Jitter(size=2), types.Transform)
    assert isinstance(stjax.FAST.jitter, transforms.JitterRule)
    assert isinstance(stjax.MAHENDRAN.optimizer, optimizers.Optimizer)
