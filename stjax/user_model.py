"""A network of your own as a Model: from Python, or by the name `package.module:factory`."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stjax.analysis.calibration import calibrated
from stjax.errors import UsageError, nearest, one_line
from stjax.model import Model, Part, Statistics
from stjax.networks.adapted import Adapted
from stjax.networks.discovery import describe
from stjax.preprocess import Preprocessing
from stjax.types import shapes

EXPECTED = "a stjax.Model, or (module, params), or (module, params, stjax.Clip(...))"
"""What a factory returns."""


def wrap(
    module: Any,
    params: Any,
    clip: Any = None,
    *,
    name: str = "custom",
    preprocessing: Preprocessing | None = None,
    statistics: Statistics | None = None,
    class_names: Sequence[str] = (),
) -> Model:
    """A network of your own, ready for everything that stjax does with one.

    What the module does not declare is found out: layers and units by their shapes, receptive fields by gradients, and
    ahat over generated clips, a rough scale for each layer.

    Args:
      module: a flax.linen module, the graphdef of a split nnx module, or a function of (params, clip); it returns
        (scores or None, {layer: activations}), for one clip or a batch.
      params: of the module; other collections (`batch_stats`) may ride in them.
      clip: an example of what it is shown, without batch or with a batch of one; needed unless the module has an
        attribute `inputs`.
      name: for folders and captions.
      preprocessing: the means that are subtracted from pixels; those of VGG if None. A module that expects another
        range scales its input itself.
      statistics: with ahat of its layers, from `stjax record` say; recorded over generated clips if None.
      class_names: of the units of the layer `classes`.
    Raises:
      UsageError: the module does not fit what it declares; its text says what was expected and what came.
    """
    network = describe(module, params, clip)
    model = Model(
        name=name,
        network=network,
        params=jax.tree.map(jnp.asarray, params),
        statistics=statistics or Statistics({}, ""),
        preprocessing=preprocessing or Preprocessing(),
        parts=(Part("all layers", True, "as given"),),
        class_names=tuple(class_names),
        checksum=fingerprint(network, params),
    )
    return model if statistics else calibrated(model)


def load_factory(text: str) -> Model:
    """The network that `package.module:factory` makes, searched from the working folder first, as Python does.

    Raises:
      UsageError: there is no such module or function, it raises, or returns something else.
    """
    factory = _imported(text)
    try:
        made = factory()
    except UsageError:
        raise
    # Whatever a user's code may raise.
    except Exception as error:
        raise UsageError(f"a factory must return {EXPECTED}: {text} raised {_words(error)}") from None
    if isinstance(made, Model):
        return made if made.statistics.ahat else calibrated(made)
    if not (isinstance(made, tuple) and len(made) in (2, 3)):
        raise UsageError(f"a factory must return {EXPECTED}: {text} returned a {type(made).__name__}")
    # Not the factory alone: many are called `make`, and folders are named after this.
    return wrap(*made, name=text.replace(":", "."))


def fingerprint(network: Adapted, params: Any) -> str:
    """A sha256 of what a network computes: its parameters, and its computation as JAX sees it.

    As a weights file's checksum it tells whose results a folder holds. A module's own text would not do: it holds
    addresses in memory, and not what the functions in it compute.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        keys = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        array = jax.random.key_data(leaf) if keys else leaf
        digest.update(f"{jax.tree_util.keystr(path)} {np.shape(array)} {np.asarray(array).dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    program = str(jax.make_jaxpr(dataclasses.replace(network, until=None).computed)(params, shapes(network.inputs)))
    digest.update(re.sub(r"0x[0-9a-f]+", "", program).encode())
    return digest.hexdigest()


def import_named(text: str, what: str = "factory") -> tuple[ModuleType, str]:
    """The module of `package.module:name`, searched from the working folder first, and the name.

    Args:
      text: as it was typed.
      what: is named, for the message.
    Raises:
      UsageError: the text has another form, or the module cannot be imported.
    """
    module_name, _, name = text.partition(":")
    if not (re.fullmatch(r"\w+(\.\w+)*", module_name) and name.isidentifier()):
        raise UsageError(f"a {what} of your own must be named package.module:{what}: got {text!r}")
    # A console script does not look where it is started; whoever names a module of theirs expects it to.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name), name
    except Exception as error:
        raise UsageError(f"the module of {text} must be importable from {Path.cwd()}: {_words(error)}") from None


def _imported(text: str) -> Callable[[], Any]:
    module, name = import_named(text)
    if not callable(getattr(module, name, None)):
        functions = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        near = nearest(name, functions) if functions else "it has no function"
        raise UsageError(f"a factory must be a function of its module: {module.__name__} has no {name}; {near}")
    return getattr(module, name)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
