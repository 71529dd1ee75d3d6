"""What a folder holds already, so that the same command again does only what is missing.

Work is the same if the settings that a result depends on are: weights, statistics, recipe with all its constants,
layer, kappa, seed, precision, the chunk, which decides the last bits, and the versions of stjax and of jax, whose
random numbers a run starts from. Not so the device, or how many processes share the work. Every line of a manifest
carries a hash of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stjax import arrays
from stjax.ascent.recipes import Recipe
from stjax.atlas.plan import Job
from stjax.errors import UsageError
from stjax.types import Clip

DECIDING = ("weights", "statistics", "recipe", "constants", "steps", "kappa", "seed", "prng", "precision", "chunk")
"""The settings that tell one work from another; with them, of `versions`, those below."""
VERSIONS = ("stjax", "jax")


def stamp(
    settings: Mapping[str, Any], layer: str, recipe: Recipe, ahat: np.ndarray, chunk: int | None = None
) -> dict[str, Any]:
    """The settings of a layer's results, as its lines carry them, with their hash as `work`.

    Args:
      settings: what the run's layers share.
      layer: an endpoint name.
      recipe: what its name and steps do not say goes in as a short hash.
      ahat: of the layer, likewise.
      chunk: from `run.chunk_of`.
    """
    full = {
        **settings,
        "chunk": chunk,
        "objective_weight": recipe.objective_weight,
        "bound": recipe.bound._asdict() if isinstance(recipe.bound, Clip) else recipe.bound,
        "constants": digest(repr(dataclasses.replace(recipe, name="", steps=1))),
        "statistics": digest(np.asarray(ahat, np.float32).tobytes().hex()),
    }
    return full | {"work": digest([layer, _deciding(full)])}


def digest(value: Any) -> str:
    """A short hash of anything that JSON can hold.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def agree(directory: Path, records: Iterable[Mapping[str, Any]], layer: str, settings: Mapping[str, Any]) -> None:
    """Refuses to put a layer's results beside others that were found with other settings.

    Raises:
      UsageError: the folder holds such; its text says what differs.
    """
    for record in records:
        if record["layer"] == layer and record.get("work") != settings["work"]:
            kept, asked = _deciding(record), _deciding(settings)
            differ = [f"{n} {_short(kept.get(n))} (now {_short(asked[n])})" for n in asked if kept.get(n) != asked[n]]
            raise UsageError(
                f"a folder must hold one layer's results with one set of settings: {directory} has {layer} with "
                f"{', '.join(differ)}; choose another with --out, or repeat those settings"
            )


def missing(records: Iterable[Mapping[str, Any]], layer: str, asked: Sequence[Job]) -> list[Job]:
    """The jobs of a layer that no record has, in the order asked."""
    done = {job(record) for record in records if record["layer"] == layer}
    return [each for each in asked if each not in done]


def job(record: Mapping[str, Any]) -> Job:
    """The job of a manifest line. Lines of earlier versions know of one start alone."""
    return Job(record["unit"], record["chi"], record.get("start", 0))


def flaw(directory: Path, record: Mapping[str, Any]) -> str | None:
    """What is wrong with a record's array file, None if nothing is: all of it is read, against the checksum."""
    if "sha256" not in record:
        return "its record has no checksum"
    try:
        arrays.load(directory / record["arrays"], record["sha256"])
    except FileNotFoundError:
        return "it is gone"
    except arrays.Damaged as error:
        return str(error)
    return None


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    versions = settings.get("versions") or {}
    return {n: settings.get(n) for n in DECIDING} | {n: versions.get(n) for n in VERSIONS}


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:12]
