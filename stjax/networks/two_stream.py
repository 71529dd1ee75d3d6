"""The two-stream fusion network: two VGG towers that meet after their last convolution.

Feichtenhofer, Pinz & Zisserman, Convolutional two-stream network fusion for video action recognition,
CVPR 2016. Motion is fused into appearance, one way. Endpoints carry the names of the checkpoints:

    appearance/conv1_1 .. appearance/conv5_3      one tower sees RGB frames
    motion/conv1_1 .. motion/conv5_3              the other ten optical-flow fields
    conv5_fusion, fc6, fc7, classes               what comes after they meet
    motion/fc6, motion/fc7, motion/classes        the motion tower's own classifier, if it is kept
    appearance/fc6 .. appearance/classes          the other's, where the towers do not meet (late fusion)

`activations["motion/conv3_2"]` is made by `params["motion"]["conv3_2"]`, before its ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from stjax.errors import UsageError, nearest
from stjax.networks.configuration import WIDEST, Malformed, Reader, chosen, ordered, truth, tuple_of, whole
from stjax.networks.geometry import PIXEL, slide
from stjax.networks.relu import Backward, relu
from stjax.networks.vgg import VGG16, Tower, Widths, classify, convolutions
from stjax.types import STREAMS, Activations, Clip, Field, Input, Layer

Fusion = Literal["conv2d", "conv3d", "sum", "late"]


def fusion_start(key: Array | None, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """[0.25 I ; 0.75 I]: the fusion layer as the authors start it.

    Motion's ReLU5 is about three times weaker than appearance's, hence 3 to 1. In 3-D the identity is
    spread over the 27 taps by a Gaussian (sigma 1) of unit sum.

    Args:
      key: not used; the start is not random. Present since flax calls every initialiser with one.
      shape: (2 C, C) or (3, 3, 3, 2 C, C), axes t, y, x, in, out; in = [appearance, motion].
      dtype: of the result.

    >>> fusion_start(None, (4, 2)).tolist()
    [[0.25, 0.0], [0.0, 0.25], [0.75, 0.0], [0.0, 0.75]]
    """
    del key
    eye = jnp.eye(shape[-1], dtype=dtype)
    mix = jnp.concatenate([0.25 * eye, 0.75 * eye])
    if len(shape) == 2:
        return mix
    bell = jnp.exp(-0.5 * jnp.arange(-1, 2, dtype=dtype) ** 2)
    taps = jnp.einsum("t,y,x->tyx", bell, bell, bell)
    return (taps / taps.sum())[..., None, None] * mix[None, None, None]


class ConvFusion(nn.Module):
    """1x1 (2-D) or 3x3x3 (3-D) convolution over the concatenated towers; zero-padded in time only in 3-D."""

    features: int
    spatiotemporal: bool
    padding: str
    dtype: Any

    @nn.compact
    def __call__(self, both: Array) -> Array:
        taps = (3, 3, 3) if self.spatiotemporal else ()
        kernel = self.param("kernel", fusion_start, (*taps, both.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        both, kernel, bias = (jnp.asarray(v, self.dtype) for v in (both, kernel, bias))
        if not self.spatiotemporal:
            y = both @ kernel
            return y + jnp.broadcast_to(bias, y.shape)
        edge = (1, 1) if self.padding == "SAME" else (0, 0)
        dimensions = ("NDHWC", "DHWIO", "NDHWC")
        flat = both.reshape(-1, *both.shape[-4:])
        y = lax.conv_general_dilated(flat, kernel, (1, 1, 1), ((1, 1), edge, edge), dimension_numbers=dimensions)
        y = y.reshape(*both.shape[:-4], *y.shape[1:])
        return y + jnp.broadcast_to(bias, y.shape)


class TwoStream(nn.Module):
    """Two VGG towers, fused after their last convolution.

    Args:
      widths: channels of each convolution, block by block; the same in both towers.
      fields: optical-flow fields in one sample.
      samples: temporal samples T of a clip; a head pools over all of them.
      fusion: "conv2d" (1x1), "conv3d" (3x3x3), "sum", or "late": in the scores alone, each tower has its classifier.
      motion_head: whether the motion tower keeps its own classifier, whose scores are averaged with the fused tower's;
        else it is cut after its last convolution.
      dense: sizes of the fully connected layers fc6, fc7, ...
      num_classes: 0 for a network without fully connected layers and classifier.
      input_size: side of the input that fc6 expects, in pixels.
      streams: the inputs there are; a network of one stream is a tower with its own classifier.
      padding: of every convolution. "VALID" evaluates one unit's cone, see `geometry.probe`.
      until: the last endpoint to evaluate, None for all. What it does not need is not computed.
      dtype: of the computation. Parameters and inputs stay float32.
      backward: rule of the ReLUs before `until`, before and after the fusion: "gradient", or "uphill" for what is
        to grow, see `networks.relu`.
    """

    widths: Widths = VGG16
    fields: int = 10
    samples: int = 1
    fusion: Fusion = "conv2d"
    motion_head: bool = False
    dense: tuple[int, ...] = (4096, 4096)
    num_classes: int = 0
    input_size: int = 224
    streams: tuple[str, ...] = STREAMS
    padding: str = "SAME"
    until: str | None = None
    dtype: Any = jnp.float32
    backward: Backward = "gradient"

    @property
    def fusion_name(self) -> str:
        return f"conv{len(self.widths)}_fusion"

    @property
    def fused(self) -> bool:
        """Whether there are two towers that meet in a layer."""
        return self.streams == STREAMS and self.fusion != "late"

    @property
    def classified(self) -> tuple[str, ...]:
        """The streams whose tower keeps a classifier of its own."""
        own = ("motion",) if self.motion_head else ()
        return own if self.fused else self.streams

    @property
    def head(self) -> tuple[tuple[str, int], ...]:
        """Names and sizes of the fully connected layers; empty without a classifier."""
        if not self.num_classes:
            return ()
        first = len(self.widths) + 1
        names = tuple((f"fc{first + i}", size) for i, size in enumerate(self.dense))
        return (*names, ("classes", self.num_classes))

    @property
    def inputs(self) -> tuple[Input, ...]:
        side, slow = self.input_size, "fields" if self.fields > 1 else None
        frames = Input(name="appearance", kind="rgb", shape=(self.samples, side, side, 3))
        flow = Input(name="motion", kind="flow", shape=(self.samples, self.fields, side, side, 2), slow=slow)
        return tuple(each for each in (frames, flow) if each.name in self.streams)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Every endpoint in forward order (dicts come back from jit sorted by name)."""
        tower = [name for name, _ in convolutions(self.widths)]
        head = [name for name, _ in self.head]
        own = [f"{stream}/{name}" for stream in self.classified for name in head]
        towers = [f"{stream}/{name}" for stream in self.streams for name in tower]
        fused = (self.fusion_name, *head) if self.fused else ()
        return (*towers, *fused, *own)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(map(self._layer, self.layer_names))

    def sees(self, layer: str) -> tuple[str, ...]:
        """The inputs that reach a layer.

        Raises:
          UsageError: the network has no such layer.
        """
        names = self.layer_names
        if layer not in names:
            raise UsageError(f"a layer must be one of the network's: {layer!r} is not; {nearest(layer, names)}")
        return (layer.partition("/")[0],) if "/" in layer else STREAMS

    def for_layer(self, layer: str, exact: tuple[bool, bool, bool]) -> TwoStream | None:
        """The network as far as a layer, padding nothing on y and x if `exact` says so for both. See `geometry.probe`.

        On t nothing is padded but in a 3-D fusion, and there always, so that one sample will do.
        """
        _, y, x = exact
        if any(exact) and not (y and x):
            return None
        return self.clone(padding="VALID" if y else "SAME", until=layer, backward="uphill")

    def _layer(self, layer: str) -> Layer:
        name = layer.rpartition("/")[2]
        units = dict(convolutions(self.widths)) | {self.fusion_name: self.widths[-1][-1]} | dict(self.head)
        head = name in dict(self.head)
        extent, side = PIXEL, self.input_size
        for window, stride, padding in self._windows(layer):
            extent = slide(extent, window, stride, padding)
            side = (side + 2 * padding - window) // stride + 1
        # Samples are pooled before the head; a 3-D fusion reads three of them.
        t = None if head else slide(PIXEL, 3, padding=1) if self._reads_three(layer) else PIXEL
        return Layer(
            name=layer,
            units=units[name],
            inputs=self.sees(layer),
            field=Field(t, extent, extent),
            grid=(1 if head else self.samples, side, side),
            role="classes" if name == "classes" else "dense" if head else "convolution",
        )

    def _reads_three(self, layer: str) -> bool:
        return layer == self.fusion_name and self.fusion == "conv3d"

    def _windows(self, layer: str) -> tuple[tuple[int, int, int], ...]:
        """Side, stride and zero padding of each window that slides over y and x between the input and a layer."""
        name = layer.rpartition("/")[2]
        windows: list[tuple[int, int, int]] = []
        for conv, _ in convolutions(self.widths):
            if conv.endswith("_1") and conv != "conv1_1":
                windows.append((2, 2, 0))
            windows.append((3, 1, 1))
            if conv == name:
                return tuple(windows)
        if "/" not in layer and self.fusion == "conv3d":
            windows.append((3, 1, 1))
        if name == self.fusion_name:
            return tuple(windows)
        return (*windows, (2, 2, 0), (self.head_side, 1, 0))

    @property
    def head_side(self) -> int:
        """Side of the map that the first fully connected layer spans."""
        return self.input_size >> len(self.widths)

    @nn.compact
    def __call__(self, clip: Clip) -> tuple[Array | None, Activations]:
        """Class scores before the softmax, (*batch, num_classes), None if not reached; and every endpoint.

        A clip that lacks a stream is evaluated as far as the other one goes.
        """
        stream, _, last = (self.until or "").rpartition("/")
        needed = self.sees(self.until) if self.until else self.streams
        absent = [s for s in needed if getattr(clip, s) is None]
        if absent and (self.until or len(absent) == len(needed)):
            raise UsageError(f"{self.until or 'a network'} sees {' and '.join(needed)}; this clip has no {absent[0]}")

        activations: Activations = {}
        tops: dict[str, Array] = {}
        for name in (s for s in needed if s not in absent):
            x = clip.appearance if name == "appearance" else interleave(clip.motion)
            own_head = name in self.classified and (stream == name or not self.until)
            head = self.head if own_head else ()
            tower = Tower(
                self.widths, head, self.head_side, self.padding, last or None, self.dtype, self.backward, name=name
            )
            tops[name], endpoints = tower(x)
            activations |= {f"{name}/{layer}": a for layer, a in endpoints.items()}
        if len(tops) == 2 and self.fused:
            activations |= self._fused(tops["appearance"], tops["motion"], last or None)

        ends = [activations[name] for name in self.layer_names if name.endswith("classes") and name in activations]
        scores = [jnp.mean(a, axis=(-4, -3, -2)) for a in ends if not self.until]
        return (sum(scores[1:], scores[0]) / len(scores) if scores else None), activations

    def _fused(self, appearance: Array, motion: Array, last: str | None) -> Activations:
        if self.fusion == "sum":
            fused = appearance + motion
        else:
            features, spatiotemporal = self.widths[-1][-1], self.fusion == "conv3d"
            conv = ConvFusion(features, spatiotemporal, self.padding, self.dtype, name=self.fusion_name)
            fused = conv(jnp.concatenate([appearance, motion], axis=-1))
        if last == self.fusion_name or not self.head:
            return {self.fusion_name: fused}
        x = relu(fused, self.backward)
        return {self.fusion_name: fused} | classify(x, self.head, self.head_side, last, self.dtype, self.backward)


def interleave(motion: Array) -> Array:
    """(*batch, time, fields, h, w, uv) -> (*batch, time, h, w, channels): u1, v1, u2, v2, ...

    >>> interleave(jnp.arange(4.0).reshape(1, 2, 1, 1, 2)).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    moved = jnp.moveaxis(motion, -4, -2)
    return moved.reshape(*moved.shape[:-2], moved.shape[-2] * moved.shape[-1])


CONFIGURATION: Mapping[str, Reader] = {
    "widths": tuple_of(tuple_of(whole(1, WIDEST), 1, 100), 1, 10),
    "fields": whole(1, 256),
    "samples": whole(1, 256),
    "fusion": chosen(*get_args(Fusion)),
    "motion_head": truth,
    "dense": tuple_of(whole(1, WIDEST), 0, 100),
    "num_classes": whole(0, WIDEST),
    "input_size": whole(1, 4096),
    "streams": ordered(*STREAMS),
}
"""What a weights file says of the network; see `networks.ARCHITECTURES`."""


def check(values: Mapping[str, Any], arrays: int) -> None:
    """Refuses more layers than a file has arrays for, and an input that pooling leaves nothing of."""
    widths = values.get("widths", TwoStream.widths)
    layers, side = sum(map(len, widths)), values.get("input_size", TwoStream.input_size)
    if layers > arrays:
        raise Malformed(f"a network of {layers} layers needs more than {arrays} arrays")
    if side >> len(widths) < 1:
        raise Malformed(f"an input of {side} px is too small for {len(widths)} blocks")
