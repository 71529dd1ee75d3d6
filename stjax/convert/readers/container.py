"""What kind of file is this? Told by its content, never by its name; and the one door to all readers."""

from __future__ import annotations

import mmap
from pathlib import Path

import safetensors
import safetensors.numpy

from stjax.convert.readers import caffe, keras, matconvnet, onnx, pickles, pytorch, wire
from stjax.convert.readers.contents import Contents
from stjax.errors import UsageError

HDF5 = b"\x89HDF\r\n\x1a\n"
NOT_WEIGHTS = {
    b"<": "a web page: the download went wrong",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself, with git lfs pull",
    b"\x1f\x8b": "gzip: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
}
KNOWN = ".mat, .caffemodel, .pth, .h5, .onnx, .safetensors"


def read(path: Path) -> Contents:
    """Everything a published file holds.

    Args:
      path: of any container that `recognise` names.
    Raises:
      UsageError: no such file, another container, or a file that is damaged or unsafe.
    """
    if not path.is_file() or not path.stat().st_size:
        raise UsageError(f"a file of weights must exist: {path} is {'empty' if path.is_file() else 'not there'}")
    try:
        with open(path, "rb") as file:
            # Arrays stay views of this map, which lives as long as one of them.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        contents = _read(path, data)
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from None
    except (Exception, RecursionError) as error:
        # A damaged file raises almost anything: struct.error, KeyError, zlib.error, UnicodeDecodeError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path.name}: a file of weights must be whole: this one is cut or damaged ({reason})"
        ) from None
    if not contents.arrays:
        raise UsageError(f"{path.name}: a file of weights must hold arrays: this one ({contents.container}) holds none")
    return contents


def _read(path: Path, data: memoryview) -> Contents:
    head = bytes(data[:1024])
    for sign, what in NOT_WEIGHTS.items():
        if head.lstrip().startswith(sign):
            raise UsageError(f"a file of weights must be one of {KNOWN}: this is {what}")
    if head.startswith(HDF5):
        return keras.read(path)
    if head[512:].startswith(HDF5):
        return matconvnet.read73(path)
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return matconvnet.read5(data)
    if head.startswith(b"PK\x03\x04"):
        return pytorch.read_zip(path, data)
    if head.startswith(pytorch.MAGIC):
        return pytorch.read_legacy(data)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return pickles.read(data)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= len(data) - 8:
        return _safetensors(path)
    return _message(data)


def _safetensors(path: Path) -> Contents:
    with safetensors.safe_open(path, framework="numpy") as file:
        if "stjax" in (file.metadata() or {}):
            raise UsageError("it is a network of stjax already: give it to --model")
        return Contents("safetensors", {name: file.get_tensor(name) for name in file.keys()})


def _message(data: memoryview) -> Contents:
    """Caffe and ONNX have no mark of their own: they are told by the fields of a protocol-buffer message."""
    try:
        kinds = {(number, wire_type) for number, wire_type, _ in wire.fields(data)}
    except wire.Malformed as error:
        raise UsageError(
            f"a file of weights must be one of {KNOWN}: this is something else, or cut short ({error})"
        ) from None
    if (7, wire.BYTES) in kinds and (1, wire.VARINT) in kinds:
        return onnx.read(data)
    if kinds & {(number, wire.BYTES) for number in caffe.LAYERS}:
        return caffe.read(data)
    raise UsageError(f"a file of weights must be one of {KNOWN}: this is something else")
