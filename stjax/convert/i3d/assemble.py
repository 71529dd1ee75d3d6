"""From the streams that files hold to one I3D: RGB, flow, or both, whose scores are averaged as published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stjax.convert import class_names, direct, folding, plausibility, published, store
from stjax.convert.direct import NoOptions
from stjax.convert.i3d.tables import BRANCHES, ENDS, FIRST, MIXED, STEM
from stjax.convert.published import Published
from stjax.convert.readers.contents import Contents
from stjax.convert.readers.crc32c import crc32c, masked
from stjax.convert.table import Match, Table, lay_out
from stjax.convert.tree import unflatten
from stjax.errors import UsageError
from stjax.model import Model, Part, Statistics
from stjax.networks.i3d import CLASSES, I3D
from stjax.preprocess import FLOW_MEAN, Preprocessing
from stjax.types import STREAMS, Moments

FRAMES, SIDE = 32, 112
"""Of the clips that a converted network declares; `I3D.resized` declares others. It was trained on 64 and 224."""
CHANNELS = {3: "appearance", 2: "motion"}
RELEASES = {
    0x3C1E560E: "the authors' RGB stream, trained from scratch (rgb_scratch)",
    0x4D9701F3: "the authors' RGB stream, started from ImageNet (rgb_imagenet)",
    0x3B88BD5E: "the authors' flow stream, started from ImageNet (flow_imagenet)",
}
"""By the masked CRC-32C of the first kernel, as the index of each checkpoint holds it."""
KINETICS = Path(__file__).with_name("kinetics400.txt")
"""Names of the 400 classes in the order of the classifier's units, as in the authors' label_map.txt."""


class Tower(NamedTuple):
    """A stream of I3D, and the network that it is on its own."""

    stream: str
    network: I3D
    arrays: dict[str, np.ndarray]
    moments: dict[str, Moments]
    file: Published


def kinetics400() -> tuple[str, ...]:
    """The names of Kinetics-400.

    >>> len(kinetics400()), kinetics400()[0]
    (400, 'abseiling')
    """
    return class_names.read(KINETICS)


def complete(contents: Contents, match: Match) -> Match:
    """Our names behind the stream that they are of, as the channels tell that the first kernel reads."""
    first = next((name for name, ours in match.ours.items() if ours == f"{FIRST}/kernel"), None)
    shape = lay_out(contents.arrays[first], match.axes[first]).shape if first else ()
    stream = CHANNELS.get(shape[-2] if len(shape) > 1 else 0, STREAMS[0])
    return match._replace(ours={name: f"{stream}/{ours}" for name, ours in match.ours.items()})


def assemble(
    files: Sequence[Published], options: NoOptions, names: Sequence[str] = (), name: str = "converted"
) -> tuple[Model, list[str]]:
    """One network of one or two files, each a stream.

    Args:
      files: one, or one of RGB and one of flow.
      options: there are none.
      names: of classes, one for each; those of Kinetics-400 for 400 classes if ().
      name: of the model.
    Returns:
      The model, without statistics; and warnings, one line each.
    Raises:
      UsageError: two files of one stream or of other sizes, or parameters that do not fit, all listed.
    """
    del options
    towers: dict[str, Tower] = {}
    for file in files:
        tower = read(file)
        if tower.stream in towers:
            both = f"{towers[tower.stream].file.origin.file} and {file.origin.file}"
            raise UsageError(f"a network has one stream of each kind: {both} both hold {tower.stream}")
        towers[tower.stream] = tower
    ordered = [towers[stream] for stream in STREAMS if stream in towers]
    _check_alike(ordered)
    network = ordered[0].network.clone(streams=tuple(tower.stream for tower in ordered))
    params = unflatten({name: array for tower in ordered for name, array in tower.arrays.items()})
    store.check(network, params, " and ".join(tower.file.origin.file for tower in ordered))
    default = kinetics400() if network.num_classes == len(kinetics400()) else ()
    warnings: list[str] = []
    for tower in ordered:
        layer, kind = f"{tower.stream}/{FIRST}", {each.name: each.kind for each in network.inputs}[tower.stream]
        kernel, bias = (tower.arrays[f"{layer}/{leaf}"] for leaf in ("kernel", "bias"))
        warnings += plausibility.of(layer, kind, kernel, bias, tower.file.match.table)
    return Model(
        name=name,
        network=network,
        params=params,
        statistics=Statistics({}, ""),
        preprocessing=Preprocessing(mean=ordered[0].file.match.table.mean, flow_mean=FLOW_MEAN),
        moments={layer: each for tower in ordered for layer, each in tower.moments.items()},
        parts=tuple(Part(f"{tower.stream}/ (all layers)", True, origin(tower.file)) for tower in ordered),
        class_names=published.class_names(files, network.num_classes, names) or default,
        sources=tuple(tower.file.origin for tower in ordered),
        made=published.made(),
    ), warnings


def read(file: Published) -> Tower:
    """The stream that a file holds, for inputs in grey levels.

    Raises:
      UsageError: names missing, unexpected, doubled or misshapen, all listed.
    """
    try:
        network, arrays = direct.fill(file, network_of)
    except UsageError as error:
        raise UsageError(f"{file.origin.file}: {error}") from None
    (each,) = network.inputs
    first = f"{each.name}/{FIRST}/kernel"
    arrays[first] = folding.fold_inputs(arrays[first], each.kind, file.match.table)
    return Tower(each.name, network, arrays, moments_of(each.name, file), file)


def moments_of(stream: str, file: Published) -> dict[str, Moments]:
    """Of each endpoint that convolutions make: those of their normalisations, joined as a Mixed joins its branches."""
    table, (arrays, _) = file.match.table, direct.arrange(file)
    if table.epsilon is None:
        return {}
    arrays |= {} if table.scaled else folding.unit_scales(arrays)
    own = folding.moments(arrays, table.epsilon)
    parts = {layer: [layer] for layer in STEM} | {layer: [f"{layer}/{end}" for end in ENDS] for layer in MIXED}
    return {
        f"{stream}/{layer}": Moments(
            *map(np.concatenate, zip(*(own[f"{stream}/{name}"] for name in names), strict=True))
        )
        for layer, names in parts.items()
    }


def network_of(table: Table, arrays: dict[str, np.ndarray]) -> I3D:
    """The network that a stream is on its own, by the sizes of its arrays."""
    del table
    stream = next(iter(arrays), STREAMS[0]).partition("/")[0]

    def units(layer: str, default: int) -> int:
        leaves = ("kernel", "bias", *folding.NORMALISATION)
        held = [arrays[name] for leaf in leaves if (name := f"{stream}/{layer}/{leaf}") in arrays]
        return next((array.shape[-1] for array in held if array.ndim and array.size), default)

    stem = [units(layer, default) for layer, default in zip(STEM, I3D.stem, strict=True)]
    mixed = [
        tuple(units(f"{layer}/{branch}", default) for branch, default in zip(BRANCHES, defaults, strict=True))
        for layer, defaults in zip(MIXED, I3D.mixed, strict=True)
    ]
    sizes: dict[str, Any] = {"stem": tuple(stem), "mixed": tuple(mixed), "num_classes": units(CLASSES, 0)}
    return I3D(frames=FRAMES, input_size=SIDE, streams=(stream,), **sizes)


def origin(file: Published) -> str:
    """In words: which of the published files it is, if it is one, and whether it arrived whole."""
    first = next(name for name, ours in file.match.ours.items() if ours.endswith(f"/{FIRST}/kernel"))
    kernel = lay_out(file.contents.arrays[first], file.match.axes[first])
    known = RELEASES.get(masked(crc32c(np.ascontiguousarray(kernel, "<f4").data)))
    told = f"by its first kernel {known}" if known else "none of the published files whose first kernel is known"
    whole = ", all checksums right" if file.contents.verified else ""
    return f"{file.origin.file} ({file.match.table.name}): {told}; {len(file.contents.arrays)} arrays{whole}"


def _check_alike(towers: Sequence[Tower]) -> None:
    """Two streams of one network must be of one shape."""
    first, last = towers[0], towers[-1]
    pairs = {
        what: (getattr(first.network, what), getattr(last.network, what)) for what in ("num_classes", "stem", "mixed")
    }
    if differ := [f"{what} {one} and {other}" for what, (one, other) in pairs.items() if one != other]:
        files = f"{first.file.origin.file} and {last.file.origin.file}"
        raise UsageError(f"both streams must be of one shape: {files} differ in {', '.join(differ)}")
