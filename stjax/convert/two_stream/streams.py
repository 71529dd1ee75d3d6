"""A published file -> its VGG-16 towers, by the table that fits it. Every difference is named in one message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stjax.convert import folding, store
from stjax.convert.folding import NORMALISATION, fold_inputs, interleave_kernel
from stjax.convert.readers.contents import Contents
from stjax.convert.table import Match
from stjax.convert.tree import unflatten
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.tables import CONVOLUTIONS, FUSION, HEAD, VGG16Table
from stjax.errors import UsageError
from stjax.networks.two_stream import TwoStream
from stjax.networks.vgg import VGG16
from stjax.types import STREAMS

Arrays = dict[str, np.ndarray]
KIND = {"appearance": "rgb", "motion": "flow"}


class Stream(NamedTuple):
    """One tower as it came: `tower["conv1_1"]["kernel"]`, HWIO, for inputs in grey levels minus a mean.

    fused: whether its classifier was trained on fused features.
    """

    name: str
    tower: dict[str, dict[str, np.ndarray]]
    fused: bool


class Translation(NamedTuple):
    """Every stream of a file, and its fusion layer if it has one."""

    table: VGG16Table
    streams: tuple[Stream, ...]
    fusion: Arrays
    left_out: tuple[str, ...]


# Names


def complete(contents: Contents, match: Match) -> Match:
    """A match with the classifiers that have no name of their own; nothing of it if it is of another source."""
    for stream in ("", *(f"{name}/" for name in STREAMS)):
        _find_classifier(contents, stream, match)
    classes = getattr(match.table, "classes", None)
    sizes = {contents.arrays[name].size for name, ours in match.ours.items() if ours.endswith("classes/bias")}
    if classes is not None and classes not in sizes:
        return Match(match.table, {}, {}, list(contents.arrays))
    return match


def _find_classifier(contents: Contents, stream: str, match: Match) -> None:
    """A classifier without a name of its own, about `layer38f`: the one 1x1 kernel that reads fc7."""
    published = {ours: name for name, ours in match.ours.items()}
    if f"{stream}fc7/bias" not in published or f"{stream}classes/kernel" in published:
        return
    suffix = {"": "", "appearance/": "_spatial", "motion/": "_temporal"}[stream]
    width = contents.arrays[published[f"{stream}fc7/bias"]].size
    own = [name for name in match.unknown if name.endswith(suffix)]
    kernels = [n for n in own if math.prod((a := contents.arrays[n]).shape[:-1]) == width and a.ndim in (2, 4)]
    if len(kernels) != 1:
        return
    classes = contents.arrays[kernels[0]].shape[-1]
    biases = [name for name in own if name != kernels[0] and contents.arrays[name].size == classes]
    # Of several vectors of that length, the one that is named like the kernel.
    biases.sort(key=lambda name: -len(_common_start(name, kernels[0])))
    for name, leaf in zip((kernels[0], *biases[:1]), ("kernel", "bias"), strict=False):
        match.ours[name], match.axes[name] = f"{stream}classes/{leaf}", ""
        match.unknown.remove(name)


def _common_start(a: str, b: str) -> str:
    return a[: next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))]


# Towers


def translate(contents: Contents, match: Match, options: TwoStreamOptions | None = None) -> Translation:
    """The towers of a file in our names, layout and units; arrays stay views wherever they can.

    Args:
      contents: from a reader.
      match: by one of the tables of VGG-16.
      options: of these, whether flow is stacked, and whether only convolutions are wanted.
    Raises:
      UsageError: names missing, unexpected, doubled or misshapen, all listed.
    """
    options = options or TwoStreamOptions()
    table = match.table
    if not isinstance(table, VGG16Table):
        kind = type(table).__name__
        raise UsageError(f"a table of two-stream networks must be a VGG16Table: {table.name} is a {kind}")
    unknown = [] if options.convolutions_only else match.unknown
    left_out = [*match.unknown] if options.convolutions_only else []
    published: dict[str, list[str]] = {}
    for name, ours in match.ours.items():
        if options.convolutions_only and ours.split("/")[-2] in HEAD:
            left_out.append(name)
        else:
            published.setdefault(ours, []).append(name)
    arrays = {ours: contents.arrays[names[0]] for ours, names in published.items()}
    problems: dict[str, list[str]] = {"missing": [], "unexpected": unknown, "misshapen": []}
    problems["doubled"] = [f"{ours} ({', '.join(names)})" for ours, names in published.items() if len(names) > 1]

    fusion = {name.rpartition("/")[2]: a for name, a in arrays.items() if name.startswith(FUSION)}
    problems["missing"] += [f"{FUSION}/{leaf}" for leaf in ("kernel", "bias") if fusion and leaf not in fusion]
    if "kernel" in fusion and not _fuses(fusion["kernel"]):
        problems["misshapen"].append(f"{FUSION}/kernel {fusion['kernel'].shape} instead of 2 axes, or 5 in 3-D")
    towers: dict[str, Arrays] = {}
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition("/")
        prefix, _, layer = layer.rpartition("/")
        if layer != FUSION:
            towers.setdefault(prefix, {})[f"{layer}/{leaf}"] = array
    streams = []
    for prefix, tower in sorted(towers.items()):
        stream, shaped, own = _tower(prefix, tower, table)
        for what, lines in own.items():
            problems[what] += [f"{prefix}/{line}" if prefix else line for line in lines]
        streams.append((stream, shaped, bool(prefix)))
    if listed := store.listing(problems):
        raise UsageError(
            f"a VGG-16 must match the table {table.name}, name by name: {listed}{_hint(problems, match.unknown)}"
        )
    if fusion:
        fusion = {"kernel": _fusion_kernel(fusion["kernel"]), "bias": fusion["bias"].reshape(-1)}
    read = tuple(Stream(name, unflatten(_scaled(a, name, table, options.stacked)), fused) for name, a, fused in streams)
    return Translation(table, read, fusion, tuple(left_out))


def _hint(problems: Mapping[str, list[str]], unknown: list[str]) -> str:
    hint = ""
    if any(re.search(r"running_(mean|var)|batch_?norm|moving_(mean|variance)", name) for name in unknown):
        hint = "; batch normalisation is folded as torchvision's vgg16_bn names it, and not otherwise"
    if problems["unexpected"] and not (problems["missing"] or problems["misshapen"]):
        hint += "; --convolutions-only leaves the unexpected ones out"
    return hint


def _tower(prefix: str, arrays: Arrays, table: VGG16Table) -> tuple[str, Arrays, dict[str, list[str]]]:
    """The stream that a tower is, the tower in our layout, and how it differs from a VGG-16 of its sizes."""
    shaped = _shaped(arrays, table)
    missing, misshapen = [], []
    if table.epsilon is not None:
        missing, misshapen = folding.check_normalisation(shaped, CONVOLUTIONS)
        if not (missing or misshapen):
            shaped = folding.fold_normalisation(shaped, table.epsilon)
    first = shaped.get("conv1_1/kernel", np.empty(0))
    channels = first.shape[2] if first.ndim == 4 else 3
    stream = prefix or ("appearance" if channels == 3 else "motion")
    if channels != 3 and (channels < 2 or channels % 2):
        misshapen.append(f"conv1_1/kernel reads {channels} channels instead of 3 (RGB) or an even number (flow)")
        return stream, shaped, {"missing": missing, "misshapen": misshapen}
    expected = store.parameter_shapes(network_of(stream, shaped))
    held = {f"{stream}/{name}": array.shape for name, array in shaped.items()}
    own = store.differences(expected, {name: shape for name, shape in held.items() if name in expected})
    missing += [name.removeprefix(f"{stream}/") for name in own["missing"]]
    misshapen += [line.removeprefix(f"{stream}/") for line in own["misshapen"]]
    # A bias before a normalisation may be absent: folding makes it.
    absent = {f"{layer}/bias" for layer in CONVOLUTIONS} if table.epsilon is not None else set()
    order = [f"{layer}/{leaf}" for layer in (*CONVOLUTIONS, *HEAD) for leaf in ("kernel", "bias", *NORMALISATION)]
    problems = {"missing": sorted({*missing} - absent, key=order.index), "misshapen": list(dict.fromkeys(misshapen))}
    return stream, {name: shaped[name] for name in order if name in shaped}, problems


def network_of(stream: str, tower: Mapping[str, np.ndarray]) -> TwoStream:
    """The network that a tower is on its own, by the sizes of its arrays: `tower["conv1_1/kernel"]`, in our layout."""
    widths = iter([_units(tower, layer) for layer in CONVOLUTIONS])
    head = [_units(tower, layer) for layer in HEAD] if any(f"{layer}/kernel" in tower for layer in HEAD) else []
    fc6, first = (tower.get(f"{layer}/kernel", np.empty(0)) for layer in (HEAD[0], CONVOLUTIONS[0]))
    side = max(1, fc6.shape[0]) if head and fc6.ndim == 4 else 7
    channels = first.shape[2] if first.ndim == 4 else 0
    return TwoStream(
        widths=tuple(tuple(next(widths) for _ in block) for block in VGG16),
        fields=max(1, channels // 2) if stream == "motion" else TwoStream.fields,
        fusion="late",
        dense=tuple(head[:-1]) or TwoStream.dense,
        num_classes=head[-1] if head else 0,
        input_size=side << len(VGG16),
        streams=(stream,),
    )


def _units(tower: Mapping[str, np.ndarray], layer: str) -> int:
    """Of a layer, by its vectors, else by its kernel."""
    vectors = [tower[f"{layer}/{leaf}"] for leaf in ("bias", "shift") if f"{layer}/{leaf}" in tower]
    kernel = tower.get(f"{layer}/kernel", np.empty(0))
    return max(1, vectors[0].size if vectors else (kernel.shape or (1,))[-1])


# Layout and units


def _shaped(tower: Mapping[str, np.ndarray], table: VGG16Table) -> Arrays:
    """Kernels (y, x, in, out) and flat vectors; whatever cannot be shaped so stays as it came, to be reported."""
    shaped: Arrays = {}
    for name, array in tower.items():
        layer, _, leaf = name.rpartition("/")
        if leaf != "kernel":
            shaped[name] = array.reshape(-1)
        elif layer in HEAD:
            last = _last_width(tower, table)
            shaped[name] = _dense(array, table.layout, last if layer == HEAD[0] else array.size)
        elif table.layout == "OIHW":
            shaped[name] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        else:
            # MATLAB drops axes of length 1 at the end.
            shaped[name] = array.reshape(*array.shape, *[1] * (4 - array.ndim)) if array.ndim > 2 else array
    return shaped


def _last_width(tower: Mapping[str, np.ndarray], table: VGG16Table) -> int:
    """Units of the last convolution, as what comes behind it reads them."""
    layer = CONVOLUTIONS[-1]
    for leaf in ("bias", "shift"):
        if f"{layer}/{leaf}" in tower:
            return tower[f"{layer}/{leaf}"].size
    kernel = tower.get(f"{layer}/kernel", np.empty(0))
    return (kernel.shape or (1,))[0 if table.layout == "OIHW" else -1]


def _dense(array: np.ndarray, layout: str, channels: int) -> np.ndarray:
    """A fully connected layer as a convolution over the whole map; what reads a single vector is 1 x 1."""
    if array.ndim == 4 and layout == "HWIO":
        return array
    if array.ndim == 4 and array.shape[:2] != (1, 1):
        return array.transpose(2, 3, 1, 0)
    if array.ndim < 2 or any(n != 1 for n in array.shape[:-2]):
        return array
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


def _scaled(tower: Arrays, stream: str, table: VGG16Table, stacked: bool) -> Arrays:
    """The first layer for inputs as ours: RGB or interleaved flow, in grey levels minus a mean."""
    kernel = tower["conv1_1/kernel"]
    kernel = interleave_kernel(kernel) if stacked and stream == "motion" else kernel
    return {**tower, "conv1_1/kernel": fold_inputs(kernel, KIND[stream], table)}


def _fuses(kernel: np.ndarray) -> bool:
    """Whether a kernel may be that of a fusion layer: of 3-D, or 1 x 1, whatever axes of length 1 it has in front."""
    return kernel.ndim == 5 or (kernel.ndim >= 2 and set(kernel.shape[:-2]) <= {1})


def _fusion_kernel(kernel: np.ndarray) -> np.ndarray:
    """(in, out), or (t, y, x, in, out) from the authors' (y, x, t, in, out)."""
    return kernel.transpose(2, 0, 1, 3, 4) if kernel.ndim == 5 else kernel.reshape(kernel.shape[-2:])
