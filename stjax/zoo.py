"""A name, a file or a factory of your own -> a model ready to use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stjax.convert import store
from stjax.convert.i3d import kinetics
from stjax.convert.readers import tensorflow
from stjax.convert.shipped import shipped
from stjax.convert.two_stream import imagenet
from stjax.errors import UsageError, nearest
from stjax.model import Model, Part


class Entry(NamedTuple):
    """A model that has a name.

    Args:
      name: for --model and `load`.
      summary: what `stjax models` says of it.
      parts: what is trained on what.
      load: makes it, when it is asked for.
      layers: their names, known without loading it; () where nobody asks.
    """

    name: str
    summary: str
    parts: tuple[Part, ...]
    load: Callable[[], Model]
    layers: tuple[str, ...] = ()


def _embedded(name: str, summary: str) -> Entry:
    parts = (Part("all layers", True, "28 classes of generated clips with known motion, e.g. `star spinning left`"),)
    return Entry(name, summary, parts, lambda: store.load(shipped(f"{name}.safetensors")))


EMBEDDED = _embedded(
    "embedded", "slim two-stream network of 64 px inputs, ships with stjax: nothing to install or download"
)
OTHER_STARTS = tuple(
    _embedded(f"embedded-seed{seed}", "the embedded network, trained from another start") for seed in (1, 2)
)
"""What one network shows another should recognise: see scripts/check_truth.py."""
VGG16_IMAGENET = Entry(
    imagenet.NAME,
    "full-size two-stream VGG-16 as the authors start theirs; needs the extra [vgg16]",
    imagenet.PARTS,
    imagenet.load,
    imagenet.LAYERS,
)
I3D_KINETICS400 = Entry(
    kinetics.NAME,
    "I3D, RGB stream trained on Kinetics-400 from scratch; no flow stream; needs the extra [i3d]",
    kinetics.PARTS,
    kinetics.load,
    kinetics.LAYERS,
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (EMBEDDED, *OTHER_STARTS, VGG16_IMAGENET, I3D_KINETICS400)}
"""Known models, by name; add one of your own, and every command in this process knows it."""
DEFAULT = EMBEDDED.name


def load(model: str | Path) -> Model:
    """A model by its name in `stjax models`, from a .safetensors file, or from a factory of your own.

    Args:
      model: "embedded", "vgg16-imagenet", "i3d-kinetics400", a path, or "package.module:factory".
    Raises:
      UsageError: no such name or file, a missing extra, a file with another checksum, values not finite, or a factory
        that does not give a model.
    """
    name = str(model)
    if name in ENTRIES:
        return ENTRIES[name].load()
    if ":" in name and Path(name).suffix != ".safetensors":
        # Only now: it brings in what finds out about networks that do not describe themselves.
        from stjax.user_model import load_factory

        return load_factory(name)
    return _from_file(Path(model))


def _from_file(path: Path) -> Model:
    try:
        there = path.is_file()
    except OSError as error:
        raise UsageError(f"a weights file must be readable: {path}: {error.strerror}") from None
    if there and path.suffix == ".safetensors":
        return store.load(path)
    if there or tensorflow.prefix_of(path) is not None:
        raise UsageError(f"a weights file must be a .safetensors file: {path} is not; nearest: stjax convert {path}")
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"a weights file must be an existing .safetensors file: {path} is not")
    known = nearest(str(path), ENTRIES)
    raise UsageError(f"a model must be a known name or a .safetensors file: {str(path)!r} is neither; {known}")
