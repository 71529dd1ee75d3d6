"""How generated clips are painted: a shape that moves before a background that the camera moves over.

Frames are numbered -5..5; the picture of frame 0 is drawn, that of any other is frame 0 carried along. Grids are
square, side x side pixels; everything scales with the side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from stjax.training.shapes import SHAPES, Pose, clouds, displacement, enlarge, grid, inside, local, pattern, white

SIDE = 64
"""Of the pictures that sizes and speeds are given for, in pixels."""
LAST = 5
"""Poses are drawn for frames -LAST .. LAST."""
TURN = (0.0, 2 * np.pi)


class Scene(NamedTuple):
    """What one clip shows.

    shape: index into SHAPES.
    poses: of the shape in frames -5..5.
    world: of the background in frames -5..5, in units of the picture of frame 0: a Pose of angle 0 and radius 1 there.
    distracted: whether a second shape stands in the background.
    key: of the picture's colours, textures and noise.
    """

    shape: Any
    poses: Pose
    world: Pose
    distracted: Any
    key: Array


def turning(times: Sequence[int]) -> np.ndarray:
    """Places among the poses, 0..10, of frames of any number: after frame 5 a clip runs backwards, and so on.

    So a shape stays in sight however many frames there are, and moves as fast as ever.

    >>> turning([0, 5, 6, -6, 15]).tolist()
    [5, 10, 9, 1, 0]
    """
    phase = (np.asarray(times) + LAST) % (4 * LAST)
    return np.minimum(phase, 4 * LAST - phase)


def at(poses: Pose, place: Any) -> Pose:
    """The pose at one place, or those at several."""
    return Pose(*(column[place] for column in poses))


def numbers(key: Array, *ranges: tuple[Any, Any]) -> list[Array]:
    """One number from each range. A single draw: every call of threefry takes a second to compile."""
    evenly = jax.random.uniform(key, (len(ranges),))
    return [low + (high - low) * u for (low, high), u in zip(ranges, evenly, strict=True)]


def camera(key: Array, side: int) -> Pose:
    """What one frame does to the background: a shift, zoom and roll about the picture's centre, see `_still`."""
    u, v, zoom, roll = jax.random.normal(key, (4,)) * jnp.asarray([0.35, 0.35, 0.006, 0.006])
    middle, shift = (side - 1) / 2, side / SIDE
    return Pose(middle + shift * u, middle + shift * v, roll, jnp.exp(zoom))


def _still(side: int) -> Pose:
    middle = (side - 1) / 2
    return Pose(middle, middle, 0.0, 1.0)


def world(step: Pose, side: int) -> Pose:
    """The background's pose in frames -5..5, if every frame does to it what `step` does to that of frame 0."""
    base = _still(side)
    poses = [Pose(*(jnp.asarray(v, jnp.float32) for v in base))]
    for _ in range(LAST):
        poses.append(_moved(poses[-1], base, step))
        poses.insert(0, _moved(poses[0], step, base))
    return Pose(*(jnp.stack(column) for column in zip(*poses, strict=True)))


def _moved(pose: Pose, now: Pose, then: Pose) -> Pose:
    dx, dy = displacement(now, then, pose.x, pose.y)
    turn, grown = then.angle - now.angle, then.radius / now.radius
    return Pose(pose.x + dx, pose.y + dy, pose.angle + turn, pose.radius * grown)


def motion_fields(
    scene: Scene, step: Pose, times: Sequence[int], side: int
) -> tuple[Bool[Array, "fields side side"], Float[Array, "fields side side uv=2"]]:
    """Where the shape is in each frame of `times`, and the exact flow from there to the next frame, pixels."""
    x, y = grid(side)
    now, then = turning(times), turning([t + 1 for t in times])
    # Going back, the camera undoes what it did.
    ways = jnp.stack([displacement(_still(side), step, x, y), displacement(step, _still(side), x, y)])

    def field(now: Pose, then: Pose, background: Array) -> tuple[Array, Array]:
        mask = inside(scene.shape, now, x, y) > 0
        return mask, jnp.where(mask[..., None], displacement(now, then, x, y), background)

    return jax.vmap(field)(at(scene.poses, now), at(scene.poses, then), ways[(then < now).astype(int)])


def flow_noise(key: Array, count: int, side: int) -> Float[Array, "fields side side uv=2"]:
    """Errors of an estimated flow, pixels: white and blotchy, of another strength in every clip.

    The first fields are the same, however many there are.
    """
    strengths, grain, blots = jax.random.split(key, 3)
    fine, coarse = numbers(strengths, (0.0, 0.4), (0.0, 0.4))
    return fine * white(grain, (count, side, side, 2)) + coarse * enlarge(white(blots, (count, 8, 8, 2)), side)


def distractor(key: Array, poses: Pose, side: int) -> tuple[Array, Pose]:
    """A shape that stands clear of the moving one in the picture of frame 0, its index and pose."""
    unit, middle = side / SIDE, (side - 1) / 2
    size, aside, angle, pick = numbers(key, (6.0, 12.0), (-0.8, 0.8), TURN, (0, len(SHAPES)))
    x, y, radius = poses.x[LAST], poses.y[LAST], unit * size
    # Towards the middle of the picture and past it, so far that outlines do not touch.
    bearing = jnp.arctan2(middle - y, middle - x) + aside
    away = 1.35 * (poses.radius[LAST] + radius) + unit * 2
    return jnp.floor(pick).astype(int), Pose(x + away * jnp.cos(bearing), y + away * jnp.sin(bearing), angle, radius)


def _paint(key: Array, canvas: Array, shape: Any, pose: Pose, ground: Array, texture: Array) -> Array:
    """Draws one shape, its edge one pixel soft, in a colour that stands off the ground's."""
    x, y = grid(canvas.shape[0])
    contrast, frequency, kind, depth, grain, *hue = numbers(
        key, (70.0, 140.0), (3.0, 8.0), (0, 4), (10.0, 40.0), (0.0, 12.0), (-1, 1), (-1, 1), (-1, 1)
    )
    direction = jnp.stack(hue)
    colour = ground + contrast * direction / jnp.sqrt((direction**2).mean() + 1e-3)
    stripe = pattern(jnp.floor(kind).astype(int), *local(pose, x, y), frequency)
    shade = depth * stripe[..., None] + grain * texture
    alpha = jnp.clip(inside(shape, pose, x, y) + 0.5, 0.0, 1.0)[..., None]
    painted = jnp.broadcast_to(colour[None, None], canvas.shape) + jnp.broadcast_to(shade, canvas.shape)
    return canvas * (1 - alpha) + jnp.clip(painted, 0.0, 255.0) * alpha


def _carried(picture: Array, then: Pose, now: Pose) -> Array:
    """What `picture`, drawn where something had the pose `then`, looks like where it has the pose `now`."""
    x, y = grid(picture.shape[0])
    dx, dy = jnp.moveaxis(displacement(now, then, x, y), -1, 0)
    last = picture.shape[0] - 1
    # Beyond the edge the picture goes on mirrored.
    u, v = (last - jnp.abs(last - jnp.abs(a) % (2 * last)) for a in (x + dx, y + dy))
    left, top = (jnp.clip(jnp.floor(a), 0, last - 1).astype(int) for a in (u, v))
    right, down = (u - left)[..., None], (v - top)[..., None]
    upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def frames(scene: Scene, times: Sequence[int], side: int) -> Float[Array, "frames side side rgb=3"]:
    """The frames of the numbers `times`, RGB 0..255 in whole grey levels, each with noise of its own."""
    keys = jax.random.split(scene.key, 6)
    roughness, colourful, contrast, sigma, *rgb = numbers(
        keys[0], (0.4, 1.1), (0, 1), (5.0, 35.0), (0.0, 8.0), *[(60.0, 195.0)] * 3
    )
    ground = jnp.stack(rgb)
    texture = clouds(keys[1], side, 3, roughness)
    texture = colourful * texture + (1 - colourful) * jnp.broadcast_to(texture[..., :1], texture.shape)
    behind = jnp.broadcast_to(ground[None, None], texture.shape) + contrast * texture
    other, where = distractor(keys[2], scene.poses, side)
    behind = jnp.where(scene.distracted, _paint(keys[3], behind, other, where, ground, texture), behind)

    def frame(place: Any) -> Array:
        pose, first, around = (at(*of) for of in ((scene.poses, place), (scene.poses, LAST), (scene.world, place)))
        back = _carried(behind, _still(side), around)
        return _paint(keys[4], back, scene.shape, pose, ground, _carried(texture, first, pose))

    if list(times) == [0]:
        # Nothing has moved yet; training paints so for each of its steps.
        painted = _paint(keys[4], behind, scene.shape, at(scene.poses, LAST), ground, texture)[None]
    else:
        painted = jax.lax.map(frame, jnp.asarray(turning(times)))
    painted += sigma * white(keys[5], painted.shape)
    return jnp.round(jnp.clip(painted, 0.0, 255.0))
