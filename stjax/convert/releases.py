"""Where published weights are, under which licence, and how to tell that they came over whole."""

from __future__ import annotations

from typing import NamedTuple

from stjax.errors import UsageError, nearest

AUTHORS = "http://ftp.tugraz.at/pub/feichtenhofer/tsfusion/models/twostream_base/vgg16"
CUHK = "http://mmlab.siat.ac.cn/very_deep_two_stream_model"
UNSTATED = "not stated by the authors: ask them before passing it on"


class Release(NamedTuple):
    """One published file.

    digest: "algorithm:hexadecimal", a known beginning of it, or "" where the publisher gives none.
    """

    name: str
    address: str
    about: str
    licence: str
    digest: str = ""

    @property
    def file(self) -> str:
        """The name it is saved under."""
        return self.address.rpartition("/")[2]


def _splits() -> list[Release]:
    found: list[Release] = []
    for split in (1, 2, 3):
        for kind, stream in (("img", "appearance"), ("TVL1flow", "motion")):
            address = f"{AUTHORS}/ucf101-{kind}-vgg16-split{split}.mat"
            about = f"the authors' {stream} stream, UCF101 split {split}"
            found.append(Release(f"ucf101-{stream}-split{split}", address, about, UNSTATED))
        for kind, stream in (("spatial", "appearance"), ("temporal", "motion")):
            address = f"{CUHK}/cuhk_action_{kind}_vgg_16_split{split}.caffemodel"
            about = f"Wang et al. 2015, {stream} stream, UCF101 split {split}"
            found.append(Release(f"cuhk-{stream}-split{split}", address, about, "non-commercial use"))
    return sorted(found, key=lambda release: (not release.name.startswith("ucf101"), release.name))


RELEASES = {
    release.name: release
    for release in (
        *_splits(),
        Release(
            "imagenet-matconvnet",
            "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-16.mat",
            "VGG-16 on ImageNet, MatConvNet",
            "CC-BY-4.0 (Simonyan & Zisserman)",
            "md5:f72d927587ca4c97fbd165ec9cb9997f",
        ),
        Release(
            "imagenet-caffe",
            "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
            "VGG-16 on ImageNet, the original",
            "CC-BY-4.0 (Simonyan & Zisserman)",
        ),
        Release(
            "imagenet-torchvision",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            "VGG-16 on ImageNet, trained by torchvision",
            "BSD-3-Clause",
            "sha256:397923af",
        ),
        Release(
            "imagenet-keras",
            "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
            "VGG-16 on ImageNet, the original as Keras has it",
            "CC-BY-4.0 (Simonyan & Zisserman)",
            "md5:64373286793e3c8b2b4e3219cbf3544b",
        ),
    )
}


def named(name: str) -> Release:
    """A release by its name.

    Raises:
      UsageError: no such release.

    >>> named("imagenet-torchvision").file
    'vgg16-397923af.pth'
    """
    if name not in RELEASES:
        raise UsageError(f"a release must be a known one: {name!r} is not; {nearest(name, RELEASES)}")
    return RELEASES[name]
