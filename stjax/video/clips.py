"""Frames of a video -> clips in network units: scaled, sampled around one frame, cropped."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UsageError
from stjax.preprocess import Preprocessing, encode_flow
from stjax.types import Clip
from stjax.video.flow import tvl1

Flow = Callable[[np.ndarray], np.ndarray]
"""RGB frames (n, h, w, 3) in 0..255 -> displacements (n - 1, h, w, 2) in pixels."""


def resize(frames: Any, short_side: int) -> np.ndarray:
    """Frames scaled so that the shorter side has a given length; antialiased when they shrink.

    Args:
      frames: (n, height, width, 3), RGB 0..255.
      short_side: in pixels.
    Returns:
      (n, height', width', 3) float32, 0..255; the aspect is kept up to a rounded pixel.

    >>> resize(np.zeros((1, 144, 176, 3)), 224).shape
    (1, 224, 274, 3)
    """
    n, height, width, channels = np.shape(frames)
    scale = short_side / min(height, width)
    shape = (n, round(height * scale), round(width * scale), channels)
    scaled = jax.image.resize(jnp.asarray(frames, jnp.float32), shape, "cubic", antialias=True)
    return np.asarray(jnp.clip(scaled, 0.0, 255.0))


def shots(frames: Any) -> list[slice]:
    """The runs of frames between cuts: flow across a cut means nothing.

        d_t = mean |I_t - I_{t-1}|;  a cut where d_t > 10 and d_t > 2.5 median(d_{t-4} .. d_{t+4})

    Args:
      frames: (n, height, width, 3), 0..255; every fourth pixel is read.

    >>> shots(np.repeat([0.0, 200.0], 6).reshape(12, 1, 1, 1) + np.zeros((8, 8, 3)))
    [slice(0, 6, None), slice(6, 12, None)]
    """
    small = np.asarray(frames)[:, ::4, ::4].astype(np.float32)
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(small)])
    usual = np.array([np.median(change[max(0, i - 4) : i + 5]) for i in range(len(change))])
    cuts = 1 + np.flatnonzero((change > 10.0) & (change > 2.5 * usual))
    edges = [0, *map(int, cuts), len(small)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def window(t: int, fields: int = 10) -> slice:
    """The frames that a sample at frame t reads: fields + 1 of them, t - fields//2 .. t + fields - fields//2.

    >>> window(5)
    slice(0, 11, None)
    """
    start = t - fields // 2
    return slice(start, start + fields + 1)


def sample(
    frames: Any, t: int, *, preprocessing: Preprocessing | None = None, fields: int = 10, flow: Flow = tvl1
) -> Clip:
    """One frame and the flow fields around it, in network units.

    Field k leads from frame t - fields//2 + k to the next, so that the frame is in the middle of its flow.

    Args:
      frames: (n, height, width, 3), RGB 0..255, already at the size that the network is to see.
      t: index of the frame.
      preprocessing: which means to subtract; VGG's if None.
      fields: optical-flow fields of one sample.
      flow: frames -> displacements in pixels.
    Returns:
      appearance (time=1, height, width, 3), motion (time=1, fields, height, width, 2).
    Raises:
      UsageError: the window around t leaves the video.
    """
    around = window(t, fields)
    if around.start < 0 or around.stop > len(frames):
        raise UsageError(
            f"a sample must lie inside the video of {len(frames)} frames: that at frame {t} reads "
            f"{around.start}..{around.stop - 1}"
        )
    read = np.asarray(frames[around])
    preprocessing = preprocessing or Preprocessing()
    appearance = preprocessing.frames(read[t - around.start])
    return Clip(appearance[None], encode_flow(flow(read), preprocessing.flow_mean)[None])


def still(picture: Any, *, preprocessing: Preprocessing | None = None) -> Clip:
    """A photograph (height, width, 3), RGB 0..255, as a clip without motion stream."""
    return Clip((preprocessing or Preprocessing()).frames(picture)[None], None)


def crop(clip: Clip, top: int, left: int, side: int) -> Clip:
    """The same square of both streams.

    Args:
      clip: at least side pixels high and wide.
      top, left: of the square, in pixels.
      side: of the square, in pixels.
    Raises:
      UsageError: the square leaves the picture.
    """
    given = next(x for x in clip if x is not None)
    height, width = given.shape[-3:-1]
    if min(top, left) < 0 or top + side > height or left + side > width:
        raise UsageError(f"a crop must lie inside {height}x{width}: side {side} at ({top}, {left}) does not")
    return Clip(*(None if x is None else x[..., top : top + side, left : left + side, :] for x in clip))


def stack(clips: list[Clip]) -> Clip:
    """Clips of one shape -> one batch."""
    streams = zip(*clips, strict=True)
    return Clip(*(None if s[0] is None else jnp.stack([jnp.asarray(x) for x in s]) for s in streams))
