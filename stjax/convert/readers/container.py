"""What kind of file is this? Told by its content, never by its name; and the one door to all readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from stjax.convert.readers import (
    caffe,
    keras,
    leveldb,
    matconvnet,
    onnx,
    pickles,
    pytorch,
    safetensors,
    tensorflow,
    whole,
    wire,
)
from stjax.convert.readers.contents import Contents, checked, reason
from stjax.errors import UsageError, printable

HDF5 = b"\x89HDF\r\n\x1a\n"
NOT_WEIGHTS = {
    b"<": "a web page: the download went wrong",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself, with git lfs pull",
    b"\x1f\x8b": "gzip: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
}
KNOWN = ".mat, .caffemodel, .pth, .h5, .onnx, .safetensors, .ckpt.index"
HEAD = 4096
"""Bytes by which a file is told, before the rest is read."""


def read(path: Path) -> Contents:
    """Everything a published file holds.

    Args:
      path: of any container in `KNOWN`; of a TensorFlow checkpoint, its index, one of its shards, or what all
        their names begin with.
    Returns:
      Its arrays; all of it stands in proportion to the file; see `limits`.
    Raises:
      UsageError: no such file, another container, or a file that is damaged or unsafe.
    """
    prefix = tensorflow.prefix_of(path)
    if prefix is not None:
        with _refusing(path):
            return checked(*tensorflow.read(prefix))
    with whole.opened(path) as file, _refusing(path):
        return checked(_read(path, file), os.fstat(file.fileno()).st_size)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file's content is one line."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{printable(path.name)}: {reason(error)}") from None
    except (Exception, RecursionError) as error:
        # A damaged file raises almost anything: struct.error, KeyError, zlib.error, UnicodeDecodeError, ...
        raise UsageError(
            f"{printable(path.name)}: a file of weights must be whole: this one is cut or damaged ({reason(error)})"
        ) from None


def _read(path: Path, file: FileIO) -> Contents:
    size = os.fstat(file.fileno()).st_size
    head = file.read(HEAD)
    for sign, what in NOT_WEIGHTS.items():
        if head.lstrip().startswith(sign):
            raise UsageError(f"a file of weights must be one of {KNOWN}: this is {what}")
    if head.startswith(HDF5):
        return keras.read(path)
    if head[512:].startswith(HDF5):
        return matconvnet.read73(path)
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return matconvnet.read5(whole.rest(file))
    if head.startswith(b"PK\x03\x04"):
        return pytorch.read_zip(whole.rest(file))
    if head.startswith(pytorch.MAGIC):
        return pytorch.read_legacy(whole.rest(file))
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return pickles.read(whole.rest(file))
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return safetensors.read(whole.rest(file))
    file.seek(-min(size, len(leveldb.MAGIC)), os.SEEK_END)
    if file.read() == leveldb.MAGIC:
        raise UsageError(
            "the index of a checkpoint must be called NAME.index, beside NAME.data-00000-of-00001: this one is not"
        )
    return _message(head, size, file)


def _message(head: bytes, size: int, file: FileIO) -> Contents:
    """Caffe and ONNX have no mark of their own: they are told by the fields of a protocol-buffer message."""
    try:
        # A film of 100 GB is told by its head, and is never read.
        wire.refuse_head(memoryview(head), size)
        data = whole.rest(file)
        kinds = {(number, wire_type) for number, wire_type, _ in wire.Message(data)}
    except wire.Malformed as error:
        raise UsageError(
            f"a file of weights must be one of {KNOWN}: this is something else, or cut short ({error})"
        ) from None
    if (7, wire.BYTES) in kinds and (1, wire.VARINT) in kinds:
        return onnx.read(data)
    if kinds & {(number, wire.BYTES) for number in caffe.LAYERS}:
        return caffe.read(data)
    raise UsageError(f"a file of weights must be one of {KNOWN}: this is something else")
