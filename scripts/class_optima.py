"""Optima of classes, in results folders: found where they are missing, read again, each with its seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

import stjax
from stjax import arrays
from stjax.atlas import hosts, results, resume, session
from stjax.errors import UsageError
from stjax.record import Record
from stjax.types import Clip

Cells = dict[tuple[int, float], tuple[Path, Record]]
"""(unit, chi) -> the folder and the record of its optimum."""


class Run(NamedTuple):
    """Optima of one network from one seed, and one of its starts."""

    model: str
    seed: int
    start: int
    cells: Cells


def find(folder: Path, request: stjax.Request) -> Path:
    """What is missing of a request in a folder is found and drawn, as `stjax visualize` does."""
    session.visualize(folder, [request], hosts.Meeting(), Console(stderr=True))
    return folder


def runs(folders: Iterable[Path], layer: str, models: Mapping[str, stjax.Model]) -> list[Run]:
    """What folders have of a layer, of each network and seed; folders of the same seed go together.

    Raises:
      UsageError: a folder holds nothing of the layer, results of a network that is none of the models, or what another
        folder holds too.
    """
    known = {resume.weights_of(model): name for name, model in models.items()}
    found: dict[tuple[str, int, int], Run] = {}
    for folder in folders:
        records = [record for record in results.read(folder) if record.layer == layer]
        if not records:
            raise UsageError(f"a folder of results must hold some of {layer}: {folder} has none")
        for record in records:
            if (name := known.get(record.settings.weights)) is None:
                raise UsageError(
                    f"results must be of one of the networks: {folder} has those of "
                    f"{record.settings.model}, with other weights; nearest: --models {record.settings.model}"
                )
            run = Run(name, record.settings.seed, record.start, {})
            cells = found.setdefault(run[:3], run).cells
            place = record.unit, 0.0 if record.chi is None else record.chi
            if place in cells:
                raise UsageError(
                    f"folders must hold different optima: {cells[place][0]} and {folder} both have unit {record.unit} "
                    f"at chi = {place[1]:g} from seed {run.seed}; leave one out"
                )
            cells[place] = (folder, record)
    return list(found.values())


def common(of: Sequence[Run], chi: Sequence[float] | None = None) -> tuple[list[int], list[float]]:
    """Units that all runs have at some chi, in the order of the first run; and these chi.

    Args:
      of: runs.
      chi: those that are asked for; None for all that every run has, falling.
    """
    sets = [{c for _, c in run.cells} for run in of]
    chi = sorted(set.intersection(*sets), reverse=True) if chi is None else list(chi)
    units = dict.fromkeys(unit for unit, _ in of[0].cells)
    return [unit for unit in units if all((unit, c) in run.cells for run in of for c in chi)], chi


def frames(cell: tuple[Path, Record]) -> np.ndarray:
    """The clip of an optimum."""
    folder, record = cell
    try:
        return arrays.load(folder / record.arrays, record.sha256, only={"appearance"})["appearance"]
    except (arrays.Damaged, FileNotFoundError) as error:
        raise UsageError(f"a result must be as it was written: {folder / record.arrays}: {error}") from None


def together(run: Run) -> tuple[Clip, Clip]:
    """All optima of a run as one clip (units, chi, ...), and their largest gradients (units, chi)."""
    units, chi = common([run])
    grid = [[run.cells[unit, c] for c in chi] for unit in units]
    shown = np.stack([np.stack([frames(cell) for cell in row]) for row in grid])
    gradients = np.asarray([[record.gradient_max["appearance"] for _, record in row] for row in grid])
    return Clip(appearance=shown), Clip(appearance=gradients)
