"""Is known motion recovered? Measures of flow against the motion that a clip is of.

The measure of motion is a matched filter over space and time, the same for generated clips, on which it is tried
out, and for optima. All of it is a pure function of ten flow fields in network units.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from stjax.preprocess import decode_flow
from stjax.training.generated import CLASSES, KINDS, MOTION_OF, MOTIONS, SIDE
from stjax.types import Clip

NAMES = (
    *("left", "right", "up", "down", "spinning left", "spinning right", "growing", "shrinking"),
    *("shaking left and right", "shaking up and down"),
)
"""What the filter tells apart. Slow and fast are one motion to it: speed is measured apart."""

RADII = (6.0, 8.5, 12.0, 17.0)
"""Of the templates, in pixels of a picture of 64."""
TRAVELS = (0, 1, 2, 3)
"""Pixels per field by which the template of a steady translation travels along with its shape."""
PERIODS = (4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0)
"""Of the templates that shake, in fields."""
STILL = 1.0
"""The most that is taken for the camera's own shift, pixels per field: three times its spread in generated clips."""

DRIFT = 0.3
"""Of a generated shape that spins or grows, pixels per field in x and in y."""

# Of each steady motion: its component (u, v, spin, growth), the sign, and where its template travels (y, x).
_STEADY = (
    *((0, -1, (0, -1)), (0, 1, (0, 1)), (1, -1, (-1, 0)), (1, 1, (1, 0))),
    *((2, -1, (0, 0)), (2, 1, (0, 0)), (3, 1, (0, 0)), (3, -1, (0, 0))),
)


def name_of(motion: int) -> str:
    """The name in `NAMES` of one of the generated motions.

    >>> [name_of(i) for i in (0, 1, 4, 8)]
    ['left', 'left', 'shaking left and right', 'spinning left']
    """
    m = MOTIONS[motion]
    if m.profile == "shaking":
        return m.name
    return f"spinning {m.direction}" if m.axis == "spin" else m.direction


class MotionMatch(NamedTuple):
    """What a matched filter finds in one clip.

    correlation: of each of `NAMES` with the flow, its best template over place, size, and travel or period.
    radius: of that template, pixels.
    place: (names, y and x) of its centre in the middle of the clip, pixels; may lie outside the picture.
    course: (names, fields) what the template finds in each field, pixels per field: the least-squares speed at the
      template's edge for spin and growth, of the whole template for translation; negative against its direction.
    """

    correlation: Float[Array, "*batch names"]
    radius: Float[Array, "*batch names"]
    place: Float[Array, "*batch names yx=2"]
    course: Float[Array, "*batch names fields"]


@lru_cache
def _templates(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectra (radii, components, uv, 2 cells, cells + 1) of unit templates on a torus, and their lengths before."""
    y, x = (np.where(a >= cells, a - 2 * cells, a) for a in np.mgrid[: 2 * cells, : 2 * cells].astype(np.float64))
    spectra, norms = [], []
    for radius in (r * cells / SIDE for r in RADII):
        disc = np.clip(radius - np.hypot(x, y) + 0.5, 0.0, 1.0)
        zero = np.zeros_like(disc)
        pairs = [(disc, zero), (zero, disc), (-y * disc / radius, x * disc / radius)]
        pairs.append((x * disc / radius, y * disc / radius))
        norms.append([np.sqrt(sum((a * a).sum() for a in pair)) for pair in pairs])
        spectra.append([[np.conj(np.fft.rfft2(a / n)) for a in p] for p, n in zip(pairs, norms[-1], strict=True)])
    return np.asarray(spectra, np.complex64), np.asarray(norms, np.float32)


@lru_cache
def _waves(fields: int) -> np.ndarray:
    """(periods, 2, fields): an orthonormal pair for each period, free of a mean, so that steady motion has no part."""
    k = np.arange(fields)
    pairs = []
    for period in PERIODS:
        wave = np.stack([np.cos(2 * np.pi * k / period), np.sin(2 * np.pi * k / period)])
        pairs.append(np.linalg.qr((wave - wave.mean(1, keepdims=True)).T)[0].T)
    return np.asarray(pairs, np.float32)


def without_camera(flow: Array) -> Array:
    """Flow less the background's steady shift: the median over fields and picture, at most `STILL` pixels.

    >>> without_camera(jnp.full((2, 3, 3, 2), 1.5)).ravel()[:2].tolist()
    [0.5, 0.5]
    """
    shift = jnp.clip(jnp.median(flow, axis=(0, 1, 2)), -STILL, STILL)
    return flow - shift[None, None, None]


@jax.jit
def match_motion(motion: Float[Array, "*batch time=1 fields height width uv=2"]) -> MotionMatch:
    """Compares flow with every template of every motion.

        correlation_m = max_T <F, T> / (|F| |T|)

    T holds its motion inside a disc, centred anywhere, and nothing outside. A translation's disc may travel along.
    Spin and growth are proportional to the distance from the centre, and may drift as much as generated shapes do,
    `DRIFT`. A shaking template is the best sine of a period, whatever its phase, and has no mean over the fields.
    F is the flow less a background's steady shift, on a grid of two pixels.

    Args:
      motion: network units, square pictures of an even number of pixels.
    """
    flat = motion.reshape(-1, *motion.shape[-4:])
    matches = jax.lax.map(_match_one, flat)
    return jax.tree.map(lambda a: a.reshape(*motion.shape[:-5], *a.shape[1:]), matches)


def _match_one(motion: Array) -> MotionMatch:
    fields, cells = motion.shape[0], motion.shape[1] // 2
    flow = without_camera(decode_flow(motion)).reshape(fields, cells, 2, cells, 2, 2).mean((2, 4))
    spectra, norms = _templates(cells)
    size = (2 * cells, 2 * cells)
    spectrum = jnp.fft.rfft2(flow, size, axes=(1, 2))
    # (radii, components, fields, *size): <F_k, T> for T centred at each cell, on a torus twice as wide as the picture.
    responses = jnp.fft.irfft2(jnp.einsum("rcdyx,kyxd->rckyx", jnp.asarray(spectra), spectrum), size)
    length = jnp.sqrt((flow**2).sum()) + 1e-6
    middle = np.arange(fields) - (fields - 1) / 2
    total = responses.sum(2) / np.sqrt(fields)
    # What a drift of at most DRIFT explains: of <F, T> d - |T|^2 d^2 / 2 the largest, twice.
    explained = jnp.asarray(DRIFT * np.sqrt(fields) * norms[:, :2, None, None])
    explained = jnp.minimum(jnp.abs(total[:, :2]), jnp.broadcast_to(explained, total[:, :2].shape))
    drift = (explained * (2 * jnp.abs(total[:, :2]) - explained)).sum(1)

    def travelled(component: int, steps: np.ndarray) -> Array:
        """Each field's responses, shifted so that a travelling template stays at one place: (radii, fields, y, x)."""
        rows = [jnp.roll(responses[:, component, k], (-int(s[0]), -int(s[1])), (1, 2)) for k, s in enumerate(steps)]
        return jnp.stack(rows, 1)

    results = []
    for component, sign, towards in _STEADY:
        if component < 2:
            steps = [np.round(t * cells / SIDE * middle[:, None] * np.array([towards])).astype(int) for t in TRAVELS]
            courses = sign * jnp.stack([travelled(component, s) for s in steps])
            scores = courses.sum(2) / np.sqrt(fields)
        else:
            courses = sign * responses[None, :, component]
            # Where there is no spin or growth of this sign, a drift counts for nothing.
            alone = sign * total[:, component]
            scores = jnp.where(alone > 0, jnp.sqrt(alone**2 + drift), alone)[None]
        results.append(_best(scores, courses, norms[:, component], cells))
    for component in (0, 1):
        parts = jnp.einsum("pwk,rkyx->pwryx", jnp.asarray(_waves(fields)), responses[:, component])
        courses = jnp.broadcast_to(responses[None, :, component], (len(PERIODS), *responses[:, component].shape))
        results.append(_best(jnp.sqrt((parts**2).sum(1)), courses, norms[:, component], cells))
    columns = [jnp.stack(column) for column in zip(*results, strict=True)]
    return MotionMatch(columns[0] / length, *columns[1:])


def _best(scores: Array, courses: Array, norms: np.ndarray, cells: int) -> tuple[Array, Array, Array, Array]:
    """The highest of scores (variants, radii, y, x), and its radius, place and course."""
    variant, radius, y, x = jnp.unravel_index(scores.argmax(), scores.shape)
    course = courses[variant, radius, :, y, x] / jnp.asarray(norms)[radius]
    place = jnp.stack([jnp.where(a > 1.5 * cells, a - 2 * cells, a) * 2 + 0.5 for a in (y, x)])
    return scores.max(), jnp.asarray(RADII)[radius] * 2 * cells / SIDE, place, course


def frequency(course: Float[Array, "*batch fields"]) -> Float[Array, "*batch"]:
    """Cycles per field of the strongest sine in a course: the peak of its DFT, padded eightfold, mean taken out.

    >>> k = jnp.arange(10)
    >>> round(1 / float(frequency(jnp.sin(2 * jnp.pi * k / 5.0))), 1)
    5.0
    """
    fields = course.shape[-1]
    spectrum = jnp.abs(jnp.fft.rfft(course - course.mean(-1, keepdims=True), 8 * fields))
    return spectrum.argmax(-1) / (8 * fields)


TRUTH = tuple(NAMES.index(name_of(motion)) for motion in MOTION_OF)
"""Of each class: its motion, as an index into `NAMES`."""
SHAKING = tuple(MOTIONS[motion].profile == "shaking" for motion in MOTION_OF)
TOLERANCE = 0.025
"""Cycles per field by which a found frequency may lie outside the range that shapes shake in: half a DFT bin."""


class Recovery(NamedTuple):
    """Whether known motion is found, of each clip.

    motion: its template matches best, of all `NAMES`.
    profile: for what shakes: along its axis rather than the other, at a frequency that shapes shake with; for
      what moves steadily, any steady motion matches better than shaking.
    speed: pixels per field found in the known direction; of shaking, the mean over fields of its absolute value.
    frequency: cycles per field along the known axis, for what shakes.
    """

    motion: Bool[np.ndarray, "*batch"]
    profile: Bool[np.ndarray, "*batch"]
    speed: Float[np.ndarray, "*batch"]
    frequency: Float[np.ndarray, "*batch"]


def recover(match: MotionMatch, labels: Any) -> Recovery:
    """Compares what the filter found with the truth of each clip's class.

    Args:
      match: of `match_motion`, with axes (*batch, ...).
      labels: (*batch,) indices into CLASSES.
    """
    labels = np.asarray(labels)
    true, shakes = np.asarray(TRUTH)[labels], np.asarray(SHAKING)[labels]
    correlation = np.asarray(match.correlation)
    course = np.take_along_axis(np.asarray(match.course), true[..., None, None], -2)[..., 0, :]
    cycles = np.asarray(frequency(jnp.asarray(course)))
    swings = (cycles > 1 / PERIODS[-1] - TOLERANCE) & (cycles < 1 / PERIODS[0] + TOLERANCE)
    first = len(NAMES) - 2  # where shaking begins
    along = correlation[..., first:].argmax(-1) + first == true
    steady = correlation[..., :first].max(-1) > correlation[..., first:].max(-1)
    return Recovery(
        motion=correlation.argmax(-1) == true,
        profile=np.where(shakes, along & swings, steady),
        speed=np.where(shakes, np.abs(course).mean(-1), np.maximum(course.mean(-1), 0.0)),
        frequency=cycles,
    )


def pairs(kind: str, first: str, second: str) -> list[tuple[int, int]]:
    """Classes that differ in one kind alone, with its two values.

    >>> [(CLASSES[a], CLASSES[b]) for a, b in pairs("speed", "fast", "slow")][0]
    ('disc moving left fast', 'disc moving left slowly')
    """
    others = [KINDS[k] for k in KINDS if k != kind]

    def same(a: int, b: int) -> bool:
        return all(values[a] == values[b] for values in others)

    number = range(len(CLASSES))
    return [
        (a, b) for a in number for b in number if (KINDS[kind][a], KINDS[kind][b]) == (first, second) and same(a, b)
    ]


def magnitude(motion: Any) -> np.ndarray:
    """Mean length of the flow's vectors, pixels per field: (..., time, fields, y, x, uv) -> (...).

    >>> float(magnitude(np.full((1, 2, 4, 4, 2), [3 * 6.375, 4 * 6.375])).round(3))
    5.0
    """
    flow = np.asarray(decode_flow(motion))
    return np.asarray(np.sqrt((flow**2).sum(-1)).mean((-4, -3, -2, -1)))


def slowness(motion: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean |D_t x| and mean |D_x x|, |D_y x| of flow in grey levels: how fast it changes, how rough it is.

    >>> [float(v) for v in slowness(np.arange(8.0).reshape(1, 2, 2, 2, 1))]
    [4.0, 1.5]
    """
    x = np.asarray(motion, np.float32)
    temporal, down, right = (np.abs(np.diff(x, axis=axis)).mean((-5, -4, -3, -2, -1)) for axis in (-4, -3, -2))
    return np.asarray(temporal), np.asarray((down + right) / 2)


def likeness(one: Any, other: Any) -> np.ndarray:
    """Correlation of two pictures (..., y, x, channels), each channel's mean taken out.

    >>> float(likeness(np.eye(2)[..., None], 3 * np.eye(2)[..., None] + 1).round(3))
    1.0
    """
    a, b = (x - x.mean((-3, -2), keepdims=True) for x in (np.asarray(one, np.float64), np.asarray(other, np.float64)))
    product, lengths = (a * b).sum((-3, -2, -1)), (a * a).sum((-3, -2, -1)) * (b * b).sum((-3, -2, -1))
    return np.asarray(product / np.sqrt(lengths + 1e-12))


def appearance_of(clip: Clip) -> np.ndarray:
    """What of a clip is compared across chi, (..., y, x, channels).

    The picture, where there is one. Of flow alone, the mean over fields of its length at each pixel: where in
    space something moves, whatever way and however fast.
    """
    if clip.appearance is not None:
        return np.asarray(clip.appearance).mean(-4)
    return np.sqrt((np.asarray(clip.motion) ** 2).sum(-1, keepdims=True)).mean((-5, -4))
