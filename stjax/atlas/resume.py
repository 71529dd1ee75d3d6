"""What a folder holds already, so that the same command again does only what is missing.

Two results belong together if the settings that a result depends on are the same: weights, statistics, recipe with all
its constants, layer, kappa, seed, the clip begun from, precision, the chunk, which decides the last bits, and the
versions of stjax and of jax, whose random numbers a run starts from. Not so the device, or how many processes share the
work. Every line of a manifest carries a hash of them, its identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stjax import arrays
from stjax.ascent.regularizers import Bound
from stjax.atlas import plan
from stjax.atlas.plan import Job
from stjax.atlas.request import Request
from stjax.errors import UsageError
from stjax.model import Model
from stjax.record import Record, Settings

DECIDING = (
    "weights", "statistics", "recipe", "constants", "steps", "kappa", "seed", "prng", "initial", "precision", "chunk",
)  # fmt: skip
"""The settings that a result depends on; with them, of `versions`, those below."""
VERSIONS = ("stjax", "jax")
PACKAGES = (*VERSIONS, "jaxlib", "flax", "optax")


def identify(request: Request) -> Settings:
    """The settings of a request's results, with their hash."""
    model, recipe = request.model, request.unbound
    red, green, blue = map(float, model.preprocessing.mean)
    precision = jnp.float32 if request.precision is None else request.precision
    # Of two networks with the same weights, one may see longer or larger clips.
    window = [list(each.shape) for each in request.probe.inputs]
    settings = Settings(
        identity="",
        model=model.name,
        weights=weights_of(model),
        statistics=digest(request.ahat.tobytes().hex()),
        rough=model.statistics.rough.get(request.layer),
        mean=(red, green, blue),
        recipe=recipe.name,
        steps=recipe.steps,
        constants=digest([repr(dataclasses.replace(recipe, name="", steps=1)), *window]),
        objective_weight=float(recipe.objective_weight),
        bound=recipe.bound._asdict() if isinstance(recipe.bound, Bound) else recipe.bound,
        kappa=float(request.kappa),
        seed=int(request.seed),
        prng=plan.prng(),
        initial=None if request.initial is None else digest(_arrays(request.initial)),
        precision=jnp.dtype(precision).name,
        chunk=request.chunk_size,
        device=jax.devices()[0].device_kind,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
    return dataclasses.replace(settings, identity=digest([request.layer, _deciding(settings)]))


def weights_of(model: Model) -> str:
    """A checksum of a model's parameters: of their file, or of themselves if they come from none."""
    return model.checksum or digest(_arrays(model.params))


def digest(value: Any) -> str:
    """A short hash of anything that JSON can hold.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def check_settings(directory: Path, records: Iterable[Record], layer: str, settings: Settings) -> None:
    """Refuses to put a layer's results beside others that were found with other settings.

    Raises:
      UsageError: the folder holds such; its text says what differs.
    """
    for record in records:
        if record.layer == layer and record.settings.identity != settings.identity:
            there, now = _deciding(record.settings), _deciding(settings)
            differ = [f"{n} {_short(there[n])} (now {_short(now[n])})" for n in now if there[n] != now[n]]
            raise UsageError(
                f"a folder must hold one layer's results with one set of settings: {directory} has {layer} with "
                f"{', '.join(differ)}; choose another with --out, or repeat those settings"
            )


def missing(records: Iterable[Record], request: Request) -> list[Job]:
    """The jobs of a request that no record has, in the order asked."""
    done = {job(record) for record in records if record.layer == request.layer}
    return [each for each in request.jobs if each not in done]


def job(record: Record) -> Job:
    """The job of a record."""
    return Job(record.unit, record.chi, record.start)


def damage(directory: Path, record: Record) -> str | None:
    """What is wrong with a record's array file, None if nothing is: all of it is read, against the checksum."""
    try:
        arrays.load(directory / record.arrays, record.sha256)
    except FileNotFoundError:
        return "it is gone"
    except arrays.Damaged as error:
        return str(error)
    return None


def _arrays(tree: Any) -> list[list[str]]:
    """Of each array its name and a hash, for what has no file whose checksum would tell."""
    leaves = [(jax.tree_util.keystr(path), np.asarray(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)]
    return [[name, f"{x.dtype}{x.shape}", hashlib.sha256(x.tobytes()).hexdigest()] for name, x in leaves]


def _deciding(settings: Settings) -> dict[str, Any]:
    versions = {name: settings.versions.get(name) for name in VERSIONS}
    return {name: getattr(settings, name) for name in DECIDING} | versions


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:12]
