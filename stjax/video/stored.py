"""Flow that was computed before and lies in pictures, as the network's authors keep it; see `folders`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stjax.errors import UsageError
from stjax.preprocess import FLOW_BOUND, FLOW_SCALE
from stjax.video import folders
from stjax.video.reader import open


def flow_folders(video: Path) -> tuple[Path, Path] | None:
    """Where flow to the right and flow downward of a folder of frames are stored; None if they are not.

    Args:
      video: jpegs_256/<video>, beside which stand tvl1_flow/u/<video> and tvl1_flow/v/<video>.
    """
    beside = video.parent.parent / folders.FLOW
    right, down = (beside / axis / video.name for axis in "uv")
    return (right, down) if video.parent.name == folders.FRAMES and right.is_dir() and down.is_dir() else None


def stored_flow(video: Path) -> Iterator[Float[np.ndarray, "height width uv=2"]]:
    """The flow fields of a folder of frames, one after the other, in pixels per frame.

        w = code / 6.375 - 20, so that `preprocess.encode_flow` gives back the very code

    Args:
      video: see `flow_folders`.
    Raises:
      UsageError: there is no flow beside it, or its two halves do not fit together.
    """
    beside = flow_folders(video)
    if beside is None:
        near = f"{folders.FLOW}/u/{video.name} and {folders.FLOW}/v/{video.name}"
        raise UsageError(f"stored flow must lie beside {folders.FRAMES} in {near}: that of {video} does not")
    with open(beside[0]) as right, open(beside[1]) as down:
        if (right.frames, right.height, right.width) != (down.frames, down.height, down.width):
            raise UsageError(f"{beside[0]} and {beside[1]} must hold as many pictures of one size")
        for u, v in zip(right, down, strict=True):
            codes = np.stack([u.rgb[..., 0], v.rgb[..., 0]], axis=-1)
            yield codes.astype(np.float32) / np.float32(FLOW_SCALE) - np.float32(FLOW_BOUND)
