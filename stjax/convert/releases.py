"""All published files that `stjax download` knows."""

from __future__ import annotations

from stjax.convert.release import Release
from stjax.convert.two_stream.releases import VGG16_RELEASES
from stjax.errors import choose

RELEASES: dict[str, Release] = {release.name: release for release in VGG16_RELEASES}


def release_named(name: str) -> Release:
    """A release by its name.

    Raises:
      UsageError: no such release.

    >>> release_named("imagenet-torchvision").file
    'vgg16-397923af.pth'
    """
    return choose("a release", name, RELEASES)
