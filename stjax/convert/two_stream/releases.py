"""Where published streams of VGG-16 are."""

from __future__ import annotations

from stjax.convert.release import Held, Release
from stjax.networks.two_stream import TwoStream

AUTHORS = "http://ftp.tugraz.at/pub/feichtenhofer/tsfusion/models/twostream_base/vgg16"
CUHK = "http://mmlab.siat.ac.cn/very_deep_two_stream_model"
UNSTATED = "not stated by the authors: ask them before passing it on"


def _stream(name: str, classes: int) -> TwoStream:
    """One full-size stream with its own classifier."""
    return TwoStream(streams=(name,), fusion="late", num_classes=classes)


def _ucf101_splits() -> list[Release]:
    splits: list[Release] = []
    for split in (1, 2, 3):
        for kind, stream in (("img", "appearance"), ("TVL1flow", "motion")):
            address = f"{AUTHORS}/ucf101-{kind}-vgg16-split{split}.mat"
            about = f"the authors' {stream} stream, UCF101 split {split}"
            held = Held("matconvnet", _stream(stream, 101))
            splits.append(Release(f"ucf101-{stream}-split{split}", address, about, UNSTATED, held))
        for kind, stream in (("spatial", "appearance"), ("temporal", "motion")):
            address = f"{CUHK}/cuhk_action_{kind}_vgg_16_split{split}.caffemodel"
            about = f"Wang et al. 2015, {stream} stream, UCF101 split {split}"
            held = Held("cuhk", _stream(stream, 101))
            splits.append(Release(f"cuhk-{stream}-split{split}", address, about, "non-commercial use", held))
    return sorted(splits, key=lambda release: (not release.name.startswith("ucf101"), release.name))


VGG16_RELEASES = (
    *_ucf101_splits(),
    Release(
        "imagenet-matconvnet",
        "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-16.mat",
        "VGG-16 on ImageNet, MatConvNet",
        "CC-BY-4.0 (Simonyan & Zisserman)",
        Held("matconvnet", _stream("appearance", 1000)),
        "md5:f72d927587ca4c97fbd165ec9cb9997f",
    ),
    Release(
        "imagenet-caffe",
        "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
        "VGG-16 on ImageNet, the original",
        "CC-BY-4.0 (Simonyan & Zisserman)",
        Held("caffe", _stream("appearance", 1000)),
    ),
    Release(
        "imagenet-torchvision",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "VGG-16 on ImageNet, trained by torchvision",
        "BSD-3-Clause",
        Held("torchvision", _stream("appearance", 1000)),
        "sha256:397923af",
    ),
    Release(
        "imagenet-keras",
        "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "VGG-16 on ImageNet, the original as Keras has it",
        "CC-BY-4.0 (Simonyan & Zisserman)",
        Held("keras", _stream("appearance", 1000)),
        "md5:64373286793e3c8b2b4e3219cbf3544b",
    ),
)
