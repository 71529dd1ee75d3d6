"""What a unit sees, as arithmetic over what a network declares, and the window on which one unit is evaluated.

One axis at a time, for sliding windows of side k, stride s and zero padding p, one behind the other:

    rho <- rho + (k - 1) S,    centre <- centre + ((k - 1) / 2 - p) S,    S <- S s

where S is the stride so far. Where branches meet, the largest field wins.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from stjax.errors import UsageError, nearest
from stjax.types import Extent, Field, Input, Layer, Network, Probe

PIXEL = Extent(1, 1, 0.0)
"""What a pixel sees: itself."""
ALONG = ("time", "height", "width")
"""The axes of an input that t, y and x of a field run along."""


def slide(extent: Extent, side: int, stride: int = 1, padding: int = 0) -> Extent:
    """What a unit sees through one more window.

    Args:
      extent: of the units that the window reads.
      side, stride: of the window, in such units.
      padding: zeros before the first of them. Those behind the last change nothing here.

    >>> slide(slide(PIXEL, 3, padding=1), 2, stride=2)
    Extent(side=4, stride=2, centre=0.5)
    """
    centre = extent.centre + ((side - 1) / 2 - padding) * extent.stride
    return Extent(extent.side + (side - 1) * extent.stride, extent.stride * stride, centre)


def join(extents: Iterable[Extent | None]) -> Extent | None:
    """What a unit sees that reads the same place of several branches: from the first pixel of any to the last.

    Raises:
      ValueError: branches of different stride, whose maps do not fit on one another.

    >>> join([PIXEL, slide(PIXEL, 3, padding=1)])
    Extent(side=3, stride=1, centre=0.0)
    """
    each = list(extents)
    known = [extent for extent in each if extent is not None]
    if len(known) < len(each):
        return None
    if len({extent.stride for extent in known}) != 1:
        raise ValueError(f"branches that meet must have one stride: got {', '.join(str(e.stride) for e in known)}")
    first = min(extent.centre - (extent.side - 1) / 2 for extent in known)
    last = max(extent.centre + (extent.side - 1) / 2 for extent in known)
    return Extent(round(last - first) + 1, known[0].stride, (first + last) / 2)


def seen(extent: Extent, position: int) -> tuple[int, int]:
    """The first and the last pixel that a unit sees, which may lie beyond the input, where zeros are.

    >>> seen(Extent(side=4, stride=2, centre=0.5), 3)
    (5, 8)
    """
    centre = extent.centre + extent.stride * position
    return math.floor(centre - (extent.side - 1) / 2), math.ceil(centre + (extent.side - 1) / 2)


def layer(network: Network, name: str) -> Layer:
    """A network's layer.

    Raises:
      UsageError: it has none of that name.
    """
    layers = {each.name: each for each in _declared(network)}
    if name not in layers:
        raise UsageError(f"a layer must be one of the network's: {name!r} is not; {nearest(name, layers)}")
    return layers[name]


def receptive_field(network: Network, name: str) -> Field:
    """What one unit of a layer sees on t, y and x; None where that is all of the input.

    Raises:
      UsageError: the network has no such layer.

    >>> from stjax.networks.two_stream import TwoStream
    >>> receptive_field(TwoStream(), "motion/conv3_3").y
    Extent(side=40, stride=4, centre=1.5)
    """
    return layer(network, name).field


def probe(network: Network, name: str, *, whole: bool = False) -> Probe:
    """The smallest window on which one unit of a layer can be evaluated exactly, and the network set up for it.

    The unit is that at the centre of the map, ((T-1)//2, (H-1)//2, (W-1)//2). Axis by axis the window is its receptive
    field, exactly, where the network can pad nothing; else the input without as many strides at either end as it does
    not see, so that windows, paddings and the centre fall where they fall in the whole input. Where the field meets a
    border of the input, or the layer cannot be computed on a part of it, the window is the whole.

    Args:
      network: says what its layers see. If it has a method `for_layer(name, exact)`, that gives the network that
        computes this layer alone. `exact` says for t, y and x whether it is to pad nothing there, so that the field
        makes a map of length 1; None is the answer of a network that has no such form.
      name: of a layer.
      whole: the whole input in any case, for an objective that reads more of the map than one unit.
    Raises:
      UsageError: the network has no such layer, does not describe itself, or no input reaches the layer.

    >>> from stjax.networks.two_stream import TwoStream
    >>> p = probe(TwoStream(), "appearance/conv4_3")
    >>> p.inputs[0].shape, p.rho, p.stride
    ((1, 92, 92, 3), 92.0, 8)
    """
    found = layer(network, name)
    inputs = tuple(each for each in network.inputs if each.name in found.inputs)
    if not inputs:
        raise UsageError(f"a layer must see an input of the network: {name} sees none")
    lengths = [_length(inputs, axis) for axis in ALONG]
    windows = [
        length if length is None or whole or not found.cuttable else stop - start
        for length, (start, stop) in zip(lengths, windows_of(network, found), strict=True)
    ]
    exact = tuple(
        found.cuttable and not whole and _inside(length, extent, positions)
        for length, extent, positions in zip(lengths, found.field, found.grid, strict=True)
    )
    for_layer = getattr(network, "for_layer", None)
    narrowed = for_layer(name, exact) if for_layer and any(exact) else None
    if narrowed is None:
        exact = (False,) * 3
        narrowed = for_layer(name, exact) if for_layer else network
    windows = [
        extent.side if alone and extent else window
        for alone, extent, window in zip(exact, found.field, windows, strict=True)
    ]
    cut = tuple(_cut(each, windows) for each in inputs)
    return Probe(network=narrowed, layer=found, inputs=cut, whole=not any(exact) and windows == lengths)


def windows_of(network: Network, found: Layer) -> tuple[tuple[int, int], ...]:
    """`window` on t, y and x of the inputs that a layer sees; (0, 0) where their lengths differ."""
    inputs = [each for each in network.inputs if each.name in found.inputs]
    return tuple(
        (0, 0) if length is None else window(length, extent, positions)
        for length, extent, positions in zip(
            (_length(inputs, axis) for axis in ALONG), found.field, found.grid, strict=True
        )
    )


def _declared(network: Network) -> Sequence[Layer]:
    layers = getattr(network, "layers", None)
    if isinstance(layers, tuple) and layers and all(isinstance(each, Layer) for each in layers):
        return layers
    raise UsageError(
        f"a network must describe itself, with `inputs` and `layers`: {type(network).__name__} does not; nearest: "
        "stjax.wrap(network, params, clip), which finds out"
    )


def _length(inputs: Sequence[Input], axis: str) -> int | None:
    """Of an axis that all inputs share; None where they differ, so that none can be cut as the others are."""
    lengths = {each.length(axis) for each in inputs}
    return lengths.pop() if len(lengths) == 1 else None


def _inside(length: int | None, extent: Extent | None, positions: int) -> bool:
    """Whether the middle unit sees no border."""
    if length is None or extent is None:
        return False
    first, last = seen(extent, (positions - 1) // 2)
    return first >= 0 and last < length


def window(length: int, extent: Extent | None, positions: int) -> tuple[int, int]:
    """The input from `start` to `stop` on one axis, without whole strides at either end that the middle unit does not
    see: cut so, the unit is at the centre of the map that is left.

    Args:
      length: of the input.
      extent: what a unit sees; None for all.
      positions: of the map.

    >>> window(12, Extent(side=3, stride=1, centre=0.0), 12), window(12, Extent(side=5, stride=2, centre=0.5), 6)
    ((4, 7), (2, 8))
    """
    if extent is None or not _inside(length, extent, positions):
        return 0, length
    first, last = seen(extent, (positions - 1) // 2)
    before, after = first // extent.stride, (length - 1 - last) // extent.stride
    # The centre of n places is the place (n - 1) // 2, so an even map may lose one more behind it.
    before = min(before, after)
    after = min(after, before + 1 - positions % 2)
    return before * extent.stride, length - after * extent.stride


def _cut(each: Input, windows: Sequence[int | None]) -> Input:
    shape = list(each.shape)
    for axis, window in zip(ALONG, windows, strict=True):
        if window is not None:
            shape[each.axis(axis)] = window
    return dataclasses.replace(each, shape=tuple(shape))
