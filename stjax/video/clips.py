"""Frames of a video -> clips in network units: scaled, sampled around one frame, cropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UsageError
from stjax.preprocess import Preprocessing, encode_flow
from stjax.types import Clip, Input, streams
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


def window(t: int, inputs: tuple[Input, ...]) -> slice:
    """The frames that a sample at frame t reads.

    n frames that follow one another are t - n//2 .. t - n//2 + n - 1, and n flow fields begin at these frames and end
    one later. Of T samples that are taken far apart, one is read.

    >>> window(5, (Input(name="motion", kind="flow", shape=(1, 10, 8, 8, 2), slow="fields"),))
    slice(0, 11, None)
    >>> window(5, (Input(name="appearance", kind="rgb", shape=(4, 8, 8, 3), slow="time"),))
    slice(3, 7, None)
    """
    runs = [_run(t, each) for each in inputs]
    fields = [each.kind == "flow" for each in inputs]
    return slice(min(run.start for run in runs), max(run.stop + more for run, more in zip(runs, fields, strict=True)))


def _run(t: int, each: Input) -> slice:
    """The frames of an input, or those at which its flow fields begin."""
    count = each.length("time") if each.slow == "time" else 1
    if each.kind == "flow":
        count += each.length("fields") - 1
    return slice(t - count // 2, t - count // 2 + count)


def sample(
    frames: Any,
    t: int,
    inputs: tuple[Input, ...],
    *,
    preprocessing: Preprocessing | None = None,
    flow: Flow = tvl1,
) -> Clip:
    """What a network is shown of the frames around one, in network units.

    Of ten flow fields, field k leads from frame t - 5 + k to the next, so that frame t is in the middle of its flow.

    Args:
      frames: (n, height, width, 3), RGB 0..255, already at the size that the network is to see.
      t: index of the frame.
      inputs: what the network is shown, see `window`. Flow is computed only if one of them is flow; heights and widths
        do not matter. Of samples that are taken far apart all are alike.
      preprocessing: which means to subtract; VGG's if None.
      flow: frames -> displacements in pixels.
    Returns:
      Each input with its own axes, as high and wide as the frames.
    Raises:
      UsageError: the window around t leaves the video.
    """
    around = window(t, inputs)
    if around.start < 0 or around.stop > len(frames):
        raise UsageError(
            f"a sample must lie inside the video of {len(frames)} frames: that at frame {t} reads "
            f"{around.start}..{around.stop - 1}"
        )
    preprocessing = preprocessing or Preprocessing()
    size = np.shape(frames)[1:3]
    seen: dict[str, Any] = {}
    for each in inputs:
        run = _run(t, each)
        if each.kind == "flow":
            found = encode_flow(flow(np.asarray(frames[run.start : run.stop + 1])), preprocessing.flow_mean)
            time, fields = (each.length("time") if each.slow == "time" else 1), each.length("fields")
            x = found[np.arange(time)[:, None] + np.arange(fields)]
        else:
            x = preprocessing.frames(np.asarray(frames[run]))
        seen[each.name] = jnp.broadcast_to(x, (each.length("time"), *x.shape[1:-3], *size, x.shape[-1]))
    return Clip(**seen)


def stills(inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """The inputs that a photograph can be: frames that do not follow one another, or a single one."""
    return tuple(each for each in inputs if each.kind == "rgb" and (each.slow is None or each.length("time") == 1))


def still(picture: Any, inputs: tuple[Input, ...], *, preprocessing: Preprocessing | None = None) -> Clip:
    """A photograph (height, width, 3), RGB 0..255, as the inputs of a network that can be one; the others are None."""
    return sample(np.asarray(picture)[None], 0, stills(inputs), preprocessing=preprocessing)


def cut(clip: Clip, top: int, left: int, size: tuple[int, int]) -> Clip:
    """The same rectangle of all streams.

    Args:
      clip: at least as high and wide as the rectangle.
      top, left: of the rectangle, in pixels.
      size: height and width of the rectangle, in pixels.
    Raises:
      UsageError: the rectangle leaves the picture.
    """
    given = next(x for x in clip if x is not None)
    (high, wide), (height, width) = size, given.shape[-3:-1]
    if min(top, left) < 0 or top + high > height or left + wide > width:
        raise UsageError(f"a crop must lie inside {height}x{width}: {high}x{wide} at ({top}, {left}) does not")
    return Clip(*(None if x is None else x[..., top : top + high, left : left + wide, :] for x in clip))


def fitted(inputs: tuple[Input, ...], clip: Clip) -> Clip:
    """A clip with each stream at the size of its input; displacements are scaled with the picture."""

    def fit(each: Input, x: Any) -> Any:
        high, wide = each.length("height"), each.length("width")
        if (high, wide) == x.shape[-3:-1]:
            return x
        scaled = jax.image.resize(x, (*x.shape[:-3], high, wide, x.shape[-1]), "linear", antialias=True)
        factors = jnp.asarray([wide / x.shape[-2], high / x.shape[-3]])
        return scaled * jnp.broadcast_to(factors, scaled.shape) if each.kind == "flow" else scaled

    return clip._replace(**{each.name: fit(each, x) for each, x in streams(inputs, clip)})


def stack(clips: list[Clip]) -> Clip:
    """Clips of one shape -> one batch."""
    columns = zip(*clips, strict=True)
    return Clip(*(None if c[0] is None else jnp.stack([jnp.asarray(x) for x in c]) for c in columns))
