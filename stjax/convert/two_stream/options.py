"""What there is to choose when published streams become a two-stream network."""

from __future__ import annotations

from dataclasses import dataclass

from stjax.networks.two_stream import Fusion


@dataclass(frozen=True, kw_only=True)
class TwoStreamOptions:
    """Choices that the files leave open; None leaves them to the files.

    Args:
      fusion: "conv2d", "conv3d", "sum" or "late"; the files' own form, else 2-D, and late for one stream that has a
        classifier, if None.
      samples: temporal samples of a clip; 5 for 3-D fusion, else 1, if None.
      motion_head: whether the motion stream keeps its own classifier; if it has one, if None.
      stacked: flow channels are u1 .. u10, v1 .. v10 and not u1, v1, .., u10, v10.
      convolutions_only: leave out the classifier and whatever the table does not know.
    """

    fusion: Fusion | None = None
    samples: int | None = None
    motion_head: bool | None = None
    stacked: bool = False
    convolutions_only: bool = False
