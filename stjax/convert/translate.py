"""A published file -> our towers, by the table that fits it. Every difference is named in one message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stjax.convert.readers.contents import Contents
from stjax.convert.tables import CONVOLUTIONS, FUSION, HEAD, NORMALISATION, TABLES, Table
from stjax.convert.tree import unflatten
from stjax.errors import UsageError, nearest
from stjax.types import STREAMS

FEWEST = 8
"""Names that a table must know before a file counts as a VGG-16 with faults, and not as something else."""
FEW = 20
"""Names of one kind of fault that a message lists."""


class Match(NamedTuple):
    """What a table makes of a file's names.

    ours: published name -> ours, `layer/kernel`, `stream/layer/bias`, ...
    strangers: published names that the table does not know.
    """

    table: Table
    ours: dict[str, str]
    strangers: list[str]


class Stream(NamedTuple):
    """One tower as it came: `tower["conv1_1"]["kernel"]`, HWIO, for inputs in grey levels minus a mean.

    fused: whether its classifier was trained on fused features.
    """

    name: str
    tower: dict[str, dict[str, np.ndarray]]
    fused: bool


class Translation(NamedTuple):
    """Every stream of a file, and its fusion layer if it has one."""

    table: Table
    streams: tuple[Stream, ...]
    fusion: dict[str, np.ndarray]
    left_out: tuple[str, ...]


def match(contents: Contents, table: str | None = None) -> Match:
    """The table that knows most names of a file.

    Args:
      contents: from a reader.
      table: the name of one to use whatever the container.
    Raises:
      UsageError: no such table, or none knows the file.
    """
    if table is not None and table not in TABLES:
        raise UsageError(f"a table must be a known one: {table!r} is not; {nearest(table, TABLES)}")
    candidates = [t for t in TABLES.values() if t.implied and contents.container.startswith(t.containers)]
    tried = [_match(contents, t) for t in ([TABLES[table]] if table else candidates)]
    best = max(tried, key=lambda m: len(m.ours), default=None)
    if best is None or len(best.ours) < FEWEST:
        shown = ", ".join(name[:80] for name in list(contents.arrays)[:4])
        raise UsageError(
            f"a file must hold a VGG-16 as one of the tables spells it: this {contents.container} file is of another "
            f"architecture, {len(contents.arrays)} arrays: {shown}, ..."
        )
    return best


def _match(contents: Contents, table: Table) -> Match:
    rows = [(re.compile(pattern), name) for pattern, name in table.rows]
    ours: dict[str, str] = {}
    for published in contents.arrays:
        for pattern, name in rows:
            if found := pattern.fullmatch(published):
                ours[published] = found.expand(name)
                break
    beside = [re.compile(pattern) for pattern in table.beside]
    strangers = [n for n in contents.arrays if n not in ours and not any(p.fullmatch(n) for p in beside)]
    for stream in ("", *(f"{s}/" for s in STREAMS)):
        _find_classifier(contents, stream, ours, strangers)
    if table.classes is not None and table.classes not in _classes(contents, ours):
        return Match(table, {}, list(contents.arrays))
    return Match(table, ours, strangers)


def _find_classifier(contents: Contents, stream: str, ours: dict[str, str], strangers: list[str]) -> None:
    """A classifier without a name of its own, about `layer38f`: the one 1x1 kernel that reads fc7."""
    known = {name: published for published, name in ours.items()}
    if f"{stream}fc7/bias" not in known or f"{stream}classes/kernel" in known:
        return
    suffix = {"": "", "appearance/": "_spatial", "motion/": "_temporal"}[stream]
    width = contents.arrays[known[f"{stream}fc7/bias"]].size
    own = [name for name in strangers if name.endswith(suffix)]
    kernels = [n for n in own if math.prod((a := contents.arrays[n]).shape[:-1]) == width and a.ndim in (2, 4)]
    if len(kernels) != 1:
        return
    classes = contents.arrays[kernels[0]].shape[-1]
    biases = [name for name in own if name != kernels[0] and contents.arrays[name].size == classes]
    # Of several vectors of that length, the one that is named like the kernel.
    biases.sort(key=lambda name: -len(_shared(name, kernels[0])))
    for published, leaf in zip((kernels[0], *biases[:1]), ("kernel", "bias"), strict=False):
        ours[published] = f"{stream}classes/{leaf}"
        strangers.remove(published)


def _shared(a: str, b: str) -> str:
    """What two names begin with alike."""
    return a[: next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))]


def _classes(contents: Contents, ours: Mapping[str, str]) -> set[int]:
    return {contents.arrays[name].size for name, mine in ours.items() if mine.endswith("classes/bias")}


def translate(contents: Contents, found: Match, convolutions_only: bool = False, stacked: bool = False) -> Translation:
    """The towers of a file in our names, layout and units; arrays stay views wherever they can.

    Args:
      contents: from a reader.
      found: from `match`.
      convolutions_only: leave out the classifier and whatever the table does not know.
      stacked: flow channels are u1 .. u10, v1 .. v10 and not u1, v1, .., u10, v10.
    Raises:
      UsageError: names missing, unexpected, doubled or misshapen, all listed.
    """
    table = found.table
    left_out = [*found.strangers] if convolutions_only else []
    strangers = [] if convolutions_only else found.strangers
    published: dict[str, list[str]] = {}
    for name, ours in found.ours.items():
        if convolutions_only and ours.split("/")[-2] in HEAD:
            left_out.append(name)
        else:
            published.setdefault(ours, []).append(name)
    doubled = [f"{ours} ({', '.join(names)})" for ours, names in published.items() if len(names) > 1]

    prefixes = sorted({ours.rpartition("/")[0].rpartition("/")[0] for ours in published if not ours.startswith(FUSION)})
    missing: list[str] = []
    misshapen: list[str] = []
    streams: list[Stream] = []
    for prefix in prefixes:
        expected = _expected(prefix, published, table)
        missing += [name for name in expected if name not in published]
        tower = {
            name.removeprefix(f"{prefix}/"): contents.arrays[published[name][0]]
            for name in expected
            if name in published
        }
        shaped = _shaped(tower, table)
        misshapen += [f"{prefix}/{line}".removeprefix("/") for line in _misshapen(shaped)]
        if not missing and not misshapen:
            name = prefix or _kind(shaped["conv1_1/kernel"].shape[2])
            if table.epsilon is not None:
                shaped = fold_normalisation(shaped, table.epsilon)
            streams.append(Stream(name, unflatten(_scaled(shaped, name, table, stacked)), bool(prefix)))
    fusion = {n.rpartition("/")[2]: contents.arrays[p[0]] for n, p in published.items() if n.startswith(FUSION)}
    if len(fusion) == 1:
        missing.append(f"{FUSION}/{({'kernel', 'bias'} - fusion.keys()).pop()}")

    problems = {"missing": missing, "unexpected": strangers, "doubled": doubled, "misshapen": misshapen}
    listed = "; ".join(f"{what}: {_few(names)}" for what, names in problems.items() if names)
    if listed:
        if any(re.search(r"running_(mean|var)|batch_?norm|moving_(mean|variance)", name) for name in strangers):
            listed += "; batch normalisation is folded as torchvision's vgg16_bn names it, and not otherwise"
        hint = (
            "; --convolutions-only leaves the unexpected ones out" if strangers and not (missing or misshapen) else ""
        )
        raise UsageError(f"a VGG-16 must match the table {table.name}, name by name: {listed}{hint}")
    if fusion:
        fusion = {"kernel": _fusion_kernel(fusion["kernel"]), "bias": fusion["bias"].reshape(-1)}
    return Translation(table, tuple(streams), fusion, tuple(left_out))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:FEW])
    return f"{shown} and {len(names) - FEW} more" if len(names) > FEW else shown


def _expected(prefix: str, published: Mapping[str, Any], table: Table) -> list[str]:
    """Every name a tower must have: all convolutions, and a whole classifier if there is any of it.

    A convolution before a normalisation may lack its bias, which that would take away.
    """
    lead = f"{prefix}/" if prefix else ""
    head = HEAD if any(f"{lead}{layer}/kernel" in published for layer in HEAD) else ()
    leaves = ("kernel", "bias") if table.epsilon is None else ("kernel", "bias", *NORMALISATION)
    names = [f"{lead}{layer}/{leaf}" for layer in CONVOLUTIONS for leaf in leaves]
    if table.epsilon is not None:
        names = [name for name in names if not name.endswith("/bias") or name in published]
    return names + [f"{lead}{layer}/{leaf}" for layer in head for leaf in ("kernel", "bias")]


def _kind(channels: int) -> str:
    return "appearance" if channels == 3 else "motion"


def _shaped(tower: Mapping[str, np.ndarray], table: Table) -> dict[str, np.ndarray]:
    """Kernels (y, x, in, out) and flat biases; whatever cannot be shaped so stays as it came, to be reported."""
    last = tower.get(f"{CONVOLUTIONS[-1]}/{'bias' if table.epsilon is None else 'shift'}", np.empty(0)).size
    shaped: dict[str, np.ndarray] = {}
    for name, array in tower.items():
        layer, _, leaf = name.rpartition("/")
        if leaf != "kernel":
            shaped[name] = array.reshape(-1)
        elif layer in HEAD:
            shaped[name] = _dense(array, table.layout, last if layer == HEAD[0] else array.size)
        elif table.layout == "OIHW":
            shaped[name] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        else:
            # MATLAB drops axes of length 1 at the end.
            shaped[name] = array.reshape(*array.shape, *[1] * (4 - array.ndim)) if array.ndim > 2 else array
    return shaped


def _dense(array: np.ndarray, layout: str, channels: int) -> np.ndarray:
    """A fully connected layer as a convolution over the whole map; what reads a single vector is 1 x 1."""
    if array.ndim == 4 and layout == "HWIO":
        return array
    if array.ndim == 4 and array.shape[:2] != (1, 1):
        return array.transpose(2, 3, 1, 0)
    if layout == "OIHW":
        array = array.reshape(array.shape[-2:]).T
        inputs, outputs = array.shape
        side = math.isqrt(max(inputs // max(channels, 1), 1))
        if side * side * channels == inputs:
            return array.reshape(channels, side, side, outputs).transpose(1, 2, 0, 3)
    elif array.ndim == 2:
        inputs, outputs = array.shape
        side = math.isqrt(max(inputs // max(channels, 1), 1))
        if side * side * channels == inputs:
            return array.reshape(side, side, channels, outputs)
    return array.reshape(1, 1, *array.shape) if array.ndim == 2 else array


def _misshapen(tower: Mapping[str, np.ndarray]) -> list[str]:
    """Where shapes contradict one another: each layer reads what the one before gives, and biases say how much."""
    lines, before = [], tower["conv1_1/kernel"].shape[2:3] if "conv1_1/kernel" in tower else ()
    if before and before[0] != 3 and (before[0] < 2 or before[0] % 2):
        lines.append(f"conv1_1/kernel reads {before[0]} channels instead of 3 (RGB) or an even number (flow)")
    for layer in (*CONVOLUTIONS, *HEAD):
        kernel = tower.get(f"{layer}/kernel")
        vectors = [f"{layer}/{leaf}" for leaf in ("bias", *NORMALISATION) if f"{layer}/{leaf}" in tower]
        if kernel is None or not vectors:
            before = (tower[vectors[0]].size,) if vectors else ()
            continue
        units = tower[vectors[0]].size
        side = kernel.shape[:2] if layer == HEAD[0] else (3, 3) if layer in CONVOLUTIONS else (1, 1)
        expected = (*side, *(before or kernel.shape[2:3]), units)
        if kernel.shape != expected or side[0] != side[1]:
            lines.append(f"{layer}/kernel {kernel.shape} instead of {expected}")
        lines += [f"{n} ({tower[n].size},) instead of ({units},)" for n in vectors if tower[n].size != units]
        before = (units,)
    return lines


def fold_normalisation(tower: Mapping[str, np.ndarray], epsilon: float) -> dict[str, np.ndarray]:
    """Batch normalisation behind each convolution -> the convolution that is both.

    kernel' = kernel s,  bias' = (bias - mean) s + shift,  s = scale / sqrt(variance + epsilon), in float64. Exact at
    borders too: zeros are padded before the convolution, and what is folded comes behind it.

    Args:
      tower: layer/kernel (.., out); layer/scale, shift, mean and variance (out,), where a layer is normalised.
      epsilon: as the network was trained with.
    Raises:
      UsageError: a variance is negative.
    """
    folded = {name: array for name, array in tower.items() if name.rpartition("/")[2] not in NORMALISATION}
    for name in (name.removesuffix("/variance") for name in tower if name.endswith("/variance")):
        scale, shift, mean, variance = (tower[f"{name}/{leaf}"].astype(np.float64) for leaf in NORMALISATION)
        if not (variance >= 0).all():
            raise UsageError(f"the variance of a batch normalisation must be 0 or more: that behind {name} is not")
        scale = scale / np.sqrt(variance + epsilon)
        bias = np.asarray(tower.get(f"{name}/bias", 0.0), np.float64)
        with np.errstate(over="ignore"):
            folded[f"{name}/kernel"] = (tower[f"{name}/kernel"] * scale).astype(np.float32)
            folded[f"{name}/bias"] = ((bias - mean) * scale + shift).astype(np.float32)
    return folded


def _scaled(tower: dict[str, np.ndarray], stream: str, table: Table, stacked: bool) -> dict[str, np.ndarray]:
    """The first layer for inputs as ours: RGB or interleaved flow, in grey levels minus a mean."""
    kernel = tower["conv1_1/kernel"]
    if stream == "appearance":
        kernel = kernel[:, :, ::-1] if table.bgr else kernel
        if table.std is not None:
            kernel = fold_std(kernel, table.std)
    else:
        kernel = interleave_kernel(kernel) if stacked else kernel
        if table.flow_std is not None:
            kernel = fold_std(kernel, (table.flow_std,) * kernel.shape[2])
    return {**tower, "conv1_1/kernel": kernel}


def fold_std(kernel: np.ndarray, std: tuple[float, ...]) -> np.ndarray:
    """conv1_1's kernel for inputs (x/255 - mean)/std -> the same function of grey levels x - 255 mean.

    Divided by 255 std, channel by channel. The bias stays, and so does the meaning of zero padding, because the
    network's own mean is kept as its preprocessing.
    """
    return kernel / (255.0 * np.asarray(std, np.float32).reshape(1, 1, -1, 1))


def interleave_kernel(kernel: np.ndarray) -> np.ndarray:
    """Input channels u1 .. un, v1 .. vn -> u1, v1, .. un, vn.

    >>> interleave_kernel(np.asarray([1, 2, -1, -2]).reshape(1, 1, 4, 1)).ravel().tolist()
    [1, -1, 2, -2]
    """
    y, x, channels, out = kernel.shape
    return kernel.reshape(y, x, 2, channels // 2, out).swapaxes(2, 3).reshape(kernel.shape)


def _fusion_kernel(kernel: np.ndarray) -> np.ndarray:
    """(in, out), or (t, y, x, in, out) from the authors' (y, x, t, in, out)."""
    return kernel.transpose(2, 0, 1, 3, 4) if kernel.ndim == 5 else kernel.reshape(kernel.shape[-2:])
