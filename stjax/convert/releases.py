"""Where published weights are, under which licence, and how to tell that they came over whole."""

from __future__ import annotations

from typing import NamedTuple

from stjax.errors import UsageError, nearest
from stjax.networks.vgg import VGG16, convolutions

AUTHORS = "http://ftp.tugraz.at/pub/feichtenhofer/tsfusion/models/twostream_base/vgg16"
CUHK = "http://mmlab.siat.ac.cn/very_deep_two_stream_model"
UNITS = (*(width for _, width in convolutions(VGG16)), 4096, 4096)
CHANNELS = {"appearance": 3, "motion": 20}
UNSTATED = "not stated by the authors: ask them before passing it on"


class Held(NamedTuple):
    """What a file must hold, by which it is told from another where no checksum is published.

    table: that its names are spelled by, see `tables`.
    channels: of its first layer, 3 for RGB and 20 for flow.
    classes: of its classifier.
    units: of all layers before that.
    """

    table: str
    channels: int
    classes: int
    units: tuple[int, ...] = UNITS


class Release(NamedTuple):
    """One published file.

    held: by which it is told where there is no digest.
    digest: "algorithm:hexadecimal", a known beginning of it, or "" where the publisher gives none.
    """

    name: str
    address: str
    about: str
    licence: str
    held: Held
    digest: str = ""

    @property
    def file(self) -> str:
        """The name it is saved under."""
        return self.address.rpartition("/")[2]

    @property
    def exposed(self) -> bool:
        """Whether anybody on the way could put another file in its place, unseen."""
        return not self.digest and not self.address.startswith("https://")

    @property
    def checked(self) -> str:
        """In words, how it is told that the right file came."""
        if self.digest:
            return self.digest.partition(":")[0]
        return "contents (http)" if self.exposed else "contents (https)"


def _splits() -> list[Release]:
    found: list[Release] = []
    for split in (1, 2, 3):
        for kind, stream in (("img", "appearance"), ("TVL1flow", "motion")):
            address = f"{AUTHORS}/ucf101-{kind}-vgg16-split{split}.mat"
            about = f"the authors' {stream} stream, UCF101 split {split}"
            held = Held("matconvnet", CHANNELS[stream], 101)
            found.append(Release(f"ucf101-{stream}-split{split}", address, about, UNSTATED, held))
        for kind, stream in (("spatial", "appearance"), ("temporal", "motion")):
            address = f"{CUHK}/cuhk_action_{kind}_vgg_16_split{split}.caffemodel"
            about = f"Wang et al. 2015, {stream} stream, UCF101 split {split}"
            held = Held("cuhk", CHANNELS[stream], 101)
            found.append(Release(f"cuhk-{stream}-split{split}", address, about, "non-commercial use", held))
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
            Held("matconvnet", 3, 1000),
            "md5:f72d927587ca4c97fbd165ec9cb9997f",
        ),
        Release(
            "imagenet-caffe",
            "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
            "VGG-16 on ImageNet, the original",
            "CC-BY-4.0 (Simonyan & Zisserman)",
            Held("caffe", 3, 1000),
        ),
        Release(
            "imagenet-torchvision",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            "VGG-16 on ImageNet, trained by torchvision",
            "BSD-3-Clause",
            Held("torchvision", 3, 1000),
            "sha256:397923af",
        ),
        Release(
            "imagenet-keras",
            "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
            "VGG-16 on ImageNet, the original as Keras has it",
            "CC-BY-4.0 (Simonyan & Zisserman)",
            Held("keras", 3, 1000),
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
