"""3x3 convolution and 2x2 max-pooling in the form each backend runs fast.

GPU and TPU compilers choose the form of a convolution themselves. XLA on CPU does not, and its forms differ by ten
times in speed, so there this file chooses, by static shape, in one place (`_fast_form`). The forms are

    direct      one lax convolution
    scatter     one matrix product, nine shifted additions, for input gradients
    winograd    F(4x4, 3x3): 36 small products where direct has 144, between cheap sums over tiles of 6x6

Each maps (batch, h, w, c_in) and a kernel to a convolution of x with p zeros around it. The gradient with respect to
the input is itself such a convolution, of the output's cotangent with 2 - p zeros around it and the flipped kernel.

References:
    Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2016: the transforms of F(4x4, 3x3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_ZEROS_AROUND = {"VALID": 0, "SAME": 1}
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

_TILE = 4  # outputs of one Winograd tile along one axis; it reads two more
_HELD = 12 << 20  # bytes of transformed tiles, before and after the products, that stay in the cache
_KERNEL_TRANSFORM = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24


def conv3x3(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
    """Cross-correlate maps with a 3x3 kernel at stride 1 and add a bias.

        y[..., i, j, o] = bias[o] + sum_{u,v,c} x[..., i+u-p, j+v-p, c] * kernel[u, v, c, o],  p = 1 if SAME else 0

    Sums are kept in float32 or better; the result has the type of `x`. On CPU only reverse-mode, first derivatives are
    defined, and float32 values differ from a plain convolution by up to 5e-5 of their spread where Winograd is used.

    Args:
        x: `(*batch, height, width, c_in)`. A `vmap` over `x` alone costs the same as one more batch axis.
        kernel: `(3, 3, c_in, c_out)`.
        bias: `(c_out,)`.
        padding: "SAME" keeps height and width (zeros outside), "VALID" takes 2 off each.

    Returns:
        `(*batch, height, width, c_out)` for SAME, `(*batch, height - 2, width - 2, c_out)` for VALID.

    Raises:
        ValueError: for another padding, a kernel or bias that does not fit, or a VALID map of less than 3x3.

    Example:
        >>> x, kernel = jnp.ones((4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> conv3x3(x, kernel, jnp.ones(1), padding="SAME")[..., 0].tolist()[0]
        [5.0, 7.0, 7.0, 5.0]
        >>> conv3x3(x, kernel, jnp.ones(1), padding="VALID").shape
        (2, 2, 1)
    """
    if padding not in _ZEROS_AROUND:
        raise ValueError(f'padding must be "SAME" or "VALID", got {padding!r}')
    if x.ndim < 3:
        raise ValueError(f"x must be (*batch, height, width, channels), got shape {x.shape}")
    if kernel.ndim != 4 or kernel.shape[:3] != (3, 3, x.shape[-1]):
        raise ValueError(f"kernel must be (3, 3, {x.shape[-1]}, c_out) for x of shape {x.shape}, got {kernel.shape}")
    if bias.shape != kernel.shape[3:]:
        raise ValueError(f"bias must be {kernel.shape[3:]} for a kernel of shape {kernel.shape}, got {bias.shape}")
    if padding == "VALID" and min(x.shape[-3:-1]) < 3:
        raise ValueError(f'a VALID convolution needs maps of 3x3 or more, got {x.shape[-3]}x{x.shape[-2]}: use "SAME"')
    maps = x.reshape(-1, *x.shape[-3:])
    zeros = _ZEROS_AROUND[padding]
    # The form is a matter of speed alone, so it is enough that the default backend is usually the one that runs.
    if jax.default_backend() != "cpu":
        y = _direct(maps, kernel.astype(x.dtype), zeros)
    elif x.dtype == jnp.float32:
        y = _fast(maps, kernel.astype(x.dtype), zeros)
    else:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        y = _fast(maps.astype(wide), kernel.astype(wide), zeros).astype(x.dtype)
    y = y.reshape(*x.shape[:-3], *y.shape[1:])
    return y + jnp.broadcast_to(bias.astype(x.dtype), y.shape)


def max_pool(x: Array) -> Array:
    """Take the largest value of each 2x2 window; an odd last row or column is dropped.

        y[..., i, j, c] = max_{u,v in 0..1} x[..., 2i+u, 2j+v, c]

    Where values of a window tie, its gradient is shared equally among them. (`lax.reduce_window` has a slow
    gradient on CPU: a 224x224 VGG-16 step runs at 85 GFLOP/s with it and at 150 with this form.)

    Args:
        x: `(*batch, height, width, channels)`.

    Returns:
        `(*batch, height // 2, width // 2, channels)`.

    Raises:
        ValueError: for maps of less than 2x2.

    Example:
        >>> max_pool(jnp.arange(9.0).reshape(3, 3, 1)).ravel().tolist()
        [4.0]
    """
    if x.ndim < 3 or min(x.shape[-3:-1]) < 2:
        raise ValueError(f"x must be (*batch, height, width, channels) with maps of 2x2 or more, got shape {x.shape}")
    *batch, height, width, channels = x.shape
    height, width = height // 2, width // 2
    windows = x[..., : 2 * height, : 2 * width, :].reshape(*batch, height, 2, width, 2, channels)
    return windows.max((-4, -2))


def _fast_form(batch: int, height: int, width: int, c_in: int, c_out: int, backward: bool) -> Callable[..., Array]:
    """Choose the form for CPU, for a forward convolution whose output is (batch, height, width, c_out)."""
    # Measured on 2 shared cores, compiled with `stjax.jit`. Winograd does a quarter of the arithmetic and moves more
    # memory, the less so the more channels there are: from 64 to 64 it pays only while its tiles stay in the cache.
    # Unit-steps/s of whole cones, Winograd from 64 to 128 and 128 to 128 channels on; also from 64 to 64 up to 12 MB;
    # up to 32 MB: conv3_3, 8 units: 325 411 402; 12 units: 333 314 261; conv4_3, 12 units: 38 38 35. Without it for
    # fewer than 128 to 256 channels conv4_3 has 34. A kernel of 512 channels grows to 37 MB: it wants many tiles.
    tiles = batch * -(-height // _TILE) * -(-width // _TILE)
    held = 4 * (_TILE + 2) ** 2 * tiles * (c_in + c_out)
    worth = c_in + c_out >= 192 or held <= _HELD
    if min(height, width) >= 12 and min(c_in, c_out) >= 64 and tiles >= 96 and worth:
        return _winograd
    # Direct against one product, GFLOP/s for (units, px, c_in, c_out), backward: 8, 40, 64, 3: 18 92; 8, 7, 256, 128:
    # 83 133; 12, 5, 512, 512: 60 110; 12, 3, 512, 512: 14 28. Forward: 8, 40, 3, 64: 45 33; 12, 7, 256, 512: 116 106.
    # From 16 to 16 channels, 64 px, 24 clips: 68 ms as one product, 11 direct.
    if backward and ((c_in <= 20 and c_out >= 64) or max(height, width) <= 7):
        return _scatter
    return _direct


def _evaluate(x: Array, kernel: Array, zeros: int) -> Array:
    return _FORWARD[zeros](x, kernel)


def _fast_forward(x: Array, kernel: Array, zeros: int) -> tuple[Array, tuple[Array, Array]]:
    return _FORWARD[zeros](x, kernel), (x, kernel)


def _fast_backward(zeros: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # jit drops whichever of the two is not asked for.
    (g_kernel,) = jax.linear_transpose(lambda k: _direct(x, k, zeros), kernel)(g)
    return _BACKWARD[zeros](g, kernel), g_kernel


_fast: Any = jax.custom_vjp(_evaluate, nondiff_argnums=(2,))
_fast.defvjp(_fast_forward, _fast_backward)


def _batched(fun: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Make vmap over the maps enlarge their batch, so that the form is chosen by the batch that will run."""
    call = jax.custom_batching.custom_vmap(fun)

    @call.def_vmap
    def rule(size: int, mapped: Sequence[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if mapped[1]:
            return jax.vmap(fun, [0 if m else None for m in mapped])(x, kernel), True
        y = call(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(size, -1, *y.shape[1:]), True

    return call


def _forward(x: Array, kernel: Array, *, zeros: int) -> Array:
    shrink = 2 - 2 * zeros
    form = _fast_form(x.shape[0], x.shape[1] - shrink, x.shape[2] - shrink, *kernel.shape[2:], backward=False)
    return form(x, kernel, zeros)


def _backward(g: Array, kernel: Array, *, zeros: int) -> Array:
    form = _fast_form(*g.shape[:3], *kernel.shape[2:], backward=True)
    return form(g, kernel[::-1, ::-1].swapaxes(2, 3), 2 - zeros)


_FORWARD = {zeros: _batched(functools.partial(_forward, zeros=zeros)) for zeros in (0, 1)}
_BACKWARD = {zeros: _batched(functools.partial(_backward, zeros=zeros)) for zeros in (0, 1)}


def _pad(x: Array, top: int, bottom: int, left: int, right: int) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))


def _direct(x: Array, kernel: Array, zeros: int) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), ((zeros, zeros),) * 2, dimension_numbers=_DIMENSIONS)


def _scatter(x: Array, kernel: Array, zeros: int) -> Array:
    c_out = kernel.shape[3]
    products = x @ kernel.transpose(2, 0, 1, 3).reshape(-1, 9 * c_out)
    total = jnp.zeros((), x.dtype)
    for i in range(3):
        for j in range(3):
            part = products[..., (3 * i + j) * c_out : (3 * i + j + 1) * c_out]
            total = total + _pad(part, zeros - i, zeros - 2 + i, zeros - j, zeros - 2 + j)
    return total


def _winograd(x: Array, kernel: Array, zeros: int) -> Array:
    batch, height, width, c_in = x.shape
    height, width, c_out = height + 2 * zeros - 2, width + 2 * zeros - 2, kernel.shape[3]
    rows, cols, t = -(-height // _TILE), -(-width // _TILE), _TILE
    # One more row and column of tiles, from which the last tile takes its two further pixels.
    x = _pad(x, zeros, (rows + 1) * t - x.shape[1] - zeros, zeros, (cols + 1) * t - x.shape[2] - zeros)
    x = x.reshape(batch, rows + 1, t, (cols + 1) * t, c_in)
    x = jnp.stack(_transform_input([x[:, :rows, i] if i < t else x[:, 1:, i - t] for i in range(t + 2)]))
    x = lax.optimization_barrier(x)  # fused, the second axis would do the first again
    x = x.reshape(t + 2, batch, rows, cols + 1, t, c_in)
    x = jnp.stack(_transform_input([x[:, :, :, :cols, i] if i < t else x[:, :, :, 1:, i - t] for i in range(t + 2)]))
    # As one product: an einsum over the two axes takes 12.6 ms for 256 channels, this 0.4.
    transform = jnp.asarray(np.kron(_KERNEL_TRANSFORM, _KERNEL_TRANSFORM), x.dtype)
    kernel = (transform @ kernel.swapaxes(0, 1).reshape(9, -1)).reshape(-1, c_in, c_out)
    y = lax.dot_general(x.reshape(kernel.shape[0], -1, c_in), kernel, (((2,), (1,)), ((0,), (0,))))
    y = y.reshape(t + 2, t + 2, batch, rows, cols, c_out)
    y = lax.optimization_barrier(jnp.stack(_transform_output(y), -2))
    y = jnp.stack(_transform_output(y), 2).reshape(batch, rows * t, cols * t, c_out)
    return y[:, :height, :width]


def _transform_input(d: Sequence[Array]) -> list[Array]:
    even, odd, near, far = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], 2 * (d[3] - d[1])
    return [4 * d[0] - 5 * d[2] + d[4], even + odd, even - odd, near + far, near - far, 4 * d[1] - 5 * d[3] + d[5]]


def _transform_output(m: Array) -> list[Array]:
    s, d, s2, d2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + s + s2, d + 2 * d2, s + 4 * s2, d + 8 * d2 + m[5]]
