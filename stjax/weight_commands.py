"""Commands that bring published weights in: convert, inspect, download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from stjax import calibrate, compilation
from stjax.convert import class_names as names
from stjax.convert import download as downloads
from stjax.convert import published, store
from stjax.convert.assemble import assemble
from stjax.convert.releases import RELEASES, named
from stjax.convert.tables import TABLES
from stjax.convert.tensors import refuse_foreign
from stjax.errors import UsageError, choose, printable
from stjax.files import checksum, replacing
from stjax.networks.two_stream import Fusion

console = Console(stderr=True)

DTYPES = {"float32": np.float32, "float16": np.float16}
FUSIONS: dict[str, Fusion] = {form: form for form in get_args(Fusion)}
ORDERS = {"interleaved": False, "stacked": True}
STATISTICS = {"generated": True, "none": False}

FileArgument = Annotated[Path, typer.Argument(help="A published file; its name and extension do not matter.")]
TableOption = Annotated[
    str | None, typer.Option(help=f"How its names are spelled, if not found out: {', '.join(TABLES)}.")
]


def convert(
    files: Annotated[
        list[Path], typer.Argument(help="An appearance stream, a motion stream, both, or one file that holds both.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    fusion: Annotated[
        str | None,
        typer.Option(
            help="conv2d, conv3d or sum, where no file holds a fusion layer; late: none, class scores are averaged. "
            "If not given: conv2d, and late for one stream that has a classifier."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Temporal samples; 5 for conv3d, else 1.")] = None,
    towers: Annotated[
        int | None, typer.Option(min=1, max=2, help="1 leaves out the motion stream's own classifier, 2 asks for it.")
    ] = None,
    flow_order: Annotated[
        str, typer.Option(help="Channels of flow: interleaved (u1, v1, u2, ...) or stacked (u1 .. u10, v1 .. v10).")
    ] = "interleaved",
    class_names: Annotated[
        Path | None, typer.Option(help="A text file, one name a line; those that the weights' own files hold if not.")
    ] = None,
    table: TableOption = None,
    convolutions_only: Annotated[
        bool,
        typer.Option("--convolutions-only", help="Leave out the classifier and what no table knows."),
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the stored weights: float32, or float16, half the size.")] = "float32",
    statistics: Annotated[
        str,
        typer.Option(help="ahat, which visualize needs, over generated clips (10 to 20 s): generated or none."),
    ] = "generated",
) -> None:
    """Turn published weights into one network that every command accepts.

    stjax convert ucf101-img-vgg16-split1.mat ucf101-TVL1flow-vgg16-split1.mat --out weights/ucf101.safetensors

    Reads MatConvNet (.mat), Caffe, PyTorch, Keras, ONNX and safetensors files, told by their content, and never runs
    code from one. A fusion layer that no file holds is initialised as the authors start theirs, and is listed as not
    trained. One stream with a classifier stays on its own; an appearance stream without one, or with --fusion conv2d,
    gets a motion tower copied from it. The file to write must be new, or an earlier one of stjax's own.
    """
    how = choose("dtype", dtype, DTYPES)
    stacked = choose("flow order", flow_order, ORDERS)
    calibrating = choose("statistics", statistics, STATISTICS)
    form = None if fusion is None else choose("fusion", fusion, FUSIONS)
    if out.suffix != ".safetensors":
        raise UsageError(f"the file to write must end in .safetensors: {out} does not; nearest: {out.stem}.safetensors")
    refuse_foreign(out, (store.MARK,))
    own_names = names.read(class_names) if class_names else ()
    read = [published.read(path, table=table, convolutions_only=convolutions_only, stacked=stacked) for path in files]
    model, doubts = assemble(
        read, fusion=form, samples=samples, towers=towers, class_names=own_names, name=printable(out.stem)
    )
    for doubt in doubts:
        console.print(cell(f"warning: {doubt}"), style="yellow", soft_wrap=True)
    parts, size = model.parts, store.count(model.params)
    layer = "classes" if model.module.num_classes and not model.module.fused else "conv5_3"
    try:
        with replacing(out) as whole:
            store.save(whole, model, how)
            if calibrating:
                # From the file: the arrays of the sources, still views of them, make room first.
                del read, model
                compilation.cache_programs()
                store.save(whole, calibrate.calibrated(store.load(whole)), how)
            # Somebody may have put something there meanwhile.
            refuse_foreign(out, (store.MARK,))
    except OSError as error:
        raise UsageError(f"the file to write must be writable: {out}: {error.strerror or error}") from None
    print_parts(f"{out.stem}: {size:,} parameters", parts)
    say(f"wrote {out}; next: stjax visualize {layer} --model {out}")


def inspect(file: FileArgument, table: TableOption = None) -> None:
    """Show what a file holds, and what it would become, without converting it."""
    contents, found = published.inspect(file, table=table)
    known = f"table {found.table.name}: {found.table.about}" if found else "no table knows it: not a VGG-16"
    say(f"{file.name}: {contents.container}, {len(contents.arrays)} arrays; {known}")
    shown = Table()
    for heading in ("in the file", "shape", "type", "here"):
        shown.add_column(heading, overflow="fold")
    for name, array in contents.arrays.items():
        left_out = "left out" if found and name not in found.strangers else "unexpected"
        ours = found.ours.get(name, left_out) if found else ""
        shown.add_row(*map(cell, (name, " x ".join(map(str, array.shape)), array.dtype, ours)))
    Console().print(shown)
    if contents.mean:
        say(f"mean: {', '.join(f'{value:.3f}' for value in contents.mean)}")
    if contents.class_names:
        first = ", ".join(contents.class_names[:3])
        say(f"{len(contents.class_names)} class names: {first}, ...")


def download(
    name: Annotated[str | None, typer.Argument(help="A name from the list that this prints without one.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to save; the cache folder if not given.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Take what comes over plain http though no checksum is published.")
    ] = False,
) -> None:
    """Fetch published weights from their official address; started again, it goes on where it stopped.

    What comes is compared with its published checksum, or, where there is none, with what the file must hold.
    """
    if name is None:
        table = Table(title="Published weights; see weights/README.md", title_justify="left")
        for heading in ("name", "what", "licence", "checked by"):
            table.add_column(heading, no_wrap=heading == "name")
        for release in RELEASES.values():
            table.add_row(release.name, release.about, release.licence, release.checked)
        Console().print(table)
        told = "contents: no checksum is published; over plain http that is said, and --insecure asked for"
        Console().print(told, highlight=False)
        return
    release = named(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console)
    meter = bar.add_task(release.file, total=None)

    def report(done: int, total: int | None) -> None:
        # Not before something comes: what is refused at once is one line, without a bar.
        bar.start()
        bar.update(meter, completed=done, total=total)

    try:
        path = downloads.fetch(release, folder or downloads.cache(), insecure=insecure, progress=report)
    finally:
        if bar.live.is_started:
            bar.stop()
    say(str(path))
    if not release.digest:
        say(f"no checksum is published; it holds what it must; its own, to compare: sha256 {checksum(path)}")
    say(f"licence: {release.licence}")
    say(f"next: stjax convert {path} --out weights/{release.name}.safetensors")


def print_parts(title: str, parts: tuple[store.Part, ...]) -> None:
    """A table of parts: which layers, whether they are trained, and where they come from."""
    table = Table(title=cell(title), title_justify="left")
    for heading in ("part", "state", "origin"):
        table.add_column(heading)
    for part in parts:
        table.add_row(cell(part.layers), "trained" if part.trained else "not trained", cell(part.origin))
    Console().print(table)


def say(text: str) -> None:
    """One line to stdout, as it stands: it may hold names from files."""
    Console().print(cell(text), soft_wrap=True)


def cell(text: object) -> Text:
    """Anybody's text as rich shows it untouched: neither markup nor emoji codes nor colours are read into it."""
    return Text(printable(text))
