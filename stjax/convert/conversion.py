"""Published files -> one network of ours, whatever their containers, tables and architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stjax.convert.published import Published
from stjax.convert.readers import container, tensorflow
from stjax.convert.readers.contents import Contents
from stjax.convert.table import Match, Table
from stjax.convert.tables import CONVERTERS, DIRECT, match
from stjax.errors import UsageError, printable
from stjax.files import checksum
from stjax.model import Model, Origin


class Converted(NamedTuple):
    """A model without statistics, its arrays still views of the files where they can be; and what looks doubtful."""

    model: Model
    warnings: tuple[str, ...]


def convert_files(
    paths: Sequence[str | Path],
    *,
    table: str | Table | None = None,
    options: Any = None,
    class_names: Sequence[str] = (),
    name: str = "converted",
) -> Converted:
    """One network from the files in which others published it.

    To write it: `stjax.convert.store.save(path, converted.model)`.

    Args:
      paths: of the files; their containers are told by their content. Of a TensorFlow checkpoint, any of its files, or
        what their names begin with.
      table: one to use, or its name in `tables.TABLES`; of these, the one that knows most names if None.
      options: what there is to choose for the architecture, of the type that its row in `tables` names; None for its
        defaults.
      class_names: one for each class; those that the files hold if ().
      name: of the model.
    Raises:
      UsageError: a file is damaged, unsafe or of an architecture that no table knows; files do not belong together; or
        parameters do not fit the network, name by name.
    """
    if not paths:
        raise UsageError("a conversion must have a file: got none")
    files = [read(Path(path), table) for path in paths]
    architectures = {file.match.table.architecture: file.origin.file for file in files}
    if len(architectures) > 1:
        listed = ", ".join(f"{file} of {name}" for name, file in architectures.items())
        raise UsageError(f"files of one network must be of one architecture: got {listed}")
    ((architecture, first),) = architectures.items()
    converter = CONVERTERS.get(architecture, DIRECT)
    if options is not None and not isinstance(options, converter.options):
        # What is left at its default was not asked for.
        default = type(options)()
        if chosen := [name for name, value in vars(options).items() if value != getattr(default, name)]:
            raise UsageError(
                f"{' and '.join(chosen)} must be chosen for a network that has it: {first} is of the architecture "
                f"{architecture}"
            )
        options = None
    model, warnings = converter.assemble(files, options or converter.options(), class_names, name)
    return Converted(model, tuple(warnings))


def read(path: Path, table: str | Table | None = None) -> Published:
    """A published file, and the table that fits it.

    Raises:
      UsageError: the file is damaged, unsafe, or of an architecture that no table knows.
    """
    contents = container.read(path)
    try:
        names = match(contents, table)
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from None
    # Of a checkpoint's files, the index holds a checksum of all the rest.
    file = tensorflow.index_of(path)
    origin = Origin(printable(file.name), checksum(file), printable(contents.container), names.table.name)
    return Published(origin, contents, names)


def inspect(path: Path, table: str | Table | None = None) -> tuple[Contents, Match | None]:
    """What is in a file, and what its names would become; None where no table knows it.

    Raises:
      UsageError: the file cannot be read, or the table is unknown.
    """
    contents = container.read(path)
    try:
        return contents, match(contents, table)
    except UsageError:
        if table is not None:
            raise
        return contents, None
