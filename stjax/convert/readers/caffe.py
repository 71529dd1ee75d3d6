"""Caffe's .caffemodel, V1 and V2 -> {layer/0: weights, layer/1: biases}.

NetParameter       name 1, V1 layers 2, layer 100
V1LayerParameter   name 4, blobs 6
LayerParameter     name 1, blobs 7
BlobProto          num, channels, height, width 1-4, data 5, shape 7 {dim 1}, double_data 8
"""

from __future__ import annotations

import numpy as np

from stjax.convert.readers.contents import Contents, refuse_duplicates
from stjax.convert.readers.limits import size_of
from stjax.convert.readers.wire import BYTES, Malformed, Message, integers, numbers, text

LAYERS = {2: ("V1", 4, 6), 100: ("V2", 1, 7)}
"""Field of the net -> version, field of a layer's name, field of its blobs."""


def read(data: memoryview) -> Contents:
    """Every blob of every layer; its name is the layer's and its place in it."""
    network, versions = "", set()
    found: list[tuple[str, np.ndarray]] = []
    net = Message(data)
    for number, wire, value in net:
        if number == 1 and wire == BYTES:
            network = text(value)
        if number not in LAYERS or wire != BYTES:
            continue
        version, name_field, blob_field = LAYERS[number]
        versions.add(version)
        name, blobs, layer = "", [], net.inside(value)
        for part, kind, content in layer:
            if part == name_field and kind == BYTES:
                name = text(content)
            elif part == blob_field:
                blobs.append(_blob(layer.inside(content)))
        found += [(f"{name}/{i}", blob) for i, blob in enumerate(blobs)]
    refuse_duplicates([name for name, _ in found], "a caffemodel")
    return Contents(f"Caffe {' and '.join(sorted(versions))}", dict(found), network=network)


def _blob(message: Message) -> np.ndarray:
    legacy, shape = {1: 1, 2: 1, 3: 1, 4: 1}, None
    pieces: list[np.ndarray] = []
    for number, wire, value in message:
        if number in legacy and isinstance(value, int):
            legacy[number] = value
        elif number in (5, 8):
            pieces.append(numbers(wire, value, "<f4" if number == 5 else "<f8"))
        elif number == 7 and wire == BYTES:
            shape = [n for part, kind, dims in message.inside(value) if part == 1 for n in integers(kind, dims)]
    if len(pieces) > 1:
        raise Malformed("a blob whose numbers come twice")
    data = pieces[0] if pieces else np.empty(0, "<f4")
    if shape is None:
        # Always four axes, ones in front: (1, 1, 1, 64) is a bias, (1, 1, out, in) a dense layer.
        shape = [legacy[i] for i in (1, 2, 3, 4)]
        while len(shape) > 1 and shape[0] == 1:
            shape.pop(0)
    if size_of(shape) != data.size:
        raise Malformed(f"a blob of {data.size} numbers for the shape {shape}")
    return data.reshape(shape)
