"""Conventions of the public names: documented, alike in the order of their arguments.

Their examples are run by tests/test_doctests.py.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stjax

PUBLIC = {
    name: value for name, value in vars(stjax).items() if not name.startswith("_") and not inspect.ismodule(value)
}
CALLABLE = {name: value for name, value in PUBLIC.items() if callable(value)}
MODULES = [m.name for m in pkgutil.walk_packages(stjax.__path__, "stjax.") if not m.name.endswith("__main__")]
# What changes least comes first. A probe stands where the network does.
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


def functions() -> Iterator[tuple[str, Any]]:
    """Every function and method that is defined in the package, by its whole name."""
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name, value in vars(loaded).items():
            if getattr(value, "__module__", None) != module:
                continue
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if inspect.isfunction(function) and not method.startswith("__"):
                        yield f"{module}.{name}.{method}", function
            elif callable(value):
                yield f"{module}.{name}", value


FUNCTIONS = dict(functions())


# An optimiser's `update` is called as optax's are, the gradient and its own state first.
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.endswith(".update")])
def test_arguments_stand_in_one_order(name):
    known = [argument for argument in inspect.signature(FUNCTIONS[name]).parameters if argument in ORDER]
    assert known == sorted(known, key=ORDER.index)


def test_what_belongs_together_travels_together():
    """More than eight parameters are a missing type. Options of a command are what a user may say."""
    counts = {
        name: len([p for p in inspect.signature(function).parameters if p != "self"])
        for name, function in FUNCTIONS.items()
        if not name.startswith("stjax.commands.")
    }
    assert len(counts) > 400
    assert {name: count for name, count in counts.items() if count > 8} == {}


@pytest.mark.parametrize(
    "room", ["objectives", "regularizers", "optimizers", "transforms", "parametrization", "recipes"]
)
def test_what_a_recipe_is_made_of_is_public(room):
    """Every static part: a frozen dataclass that a user may put into a recipe, and every named recipe."""
    loaded = importlib.import_module(f"stjax.ascent.{room}")
    own = {
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and (
            (inspect.isclass(value) and value.__module__ == loaded.__name__ and dataclasses.is_dataclass(value))
            or (isinstance(value, stjax.Recipe))
        )
    }
    assert own
    assert own <= PUBLIC.keys()


def test_both_ends_are_public():
    """From weights to the record of a result, and statistics between."""
    ends = ("load", "wrap", "convert_files", "save", "record_maxima", "divisors", "calibrated", "Record", "results")
    assert set(ends) <= vars(stjax).keys()


@pytest.mark.parametrize("name", ["start_chunk", "step_chunk", "measure_chunk"])
def test_compiled_functions_keep_signature_and_help(name):
    from stjax.atlas import run

    function = getattr(run, name)
    parameters = list(inspect.signature(function).parameters)
    assert parameters[0] == "program"
    assert len(parameters) >= 4
    shown = pydoc.plain(pydoc.render_doc(function))
    # From Python 3.13 on a long signature has one parameter a line.
    assert re.search(rf"{name}\(\s*program", shown)
    assert inspect.getdoc(function) in shown


def test_the_words_of_one_network_stay_in_its_rooms():
    """Elsewhere nothing knows of towers: streams are asked of inputs, roles of layers, axes of kinds."""
    words = re.compile(r'TwoStream|motion/|conv5|startswith\("conv|shape\[-1\] == 2|endswith\("classes"\)')
    root = Path(stjax.__file__).parent
    rooms = ("networks", "training", "convert/two_stream")
    # The public name; and the row and the options of the converter of two streams.
    doors = ("__init__.py", "convert/tables.py", "commands/weights.py")
    uses = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if not str(path.relative_to(root)).startswith(rooms) and str(path.relative_to(root)) not in doors
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if words.search(line)
    ]
    assert uses == []


@pytest.mark.parametrize(
    ("appearance", "motion"),
    [
        (np.zeros((1, 8, 8, 3)), "nonsense"),
        (np.zeros((1, 8, 8, 2)), None),
        (None, np.zeros((1, 10, 8, 8, 4))),
        (None, np.zeros((10, 8, 8, 2))),
        (np.zeros((1, 8, 8, 3)), [[0.0]]),
    ],
    ids=["a text", "two channels of RGB", "four channels of flow", "flow without time", "a list"],
)
def test_clips_of_other_things_are_refused_in_tests(appearance, motion):
    with pytest.raises(AssertionError, match="a clip"):
        stjax.Clip(appearance, motion)


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
