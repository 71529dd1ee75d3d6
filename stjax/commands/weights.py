"""Commands that bring published weights in: convert, inspect, download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from stjax import compilation
from stjax.analysis.calibration import calibrated
from stjax.commands.terminal import cell, console, note, print_parts, say
from stjax.convert import class_names as names
from stjax.convert import download as downloads
from stjax.convert import store
from stjax.convert.conversion import convert_files
from stjax.convert.conversion import inspect as inspect_file
from stjax.convert.release import Release
from stjax.convert.releases import RELEASES, release_named
from stjax.convert.table import Table as NameTable
from stjax.convert.tables import TABLES
from stjax.convert.tensors import refuse_foreign
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.errors import UsageError, choose, printable
from stjax.files import checksum, replacing
from stjax.model import Model
from stjax.networks.two_stream import Fusion
from stjax.user_model import import_named

DTYPES = {"float32": np.float32, "float16": np.float16}
FUSIONS: dict[str, Fusion] = {form: form for form in get_args(Fusion)}
ORDERS = {"interleaved": False, "stacked": True}
STATISTICS = {"generated": True, "none": False}

FileArgument = Annotated[Path, typer.Argument(help="A published file; its name and extension do not matter.")]
TableOption = Annotated[
    str | None,
    typer.Option(
        help=f"How the file spells its names, instead of the table that knows most of them: {', '.join(TABLES)}, or "
        "package.module:TABLE for a table of your own."
    ),
]


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The files of one network. Of a two-stream network: an appearance stream, a motion stream, both, or "
            "one file that holds both."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    fusion: Annotated[
        str | None,
        typer.Option(
            help="How two streams meet where no file holds a fusion layer: conv2d, conv3d, sum, or late, where only "
            "class scores are averaged. The default is conv2d, and late for a single stream that has a classifier."
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Temporal samples of a clip; the default is 5 for conv3d, else 1.")
    ] = None,
    motion_head: Annotated[
        bool | None,
        typer.Option(
            "--motion-head/--no-motion-head",
            help="Keep the motion stream's own classifier, or leave it out; the default is to keep one that is there.",
        ),
    ] = None,
    flow_order: Annotated[
        str,
        typer.Option(
            help="The order of the flow channels: interleaved (u1, v1, u2, ...) or stacked (u1 .. u10, v1 .. v10)."
        ),
    ] = "interleaved",
    class_names: Annotated[
        Path | None,
        typer.Option(
            help="A text file with one class name a line; the default is the names in the weights' own files."
        ),
    ] = None,
    table: TableOption = None,
    convolutions_only: Annotated[
        bool,
        typer.Option("--convolutions-only", help="Leave out the classifier and whatever the table does not know."),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="The type of the stored weights: float32, or float16, which takes half the space.")
    ] = "float32",
    statistics: Annotated[
        str,
        typer.Option(
            help="How to record ahat, which visualize needs: generated (over generated clips, 10 to 20 s) or none."
        ),
    ] = "generated",
) -> None:
    """Turn published weights into one network that every command accepts.

    stjax convert ucf101-img-vgg16-split1.mat ucf101-TVL1flow-vgg16-split1.mat --out weights/ucf101.safetensors

    Reads MatConvNet (.mat), Caffe, PyTorch, Keras, ONNX and safetensors files, told by their content, and TensorFlow's
    checkpoints, by what their files' names begin with (model.ckpt); and never runs code from one. A fusion layer that
    no file holds is initialised as the authors start theirs, and is listed as not trained. A single stream with a
    classifier stays on its own; an appearance stream without one, or with --fusion conv2d, gets a motion tower that is
    copied from it. The file to write must be new, or an earlier one of stjax's own.
    """
    kind = choose("dtype", dtype, DTYPES)
    record = choose("statistics", statistics, STATISTICS)
    options = TwoStreamOptions(
        fusion=None if fusion is None else choose("fusion", fusion, FUSIONS),
        samples=samples,
        motion_head=motion_head,
        stacked=choose("flow order", flow_order, ORDERS),
        convolutions_only=convolutions_only,
    )
    if out.suffix != ".safetensors":
        raise UsageError(f"the file to write must end in .safetensors: {out} does not; nearest: {out.stem}.safetensors")
    refuse_foreign(out, (store.MARK,))
    given = names.read(class_names) if class_names else ()
    converted = convert_files(files, table=_table(table), options=options, class_names=given, name=printable(out.stem))
    for warning in converted.warnings:
        note(f"warning: {warning}", style="yellow")
    title = f"{out.stem}: {store.count(converted.model.params):,} parameters"
    parts, layer = converted.model.parts, _worth_seeing(converted.model)
    try:
        with replacing(out) as whole:
            store.save(whole, converted.model, kind)
            # The arrays of the sources, still views of them, make room.
            del converted
            if record:
                compilation.cache_programs()
                store.save(whole, calibrated(store.load(whole)), kind)
            # Somebody may have put something there meanwhile.
            refuse_foreign(out, (store.MARK,))
    except OSError as error:
        raise UsageError(f"the file to write must be writable: {out}: {error.strerror or error}") from None
    print_parts(title, parts)
    say(f"wrote {out}; next: stjax visualize {layer} --model {out}")


def _worth_seeing(model: Model) -> str:
    """A layer to begin with: the classes, if everything was trained; else the last convolution of one stream."""
    layers = model.network.layers
    classes = [layer.name for layer in layers if layer.role == "classes" and all(part.trained for part in model.parts)]
    convolutions = [layer.name for layer in layers if layer.role == "convolution" and len(layer.inputs) == 1]
    name = (classes or convolutions or [layer.name for layer in layers])[-1]
    bare = name.rpartition("/")[2]
    # A bare name shows the layers of all streams side by side.
    return bare if sum(layer.name.rpartition("/")[2] == bare for layer in layers) > 1 else name


def _table(text: str | None) -> str | NameTable | None:
    """A table's name as it is, or the table of `package.module:TABLE`, whose module registers its architecture."""
    if text is None or ":" not in text:
        return text
    module, name = import_named(text, "table")
    table = getattr(module, name, None)
    if not isinstance(table, NameTable):
        raise UsageError(f"a table must be a stjax.convert.table.Table: {text} is {type(table).__name__}")
    return table


def inspect(file: FileArgument, table: TableOption = None) -> None:
    """Show what a file holds, and what it would become, without converting it."""
    contents, match = inspect_file(file, _table(table))
    known = f"table {match.table.name}: {match.table.about}" if match else "no table knows its names"
    say(f"{file.name}: {contents.container}, {len(contents.arrays)} arrays; {known}")
    listing = Table()
    for heading in ("in the file", "shape", "type", "here"):
        listing.add_column(heading, overflow="fold")
    for name, array in contents.arrays.items():
        left_out = "left out" if match and name not in match.unknown else "unexpected"
        ours = match.ours.get(name, left_out) if match else ""
        listing.add_row(*map(cell, (name, " x ".join(map(str, array.shape)), array.dtype, ours)))
    Console().print(listing)
    if contents.mean:
        say(f"mean: {', '.join(f'{value:.3f}' for value in contents.mean)}")
    if contents.class_names:
        first = ", ".join(contents.class_names[:3])
        say(f"{len(contents.class_names)} class names: {first}, ...")


def download(
    name: Annotated[
        str | None, typer.Argument(help="A name from the list that the command prints if it is given none.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder to save to; the default is stjax's folder in the user's cache.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept a file over plain http although no checksum is published for it.")
    ] = False,
) -> None:
    """Fetch published weights from their official address; started again, it goes on where it stopped.

    The file is compared with its published checksum, or, where there is none, with what it must hold.
    """
    if name is None:
        _print_releases()
        return
    release = release_named(name)
    path = _fetch(release, folder or downloads.cache(), insecure)
    say(str(path))
    if not release.digest:
        say(
            "no checksum is published; the file holds what it must. Its own checksum, to compare with a colleague's: "
            f"sha256 {checksum(path)}"
        )
    say(f"licence: {release.licence}")
    say(f"next: stjax convert {path} --out weights/{release.name}.safetensors")


def _print_releases() -> None:
    table = Table(title="Published weights; see weights/README.md", title_justify="left")
    for heading in ("name", "what", "licence", "checked by"):
        table.add_column(heading, no_wrap=heading == "name")
    for release in RELEASES.values():
        table.add_row(release.name, release.about, release.licence, release.checked)
    Console().print(table)
    note = (
        "contents: no checksum is published, so the file is compared with what it must hold; over plain http this "
        "needs --insecure"
    )
    Console().print(note, highlight=False)


def _fetch(release: Release, folder: Path, insecure: bool) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console)
    meter = bar.add_task(release.file, total=None)

    def report(done: int, total: int | None) -> None:
        # Not before something comes: what is refused at once is one line, without a bar.
        bar.start()
        bar.update(meter, completed=done, total=total)

    try:
        return downloads.fetch(release, folder, insecure=insecure, progress=report)
    finally:
        if bar.live.is_started:
            bar.stop()
