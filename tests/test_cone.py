"""A unit on its window equals the unit of the whole map, for every network: ours, and those of users."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from conftest import draw_clip, draw_params, slim

import stjax
from stjax import Clip, Extent, Field, Input, Layer, TwoStream, UsageError, probe
from stjax.networks import geometry
from stjax.networks.discovery import describe
from stjax.networks.geometry import PIXEL, join, slide

# Sums of the same float32 products in another order: 2^-24 times the square root of some thousand terms, of the
# spread of a layer. Only where Winograd serves one of the two does the error reach 2e-5.
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def as_flax_has_it():
    """flax adds biases by rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield


def places(network, own) -> dict[str, tuple[slice, ...]]:
    """Which pixels of each input a probe shows: what the middle unit sees, or the window around it."""
    layer = own.layer
    exact = getattr(own.network, "padding", "") == "VALID"
    pieces = {}
    for each in network.inputs:
        if each.name not in layer.inputs:
            continue
        slices = [slice(None)] * len(each.shape)
        spans = list(geometry.windows_of(network, layer)) if not own.whole else [(0, 0)] * 3
        for number, (axis, (start, stop)) in enumerate(zip(geometry.ALONG, spans, strict=True)):
            if exact and number > 0:
                start, last = geometry.seen(layer.field[number], (layer.grid[number] - 1) // 2)
                stop = last + 1
            if stop:
                slices[each.axis(axis)] = slice(start, stop)
        pieces[each.name] = tuple(slices)
    return pieces


def cut(network, own, clip: Clip) -> Clip:
    """The pixels of a whole clip that a probe shows."""
    return Clip(**{name: getattr(clip, name)[slices] for name, slices in places(network, own).items()})


def replaced_outside(network, own, clip: Clip, other: Clip) -> Clip:
    """The clip where a probe shows it, another one elsewhere, and for all of an input that is not shown."""
    mixed = other
    for name, slices in places(network, own).items():
        mixed = mixed._replace(**{name: getattr(other, name).at[slices].set(getattr(clip, name)[slices])})
    return mixed


def compare(network, params, clip: Clip, tolerance: float = TOLERANCE) -> dict[str, bool]:
    """Layer -> whether it was evaluated on less than the whole input; fails where the unit's value differs.

    Or where it depends on what the probe does not show.
    """
    probes = {layer.name: probe(network, layer.name) for layer in network.layers}

    @jax.jit
    def both(clip):
        _, full = network.apply({"params": params}, clip)
        parts = {
            name: own.network.apply({"params": params}, cut(network, own, clip))[1][name]
            for name, own in probes.items()
        }
        return full, parts

    full, parts = both(clip)
    evaluate = jax.jit(lambda clip: network.apply({"params": params}, clip)[1])
    for name, own in probes.items():
        shown = cut(network, own, clip)
        assert {each.name: each.shape for each in own.inputs} == {
            each: x.shape for each, x in shown._asdict().items() if x is not None
        }
        whole, part = np.asarray(full[name], np.float64), np.asarray(parts[name], np.float64)
        middles = [tuple((n - 1) // 2 for n in a.shape[:3]) for a in (whole, part)]
        expected, value = (a[middle] for a, middle in zip((whole, part), middles, strict=True))
        assert np.abs(value - expected).max() <= tolerance * np.std(whole), name
        elsewhere = np.asarray(evaluate(replaced_outside(network, own, clip, noise(network.inputs, seed=6)))[name])
        assert np.abs(elsewhere[middles[0]] - expected).max() <= tolerance * np.std(whole), name
    return {name: not own.whole for name, own in probes.items()}


FORMS = {
    "conv2d": {},
    "conv2d, three samples": {"samples": 3},
    "conv3d": {"fusion": "conv3d", "samples": 3},
    "conv3d, five samples": {"fusion": "conv3d", "samples": 5},
    "sum, two towers": {"fusion": "sum", "motion_head": True},
    "late": {"fusion": "late"},
}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_layer_of_the_two_stream_network(form):
    network = slim(**FORMS[form])
    smaller = compare(network, draw_params(network), draw_clip(network))
    head = [layer.name for layer in network.layers if layer.role != "convolution"]
    assert [name for name, less in smaller.items() if not less] == head


@pytest.mark.parametrize("form", [{}, {"fusion": "conv3d", "samples": 3}], ids=str)
def test_a_cone_of_the_two_stream_network_is_one_unit(form):
    network = slim(**form)
    params = draw_params(network)
    for layer in network.layers:
        own = probe(network, layer.name)
        if own.network.padding == "VALID":
            canvas = own.canvas()
            shapes = jax.eval_shape(lambda c, own=own: own.network.apply({"params": params}, c)[1], canvas)
            assert shapes[layer.name].shape[1:3] == (1, 1)


TOYS = {"video": toys.video, "two RGB streams": toys.two_rgb, "stills": toys.still}
SMALLER = {
    "video": ["stem", "mixed/concat", "deep"],
    "two RGB streams": ["slow", "fast", "both"],
    # A dense layer over the flattened map takes its own size only.
    "stills": [],
}


@pytest.mark.parametrize("toy", TOYS)
def test_every_layer_of_networks_as_users_write_them(toy):
    module, params, clip = TOYS[toy]()
    network = describe(module, params, clip)
    smaller = compare(network, params, noise(network.inputs))
    assert [name for name, less in smaller.items() if less] == SMALLER[toy]


def noise(inputs: tuple[Input, ...], seed: int = 5) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(**{each.name: jnp.asarray(rng.normal(0, 50, each.shape), jnp.float32) for each in inputs})


class Inception(nn.Module):
    """Windows of 7 over 2 and pools of 3 over 2, padded as TensorFlow does: more behind than before; and branches."""

    time: int
    height: int
    width: int

    @nn.compact
    def __call__(self, clip):
        x = layers_stem = nn.Conv(6, (7, 7, 7), (2, 2, 2), name="stem")(clip.appearance / 50)
        x = nn.max_pool(nn.relu(x), (1, 3, 3), (1, 2, 2), "SAME")
        one = nn.Conv(3, (1, 1, 1), name="one")(x)
        three = nn.Conv(3, (3, 3, 3), name="three")(x)
        pooled = nn.Conv(2, (1, 1, 1), name="pooled")(nn.max_pool(x, (3, 3, 3), (1, 1, 1), "SAME"))
        mixed = jnp.concatenate([one, three, pooled], -1)
        return None, {"stem": layers_stem, "mixed": mixed}

    @property
    def inputs(self):
        shape = (self.time, self.height, self.width, 3)
        return (Input(name="appearance", kind="rgb", shape=shape, slow="time"),)

    @property
    def layers(self):
        """TensorFlow's SAME: ceil(n / s) positions, the odd zero behind."""

        def same(extent: Extent, length: int, side: int, stride: int) -> tuple[Extent, int]:
            positions = -(-length // stride)
            zeros = max((positions - 1) * stride + side - length, 0)
            return slide(extent, side, stride, zeros // 2), positions

        stem, mixed = [], []
        for axis, length in enumerate((self.time, self.height, self.width)):
            extent, positions = same(PIXEL, length, 7, 2)
            stem.append((extent, positions))
            if axis:
                extent, positions = same(extent, positions, 3, 2)
            mixed.append((join([extent, same(extent, positions, 3, 1)[0]]), positions))
        return tuple(
            Layer(
                name=name,
                units=units,
                inputs=("appearance",),
                field=Field(*(extent for extent, _ in axes)),
                grid=tuple(positions for _, positions in axes),
            )
            for name, units, axes in (("stem", 6, stem), ("mixed", 8, mixed))
        )


@pytest.mark.parametrize("size", [(24, 52, 52), (15, 51, 53), (18, 54, 50)], ids=str)
@pytest.mark.parametrize("how", ["declared", pytest.param("found out", marks=pytest.mark.slow)])
def test_asymmetric_padding_and_branches_in_three_dimensions(size, how):
    module = Inception(*size)
    clip = Clip(jnp.zeros((*size, 3)))
    params = jax.jit(module.init)(jax.random.key(0), clip)["params"]
    if how == "declared":
        network = describe(module, params)
    else:

        class Plain(nn.Module):
            @nn.compact
            def __call__(self, clip):
                return Inception(*size, name="inner")(clip)

        network, params = describe(Plain(), {"inner": params}, clip), {"inner": params}
        for found, declared in zip(network.layers, module.layers, strict=True):
            assert (found.name, found.units, found.grid) == (declared.name, declared.units, declared.grid)
            for one, other in zip(found.field, declared.field, strict=True):
                assert one in (other, None)
    smaller = compare(network, params, noise(network.inputs))
    assert smaller == {"stem": True, "mixed": True}
    own = probe(network, "mixed").inputs[0]
    shorter = [own.length(axis) < module.inputs[0].length(axis) for axis in geometry.ALONG]
    assert shorter[1:] == [True, True]
    assert shorter[0] or size[0] < 24, "of few frames the middle unit sees too many"


def test_what_a_unit_sees_of_the_whole_is_never_cut():
    """A mean over the picture, and a position that is known, are seen by no gradient alone."""

    def global_mean(params, clip):
        x = clip.appearance / 50
        return None, {"centred": x - x.mean((-3, -2), keepdims=True)}

    def positional(params, clip):
        x = clip.appearance / 50
        rows = jnp.arange(x.shape[-3], dtype=jnp.float32)[:, None, None]
        return None, {"placed": x * jnp.sin(rows)}

    def normalised(params, clip):
        x = clip.appearance / 50
        return None, {"scaled": x / jnp.sqrt(jnp.mean(jax.lax.stop_gradient(x) ** 2) + 1e-3)}

    def from_nought_to_one(params, clip):
        """Cut by a stride behind alone, where no shift shows that places follow from the width."""
        x = clip.appearance / 50 * jnp.linspace(0.0, 1.0, clip.appearance.shape[-2])[:, None]
        names = ("NHWC", "HWIO", "NHWC")
        return None, {"wide": jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=names)}

    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(12, 12, 3, 4)), jnp.float32)
    clip = Clip(jnp.zeros((4, 16, 16, 3)))
    for module in (global_mean, positional, normalised, from_nought_to_one):
        network = describe(module, {}, clip)
        (layer,) = network.layers
        own = probe(network, layer.name)
        assert own.inputs[0].length("height") == 16, (layer, own)
        compare(network, {}, noise(network.inputs))


def test_a_stream_that_noise_does_not_open_is_seen_all_the_same():
    """Where all of a tower is off, no gradient passes: that it is read stands in the program."""
    network = slim(input_size=48)
    params = draw_params(network)
    params["motion"]["conv3_1"]["bias"] = jnp.full(8, -1e4)
    foreign = describe(lambda params, clip: network.apply({"params": params}, clip), params, draw_clip(network))
    by_name = {layer.name: layer for layer in foreign.layers}
    assert {name for name, layer in by_name.items() if len(layer.inputs) == 2} == {"conv3_fusion", "fc4", "classes"}
    own = probe(foreign, "conv3_fusion")
    assert own.whole
    assert [each.name for each in own.inputs] == ["appearance", "motion"]


def test_a_layer_of_which_no_unit_opens_is_shown_the_whole():
    def module(params, clip):
        x = jnp.maximum(clip.appearance - 1e4, 0.0)
        return None, {"closed": x, "open": clip.appearance}

    network = describe(module, {}, Clip(jnp.zeros((4, 8, 8, 3))))
    assert [(layer.name, probe(network, layer.name).whole) for layer in network.layers] == [
        ("closed", True),
        ("open", False),
    ]


@pytest.mark.parametrize("wrapper", [jax.jit, jax.checkpoint, lambda f: f], ids=["jit", "checkpoint", "plain"])
def test_what_reaches_a_layer_stands_in_the_program(wrapper):
    def module(params, clip):
        @wrapper
        def towers(clip):
            still = clip.appearance + 0.0 * params["shift"]
            flow = jax.nn.relu(clip.motion).sum(-4)
            turned = jax.lax.stop_gradient(clip.motion).sum()
            return {"still": still, "flow": flow, "both": still * flow.sum(), "turned": still * turned}

        return None, towers(clip)

    clip = Clip(jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 4, 8, 8, 2)))
    network = describe(module, {"shift": jnp.ones(())}, clip)
    assert {layer.name: layer.inputs for layer in network.layers} == {
        "still": ("appearance",),
        "flow": ("motion",),
        "both": ("appearance", "motion"),
        "turned": ("appearance", "motion"),
    }


def test_what_goes_into_a_loop_may_come_out_anywhere():
    def module(params, clip):
        def once(carried, _):
            a, b = carried
            return (b, a), None

        (a, b), _ = jax.lax.scan(once, (clip.appearance, clip.motion), length=3)
        return None, {"a": a, "b": b}

    network = describe(module, {}, Clip(jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 8, 8, 3))))
    assert all(layer.inputs == ("appearance", "motion") for layer in network.layers)


def test_ours_in_a_stranger_s_hands_is_found_out_as_it_declares_itself():
    network = slim(input_size=48)
    params = draw_params(network)
    foreign = describe(lambda params, clip: network.apply({"params": params}, clip), params, draw_clip(network))
    for found, declared in zip(foreign.layers, network.layers, strict=True):
        same = (found.name, found.units, found.grid, set(found.inputs), found.role)
        assert same == (declared.name, declared.units, declared.grid, set(declared.inputs), declared.role)
        # Of one sample all is one.
        for one, other in zip(found.field[1:], declared.field[1:], strict=True):
            assert one in (other, None), found.name
    assert sum(layer.field.y is not None for layer in foreign.layers) >= 8


def test_nothing_outside_the_patch_matters():
    network, name = slim(num_classes=0), "conv3_fusion"
    params, clip = draw_params(network), draw_clip(network)
    layer = geometry.layer(network, name)
    middle = (layer.grid[1] - 1) // 2
    first, last = geometry.seen(layer.field.y, middle)
    inside = np.zeros(network.input_size, bool)
    inside[first : last + 1] = True
    mask = (inside[:, None] & inside[None, :])[..., None]

    @jax.jit
    def centre(clip):
        return network.apply({"params": params}, clip)[1][name][..., middle, middle, :]

    other = draw_clip(network, seed=9)
    placed = jax.tree.map(lambda a, b: jnp.where(np.broadcast_to(mask, a.shape), a, b), clip, other)
    np.testing.assert_allclose(centre(placed), centre(clip), rtol=TOLERANCE)


@pytest.mark.slow
def test_full_width_vgg16():
    network, name = TwoStream(), "motion/conv3_3"
    own = probe(network, name)
    until = network.clone(until=name)
    clip = Clip(motion=draw_clip(network).motion)
    params = jax.jit(until.init)(jax.random.key(0), clip)["params"]
    full = jax.jit(until.apply)({"params": params}, clip)[1][name]
    part = jax.jit(own.network.apply)({"params": params}, cut(network, own, clip))[1][name]
    middle = (full.shape[1] - 1) // 2
    assert part.shape[1:3] == (1, 1)
    error = np.abs(np.asarray(part[0, 0, 0]) - np.asarray(full[0, middle, middle])).max()
    assert error / np.std(full) < TOLERANCE


# What is declared and does not fit


def declared(**changes):
    """A module that declares one layer, and that with some changes."""

    def module(params, clip):
        return None, {"a": clip.appearance}

    extent = slide(PIXEL, 1)
    right = {
        "name": "a",
        "units": 3,
        "inputs": ("appearance",),
        "field": Field(PIXEL, extent, extent),
        "grid": (4, 8, 8),
    }
    module.inputs = (Input(name="appearance", kind="rgb", shape=(4, 8, 8, 3), slow="time"),)
    module.layers = (Layer(**right | changes),)
    return module


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "b"}, "a declared layer must be computed: b is not among a"),
        ({"units": 4}, r"has the grid \(4, 8, 8\) and 4 units, its map is \(4, 8, 8, 3\)"),
        ({"grid": (4, 8, 7)}, r"its map is \(4, 8, 8, 3\)"),
        ({"inputs": ()}, "must see an input of the network"),
        ({"inputs": ("motion",)}, "must see an input of the network"),
    ],
    ids=str,
)
def test_layers_that_are_declared_otherwise_than_computed(changes, message):
    assert describe(declared(), {}).layers[0].units == 3
    with pytest.raises(UsageError, match=message) as refused:
        describe(declared(**changes), {})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sound"}, "must be named appearance or motion: got 'sound'"),
        ({"kind": "depth"}, "must be of kind rgb or flow"),
        ({"shape": (8, 8, 3)}, r"must have the axes \(time, height, width, rgb=3\): appearance has \(8, 8, 3\)"),
        ({"shape": (4, 8, 8, 2)}, "must have the axes"),
        ({"shape": (4, 0, 8, 3)}, "must have the axes"),
        ({"kind": "flow"}, r"must have the axes \(time, fields, height, width, uv=2\)"),
        ({"slow": "fields"}, "chi must slow one of the axes time of an input of kind rgb, or none"),
        ({"slow": "height"}, "nearest: time"),
    ],
    ids=str,
)
def test_an_input_with_axes_that_do_not_fit(changes, message):
    right = {"name": "appearance", "kind": "rgb", "shape": (4, 8, 8, 3), "slow": "time"}
    assert Input(**right).slow_axis == -4
    with pytest.raises(UsageError, match=message) as refused:
        Input(**right | changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(jnp.zeros((2, 4, 8, 8, 3))), "must be one clip: appearance has a batch of 2"),
        (Clip(jnp.zeros((8, 8, 3))), r"must have the axes .*: appearance has \(8, 8, 3\)"),
        # Made past the tests' own check of clips.
        (Clip()._replace(motion=jnp.zeros((4, 8, 8, 2))), "must have the axes"),
        (Clip(), "must have a stream"),
        (Clip(jnp.zeros((4, 8, 8, 3)), jnp.zeros((1, 1, 2, 8, 8, 2))), "a batch axis in all of its streams or in none"),
        (jnp.zeros((4, 8, 8, 3)), "must be a stjax.Clip: got "),
        (None, "an attribute `inputs`, a tuple of stjax.Input, or by an example"),
    ],
    ids=str,
)
def test_an_example_that_does_not_do(clip, message):
    with pytest.raises(UsageError, match=message) as refused:
        describe(lambda params, clip: (None, {"a": clip.appearance}), {}, clip)
    assert "\n" not in str(refused.value)


RETURNS = {
    "a list": (lambda p, c: [None, {"a": c.appearance}], r"must return \(scores or None, .*: <lambda> returned a list"),
    "a tuple of three": (lambda p, c: (None, {"a": c.appearance}, 1), "returned a tuple of 3"),
    "an array": (lambda p, c: c.appearance, r"returned an array of shape \(4, 8, 8, 3\)"),
    "a list of maps": (lambda p, c: (None, [c.appearance]), "must return .* returned a tuple of 2"),
    "five axes": (
        lambda p, c: (None, {"a": c.appearance[None]}),
        r"a of <lambda> is an array of shape \(1, 4, 8, 8, 3\)",
    ),
    "a number": (lambda p, c: (None, {"a": 3.0}), "a of <lambda> is a float"),
    "one number": (lambda p, c: (None, {"a": c.appearance.sum()}), r"a of <lambda> is an array of shape \(\)"),
    "nothing": (lambda p, c: (None, {}), "must have a layer to look into: <lambda> returned none"),
    "a text for scores": (lambda p, c: ("walking", {"a": c.appearance}), "scores of <lambda> is a str"),
    "an error": (
        lambda p, c: (None, {"a": c.appearance @ jnp.ones((4, 4))}),
        "must take the clip .*: it raised TypeErr",
    ),
    "no input": (lambda p, c: (None, {"a": c.appearance, "b": jnp.ones((1, 2, 2, 3))}), "no input moves b"),
    "no network": (7, "must be a flax.linen module, the graphdef of a split nnx module, or a function"),
}


@pytest.mark.parametrize("case", RETURNS)
def test_what_a_network_must_return(case):
    module, message = RETURNS[case]
    with pytest.raises(UsageError, match=message) as refused:
        describe(module, {}, Clip(jnp.zeros((4, 8, 8, 3))))
    assert "\n" not in str(refused.value)


def test_a_whole_nnx_module_is_to_be_split():
    with pytest.raises(UsageError, match=r"must be split: Still is whole; nearest: graphdef, state = nnx\.split"):
        describe(toys.Still(toys.nnx.Rngs(0)), {}, toys.still()[2])


def test_a_network_must_be_hashable():
    class Listed:
        __hash__ = None

        def __call__(self, params, clip):
            return None, {}

    with pytest.raises(UsageError, match="must be hashable, with tuples in place of lists"):
        describe(Listed(), {}, Clip(jnp.zeros((4, 8, 8, 3))))


def test_a_stream_that_a_layer_does_not_see_is_not_asked_for():
    module, params, clip = toys.two_rgb()
    network = describe(module, params, clip)
    whole = noise(network.inputs)
    _, full = network.apply({"params": params}, whole)
    scores, part = network.apply({"params": params}, whole._replace(motion=None))
    assert scores is None
    assert list(part) == ["slow"]
    np.testing.assert_allclose(part["slow"], full["slow"], rtol=1e-6)
    assert stjax.wrap(module, params, clip).statistics.ahat.keys() == {"slow", "fast", "both"}
