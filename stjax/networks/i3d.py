"""I3D: Inception-v1, its convolutions and pooling inflated to three dimensions, one tower for RGB and one for flow.

Carreira & Zisserman, Quo vadis, action recognition? A new model and the Kinetics dataset, CVPR 2017. Endpoints carry
the published names, behind that of the stream:

    appearance/Conv3d_1a_7x7, MaxPool3d_2a_3x3, .., Mixed_3b, .., Mixed_5c, classes    one tower sees consecutive frames
    motion/Conv3d_1a_7x7, ..                                                          the other one flow field a frame

Every endpoint is before its ReLU, which commutes with max-pooling. Batch normalisation is folded into the convolutions
when parameters are converted. Padding is TensorFlow's SAME, whose two sides differ under a stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from stjax.errors import UsageError, nearest
from stjax.networks.configuration import WIDEST, Malformed, Reader, ordered, tuple_of, whole
from stjax.networks.convolution3d import Padding, conv3d, max_pool3d, same
from stjax.networks.geometry import PIXEL, slide
from stjax.networks.relu import Backward, relu
from stjax.types import STREAMS, Activations, Clip, Field, Input, Layer

Triple = tuple[int, int, int]
Mixed = tuple[int, int, int, int, int, int]

MIXED: tuple[Mixed, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
"""Channels of Mixed_3b .. Mixed_5c: branch 0; branch 1, first and last; branch 2, first and last; branch 3."""

LAYERS: tuple[tuple[str, Triple, Triple], ...] = (
    ("Conv3d_1a_7x7", (7, 7, 7), (2, 2, 2)),
    ("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2)),
    ("Conv3d_2b_1x1", (1, 1, 1), (1, 1, 1)),
    ("Conv3d_2c_3x3", (3, 3, 3), (1, 1, 1)),
    ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    ("Mixed_3b", (3, 3, 3), (1, 1, 1)),
    ("Mixed_3c", (3, 3, 3), (1, 1, 1)),
    ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    *((f"Mixed_4{letter}", (3, 3, 3), (1, 1, 1)) for letter in "bcdef"),
    ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
    ("Mixed_5b", (3, 3, 3), (1, 1, 1)),
    ("Mixed_5c", (3, 3, 3), (1, 1, 1)),
)
"""Name, window and stride on t, y and x, in forward order; the window of a Mixed is that of its widest branches."""
SAME: Padding = ("SAME", "SAME", "SAME")
CLASSES = "classes"
AVERAGED = (2, 7, 7)
"""The window that features are averaged over before they are classified; less where a map is smaller on y or x."""


class Convolution(nn.Module):
    """A 3-D convolution with bias; parameters `kernel` (t, y, x, in, out) and `bias` (out,)."""

    features: int
    taps: Triple = (1, 1, 1)
    stride: int = 1
    padding: Padding = SAME
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.he_normal(), (*self.taps, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (jnp.asarray(v, self.dtype) for v in (x, kernel, bias))
        return conv3d(x, kernel, bias, stride=self.stride, padding=self.padding)


class Branch(nn.Module):
    """One branch of a Mixed, from its input after the ReLU to its output before it."""

    layers: tuple[tuple[str, int, int], ...]  # name, channels, taps on each axis
    padding: Padding
    dtype: Any
    backward: Backward

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for number, (name, features, taps) in enumerate(self.layers):
            x = relu(x, self.backward) if number else x
            x = Convolution(features, (taps, taps, taps), 1, self.padding, self.dtype, name=name)(x)
        return x


class Inception(nn.Module):
    """A Mixed: four branches side by side, their channels joined.

    [1x1x1 | 1x1x1 -> 3x3x3 | 1x1x1 -> 3x3x3 | max-pool 3x3x3 -> 1x1x1]
    """

    widths: Mixed
    padding: Padding
    dtype: Any
    backward: Backward

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b0, b1a, b1b, b2a, b2b, b3 = self.widths
        branches = (
            (("Conv3d_0a_1x1", b0, 1),),
            (("Conv3d_0a_1x1", b1a, 1), ("Conv3d_0b_3x3", b1b, 3)),
            (("Conv3d_0a_1x1", b2a, 1), ("Conv3d_0b_3x3", b2b, 3)),
            (("Conv3d_0b_1x1", b3, 1),),
        )
        pooled = max_pool3d(x, window=(3, 3, 3), stride=(1, 1, 1), padding=self.padding)
        # What a branch of 1x1x1 reads where the others' windows must lie within the map.
        edges = [int(each == "VALID") for each in self.padding]
        middle = x[(..., *(slice(edge, n - edge) for edge, n in zip(edges, x.shape[-4:-1], strict=True)), slice(None))]
        inputs = (middle, x, x, pooled)
        return jnp.concatenate(
            [
                Branch(layers, self.padding, self.dtype, self.backward, name=f"Branch_{number}")(each)
                for number, (layers, each) in enumerate(zip(branches, inputs, strict=True))
            ],
            axis=-1,
        )


class Tower(nn.Module):
    """One I3D stream.

    Args:
      stem: channels of Conv3d_1a_7x7, Conv3d_2b_1x1 and Conv3d_2c_3x3.
      mixed: channels of Mixed_3b .. Mixed_5c, see `MIXED`.
      num_classes: 0 for no classifier.
      padding: of t, y and x: "SAME", or "VALID" so that a map holds only what the patch determines.
      until: the last endpoint to evaluate; None for all.
      dtype: of the computation; parameters stay float32.
      backward: rule of the ReLUs that `until` reads, see `networks.relu`.
    """

    stem: Triple
    mixed: tuple[Mixed, ...]
    num_classes: int
    padding: Padding
    until: str | None
    dtype: Any
    backward: Backward

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        activations: dict[str, Array] = {}
        stem, mixed = iter(self.stem), iter(self.mixed)
        for name, window, stride in LAYERS:
            last = name == self.until
            if name.startswith("MaxPool"):
                x = max_pool3d(x, window=window, stride=stride, padding=self.padding)
            else:
                x = relu(x, self.backward if last else "gradient") if activations else x
                if name.startswith("Mixed"):
                    backward = self.backward if last else "gradient"
                    x = Inception(next(mixed), self.padding, self.dtype, backward, name=name)(x)
                else:
                    x = Convolution(next(stem), window, stride[0], self.padding, self.dtype, name=name)(x)
            activations[name] = x
            if last:
                return activations
        if self.num_classes:
            x = _averaged(relu(x, self.backward))
            activations[CLASSES] = Convolution(self.num_classes, dtype=self.dtype, name=CLASSES)(x)
        return activations


def _averaged(x: Array) -> Array:
    """The mean over windows of 2 x 7 x 7 at stride 1, then over all of them: (*batch, 1, 1, 1, channels).

    The classifier is linear, so the published mean of its outputs over time is its output for this mean.
    """
    for axis, side in zip((-4, -3, -2), AVERAGED, strict=True):
        length = x.shape[axis]
        side = min(side, length)
        # In how many windows each place is.
        counts = np.convolve(np.ones(length - side + 1), np.ones(side))
        share = jnp.asarray(counts / counts.sum(), x.dtype)
        x = jnp.expand_dims(jnp.tensordot(jnp.moveaxis(x, axis, -1), share, 1), axis)
    return x


class I3D(nn.Module):
    """Inception-v1 I3D of RGB, of flow, or of both: two towers whose scores are averaged.

    Args:
      stem: channels of Conv3d_1a_7x7, Conv3d_2b_1x1 and Conv3d_2c_3x3; the same in both towers.
      mixed: channels of Mixed_3b .. Mixed_5c, see `MIXED`.
      num_classes: 0 for a network without classifier.
      frames: of a clip; a network with a classifier needs 9.
      input_size: height and width of a clip, in pixels.
      streams: the inputs there are.
      padding: of t, y and x: "SAME", or "VALID" where a unit is evaluated on nothing but what it sees.
      until: the last endpoint to evaluate, None for all. What it does not need is not computed.
      dtype: of the computation. Parameters and inputs stay float32.
      backward: rule of the ReLUs that `until` reads: "gradient", or "uphill" for what is to grow, see `networks.relu`.
    """

    stem: Triple = (64, 64, 192)
    mixed: tuple[Mixed, ...] = MIXED
    num_classes: int = 400
    frames: int = 64
    input_size: int = 224
    streams: tuple[str, ...] = STREAMS
    padding: Padding = SAME
    until: str | None = None
    dtype: Any = jnp.float32
    backward: Backward = "gradient"

    @property
    def inputs(self) -> tuple[Input, ...]:
        side = self.input_size
        rgb = Input(name="appearance", kind="rgb", shape=(self.frames, side, side, 3), slow="time")
        flow = Input(name="motion", kind="flow", shape=(self.frames, 1, side, side, 2), slow="time")
        return tuple(each for each in (rgb, flow) if each.name in self.streams)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for stream in self.streams for layer in self._tower(stream))

    def resized(self, frames: int, size: int) -> I3D:
        """The same network for clips of other length, height and width.

        Raises:
          UsageError: fewer frames than a classifier needs.
        """
        if self.num_classes:
            _check_frames(frames)
        return self.clone(frames=frames, input_size=size)

    def for_layer(self, layer: str, exact: tuple[bool, bool, bool]) -> I3D:
        """The network as far as a layer, padding nothing on the axes where `exact` says so. See `geometry.probe`."""
        t, y, x = ("VALID" if each else "SAME" for each in exact)
        return self.clone(padding=(t, y, x), until=layer, backward="uphill")

    def _tower(self, stream: str) -> list[Layer]:
        stem, mixed = iter(self.stem), iter(self.mixed)
        extents, lengths = [PIXEL] * 3, [self.frames, self.input_size, self.input_size]
        units, layers = 0, []
        for name, window, stride in LAYERS:
            edges = [same(*each)[0] for each in zip(lengths, window, stride, strict=True)]
            extents = [slide(*each) for each in zip(extents, window, stride, edges, strict=True)]
            lengths = [-(-length // step) for length, step in zip(lengths, stride, strict=True)]
            if name.startswith("Mixed"):
                b0, _, b1, _, b2, b3 = next(mixed)
                units = b0 + b1 + b2 + b3
            elif name.startswith("Conv"):
                units = next(stem)
            layers.append(_layer(stream, name, units, Field(*extents), (lengths[0], lengths[1], lengths[2])))
        if self.num_classes:
            layers.append(_layer(stream, CLASSES, self.num_classes, Field(None, None, None), (1, 1, 1)))
        return layers

    @nn.compact
    def __call__(self, clip: Clip) -> tuple[Array | None, Activations]:
        """Class scores before the softmax, (*batch, num_classes), None if not reached; and every endpoint.

        A clip that lacks a stream is evaluated by the other's tower alone.
        """
        stream, _, last = (self.until or "").rpartition("/")
        names = [layer.name for layer in self.layers]
        if self.until and self.until not in names:
            raise UsageError(
                f"a layer must be one of the network's: {self.until!r} is not; {nearest(self.until, names)}"
            )
        needed = (stream,) if self.until else self.streams
        given = [name for name in needed if getattr(clip, name) is not None]
        if not given:
            raise UsageError(f"{self.until or 'a network'} sees {' and '.join(needed)}; this clip has no {needed[0]}")
        activations: Activations = {}
        for name in given:
            x = getattr(clip, name)
            x = x[..., 0, :, :, :] if name == "motion" else x
            if self.num_classes and last in ("", CLASSES):
                _check_frames(x.shape[-4])
            tower = Tower(
                self.stem,
                self.mixed,
                self.num_classes,
                self.padding,
                last or None,
                self.dtype,
                self.backward,
                name=name,
            )
            activations |= {f"{name}/{layer}": a for layer, a in tower(x).items()}
        ends = [activations[f"{name}/{CLASSES}"] for name in given if f"{name}/{CLASSES}" in activations]
        scores = [jnp.mean(a, axis=(-4, -3, -2)) for a in ends if not self.until]
        return (sum(scores[1:], scores[0]) / len(scores) if scores else None), activations


def _layer(stream: str, name: str, units: int, field: Field, grid: Triple) -> Layer:
    role = "classes" if name == CLASSES else "convolution"
    return Layer(name=f"{stream}/{name}", units=units, inputs=(stream,), field=field, grid=grid, role=role)


def _check_frames(frames: int) -> None:
    """The features that are averaged must be two or more on the axis of time."""
    fewest = (AVERAGED[0] - 1) * math.prod(stride[0] for _, _, stride in LAYERS) + 1
    if frames < fewest:
        raise UsageError(
            f"a clip must have {fewest} frames or more for I3D's classifier: got {frames}; nearest: {fewest}"
        )


CONFIGURATION: Mapping[str, Reader] = {
    "stem": tuple_of(whole(1, WIDEST), 3, 3),
    "mixed": tuple_of(tuple_of(whole(1, WIDEST), 6, 6), len(MIXED), len(MIXED)),
    "num_classes": whole(0, WIDEST),
    "frames": whole(1, 4096),
    "input_size": whole(1, 4096),
    "streams": ordered(*STREAMS),
}
"""What a weights file says of the network; see `networks.ARCHITECTURES`."""


def check(values: Mapping[str, Any], arrays: int) -> None:
    """Refuses clips that are too short to be classified."""
    del arrays
    if not values.get("num_classes", I3D.num_classes):
        return
    try:
        _check_frames(values.get("frames", I3D.frames))
    except UsageError as error:
        raise Malformed(str(error)) from None
