"""Clips with known motion, made on the fly: RGB frames, exact flow fields, and the truth beside them.

Frames are numbered -5..5 around frame 0. Those that training sees are one picture, frame 0, and ten fields: field k is
the displacement from frame k - 5 to frame k - 4, with every shape where it is in frame k - 5. What any other network is
shown, `clips` makes of the same. A clip follows from (key, label) alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from stjax.preprocess import FLOW_SCALE, Preprocessing, encode_flow
from stjax.training import render
from stjax.training.render import LAST, SIDE, TURN, Scene, numbers
from stjax.training.shapes import SHAPES, Pose, white
from stjax.types import Clip, Input

FIELDS = 2 * LAST
PREPROCESSING = Preprocessing()
HELD_OUT = 2**31 - 1
"""Seed of the clips that no network is trained on."""
DISTRACTED = 0.3
"""Share of clips with a second shape that stands still in the background."""


class Motion(NamedTuple):
    """One way to move. Speeds are those of the outline, in pixels per frame, drawn evenly from a range.

    towards   direction of travel (x, y), v downward
    spin      1 clockwise, -1 counter-clockwise, 0
    growth    1, -1 or 0
    speeds    least and largest; of a shaking shape, at its fastest
    axis, direction, pace, profile    the kinds of motion (see KINDS); "" where one does not apply
    """

    name: str
    towards: tuple[float, float]
    spin: float
    growth: float
    speeds: tuple[float, float]
    axis: str
    direction: str = ""
    pace: str = ""
    profile: str = "steady"


SLOW, FAST, ANY = (0.7, 1.3), (2.3, 3.7), (0.8, 3.5)
PERIODS = (4.0, 7.0)
"""Frames of one period of shaking: ten fields show one and a half to two and a half."""

MOTIONS = (
    Motion("moving left slowly", (-1, 0), 0, 0, SLOW, "horizontal", "left", "slow"),
    Motion("moving left fast", (-1, 0), 0, 0, FAST, "horizontal", "left", "fast"),
    Motion("moving right slowly", (1, 0), 0, 0, SLOW, "horizontal", "right", "slow"),
    Motion("moving right fast", (1, 0), 0, 0, FAST, "horizontal", "right", "fast"),
    Motion("shaking left and right", (1, 0), 0, 0, (1.2, 3.2), "horizontal", profile="shaking"),
    Motion("moving up", (0, -1), 0, 0, ANY, "vertical", "up"),
    Motion("moving down", (0, 1), 0, 0, ANY, "vertical", "down"),
    Motion("shaking up and down", (0, 1), 0, 0, (1.2, 3.2), "vertical", profile="shaking"),
    Motion("spinning left", (0, 0), -1, 0, (1.0, 2.5), "spin", "left"),
    Motion("spinning right", (0, 0), 1, 0, (1.0, 2.5), "spin", "right"),
    Motion("growing", (0, 0), 0, 1, (0.5, 1.0), "size", "growing"),
    Motion("shrinking", (0, 0), 0, -1, (0.5, 1.0), "size", "shrinking"),
)
"""Spinning left: the top goes left, counter-clockwise."""

_PAIRS = (
    *((shape, motion) for motion in range(4) for shape in ("disc", "star")),
    *((shape, 4) for shape in SHAPES),
    *((shape, motion) for motion in range(5, 7) for shape in ("square", "ring")),
    *((shape, 7) for shape in SHAPES),
    *((shape, motion) for motion in range(8, 10) for shape in ("star", "square")),
    *((shape, motion) for motion in range(10, 12) for shape in ("disc", "ring")),
)
CLASSES = tuple(f"{shape} {MOTIONS[motion].name}" for shape, motion in _PAIRS)
"""Each motion with two shapes or all four, so that every class has a twin that differs in appearance alone."""

SHAPE_OF = tuple(SHAPES.index(shape) for shape, _ in _PAIRS)
MOTION_OF = tuple(motion for _, motion in _PAIRS)

KINDS = {"shape": tuple(shape for shape, _ in _PAIRS)} | {
    kind: tuple(getattr(MOTIONS[motion], field) for motion in MOTION_OF)
    for kind, field in (("axis", "axis"), ("direction", "direction"), ("speed", "pace"), ("profile", "profile"))
}
"""Kind -> its value for each class; "" where it does not apply."""


class Truth(NamedTuple):
    """What is known of a clip.

    label, shape, motion  indices into CLASSES, SHAPES, MOTIONS
    speed                 of the outline, pixels per frame; of a shaking shape, the largest
    period                frames of one period of shaking, 0 for steady motion
    distracted            a second shape stands in the background
    mask                  (time=1, fields, height, width): where the shape is in the frame a field starts from
    flow                  (time=1, fields, height, width, uv=2): pixels, free of noise, not rounded
    """

    label: Int[Array, "*batch"]
    shape: Int[Array, "*batch"]
    motion: Int[Array, "*batch"]
    speed: Float[Array, "*batch"]
    period: Float[Array, "*batch"]
    distracted: Bool[Array, "*batch"]
    mask: Bool[Array, "*batch time fields height width"]
    flow: Float[Array, "*batch time fields height width uv=2"]


class Example(NamedTuple):
    """A clip in network units, and its truth."""

    clip: Clip
    truth: Truth


class Course(NamedTuple):
    """How a shape moves in one clip: its pose in frames -5..5, and the numbers behind it."""

    poses: Pose
    speed: Array
    period: Array


def course(key: Array, motion: Any, side: int) -> Course:
    """Draws a trajectory.

        steady:  q(t) = t           shaking:  q(t) = (sin(w t + phase) - sin(phase)) / (2 sin(w / 2))
        centre(t) = c + speed q(t) towards + drift t
        angle(t) = angle + spin speed/radius q(t),   radius(t) = radius exp(growth speed/radius q(t))

    so that the displacement from one frame to the next is at most `speed`, also when shaking.

    Args:
      motion: traced index into MOTIONS.
      side: of the picture, pixels; sizes and places scale with it, speeds as well.
    """
    unit = side / SIDE
    table = [jnp.asarray(column, jnp.float32)[motion] for column in zip(*(m[1:5] for m in MOTIONS), strict=True)]
    towards, spin, growth, speeds = table
    shaking = jnp.asarray([m.profile == "shaking" for m in MOTIONS])[motion]
    place, drifting = (-15.0 * unit, 15.0 * unit), (-0.3 * unit, 0.3 * unit)
    period, phase, speed, radius, angle, *rest = numbers(
        key, PERIODS, TURN, (unit * speeds[0], unit * speeds[1]), (8.0 * unit, 15.0 * unit), TURN,
        place, place, drifting, drifting,
    )  # fmt: skip
    t = jnp.arange(-LAST, LAST + 1, dtype=jnp.float32)
    w = 2 * jnp.pi / period
    q = jnp.where(shaking, (jnp.sin(w * t + phase) - jnp.sin(phase)) / (2 * jnp.sin(w / 2)), t)
    # What spins or grows also drifts a little, or standing still would give it away.
    still = 1 - jnp.abs(towards).sum()
    x, y = ((side - 1) / 2 + rest[i] + speed * q * towards[i] + still * rest[2 + i] * t for i in (0, 1))
    rate = speed / radius
    poses = Pose(x, y, angle + spin * rate * q, radius * jnp.exp(growth * rate * q))
    return Course(poses, speed, jnp.where(shaking, period, 0.0))


class Drawn(NamedTuple):
    """One clip before it is painted: what it shows, how it moves, and what the rest is drawn from.

    scene, course: see there.
    step: what the camera does from one frame to the next.
    motion: index into MOTIONS.
    noise_key: of the errors of its flow.
    """

    scene: Scene
    course: Course
    step: Pose
    motion: Any
    noise_key: Array


def draw(key: Array, label: Any, side: int) -> Drawn:
    """Everything of a clip that is drawn from its key."""
    keys = jax.random.split(key, 5)
    shape, motion = (jnp.asarray(table)[label] for table in (SHAPE_OF, MOTION_OF))
    moves, step = course(keys[0], motion, side), render.camera(keys[1], side)
    distracted = jax.random.bernoulli(keys[2], DISTRACTED)
    scene = Scene(shape, moves.poses, render.world(step, side), distracted, keys[3])
    return Drawn(scene, moves, step, motion, keys[4])


def estimated(drawn: Drawn, flow: Array) -> Array:
    """Exact flow (fields, side, side, 2), in pixels, with the errors of an estimate, in network units."""
    return encode_flow(flow + render.flow_noise(drawn.noise_key, flow.shape[0], flow.shape[1]))


def example(key: Array, label: Any, side: int = SIDE) -> Example:
    """One clip of a class, with its truth.

    Args:
      key: everything but the class follows from it.
      label: traced index into CLASSES.
      side: of the picture, pixels; static.
    Returns:
      Clip of one temporal sample, 8-bit values in network units, and its `Truth`.
    """
    drawn = draw(key, label, side)
    mask, flow = render.motion_fields(drawn.scene, drawn.step, range(-LAST, LAST), side)
    clip = Clip(PREPROCESSING.frames(render.frames(drawn.scene, [0], side)), estimated(drawn, flow)[None])
    speed, period = drawn.course.speed, drawn.course.period
    truth = Truth(
        jnp.asarray(label), drawn.scene.shape, drawn.motion, speed, period, drawn.scene.distracted,
        mask[None], flow[None],
    )  # fmt: skip
    return Example(clip, truth)


@partial(jax.jit, static_argnames=("count", "side"))
def examples(key: Array, first: Any, count: int, side: int = SIDE) -> Example:
    """The clips numbered first .. first + count - 1 of an endless series; clip i is of class i mod 28.

    A clip depends on its number, not on its batch-mates.
    """
    return jax.vmap(partial(example, side=side))(*_keys(key, first, count))


def _keys(key: Array, first: Any, count: int) -> tuple[Array, Array]:
    places = first + jnp.arange(count)
    return jax.vmap(partial(jax.random.fold_in, key))(places), places % len(CLASSES)


@partial(jax.jit, static_argnames=("count", "inputs", "pace"))
def clips(key: Array, first: Any, count: int, inputs: tuple[Input, ...], pace: int = 1) -> Clip:
    """The same series, (count, ...), as a network is shown it that declares these inputs; see `shown`."""
    return jax.vmap(partial(shown, inputs=inputs, pace=pace))(*_keys(key, first, count))


def shown(key: Array, label: Any, inputs: tuple[Input, ...], pace: int = 1) -> Clip:
    """One clip of a class as inputs of any form, minus the means of `PREPROCESSING`.

    A still is frame 0; frames that follow one another lie around it, and turn round where the drawn ones end (see
    `render.turning`). Flow fields of one sample begin with the first of the drawn ones; where flow runs along time, it
    is of the frames around frame 0. Samples that are taken far apart are all alike. What is not square is the middle of
    a square picture of the longer side.

    Args:
      key: everything but the class follows from it.
      label: traced index into CLASSES.
      inputs: what the network is shown; static.
      pace: frames follow one another in so many steps at once; static. Flow stays as it is.
    """
    streams: dict[str, Array] = {}
    for each in inputs:
        side = max(each.length("height"), each.length("width"))
        drawn = draw(key, label, side)
        whole = _frames(drawn, each, side, pace) if each.kind == "rgb" else _flow(drawn, each, side)
        top, left = ((side - each.length(axis)) // 2 for axis in ("height", "width"))
        cut = whole[..., top : top + each.length("height"), left : left + each.length("width"), :]
        streams[each.name] = jnp.broadcast_to(cut, each.shape)
    return Clip(**streams)


def _frames(drawn: Drawn, each: Input, side: int, pace: int) -> Float[Array, "frames side side rgb=3"]:
    count = each.length("time") if each.slow == "time" else 1
    times = [pace * (t - count // 2) for t in range(count)]
    return PREPROCESSING.frames(render.frames(drawn.scene, times, side))


def _flow(drawn: Drawn, each: Input, side: int) -> Float[Array, "time fields side side uv=2"]:
    time, fields = each.length("time") if each.slow == "time" else 1, each.length("fields")
    count = time + fields - 1
    first = -(count // 2) if each.slow == "time" else -LAST
    _, flow = render.motion_fields(drawn.scene, drawn.step, range(first, first + count), side)
    noisy = estimated(drawn, flow)
    return noisy[np.arange(time)[:, None] + np.arange(fields)]


def perturb(key: Array, clip: Clip) -> Clip:
    """A worse view of one clip, for training only: the truth still holds in kind, not in number.

    Flow is scaled by 0.85..1.15, some fields are lost (zero), and both streams get white noise, of up to one
    pixel per frame and 20 grey levels. Networks trained with noise have smoother gradients.
    """
    strengths, losses, grain, dust = jax.random.split(key, 4)
    share, gain, sigma, speckle = numbers(strengths, (-0.2, 0.2), (0.85, 1.15), (0.0, FLOW_SCALE), (0.0, 20.0))
    lost = jax.random.bernoulli(losses, jnp.clip(share, 0.0), clip.motion.shape[:2])
    motion = gain * clip.motion + sigma * white(grain, clip.motion.shape)
    motion = jnp.where(lost[..., None, None, None], 0.0, motion)
    return Clip(clip.appearance + speckle * white(dust, clip.appearance.shape), motion)
