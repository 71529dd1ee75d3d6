"""One table of contracts: every objective, regulariser, transform and optimiser is a row, and all are put through

jit = eager, vmap = loop, finite gradient, dtype kept, equal and hashable by value, no second compilation.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax import Clip, Extent, Field, Input, Layer, Probe
from stjax.ascent import naturalness, objectives, optimizers, parametrization, recipes, regularizers, transforms
from stjax.ascent.naturalness import Naturalness
from stjax.ascent.objectives import ChannelMean, ClassScore, Direction, LogOdds, Neuron, Sum
from stjax.ascent.optimizers import Adam, Momentum, Sobolev, Weights
from stjax.ascent.parametrization import MovingPicture
from stjax.ascent.regularizers import LocalEnergy, SpatialVariation, TemporalVariation
from stjax.ascent.spectrum import smooth_gradient
from stjax.ascent.transforms import FieldDropout, Jitter, Zoom
from stjax.types import Moments

# The same float32 sums in another order, under jit or vmap.
RTOL = 1e-5


class Row(NamedTuple):
    """make: builds the object anew. operands: draws what it is called with. call: object, operands -> arrays."""

    make: Callable[[], Any]
    operands: Callable[[int], Any]
    call: Callable[[Any, Any], Any]


def rgb(name: str, time: int, slow: str | None = None) -> Input:
    return Input(name=name, kind="rgb", shape=(time, 7, 6, 3), slow=slow)


INPUTS = {
    "still and flow": (
        rgb("appearance", 1),
        Input(name="motion", kind="flow", shape=(1, 4, 7, 6, 2), slow="fields"),
    ),
    "video": (rgb("appearance", 4, "time"),),
    "two videos": (rgb("appearance", 4, "time"), rgb("motion", 5, "time")),
    "still": (rgb("appearance", 1),),
    "flow of frames that follow one another": (Input(name="motion", kind="flow", shape=(4, 1, 7, 6, 2), slow="time"),),
}
"""What networks are shown: streams of each kind, slow along each axis or along none."""
TWO_STREAM = INPUTS["still and flow"]


def draw_clip(seed: int, inputs: tuple[Input, ...] = TWO_STREAM) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(**{each.name: jnp.asarray(rng.uniform(-90, 90, each.shape), jnp.float32) for each in inputs})


def draw_activations(seed: int, target: Any) -> Any:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    activations = {"motion/conv1_1": draw(2, 4, 5, 6), "classes": draw(1, 1, 1, 6)}
    return activations, jax.tree.map(lambda t: jnp.asarray(t, getattr(t, "dtype", jnp.int32)), target)


def weights(seed: int = 0) -> Weights:
    weights = {"norm": 80.0**-6, "spatial": 6.6e-3, "temporal": 6.6e-3 * seed}
    return jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), Weights(2.0, weights))


def draw_moments(seed: int) -> Any:
    """Activations, and moments of one of their layers and of one that is not there."""
    activations, _ = draw_activations(seed, 0)
    mean, deviation = (activations["classes"].ravel() * factor for factor in (0.5, 0.0))
    return activations, {layer: Moments(mean, deviation + 1.0) for layer in ("motion/conv1_1", "motion/conv1_2")}


def objective(make: Callable[[], Any], target: Any = 3) -> Row:
    return Row(make, lambda seed: draw_activations(seed, target), lambda f, operands: f(*operands))


def regularizer(make: Callable[[], Any], inputs: tuple[Input, ...]) -> Row:
    return Row(make, lambda seed: draw_clip(seed, inputs), lambda r, clip: r(inputs, clip))


def transform(make: Callable[[], Any], inputs: tuple[Input, ...]) -> Row:
    # The key is drawn with the clip, but nothing is differentiated with respect to it.
    return Row(make, lambda seed: draw_clip(seed, inputs), lambda t, clip: t(inputs, _key_of(clip), clip))


def _key_of(clip: Clip) -> Any:
    first = next(x for x in clip if x is not None)
    return jax.random.key(jax.lax.bitcast_convert_type(first.ravel()[0], jnp.int32))


def canvas(make: Callable[[], Any], inputs: tuple[Input, ...]) -> Row:
    """A canvas of another form, whose displacements are some pixels."""

    def draw(seed: int) -> Clip:
        clip = draw_clip(seed, make().inputs(inputs))
        return clip._replace(motion=clip.motion / 30)

    return Row(make, draw, lambda p, clip: p.render(inputs, clip))


def optimizer(make: Callable[[], Any], inputs: tuple[Input, ...]) -> Row:
    """Three steps, so that the carried state is put through as well."""

    def call(optimizer: Any, gradient: Clip) -> Any:
        state, moved = optimizer.init(gradient), gradient
        for step in range(3):
            moved, state = optimizer.update(inputs, moved, state, jnp.asarray((step + 1) / 3), weights(2))
        return moved, state

    return Row(make, lambda seed: draw_clip(seed, inputs), call)


E = jnp.linspace(-1.0, 1.0, 6)
LAYER = "motion/conv1_1"
OF_A_CLIP = {
    "LocalEnergy": (regularizer, LocalEnergy),
    "LocalEnergy, odd": (regularizer, lambda: LocalEnergy(alpha=3)),
    "SpatialVariation": (regularizer, SpatialVariation),
    "TemporalVariation": (regularizer, TemporalVariation),
    "Jitter": (transform, lambda: Jitter(size=4)),
    "Jitter, in a share of steps": (transform, lambda: Jitter(size=3, share=0.5)),
    "Zoom": (transform, lambda: Zoom(margin=2)),
    "Zoom, beyond the canvas": (transform, lambda: Zoom(margin=0, least=0.4, most=0.6)),
    "FieldDropout": (transform, lambda: FieldDropout(rate=0.5)),
    "Momentum": (optimizer, Momentum),
    "Adam": (optimizer, Adam),
    "Adam, with a schedule": (optimizer, lambda: Adam(rate=3.0, final=0.1)),
    "Sobolev": (optimizer, Sobolev),
    "Sobolev, from coarse to fine": (optimizer, lambda: Sobolev(smoothing=100.0, finest=1.0)),
    "MAHENDRAN's optimiser": (optimizer, lambda: dataclasses.replace(recipes.MAHENDRAN.optimizer)),
    "FAST's optimiser": (optimizer, lambda: dataclasses.replace(recipes.FAST.optimizer)),
    "MOVING's optimiser": (optimizer, lambda: dataclasses.replace(recipes.MOVING.optimizer)),
}
ROWS = {
    "Neuron": objective(lambda: Neuron(LAYER)),
    "Neuron, at a position": objective(lambda: Neuron(LAYER, position=(1, 0, 4))),
    "ChannelMean": objective(lambda: ChannelMean(LAYER)),
    "ClassScore": objective(ClassScore),
    "LogOdds": objective(LogOdds),
    "LogOdds, of which some are enough": objective(lambda: LogOdds(enough=-3.0)),
    "Naturalness": Row(lambda: Naturalness(weight=2.0), draw_moments, lambda n, operands: n(*operands)),
    "Direction": objective(lambda: Direction(LAYER), E),
    "Sum": objective(lambda: 2 * Neuron(LAYER) - ChannelMean(LAYER) + ClassScore(), (3, 1, 0)),
    "Sum, one target": objective(lambda: -Neuron(LAYER) * 0.5),
    **{
        f"{name}, of {of}": row(make, inputs)
        for name, (row, make) in OF_A_CLIP.items()
        for of, inputs in INPUTS.items()
    },
    "MovingPicture": canvas(lambda: MovingPicture(knots=3, spacing=4, border=2), INPUTS["video"]),
}
OPTIMIZERS = [(make, inputs) for row, make in OF_A_CLIP.values() if row is optimizer for inputs in INPUTS.values()]

RULES = (transforms.QuarterStride(), transforms.OnePixel())

each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def close(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=RTOL, atol=RTOL * float(np.abs(e).max(initial=1e-30)))


def test_every_class_of_the_room_has_a_row():
    """A static part is a frozen dataclass; the type that its row makes has its name. Rules of jitter stand apart."""
    parts = {
        name
        for module in (objectives, naturalness, regularizers, transforms, optimizers, parametrization)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value) and not name.startswith("_")
    }  # fmt: skip
    tabled = {type(row.make()).__name__ for row in ROWS.values()} | {type(rule).__name__ for rule in RULES}
    assert parts - tabled == set(), "these need a row above"


@each_row
def test_jit_equals_eager(row):
    thing, operands = row.make(), row.operands(1)
    close(jax.jit(lambda o: row.call(thing, o))(operands), row.call(thing, operands))


@each_row
def test_vmap_equals_a_loop(row):
    thing, many = row.make(), [row.operands(seed) for seed in (1, 2, 3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *many)
    one = jax.jit(lambda o: row.call(thing, o))
    results = [one(operands) for operands in many]
    close(jax.jit(jax.vmap(one))(stacked), jax.tree.map(lambda *a: jnp.stack(a), *results))


@each_row
@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["anywhere", "at zero"])
def test_the_gradient_is_finite(row, scale):
    if scale == 0.0 and hasattr(row.make(), "update"):
        pytest.skip("an optimiser is not differentiated; its steps at zero are tested below")
    thing = row.make()
    operands = jax.tree.map(lambda a: a * scale if jnp.issubdtype(a.dtype, jnp.floating) else a, row.operands(1))
    floats, rest = _split(operands)

    def total(floats):
        return sum(jnp.sum(a) for a in jax.tree.leaves(row.call(thing, _join(floats, rest))) if a.dtype == jnp.float32)

    gradient = jax.jit(jax.grad(total))(floats)
    assert all(np.isfinite(g).all() for g in gradient)


def _split(operands: Any) -> tuple[list[Any], Any]:
    leaves, structure = jax.tree.flatten(operands)
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    return [leaf for leaf, f in zip(leaves, floating, strict=True) if f], (leaves, floating, structure)


def _join(floats: list[Any], rest: Any) -> Any:
    leaves, floating, structure = rest
    again = iter(floats)
    return structure.unflatten([next(again) if f else leaf for leaf, f in zip(leaves, floating, strict=True)])


@each_row
def test_dtype_is_kept(row):
    leaves = jax.tree.leaves(jax.eval_shape(lambda o: row.call(row.make(), o), row.operands(1)))
    assert {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)} == {jnp.dtype("float32")}


@each_row
def test_equal_settings_are_equal_and_hash_alike(row):
    one, other = row.make(), row.make()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, dataclasses.fields(one)[0].name, None)


@each_row
def test_equal_settings_cost_no_second_compilation(row):
    traces = 0

    def count(thing, operands):
        nonlocal traces
        traces += 1
        return row.call(thing, operands)

    compiled = jax.jit(count, static_argnums=0)
    for seed in (1, 2):
        compiled(row.make(), row.operands(seed))
    assert traces == 1


def probe_of(stride: int = 32, role: str = "dense", of: str = "still") -> Probe:
    """Of a layer with that stride, which its recipe is bound to."""
    extent = Extent(40, stride, 1.5)
    layer = Layer(
        name=LAYER, units=6, inputs=("appearance",), field=Field(None, extent, extent), grid=(1, 1, 1), role=role
    )
    return Probe(network=stjax.TwoStream(), layer=layer, inputs=INPUTS[of], whole=True)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_recipes_are_static_arguments_too(recipe):
    # MOVING is for frames that follow one another, the others for a still as well.
    own = probe_of(of="video")
    one, other = (dataclasses.replace(recipes.recipe_named(recipe)).bind(own) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != recipes.recipe_named(recipe)


@pytest.mark.parametrize(("make", "inputs"), OPTIMIZERS)
def test_an_optimiser_goes_uphill_and_stands_still_on_a_plain(make, inputs):
    thing = make()
    gradient = draw_clip(1, inputs)
    moved, _ = thing.update(inputs, gradient, thing.init(gradient), jnp.asarray(0.1), weights(1))
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(moved), strict=True)
    assert sum(float(jnp.vdot(g, m)) for g, m in pairs) > 0
    flat = jax.tree.map(jnp.zeros_like, gradient)
    still, _ = thing.update(inputs, flat, thing.init(flat), jnp.asarray(0.1), weights(1))
    assert all(float(jnp.abs(m).max()) == 0.0 for m in jax.tree.leaves(still))


@pytest.mark.parametrize("of", ["still and flow", "video", "flow of frames that follow one another"])
def test_the_sobolev_gradient_is_smooth_along_the_axis_that_is_slow(of):
    """Against the penalty's own operator in float64: (1 + s (L_y + L_x + chi L_t)) d is the gradient again."""
    inputs, chi, smoothing = INPUTS[of], 5.0, 3.0
    given = inputs[-1]
    g = getattr(draw_clip(1, inputs), given.name)
    d = np.asarray(smooth_gradient(g, smoothing, given.slow_axis, chi), np.float64)

    def operator(x, axis):
        """Squared differences with open borders: D^T D along an axis."""
        moved = np.moveaxis(x, axis, 0)
        out = np.zeros_like(moved)
        for i in range(len(moved) - 1):
            step = moved[i + 1] - moved[i]
            out[i] -= step
            out[i + 1] += step
        return np.moveaxis(out, 0, axis)

    again = d + smoothing * (operator(d, -3) + operator(d, -2) + chi * operator(d, given.slow_axis))
    np.testing.assert_allclose(again, g, rtol=1e-4, atol=1e-4 * 90)


def test_jitter_shifts_both_streams_alike_and_reaches_every_offset():
    jitter = Jitter(size=3)
    y, x = jnp.mgrid[:6, :6].astype(jnp.float32)
    clip = Clip(jnp.stack([y, x, x], -1)[None], jnp.broadcast_to(jnp.stack([y, x], -1), (1, 2, 6, 6, 2)))
    seen = set()
    for key in jax.random.split(jax.random.key(0), 60):
        window = jitter(TWO_STREAM, key, clip)
        assert window.appearance.shape == (1, 4, 4, 3)
        corner = tuple(window.appearance[0, 0, 0, :2].tolist())
        assert {tuple(field) for field in window.motion[0, :, 0, 0].tolist()} == {corner}
        seen.add(corner)
    assert seen == {(float(i), float(j)) for i in range(3) for j in range(3)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_steps_sees_what_will_be_stored(share):
    jitter = Jitter(size=3, share=share)
    clip = draw_clip(1)
    stored = transforms.centre(clip, jitter.margin)
    keys = jax.random.split(jax.random.key(0), 90)
    windows = jax.jit(jax.vmap(lambda key: jitter(TWO_STREAM, key, clip)))(keys).appearance
    moved = sum(not np.array_equal(window, stored.appearance) for window in windows)
    # One shift of nine is none.
    assert moved == pytest.approx(90 * share * 8 / 9, abs=14 * (0 < share < 1) + 7 * share)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_of_jitter_is_a_value_and_the_canvas_follows_from_it(rule, stride):
    recipe = dataclasses.replace(recipes.FAST, jitter=rule).bind(probe_of(stride))
    assert recipe == dataclasses.replace(recipes.FAST, jitter=type(rule)()).bind(probe_of(stride))
    assert recipe.margin == sum(jitter.size - 1 for jitter in rule(stride))
    assert recipe.jitter is None
    assert stride > 1 or recipe.margin == 0


def test_arithmetic_never_changes_its_operands():
    a, b = Neuron(LAYER), ChannelMean(LAYER)
    total = a + b
    before = (dataclasses.replace(a), dataclasses.replace(b), total.terms)
    results = [total + a, total - b, 3 * total, total * 3, -total, total + total]
    assert (a, b, total.terms) == before
    assert all(isinstance(r, Sum) and r is not total for r in results)
    activations, _ = draw_activations(0, 0)
    value = {f: float(f(activations, 2)) for f in (a, b, total)}
    assert value[total] == pytest.approx(value[a] + value[b])
    expected = [2 * value[a] + value[b], value[a], 3 * value[total], 3 * value[total], -value[total], 2 * value[total]]
    for result, number in zip(results, expected, strict=True):
        assert float(result(activations, 2)) == pytest.approx(number, rel=1e-5, abs=1e-5)


def test_what_an_objective_cannot_read_is_said():
    activations, _ = draw_activations(0, 0)
    with pytest.raises(ValueError, match="'motion/conv1_2' is not; nearest: motion/conv1_1"):
        Neuron("motion/conv1_2")(activations, 0)
    with pytest.raises(ValueError, match="2 terms, 3 targets"):
        (Neuron(LAYER) + ClassScore())(activations, (1, 2, 3))
