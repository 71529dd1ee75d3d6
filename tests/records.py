"""Results as they stand on the disk, made without any network: arrays and their record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stjax import arrays as files
from stjax.record import Record, Settings
from stjax.types import Input

MEAN = (123.68, 116.779, 103.939)
SETTINGS = Settings(
    identity="0123456789abcdef",
    model="generated",
    weights="abc",
    statistics="0123456789abcdef",
    rough=None,
    mean=MEAN,
    recipe="quick",
    steps=100,
    constants="0123456789abcdef",
    objective_weight=1e4,
    bound=160.0,
    kappa=6.6e-3,
    seed=0,
    prng="threefry2x32",
    initial=None,
    precision="float32",
    chunk=8,
    device="cpu",
    versions={"stjax": "1", "jax": "2"},
)
"""What the results of a layer were found with."""


def still(height: int = 12, width: int | None = None, time: int = 1) -> Input:
    """RGB that cannot be slow."""
    return Input(name="appearance", kind="rgb", shape=(time, height, width or height, 3))


def flow(height: int = 12, width: int | None = None, fields: int = 10, time: int = 1) -> Input:
    """Flow whose fields follow one another."""
    return Input(name="motion", kind="flow", shape=(time, fields, height, width or height, 2), slow="fields")


def film(height: int = 12, width: int | None = None, time: int = 8, name: str = "appearance") -> Input:
    """RGB whose frames follow one another."""
    return Input(name=name, kind="rgb", shape=(time, height, width or height, 3), slow="time")


BOTH = (still(), flow())


def make_record(
    inputs: tuple[Input, ...] = BOTH, *, settings: Mapping[str, Any] | None = None, **changes: Any
) -> Record:
    """A record of unit 3 of fc6 at chi = 0.5, but for the changes; its arrays are not made."""
    values: dict[str, Any] = {
        "layer": "fc6", "role": "dense", "unit": 3, "name": None, "start": 0,
        "chi": 0.5 if any(each.slow for each in inputs) else None,
        "inputs": inputs, "settings": Settings(**vars(SETTINGS) | dict(settings or {})),
        "ahat": 5.0, "rho": 12.0, "whole": False, "activation_start": 0.5, "activation_end": 26.0, "value": 3.0,
        "penalties": {"norm": 1.0, "spatial": 2.0, "temporal": 0.5},
        "gradient_max": {each.name: 0.5 for each in inputs}, "ending": "reached", "sha256": 64 * "0",
    }  # fmt: skip
    values |= changes
    chi = "" if values["chi"] is None else f"_chi{values['chi']:g}"
    start = f"_start{values['start']}" if values["start"] else ""
    values.setdefault("arrays", f"arrays/{values['layer']}/unit{values['unit']:04d}{chi}{start}.npz")
    return Record(**values)


def store_arrays(directory: Path, record: Record, arrays: Mapping[str, Any]) -> Record:
    """Puts a record's arrays on the disk; the record with their checksum."""
    path = directory / record.arrays
    path.parent.mkdir(parents=True, exist_ok=True)
    return Record(**vars(record) | {"sha256": files.save(path, arrays)})
