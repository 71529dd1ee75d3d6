"""The examples in docstrings are true, of the package as it is installed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import stjax

MODULES = [m.name for m in pkgutil.walk_packages(stjax.__path__, "stjax.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, "see the captured output"


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(examples) > 40
