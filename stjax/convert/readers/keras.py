"""Keras's .h5, versions 2 and 3 -> {layer/0: kernel, layer/1: bias}, in the order that the layer holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stjax.convert.readers import hdf5
from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.limits import MOST_LETTERS
from stjax.errors import UsageError


def read(path: Path) -> Contents:
    """Every weight of every layer; its name is the layer's and its place in it."""
    tree = hdf5.read(path)
    # A whole model, saved by Keras 2, has its weights one level down.
    found = list(_layers(tree.get("model_weights", tree), ""))
    if not found:
        raise UsageError("an .h5 of weights must be one that Keras wrote: this one has no layers with weights")
    refuse_duplicates([name for name, _ in found], "a Keras file")
    return Contents("Keras 3" if _is_keras3(tree) else "Keras 2", dict(found))


def _is_keras3(tree: dict[str, Any]) -> bool:
    return "vars" in tree or any(_is_keras3(value) for value in tree.values() if isinstance(value, dict))


def _layers(group: dict[str, Any], name: str) -> Iterator[tuple[str, np.ndarray]]:
    attributes = group.get("#attributes", {})
    names = attributes.get("weight_names")
    if isinstance(names, list):  # Keras 2: paths below the layer's own group
        yield from ((f"{name}/{i}", array) for i, path in enumerate(names) if (array := _at(group, path)) is not None)
        return
    for below, value in group.items():
        if below == "#attributes" or not isinstance(value, dict):
            continue
        if below == "vars":  # Keras 3: numbered, with the layer's own name beside them
            said = value.get("#attributes", {}).get("name")
            own = said if isinstance(said, str) and len(said) <= MOST_LETTERS else name
            yield from ((f"{own}/{i}", a) for i, a in value.items() if isinstance(a, np.ndarray))
        else:
            yield from _layers(value, below)


def _at(group: dict[str, Any], path: str) -> np.ndarray | None:
    node: Any = group
    for step in path.split("/"):
        node = node.get(step) if isinstance(node, dict) else None
    return node if isinstance(node, np.ndarray) else None
