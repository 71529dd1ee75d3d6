"""From the towers that files hold to one network: two streams and their fusion, or one stream on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stjax.convert import plausibility, store
from stjax.convert.published import Published, class_names, made, rgb_mean
from stjax.convert.tree import flatten
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.start import cross_modality, fusion_layer
from stjax.convert.two_stream.streams import KIND, Stream, Translation, network_of, translate
from stjax.convert.two_stream.tables import CONVOLUTIONS, FUSION, HEAD
from stjax.errors import UsageError
from stjax.model import Model, Part, Statistics
from stjax.networks.two_stream import Fusion, TwoStream
from stjax.preprocess import FLOW_MEAN, VGG_MEAN, Preprocessing
from stjax.types import STREAMS

SAMPLES_3D = 5
"""Temporal samples that the authors' 3-D fusion was trained with."""


class Tower(NamedTuple):
    """A stream, the file that it is from, and the network that it is on its own."""

    stream: Stream
    file: Published
    translation: Translation
    network: TwoStream

    @property
    def origin(self) -> str:
        """In words: which file, by which table, and how much of it was left out."""
        return _origin(self.file, self.translation)


class Fused(NamedTuple):
    """A fusion layer that a file holds."""

    layer: Mapping[str, np.ndarray]
    file: Published
    translation: Translation

    @property
    def form(self) -> Fusion:
        return "conv3d" if self.layer["kernel"].ndim == 5 else "conv2d"


def assemble(
    files: Sequence[Published], options: TwoStreamOptions, names: Sequence[str] = (), name: str = "converted"
) -> tuple[Model, list[str]]:
    """One network from one or two published files.

    An appearance and a motion stream meet in a fusion layer: the file's own, or one initialised as the authors start
    theirs; or in their scores alone, each with the classifier that it was trained with. A stream on its own that has
    a classifier is a whole network and stays alone. An appearance stream without one, or for which a fusion layer is
    asked, gets the cross-modality start as motion tower.

    Args:
      files: one stream each, or one file with both.
      options: what the files leave open.
      names: of classes, one for each; those that a file holds if ().
      name: of the model.
    Returns:
      The model, without statistics, its arrays still views of the files; and warnings, one line each.
    Raises:
      UsageError: streams that do not belong together, or parameters that do not fit.
    """
    towers, own = _read(files, options)
    network = _network(towers, own, options)
    params, parts = _fuse(towers, network, own) if network.fused else _keep_apart(towers)
    store.check(network, params, " and ".join(file.origin.file for file in files))
    model = Model(
        name=name,
        network=network,
        params=params,
        statistics=Statistics({}, ""),
        preprocessing=_preprocessing(towers),
        parts=tuple(parts),
        class_names=class_names(files, network.num_classes, names),
        sources=tuple(file.origin for file in files),
        made=made(),
    )
    warnings = []
    for stream, tower in towers.items():
        first = tower.stream.tower["conv1_1"]
        table = tower.translation.table
        warnings += plausibility.of(f"{stream}/conv1_1", KIND[stream], first["kernel"], first["bias"], table)
    return model, warnings


def _read(files: Sequence[Published], options: TwoStreamOptions) -> tuple[dict[str, Tower], Fused | None]:
    """The streams of all files, and the fusion layer if one holds it."""
    towers: dict[str, Tower] = {}
    own = None
    for file in files:
        try:
            translation = translate(file.contents, file.match, options)
        except UsageError as error:
            raise UsageError(f"{file.origin.file}: {error}") from None
        for stream in translation.streams:
            if stream.name in towers:
                both = f"{towers[stream.name].file.origin.file} and {file.origin.file}"
                raise UsageError(f"a network has one stream of each kind: {both} both hold {stream.name}")
            network = network_of(stream.name, flatten(stream.tower))
            towers[stream.name] = Tower(stream, file, translation, network)
        if translation.fusion and own is None:
            own = Fused(translation.fusion, file, translation)
    return towers, own


def _network(towers: Mapping[str, Tower], own: Fused | None, options: TwoStreamOptions) -> TwoStream:
    """The network that the streams make together."""
    appearance, motion = towers.get("appearance"), towers.get("motion")
    first = appearance or motion
    assert first is not None, "a translation has a stream"
    form = _form(towers, own, options.fusion)
    classified = motion is not None and motion.network.num_classes > 0
    motion_head = classified if options.motion_head is None else options.motion_head
    if motion_head and not classified:
        raise UsageError(
            "a motion head must be the classifier of a motion stream: there is none; nearest: --no-motion-head"
        )
    if form == "late" and classified and not motion_head:
        raise UsageError(
            "a network without a fusion layer keeps every classifier: --no-motion-head would leave out the motion "
            "stream's; nearest: --fusion conv2d"
        )
    if appearance and motion:
        _check_alike(appearance, motion, form, motion_head)
    base = first.network
    return base.clone(
        fields=motion.network.fields if motion else TwoStream.fields,
        samples=options.samples or (SAMPLES_3D if form == "conv3d" else 1),
        fusion=form,
        motion_head=motion_head and form != "late",
        streams=STREAMS if len(towers) == 2 or form != "late" else tuple(towers),
    )


def _check_alike(appearance: Tower, motion: Tower, form: Fusion, motion_head: bool) -> None:
    """Two streams of one network must be of one shape, as far as both are used."""
    late = form == "late"
    if late and not (appearance.network.num_classes and motion.network.num_classes):
        lacking = (motion if appearance.network.num_classes else appearance).file.origin.file
        raise UsageError(f"late fusion needs a classifier in both streams: {lacking} has none; nearest: conv2d")
    compared = ("widths", "num_classes", "dense", "input_size") if motion_head or late else ("widths",)
    pairs = {what: (getattr(appearance.network, what), getattr(motion.network, what)) for what in compared}
    if differ := {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}:
        listed = ", ".join(f"{what} {one} and {other}" for what, (one, other) in differ.items())
        hint = "" if "widths" in differ or late else "; --no-motion-head leaves out the motion stream's own classifier"
        files = f"{appearance.file.origin.file} and {motion.file.origin.file}"
        raise UsageError(f"both streams must be of one shape: {files} differ in {listed}{hint}")


def _form(towers: Mapping[str, Tower], own: Fused | None, fusion: Fusion | None) -> Fusion:
    """How the streams meet: as the weights of their fusion say, else as asked for."""
    if own is not None:
        if fusion not in (None, own.form):
            held = f"{own.file.origin.file} holds {own.form}, not {fusion}"
            raise UsageError(f"the form of fusion must be that of its weights: {held}")
        return own.form
    if "appearance" not in towers:
        return "late"
    alone = len(towers) == 1 and towers["appearance"].network.num_classes
    return fusion or ("late" if alone else "conv2d")


def _keep_apart(towers: Mapping[str, Tower]) -> tuple[dict[str, Any], list[Part]]:
    """Whole towers, as they were trained."""
    params = {stream: tower.stream.tower for stream, tower in towers.items()}
    return params, [Part(f"{stream}/ (all layers)", True, tower.origin) for stream, tower in towers.items()]


def _fuse(towers: Mapping[str, Tower], network: TwoStream, own: Fused | None) -> tuple[dict[str, Any], list[Part]]:
    """Two towers, their fusion, and the head that reads it."""
    appearance = towers["appearance"]
    params: dict[str, Any] = {"appearance": _only(appearance.stream.tower, CONVOLUTIONS)}
    parts = [Part("appearance/conv1_1..conv5_3", True, appearance.origin)]
    if "motion" in towers:
        motion = towers["motion"]
        params["motion"] = _only(motion.stream.tower, (*CONVOLUTIONS, *HEAD) if network.motion_head else CONVOLUTIONS)
        layers = "conv1_1..classes" if network.motion_head else "conv1_1..conv5_3"
        parts.append(Part(f"motion/{layers}", True, motion.origin))
    else:
        params["motion"] = cross_modality(params["appearance"], 2 * network.fields)
        start = f"initialised: mean of appearance/conv1_1 over rgb, for each of {2 * network.fields} channels"
        copied = "copied from appearance: trained on images, never on motion"
        parts += [Part("motion/conv1_1", False, start), Part("motion/conv1_2..conv5_3", False, copied)]
    if own is not None:
        params[FUSION] = own.layer
        parts.append(Part(FUSION, True, _origin(own.file, own.translation)))
    else:
        params |= fusion_layer(network)
        start = "[0.25 I ; 0.75 I]" + (" times a unit-sum Gaussian over 27 taps" if network.fusion == "conv3d" else "")
        words = "untrained: a sum has no parameters" if network.fusion == "sum" else f"initialised, untrained: {start}"
        parts.append(Part(FUSION, False, words))
    if head := _only(appearance.stream.tower, HEAD):
        params |= head
        trained = own is not None and appearance.stream.fused
        alone = "copied from the appearance stream, which was trained on its own, not on fused features"
        parts.append(Part(", ".join(HEAD), trained, appearance.origin if trained else alone))
    return params, parts


def _only(tower: Mapping[str, Any], layers: Sequence[str]) -> dict[str, Any]:
    return {layer: tower[layer] for layer in layers if layer in tower}


def _origin(file: Published, translation: Translation) -> str:
    left = f", {len(translation.left_out)} arrays left out" if translation.left_out else ""
    return f"{file.origin.file} ({translation.table.name}{left})"


def _preprocessing(towers: Mapping[str, Tower]) -> Preprocessing:
    mean = rgb_mean(towers["appearance"].file) if "appearance" in towers else VGG_MEAN
    flow_mean = towers["motion"].translation.table.flow_mean if "motion" in towers else FLOW_MEAN
    return Preprocessing(mean=mean, flow_mean=flow_mean)
