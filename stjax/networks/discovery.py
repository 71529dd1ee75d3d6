"""What a network does not say of itself is found out: its layers by their shapes, and what a unit sees by gradients.

Which inputs a layer sees is read from its program. A unit's receptive field is where its gradient is not zero, over
several draws of noise and all channels of the layer. That may miss a pixel, and a network may depend on places in ways
that gradients at noise do not show. So a window is trusted only if two things hold at full size: what lies outside of
the field does not move the unit, and a shifted input gives a shifted map. Whatever fails, or is moved at noise by fewer
inputs than it sees, becomes "the whole input", which is always right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UsageError, one_line
from stjax.networks import geometry
from stjax.networks.adapted import CLASSES, Adapted
from stjax.networks.reach import reaching
from stjax.types import AXES, CHANNELS, STREAMS, Activations, Clip, Extent, Field, Input, Layer, shapes

DRAWS = 3
"""Of noise. Small layers of 4 channels behind two ReLUs and a pooling showed their whole field in 2."""
LOUDNESS = 50.0
"""Standard deviation of the noise in grey levels, about that of pictures."""
TOLERANCE = 1e-4
"""Of a unit's values, relative to the layer's largest: float32 sums in another order."""


def describe(module: Any, params: Any, clip: Any = None) -> Adapted:
    """A network of your own, as one that says what it is shown and which layers it has.

    Args:
      module: a flax.linen module, the graphdef of a split nnx module, or a function of (params, clip); it returns
        (scores or None, {layer: activations}). Its attribute `inputs`, a tuple of `stjax.Input`, may say what it is
        shown, and `layers`, a tuple of `stjax.Layer`, which layers there are.
      params: of the module; other collections (`batch_stats`) may ride in them.
      clip: an example of what it is shown, in place of `inputs`; its values do not matter.
    Raises:
      UsageError: nothing says what it is shown, or that does not fit it; it returns something else; a layer sees no
        input. The text says what was expected and what came.
    """
    try:
        hash(module)
    except TypeError as error:
        raise UsageError(f"a network must be hashable, with tuples in place of lists: {error}") from None
    inputs, batched = _inputs(module, clip)
    network = _tried(Adapted(module=module, inputs=inputs, batched=batched), params, both=clip is None)
    declared = getattr(module, "layers", None)
    if isinstance(declared, tuple) and declared and all(isinstance(each, Layer) for each in declared):
        return replace(network, layers=_checked(network, params, declared))
    return replace(network, layers=_found(network, params))


def _inputs(module: Any, clip: Any) -> tuple[tuple[Input, ...], bool]:
    declared = getattr(module, "inputs", None)
    if clip is None:
        if isinstance(declared, tuple) and declared and all(isinstance(each, Input) for each in declared):
            return tuple(sorted(declared, key=lambda each: STREAMS.index(each.name))), False
        raise UsageError(
            "a network must say what it is shown, by an attribute `inputs`, a tuple of stjax.Input, or by an example: "
            "nearest: return module, params, stjax.Clip(...)"
        )
    if not isinstance(clip, Clip):
        raise UsageError(f"an example must be a stjax.Clip: got {type(clip).__name__}")
    each = [_input(name, x) for name, x in clip._asdict().items() if x is not None]
    if not each:
        raise UsageError("an example must have a stream: this clip has neither appearance nor motion")
    if len({batched for _, batched in each}) > 1:
        raise UsageError("an example must have a batch axis in all of its streams or in none: this clip has it in one")
    return tuple(given for given, _ in each), each[0][1]


def _input(name: str, x: Any) -> tuple[Input, bool]:
    """What an example's stream is, and whether it has a batch axis."""
    shape = tuple(map(int, np.shape(x)))
    kind = {channels: kind for kind, channels in CHANNELS.items()}.get((0, *shape)[-1])
    axes = len(AXES[kind]) if kind else 0
    if kind is None or len(shape) not in (axes, axes + 1):
        words = " or ".join(f"({', '.join(names)}={CHANNELS[of]})" for of, names in AXES.items())
        raise UsageError(f"an example's streams must have the axes {words}, or one of batch before: {name} has {shape}")
    batched = len(shape) > axes
    if batched and shape[0] != 1:
        raise UsageError(f"an example must be one clip: {name} has a batch of {shape[0]}; nearest: 1")
    shape = shape[batched:]
    # Several fields of one moment; else frames, or flow, that follow one another.
    slow = next((axis for axis in reversed(AXES[kind][:-3]) if shape[AXES[kind].index(axis)] > 1), None)
    return Input(name=name, kind=kind, shape=shape, slow=slow), batched


def _tried(network: Adapted, params: Any, *, both: bool) -> Adapted:
    """The network, batched or not, whichever its module takes."""
    failures = []
    for batched in (False, True) if both else (network.batched,):
        candidate = replace(network, batched=batched)
        try:
            jax.eval_shape(candidate.computed, params, shapes(candidate.inputs))
        except UsageError:
            raise
        # Whatever a stranger's code may raise.
        except Exception as error:
            failures.append(f"{type(error).__name__}: {one_line(error)}")
        else:
            return candidate
    listed = ", ".join(f"{each.name} {each.shape}" for each in network.inputs)
    raise UsageError(f"a network must take the clip that it declares, {listed}: it raised {failures[0]}")


def _maps(network: Adapted, params: Any, inputs: Sequence[Input] | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of the layers' maps in the module's own order, which a dict that comes back from JAX has lost."""
    order: list[str] = []

    def traced(params: Any, clip: Clip) -> Activations:
        _, maps = network.computed(params, clip)
        order[:] = maps
        return maps

    maps = jax.eval_shape(traced, params, shapes(inputs or network.inputs))
    return {name: maps[name].shape for name in order}


def _checked(network: Adapted, params: Any, declared: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers as declared, if the module has them so."""
    maps = _maps(network, params)
    known = {each.name for each in network.inputs}
    for layer in declared:
        if layer.name not in maps:
            raise UsageError(f"a declared layer must be computed: {layer.name} is not among {', '.join(maps)[:200]}")
        if maps[layer.name] != (*layer.grid, layer.units):
            raise UsageError(
                f"a declared layer must be as it is computed: {layer.name} has the grid {layer.grid} and {layer.units} "
                f"units, its map is {maps[layer.name]}"
            )
        if not layer.inputs or not set(layer.inputs) <= known:
            raise UsageError(f"a layer must see an input of the network: {layer.name} declares {layer.inputs}")
    return tuple(declared)


class Box(NamedTuple):
    """Of one unit: on t, y and x the first and last place of any input that moves it; None where inputs differ in
    length. `inputs`: those that move it at all."""

    spans: tuple[tuple[int, int] | None, ...]
    inputs: tuple[str, ...]


def _found(network: Adapted, params: Any) -> tuple[Layer, ...]:
    maps = _maps(network, params)
    reached = reaching(lambda p, c: network.computed(p, c)[1], params, shapes(network.inputs))
    supports = _supports(network, params, maps)
    layers = []
    for name, shape in maps.items():
        grid = (shape[0], shape[1], shape[2])
        places = _places(grid)
        boxes = [_box(network, supports[name, place]) for place in places]
        inputs = tuple(each.name for each in network.inputs if each.name in reached[name])
        if not inputs:
            raise UsageError(f"a layer must see an input of the network: no input moves {name}")
        # Noise may leave all of a stream behind closed ReLUs, or all of a unit.
        shown = boxes[0].inputs == inputs
        field = Field(*(_extent(network, axis, boxes, *places) if shown else None for axis in range(3)))
        flat = grid == (1, 1, 1) and field.y is None and field.x is None
        role = "classes" if name == CLASSES else "dense" if flat else "convolution"
        layers.append(Layer(name=name, units=shape[3], inputs=inputs, field=field, grid=grid, role=role))
    return _trusted(replace(network, layers=tuple(layers)), params)


def _places(grid: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The middle of a map, and the place behind it on every axis."""
    middle = tuple((n - 1) // 2 for n in grid)
    return middle, tuple(min(m + 1, n - 1) for m, n in zip(middle, grid, strict=True))


Support = dict[str, list[np.ndarray]]
"""Of each input, on t, y and x: which places move a unit."""


def _supports(
    network: Adapted, params: Any, maps: Mapping[str, tuple[int, ...]]
) -> dict[tuple[str, tuple[int, ...]], Support]:
    """Of each layer and place what moves a unit there, over all draws."""
    # One compilation serves all layers: the forward pass is kept, and asked for one unit's gradient after the other.
    forward = jax.jit(lambda params, clip: jax.vjp(lambda c: network.computed(params, c)[1], clip))
    backward = jax.jit(lambda pull, cotangent: pull(cotangent)[0])
    supports: dict[tuple[str, tuple[int, ...]], Support] = {}
    for seed in range(DRAWS):
        activations, pull = forward(params, _noise(network, seed))
        for name, shape in maps.items():
            for place in dict.fromkeys(_places(shape[:3])):
                drawn = _support(network, backward(pull, _cotangent(activations, name, place, seed)))
                before = supports.setdefault((name, place), drawn)
                for each, axes in drawn.items():
                    before[each] = [one | other for one, other in zip(before[each], axes, strict=True)]
    return supports


def _support(network: Adapted, gradient: Clip) -> Support:
    support = {}
    for each in network.inputs:
        moved = np.asarray(getattr(gradient, each.name)) != 0
        axes = [moved.ndim + each.axis(axis) for axis in geometry.ALONG]
        support[each.name] = [moved.any(axis=tuple(i for i in range(moved.ndim) if i != axis)) for axis in axes]
    return support


def _noise(network: Adapted, seed: int) -> Clip:
    draws = np.random.default_rng(seed)
    return Clip(**{
        each.name: jnp.asarray(LOUDNESS * draws.standard_normal(each.shape), jnp.float32) for each in network.inputs
    })  # fmt: skip


def _cotangent(activations: Activations, name: str, place: Sequence[int], seed: int) -> Activations:
    """Random weights on all channels of one position, nothing elsewhere."""
    zeros = {layer: np.zeros(a.shape, a.dtype) for layer, a in activations.items()}
    zeros[name][tuple(place)] = np.random.default_rng(seed).standard_normal(zeros[name].shape[-1])
    return jax.tree.map(jnp.asarray, zeros)


def _box(network: Adapted, support: Support) -> Box:
    inputs = [each for each in network.inputs if support[each.name][0].any()]
    spans = []
    for number, axis in enumerate(geometry.ALONG):
        if len({each.length(axis) for each in inputs}) == 1:
            places = np.flatnonzero(np.any([support[each.name][number] for each in inputs], axis=0))
            spans.append((int(places[0]), int(places[-1])))
        else:
            spans.append(None)
    return Box(tuple(spans), tuple(each.name for each in inputs))


def _extent(
    network: Adapted, axis: int, boxes: Sequence[Box], middle: Sequence[int], neighbour: Sequence[int]
) -> Extent | None:
    """From the middle unit's box and its neighbour's; None where a border may have cut them, or they disagree."""
    here, there = (box.spans[axis] for box in boxes)
    if here is None or there is None:
        return None
    length = next(each.length(geometry.ALONG[axis]) for each in network.inputs if each.name in boxes[0].inputs)
    if length == 1:
        return geometry.PIXEL
    if here[0] == 0 or here[1] == length - 1 or middle[axis] == neighbour[axis]:
        return None
    stride = there[0] - here[0]
    if stride < 1 or (there[1] != length - 1 and there[1] - here[1] != stride):
        return None
    centre = (here[0] + here[1]) / 2 - stride * middle[axis]
    return Extent(here[1] - here[0] + 1, stride, centre)


def _trusted(network: Adapted, params: Any) -> tuple[Layer, ...]:
    """The layers, those that fail a test without a window."""
    clips = [_noise(network, seed) for seed in range(2)]
    values = jax.jit(lambda params, clip: network.computed(params, clip)[1])
    plain = values(params, clips[0])
    layers = []
    for layer in network.layers:
        probe = geometry.probe(network, layer.name)
        if probe.whole:
            layers.append(layer)
            continue
        outside = values(params, _replaced_outside(network, layer, clips[0], clips[1]))
        # Towards the beginning, where a window that is cut there leaves a stride at least.
        starts = [start for start, _ in geometry.windows_of(network, layer)]
        shift = tuple(-e.stride if e and start else 0 for e, start in zip(layer.field, starts, strict=True))
        rolled = values(params, _rolled(network, clips[0], shift))
        middle = _places(layer.grid)[0]
        there = tuple(m - bool(s) for m, s in zip(middle, shift, strict=True))
        expected, scale = plain[layer.name][middle], float(jnp.abs(plain[layer.name]).max())

        def equal(value: Any, expected: Any = expected, scale: float = scale) -> bool:
            return float(jnp.abs(value - expected).max()) <= TOLERANCE * max(scale, 1e-30)

        same = equal(outside[layer.name][middle]) and equal(rolled[layer.name][there])
        same = same and _cut_runs(network, params, probe.inputs, layer)
        if same and _cut_behind(network, layer, probe.inputs):
            part = jax.jit(lambda p, c, name=layer.name: network.computed(p, c)[1][name])(
                params, _cut(network, layer, clips[0])
            )
            same = equal(part[_places(part.shape[:3])[0]])
        layers.append(replace(layer, cuttable=same))
    return tuple(layers)


def _cut_behind(network: Adapted, layer: Layer, window: Sequence[Input]) -> bool:
    """Whether an axis is cut at its end alone: there nothing is shifted, and a place that is told by the length of the
    input, as one that runs from 0 to 1, is seen in the window itself only."""
    starts = [start for start, _ in geometry.windows_of(network, layer)]
    whole = [each for each in network.inputs if each.name in layer.inputs]
    return any(
        start == 0 and part.length(axis) < each.length(axis)
        for each, part in zip(whole, window, strict=True)
        for axis, start in zip(geometry.ALONG, starts, strict=True)
    )


def _slices(network: Adapted, layer: Layer, each: Input) -> tuple[slice, ...]:
    """A layer's window in one input."""
    spans = dict(zip(geometry.ALONG, geometry.windows_of(network, layer), strict=True))
    return tuple(slice(*spans[axis]) if any(spans.get(axis, ())) else slice(None) for axis in AXES[each.kind])


def _cut(network: Adapted, layer: Layer, clip: Clip) -> Clip:
    """What a layer's window holds of a clip."""
    return Clip(**{
        each.name: getattr(clip, each.name)[_slices(network, layer, each)]
        for each in network.inputs if each.name in layer.inputs
    })  # fmt: skip


def _replaced_outside(network: Adapted, layer: Layer, inside: Clip, outside: Clip) -> Clip:
    """A clip whose pixels outside of a layer's window are another's, as are all of the inputs that it does not see."""
    mixed = {}
    for each in network.inputs:
        mask = np.zeros(each.shape, bool)
        mask[_slices(network, layer, each)] = each.name in layer.inputs
        mixed[each.name] = jnp.where(mask, getattr(inside, each.name), getattr(outside, each.name))
    return Clip(**mixed)


def _rolled(network: Adapted, clip: Clip, shift: Sequence[int]) -> Clip:
    """A clip that is moved on t, y and x; what comes in at the borders does not matter."""
    return Clip(**{
        each.name: jnp.roll(getattr(clip, each.name), shift, [each.axis(axis) for axis in geometry.ALONG])
        for each in network.inputs
    })  # fmt: skip


def _cut_runs(network: Adapted, params: Any, window: Sequence[Input], layer: Layer) -> bool:
    """Whether the module takes the window: one that flattens a map for a dense layer takes its own size only."""
    try:
        maps = _maps(network, params, window)
    # Whatever a stranger's code may raise.
    except Exception:
        return False
    lost = (
        (whole.length(axis) - part.length(axis)) // (extent.stride if extent else 1)
        for whole, part in zip((each for each in network.inputs if each.name in layer.inputs), window, strict=True)
        for axis, extent in zip(geometry.ALONG, layer.field, strict=True)
    )
    expected = tuple(n - gone for n, gone in zip(layer.grid * len(window), lost, strict=True))
    return maps[layer.name][:3] * len(window) == expected
