"""A published file: where it is, under which licence, and how to tell that it came over whole."""

from __future__ import annotations

from typing import NamedTuple

from stjax.types import Network


class Held(NamedTuple):
    """What a file must hold, by which it is told from another where no checksum is published.

    table: that its names are spelled by, see `tables`.
    network: that it makes, of the same sizes.
    """

    table: str
    network: Network


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
