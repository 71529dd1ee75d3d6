"""Clips with known motion, made on the fly: one RGB frame, ten exact flow fields, and the truth beside them.

Frames are numbered -5..5 around the picture that is shown, frame 0. Field k is the displacement from frame
k - 5 to frame k - 4, with every shape where it is in frame k - 5. A clip follows from (key, label) alone.
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
from stjax.training.shapes import SHAPES, Pose, clouds, displacement, grid, inside, local, pattern, smooth, white
from stjax.types import Clip

FIELDS = 10
SIDE = 64
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


def _numbers(key: Array, *ranges: tuple[Any, Any]) -> list[Array]:
    """One number from each range. A single draw: every call of threefry takes a second to compile."""
    evenly = jax.random.uniform(key, (len(ranges),))
    return [low + (high - low) * u for (low, high), u in zip(ranges, evenly, strict=True)]


TURN = (0.0, 2 * np.pi)


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
    period, phase, speed, radius, angle, *rest = _numbers(
        key, PERIODS, TURN, (unit * speeds[0], unit * speeds[1]), (8.0 * unit, 15.0 * unit), TURN,
        place, place, drifting, drifting,
    )  # fmt: skip
    t = jnp.arange(-5, 6, dtype=jnp.float32)
    w = 2 * jnp.pi / period
    q = jnp.where(shaking, (jnp.sin(w * t + phase) - jnp.sin(phase)) / (2 * jnp.sin(w / 2)), t)
    # What spins or grows also drifts a little, or standing still would give it away.
    still = 1 - jnp.abs(towards).sum()
    x, y = ((side - 1) / 2 + rest[i] + speed * q * towards[i] + still * rest[2 + i] * t for i in (0, 1))
    rate = speed / radius
    poses = Pose(x, y, angle + spin * rate * q, radius * jnp.exp(growth * rate * q))
    return Course(poses, speed, jnp.where(shaking, period, 0.0))


def camera(key: Array, side: int) -> Float[Array, "side side uv=2"]:
    """The flow of the background: a steady shift, zoom and roll about the picture's centre, pixels."""
    u, v, zoom, roll = jax.random.normal(key, (4,)) * jnp.asarray([0.35, 0.35, 0.006, 0.006])
    middle, shift = (side - 1) / 2, side / SIDE
    then = Pose(middle + shift * u, middle + shift * v, roll, jnp.exp(zoom))
    return displacement(Pose(middle, middle, 0.0, 1.0), then, *grid(side))


def motion_fields(shape: Any, poses: Pose, background: Array) -> tuple[Array, Array]:
    """Mask (fields, h, w) and exact flow (fields, h, w, 2) of a shape that moves before a background."""
    x, y = grid(background.shape[0])

    def field(now: Pose, then: Pose) -> tuple[Array, Array]:
        mask = inside(shape, now, x, y) > 0
        return mask, jnp.where(mask[..., None], displacement(now, then, x, y), background)

    return jax.vmap(field)(Pose(*(p[:-1] for p in poses)), Pose(*(p[1:] for p in poses)))


def distractor(key: Array, poses: Pose, side: int) -> tuple[Array, Pose]:
    """A shape that stands clear of the moving one in the picture, its index and pose."""
    unit, middle = side / SIDE, (side - 1) / 2
    size, aside, angle, pick = _numbers(key, (6.0, 12.0), (-0.8, 0.8), TURN, (0, len(SHAPES)))
    x, y, radius = poses.x[5], poses.y[5], unit * size
    # Towards the middle of the picture and past it, so far that outlines do not touch.
    bearing = jnp.arctan2(middle - y, middle - x) + aside
    away = 1.35 * (poses.radius[5] + radius) + unit * 2
    return jnp.floor(pick).astype(int), Pose(x + away * jnp.cos(bearing), y + away * jnp.sin(bearing), angle, radius)


def _paint(key: Array, canvas: Array, shape: Any, pose: Pose, ground: Array, texture: Array) -> Array:
    """Draws one shape, its edge one pixel soft, in a colour that stands off the ground's."""
    x, y = grid(canvas.shape[0])
    contrast, frequency, kind, depth, grain, *hue = _numbers(
        key, (70.0, 140.0), (3.0, 8.0), (0, 4), (10.0, 40.0), (0.0, 12.0), (-1, 1), (-1, 1), (-1, 1)
    )
    direction = jnp.stack(hue)
    colour = ground + contrast * direction / jnp.sqrt((direction**2).mean() + 1e-3)
    stripe = pattern(jnp.floor(kind).astype(int), *local(pose, x, y), frequency)
    shade = depth * stripe[..., None] + grain * texture
    alpha = jnp.clip(inside(shape, pose, x, y) + 0.5, 0.0, 1.0)[..., None]
    painted = jnp.broadcast_to(colour[None, None], canvas.shape) + jnp.broadcast_to(shade, canvas.shape)
    return canvas * (1 - alpha) + jnp.clip(painted, 0.0, 255.0) * alpha


def picture(key: Array, shape: Any, poses: Pose, distracted: Any, side: int) -> Float[Array, "side side rgb=3"]:
    """The frame that is shown, RGB 0..255 in whole grey levels."""
    keys = jax.random.split(key, 6)
    roughness, colourful, contrast, sigma, *rgb = _numbers(
        keys[0], (0.4, 1.1), (0, 1), (5.0, 35.0), (0.0, 8.0), *[(60.0, 195.0)] * 3
    )
    ground = jnp.stack(rgb)
    texture = clouds(keys[1], side, 3, roughness)
    texture = colourful * texture + (1 - colourful) * jnp.broadcast_to(texture[..., :1], texture.shape)
    frame = jnp.broadcast_to(ground[None, None], texture.shape) + contrast * texture
    other, where = distractor(keys[2], poses, side)
    frame = jnp.where(distracted, _paint(keys[3], frame, other, where, ground, texture), frame)
    frame = _paint(keys[4], frame, shape, Pose(*(p[5] for p in poses)), ground, texture)
    frame += sigma * white(keys[5], frame.shape)
    return jnp.round(jnp.clip(frame, 0.0, 255.0))


def flow_noise(key: Array, side: int) -> Float[Array, "fields side side uv=2"]:
    """Errors of an estimated flow, pixels: white and blotchy, of another strength in every clip."""
    strengths, grain, blots = jax.random.split(key, 3)
    fine, coarse = _numbers(strengths, (0.0, 0.4), (0.0, 0.4))
    return fine * white(grain, (FIELDS, side, side, 2)) + coarse * smooth(white(blots, (FIELDS, 8, 8, 2)), side)


def example(key: Array, label: Any, side: int = SIDE) -> Example:
    """One clip of a class, with its truth.

    Args:
      key: everything but the class follows from it.
      label: traced index into CLASSES.
      side: of the picture, pixels; static.
    Returns:
      Clip of one temporal sample, 8-bit values in network units, and its `Truth`.
    """
    keys = jax.random.split(key, 5)
    shape, motion = (jnp.asarray(table)[label] for table in (SHAPE_OF, MOTION_OF))
    poses, speed, period = course(keys[0], motion, side)
    mask, flow = motion_fields(shape, poses, camera(keys[1], side))
    distracted = jax.random.bernoulli(keys[2], DISTRACTED)
    frame = picture(keys[3], shape, poses, distracted, side)
    noisy = encode_flow(flow + flow_noise(keys[4], side))
    clip = Clip(PREPROCESSING.frames(frame)[None], noisy[None])
    return Example(clip, Truth(jnp.asarray(label), shape, motion, speed, period, distracted, mask[None], flow[None]))


@partial(jax.jit, static_argnames=("count", "side"))
def examples(key: Array, first: Any, count: int, side: int = SIDE) -> Example:
    """The clips numbered first .. first + count - 1 of an endless series; clip i is of class i mod 28.

    A clip depends on its number, not on its batch-mates.
    """
    numbers = first + jnp.arange(count)
    keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
    return jax.vmap(partial(example, side=side))(keys, numbers % len(CLASSES))


def perturb(key: Array, clip: Clip) -> Clip:
    """A worse view of one clip, for training only: the truth still holds in kind, not in number.

    Flow is scaled by 0.85..1.15, some fields are lost (zero), and both streams get white noise, of up to one
    pixel per frame and 20 grey levels. Networks trained with noise have smoother gradients.
    """
    strengths, losses, grain, dust = jax.random.split(key, 4)
    share, gain, sigma, speckle = _numbers(strengths, (-0.2, 0.2), (0.85, 1.15), (0.0, FLOW_SCALE), (0.0, 20.0))
    lost = jax.random.bernoulli(losses, jnp.clip(share, 0.0), clip.motion.shape[:2])
    motion = gain * clip.motion + sigma * white(grain, clip.motion.shape)
    motion = jnp.where(lost[..., None, None, None], 0.0, motion)
    return Clip(clip.appearance + speckle * white(dust, clip.appearance.shape), motion)
