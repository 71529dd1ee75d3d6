"""From the towers that files hold to one network: two streams and their fusion, or one stream on its own."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from stjax.convert import plausibility, store
from stjax.convert.described import LONGEST_NAME
from stjax.convert.published import Published
from stjax.convert.store import Model, Part, Statistics
from stjax.convert.tables import CONVOLUTIONS, FUSION, HEAD
from stjax.convert.translate import Stream
from stjax.errors import UsageError, printable
from stjax.networks.two_stream import Fusion, TwoStream, fusion_start
from stjax.networks.vgg import VGG16
from stjax.preprocess import FLOW_MEAN, VGG_MEAN, Preprocessing
from stjax.types import STREAMS, Params

SAMPLES_3D = 5
"""Temporal samples that the authors' 3-D fusion was trained with."""


def cross_modality(tower: Params, channels: int) -> dict[str, Any]:
    """A motion tower that starts from an image network (Wang et al., 2015).

    kernel[:, :, k, :] = mean over rgb of conv1_1's kernel, for each of the flow channels k; biases and all
    other layers unchanged.
    """
    first = tower["conv1_1"]
    mean = first["kernel"].mean(axis=2, keepdims=True)
    return {**tower, "conv1_1": {**first, "kernel": np.tile(mean, (1, 1, channels, 1))}}


def fusion_layer(module: TwoStream) -> dict[str, Any]:
    """The fusion layer as the authors start it, under its name; nothing for a sum."""
    if not module.fused or module.fusion == "sum":
        return {}
    width = module.widths[-1][-1]
    shape = (2 * width, width) if module.fusion == "conv2d" else (3, 3, 3, 2 * width, width)
    return {module.fusion_name: {"kernel": fusion_start(None, shape), "bias": jnp.zeros(width)}}


def from_image_network(tower: Params, module: TwoStream) -> dict[str, Any]:
    """The two-stream network as the authors start theirs: both towers and the fusion from one image tower."""
    motion = cross_modality(tower, 2 * module.fields)
    return {"appearance": dict(tower), "motion": motion} | fusion_layer(module)


def assemble(
    files: Sequence[Published],
    *,
    fusion: Fusion | None = None,
    samples: int | None = None,
    towers: int | None = None,
    class_names: Sequence[str] = (),
    name: str = "converted",
) -> tuple[Model, list[str]]:
    """One network from one or two published files.

    An appearance and a motion stream meet in a fusion layer: the file's own, or one initialised as the authors start
    theirs; or in their scores alone, each with the classifier that it was trained with. A stream on its own that has
    a classifier is a whole network and stays alone. An appearance stream without one, or for which a fusion layer is
    asked, gets the cross-modality start as motion tower.

    Args:
      files: one stream each, or one file with both.
      fusion: "conv2d", "conv3d", "sum" or "late"; the file's own form, else 2-D, if None.
      samples: temporal samples of a clip; 5 for 3-D fusion, else 1, if None.
      towers: 2 keeps the motion stream's own classifier; whether there is one decides if None.
      class_names: one for each class; those that a file holds if ().
      name: of the model.
    Returns:
      The model, without statistics, its arrays still views of the files; and doubts, one line each.
    Raises:
      UsageError: streams that do not belong together, or parameters that do not fit.
    """
    streams: dict[str, tuple[Stream, Published]] = {}
    for file in files:
        for stream in file.translation.streams:
            if stream.name in streams:
                both = f"{streams[stream.name][1].source.file} and {file.source.file}"
                raise UsageError(f"a network has one stream of each kind: {both} both hold {stream.name}")
            streams[stream.name] = stream, file
    own = next((file for file in files if file.translation.fusion), None)
    shapes = {stream: _shape(tower.tower, file.source.file) for stream, (tower, file) in streams.items()}
    module = _module(shapes, own, fusion, samples, towers)
    params, parts = _fused(streams, module, own) if module.fused else _apart(streams)
    store.check(params, module, " and ".join(file.source.file for file in files))
    model = Model(
        name=name,
        module=module,
        params=params,
        statistics=Statistics({}, ""),
        preprocessing=_preprocessing(streams),
        parts=tuple(parts),
        class_names=_class_names(files, module.num_classes, class_names),
        sources=tuple(file.source for file in files),
        made=f"{datetime.date.today()}, stjax {importlib.metadata.version('stjax')}",
    )
    return model, [
        doubt for tower, file in streams.values() for doubt in plausibility.of(tower, file.translation.table)
    ]


class _Shape(NamedTuple):
    """What the arrays of a tower say about its architecture."""

    widths: tuple[tuple[int, ...], ...]
    dense: tuple[int, ...]
    classes: int
    side: int
    channels: int
    file: str


def _shape(tower: Mapping[str, Mapping[str, np.ndarray]], file: str) -> _Shape:
    sizes = iter([tower[layer]["bias"].size for layer in CONVOLUTIONS])
    widths = tuple(tuple(next(sizes) for _ in block) for block in VGG16)
    head = [tower[layer]["bias"].size for layer in HEAD if layer in tower]
    side = tower[HEAD[0]]["kernel"].shape[0] if head else 7
    return _Shape(
        widths,
        tuple(head[:-1]) or (4096, 4096),
        head[-1] if head else 0,
        side,
        tower["conv1_1"]["kernel"].shape[2],
        file,
    )


def _module(
    shapes: Mapping[str, _Shape], own: Published | None, fusion: Fusion | None, samples: int | None, towers: int | None
) -> TwoStream:
    first = shapes.get("appearance", shapes.get("motion"))
    assert first is not None, "a translation has a stream"
    motion = shapes.get("motion")
    form = _form(shapes, own, fusion)
    inputs = STREAMS if len(shapes) == 2 or form != "late" else tuple(shapes)
    asked = towers is not None
    if towers is None:
        towers = 2 if motion and motion.classes else 1
    if towers == 2 and not (motion and motion.classes):
        raise UsageError("two towers need a motion stream with its own classifier: there is none; nearest: --towers 1")
    late = form == "late"
    if late and towers == 1 and asked:
        raise UsageError("a network without a fusion layer keeps every classifier: --towers 1 leaves out one")
    if len(shapes) == 2 and motion:
        if late and not (first.classes and motion.classes):
            lacking = first.file if not first.classes else motion.file
            raise UsageError(f"late fusion needs a classifier in both streams: {lacking} has none; nearest: conv2d")
        compared = ("widths", "classes", "dense", "side") if towers == 2 or late else ("widths",)
        differ = [what for what in compared if getattr(first, what) != getattr(motion, what)]
        if differ:
            listed = ", ".join(f"{what} {getattr(first, what)} and {getattr(motion, what)}" for what in differ)
            hint = "" if "widths" in differ or late else "; --towers 1 leaves out the motion stream's own classifier"
            names = f"{first.file} and {motion.file}"
            raise UsageError(f"both streams must be of one shape: {names} differ in {listed}{hint}")
    return TwoStream(
        widths=first.widths,
        fields=motion.channels // 2 if motion else 10,
        samples=samples or (SAMPLES_3D if form == "conv3d" else 1),
        fusion=form,
        towers=2 if towers == 2 and not late else 1,
        dense=first.dense,
        num_classes=first.classes,
        input_size=first.side << len(VGG16),
        inputs=inputs,
    )


def _form(shapes: Mapping[str, _Shape], own: Published | None, fusion: Fusion | None) -> Fusion:
    """How the streams meet: as the weights of their fusion say, else as asked for."""
    if own is not None:
        form: Fusion = "conv3d" if own.translation.fusion["kernel"].ndim == 5 else "conv2d"
        if fusion not in (None, form):
            held = f"{own.source.file} holds {form}, not {fusion}"
            raise UsageError(f"the form of fusion must be that of its weights: {held}")
        return form
    if "appearance" not in shapes:
        return "late"
    alone = len(shapes) == 1 and shapes["appearance"].classes
    return fusion or ("late" if alone else "conv2d")


def _apart(streams: Mapping[str, tuple[Stream, Published]]) -> tuple[dict[str, Any], list[Part]]:
    """Whole towers, as they were trained."""
    params = {stream: tower.tower for stream, (tower, _) in streams.items()}
    return params, [Part(f"{stream}/ (all layers)", True, _origin(file)) for stream, (_, file) in streams.items()]


def _fused(
    streams: Mapping[str, tuple[Stream, Published]], module: TwoStream, own: Published | None
) -> tuple[dict[str, Any], list[Part]]:
    appearance, file = streams["appearance"]
    towers = {"appearance": _only(appearance.tower, CONVOLUTIONS)}
    parts = [Part("appearance/conv1_1..conv5_3", True, _origin(file))]
    if "motion" in streams:
        motion, other = streams["motion"]
        kept = (*CONVOLUTIONS, *HEAD) if module.towers == 2 else CONVOLUTIONS
        towers["motion"] = _only(motion.tower, kept)
        layers = "conv1_1..classes" if module.towers == 2 else "conv1_1..conv5_3"
        parts.append(Part(f"motion/{layers}", True, _origin(other)))
    else:
        towers["motion"] = cross_modality(towers["appearance"], 2 * module.fields)
        start = f"initialised: mean of appearance/conv1_1 over rgb, for each of {2 * module.fields} channels"
        copied = "copied from appearance: trained on images, never on motion"
        parts += [Part("motion/conv1_1", False, start), Part("motion/conv1_2..conv5_3", False, copied)]
    if own is not None:
        layer = {FUSION: own.translation.fusion}
        parts.append(Part(FUSION, True, _origin(own)))
    else:
        layer = fusion_layer(module)
        start = "[0.25 I ; 0.75 I]" + (" times a unit-sum Gaussian over 27 taps" if module.fusion == "conv3d" else "")
        words = "untrained: a sum has no parameters" if module.fusion == "sum" else f"initialised, untrained: {start}"
        parts.append(Part(FUSION, False, words))
    head = _only(appearance.tower, HEAD)
    if head:
        trained = own is not None and appearance.fused
        alone = "copied from the appearance stream, which was trained on its own, not on fused features"
        parts.append(Part(", ".join(HEAD), trained, _origin(file) if trained else alone))
    return towers | layer | head, parts


def _only(tower: Mapping[str, Any], layers: Sequence[str]) -> dict[str, Any]:
    return {layer: tower[layer] for layer in layers if layer in tower}


def _origin(file: Published) -> str:
    left = f", {len(file.translation.left_out)} arrays left out" if file.translation.left_out else ""
    return f"{file.source.file} ({file.translation.table.name}{left})"


def _preprocessing(streams: Mapping[str, tuple[Stream, Published]]) -> Preprocessing:
    mean, flow_mean = VGG_MEAN, FLOW_MEAN
    if "appearance" in streams:
        table, said = streams["appearance"][1].translation.table, streams["appearance"][1].contents.mean
        # A fused file of the authors lists flow's channels first, then RGB.
        r, g, b = said[-3:] if len(said) >= 3 else table.mean
        mean = (float(r), float(g), float(b))
        if not all(0 <= value <= 255 for value in mean):
            name = streams["appearance"][1].source.file
            raise UsageError(f"a mean of RGB must be grey levels, 0..255: {name} says {', '.join(map(str, mean))}")
    if "motion" in streams:
        flow_mean = streams["motion"][1].translation.table.flow_mean
    return Preprocessing(mean=mean, flow_mean=flow_mean)


def _class_names(files: Sequence[Published], classes: int, given: Sequence[str]) -> tuple[str, ...]:
    if given and len(given) != classes:
        raise UsageError(f"class names must be one for each of {classes} classes: got {len(given)}")
    held = next((f.contents.class_names for f in files if len(f.contents.class_names) == classes), ())
    # Those of a file are a stranger's: what is too long to be a name is cut, and says so.
    cut = (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in held)
    return tuple(given) or tuple(map(printable, cut))
