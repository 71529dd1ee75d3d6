"""MatConvNet's networks, from either kind of .mat -> {published name: array}.

DagNN: `params(k).name` names `params(k).value`. SimpleNN: `layers{k}.name` with `weights{1}` and `weights{2}`, or, in
older files, `filters` and `biases`; here `conv1_1/filters` and `conv1_1/biases`, whichever the file has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stjax.convert.readers import hdf5, matlab5
from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.errors import UsageError

WANTED = ("net", "layers", "params", "meta", "normalization", "classes")
"""Some files hold the fields of `net` at the top level."""
MOST_CHANNELS = 64
"""Of an input, whose mean is a tuple of numbers; stacked flow has 20."""


def read5(data: memoryview) -> Contents:
    """Versions 5 to 7."""
    return _network(matlab5.variables(data, WANTED.__contains__), "MATLAB 5")


def read73(path: Path) -> Contents:
    """Version 7.3, which is HDF5 with all axes reversed."""
    return _network(_transposed(hdf5.read(path)), "MATLAB 7.3")


def _transposed(tree: Any) -> Any:
    if isinstance(tree, np.ndarray):
        return tree.T
    if isinstance(tree, list):
        return [_transposed(value) for value in tree]
    return {name: _transposed(value) for name, value in tree.items()} if isinstance(tree, dict) else tree


def _network(variables: dict[str, Any], container: str) -> Contents:
    net = _records(variables.get("net", variables))
    net = net[0] if net else {}
    params = [(r.get("name"), r.get("value")) for r in _records(net.get("params"))]
    dag = [(name, value) for name, value in params if isinstance(name, str) and isinstance(value, np.ndarray)]
    found = dag or [pair for layer in _records(net.get("layers")) for pair in _simple(layer)]
    if not found:
        raise UsageError(
            "a .mat of weights must hold a MatConvNet network, `net` with `params` or `layers`: this one does not"
        )
    refuse_duplicates([name for name, _ in found], "a MatConvNet network")
    meta = _first(net.get("meta")) or net
    return Contents(
        f"{container}, MatConvNet {'DagNN' if dag else 'SimpleNN'}",
        dict(found),
        class_names=_class_names(_first(meta.get("classes"))),
        mean=_mean(_first(meta.get("normalization"))),
    )


def _records(value: Any) -> list[dict[str, Any]]:
    """Structs, however stored: a list of dicts, one dict, or (7.3, struct arrays) a dict of lists."""
    if isinstance(value, list):
        return [record for entry in value for record in _records(entry)]
    if not isinstance(value, dict):
        return []
    columns = {name: column for name, column in value.items() if name != "#attributes"}
    if isinstance(columns.get("name"), list):
        lists = {name: column for name, column in columns.items() if isinstance(column, list)}
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return [columns]


def _first(value: Any) -> dict[str, Any]:
    return next(iter(_records(value)), {})


def _simple(layer: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    # A name that is no text is some tree of the file's own making, which nobody should print.
    name = layer["name"] if isinstance(layer.get("name"), str) else "None"
    weights = layer.get("weights")
    weights = weights if isinstance(weights, list) else [layer.get("filters"), layer.get("biases")]
    leaves = zip(("filters", "biases"), weights, strict=False)
    return [(f"{name}/{leaf}", a) for leaf, a in leaves if isinstance(a, np.ndarray)]


def _class_names(classes: dict[str, Any]) -> tuple[str, ...]:
    names = classes.get("description") or classes.get("name")
    return tuple(map(str, names)) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()


def _mean(normalization: dict[str, Any]) -> tuple[float, ...]:
    """One number a channel; of an average image, the mean over its pixels, as the authors take it themselves."""
    image = normalization.get("averageImage")
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "fiu" or not image.size:
        return ()
    channels = image.reshape(-1, image.shape[2]) if image.ndim == 3 else image.reshape(1, -1)
    if channels.shape[1] > MOST_CHANNELS:
        return ()
    return tuple(float(value) for value in channels.mean(axis=0, dtype=np.float64))
