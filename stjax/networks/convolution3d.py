"""3-D convolution and max-pooling, in the form each backend runs fast.

GPU and TPU compilers choose the form of a convolution themselves. XLA on CPU runs 3-D convolutions slowly, and their
gradients at a twentieth of that, so there a 3-D convolution is written as a 2-D one: the frames that one output reads
are joined along the channels,

    y[t, i, j] = sum_{u,v} concat_k x[s t + k, s i + u, s j + v] . concat_k w[k, u, v]

with a stride s in space as it stands. Gradients follow by the chain rule, but for a stride: there the gradient is that
of the same convolution with a stride of 1 over blocks of s x s pixels, whose channels are joined as well (space to
depth). So every convolution in a gradient has stride 1, and none is 3-D. Max-pooling is the largest of shifted slices,
one axis after another, since XLA's `reduce_window` has a slow gradient on CPU.

Measured in processor time of one thread, whose matrix rate is 176 GFLOP/s, useful GFLOP/s of I3D's first convolution
over 8 cones of Mixed_3c: 104 with its stride, in blocks 85; its gradient 81. Blocks give it 8 x 8 taps for 7 x 7, and
zeros around 27 x 27 places make them 30 x 30: its product itself runs at 143. Channels padded from 84 to 96 would save
8 % of the gradient. Other forms, ms: of the gradient's 61 in blocks, 182 as XLA has it, 77 as four parities of pixels,
56 as two parities of rows before they are put together, 63 to 94 by Winograd's F(3x3, 4x4), 147 as one product before
its additions; of the 37 forward with its stride, 39 with blocks of columns, 47 in blocks, 57 to 76 by Winograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from stjax.networks.convolution import conv3x3

Padding = tuple[str, str, str]
"""Of t, y and x: "SAME" as TensorFlow has it, or "VALID"."""
Zeros = tuple[tuple[int, int], ...]
"""Before and behind each axis."""


def same(length: int, side: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind an axis under TensorFlow's SAME padding: as few as give ceil(length / stride) windows.

    They differ where the number is odd, the larger behind.

    >>> same(64, 7, 2), same(63, 7, 2), same(28, 3, 2), same(28, 3, 1)
    ((2, 3), (3, 3), (0, 1), (1, 1))
    """
    total = max((-(-length // stride) - 1) * stride + side - length, 0)
    return total // 2, total - total // 2


def conv3d(x: Array, kernel: Array, bias: Array, *, stride: int = 1, padding: Padding) -> Array:
    """Cross-correlate clips with a kernel and add a bias.

        y[t, i, j, o] = bias[o] + sum_{k,u,v,c} x[s t + k - p, s i + u - q, s j + v - r, c] kernel[k, u, v, c, o]

    where p, q, r are the zeros before each axis, as `same` counts them for SAME, and 0 for VALID.

    Args:
      x: (*batch, time, height, width, c_in).
      kernel: (taps of t, taps of y, taps of x, c_in, c_out).
      bias: (c_out,).
      stride: s, on all three axes.
      padding: of t, y and x.
    Returns:
      (*batch, time', height', width', c_out).
    Raises:
      ValueError: a kernel or bias that does not fit, or an axis shorter than a VALID window.

    >>> x, kernel = jnp.ones((4, 5, 5, 1)), jnp.ones((3, 3, 3, 1, 1))
    >>> conv3d(x, kernel, jnp.ones(1), padding=("SAME", "VALID", "VALID"))[:, 0, 0, 0].tolist()
    [19.0, 28.0, 28.0, 19.0]
    """
    if x.ndim < 4 or kernel.ndim != 5 or kernel.shape[3] != x.shape[-1] or bias.shape != kernel.shape[4:]:
        raise ValueError(
            "x must be (*batch, time, height, width, c_in), kernel (t, y, x, c_in, c_out), bias (c_out,): got "
            f"{x.shape}, {kernel.shape}, {bias.shape}"
        )
    clips = x.reshape(-1, *x.shape[-4:])
    kernel = kernel.astype(x.dtype)
    zeros = _zeros(clips.shape[1:4], kernel.shape[:3], stride, padding)
    if kernel.shape[:3] == (1, 1, 1) and stride == 1:
        y = clips @ kernel[0, 0, 0]
    elif jax.default_backend() == "cpu":
        y = _joined(clips, kernel, (1, 1), zeros) if stride == 1 else _strided(clips, kernel, stride, zeros)
    else:
        dimensions = ("NDHWC", "DHWIO", "NDHWC")
        y = lax.conv_general_dilated(clips, kernel, (stride,) * 3, zeros, dimension_numbers=dimensions)
    y = y.reshape(*x.shape[:-4], *y.shape[1:])
    return y + jnp.broadcast_to(bias.astype(x.dtype), y.shape)


def max_pool3d(x: Array, *, window: tuple[int, int, int], stride: tuple[int, int, int], padding: Padding) -> Array:
    """Take the largest value of each window; what is padded never wins.

    Where values of a window tie, its gradient is shared among them.

    Args:
      x: (*batch, time, height, width, channels).
      window, stride: on t, y and x.
      padding: of t, y and x.
    Returns:
      (*batch, time', height', width', channels).
    Raises:
      ValueError: an axis shorter than a VALID window.

    >>> x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    >>> max_pool3d(x, window=(1, 3, 3), stride=(1, 2, 2), padding=("SAME",) * 3).ravel().tolist()
    [6.0, 7.0]
    """
    zeros = [
        _zeros((length,), (side,), step, (way,))[0]
        for length, side, step, way in zip(x.shape[-4:-1], window, stride, padding, strict=True)
    ]
    for axis, side, step, (before, after) in zip((-4, -3, -2), window, stride, zeros, strict=True):
        if side > 1:
            x = _slide_max(x, x.ndim + axis, side, step, before, after)
    return x


def _zeros(lengths: Sequence[int], sides: Sequence[int], stride: int, padding: Sequence[str]) -> Zeros:
    if any(each not in ("SAME", "VALID") for each in padding):
        raise ValueError(f'padding must be "SAME" or "VALID" on each axis: got {padding}')
    short = [
        (length, side)
        for length, side, each in zip(lengths, sides, padding, strict=True)
        if each == "VALID" and length < side
    ]
    if short:
        raise ValueError(f'a VALID window of {short[0][1]} needs as long an axis: got {short[0][0]}; use "SAME"')
    return tuple(
        same(length, side, stride) if each == "SAME" else (0, 0)
        for length, side, each in zip(lengths, sides, padding, strict=True)
    )


def _slide_max(x: Array, axis: int, side: int, stride: int, before: int, after: int) -> Array:
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (before, after, 0)
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)
    count = (x.shape[axis] - side) // stride + 1
    largest = _taken(x, axis, 0, stride, count)
    for offset in range(1, side):
        largest = jnp.maximum(largest, _taken(x, axis, offset, stride, count))
    return largest


def _taken(x: Array, axis: int, start: int, stride: int, count: int) -> Array:
    return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def _joined(x: Array, kernel: Array, strides: tuple[int, int], zeros: Zeros) -> Array:
    """The 2-D form; x (batch, time, height, width, c_in), strides of time and of space."""
    taps, (c_in, c_out) = kernel.shape[:3], kernel.shape[3:]
    # conv3x3 pads by itself what is as wide on all sides; the rest is padded here.
    small = strides[1] == 1 and taps[1:] == (3, 3)
    inside = small and zeros[1:] == ((1, 1), (1, 1))
    edges = [(0, 0), zeros[0], *([(0, 0)] * 2 if inside else zeros[1:]), (0, 0)]
    if any(edge != (0, 0) for edge in edges):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(*edge, 0) for edge in edges])
    count = (x.shape[1] - taps[0]) // strides[0] + 1
    frames = [_taken(x, 1, k, strides[0], count) for k in range(taps[0])]
    x = jnp.concatenate(frames, -1).reshape(-1, *x.shape[2:4], taps[0] * c_in)
    kernel = jnp.moveaxis(kernel, 0, 2)
    kernel = kernel.reshape(*kernel.shape[:2], -1, c_out)
    if small:
        y = conv3x3(x, kernel, jnp.zeros(c_out, x.dtype), padding="SAME" if inside else "VALID")
    else:
        space = (strides[1],) * 2
        y = lax.conv_general_dilated(x, kernel, space, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(-1, count, *y.shape[1:])


def _evaluate(x: Array, kernel: Array, stride: int, zeros: Zeros) -> Array:
    return _joined(x, kernel, (stride, stride), zeros)


def _strided_forward(x: Array, kernel: Array, stride: int, zeros: Zeros) -> tuple[Array, tuple[Array, Array]]:
    return _evaluate(x, kernel, stride, zeros), (x, kernel)


def _strided_backward(stride: int, zeros: Zeros, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # jit drops whichever of the two is not asked for.
    (g_x,) = jax.linear_transpose(lambda x: _in_blocks(x, kernel, stride, zeros), x)(g)
    (g_kernel,) = jax.linear_transpose(lambda kernel: _in_blocks(x, kernel, stride, zeros), kernel)(g)
    return g_x, g_kernel


_strided: Any = jax.custom_vjp(_evaluate, nondiff_argnums=(2, 3))
_strided.defvjp(_strided_forward, _strided_backward)


def _in_blocks(x: Array, kernel: Array, stride: int, zeros: Zeros) -> Array:
    """A convolution with a stride as one with a stride in time alone, over blocks of pixels."""
    edges = [(0, 0)] * x.ndim
    # As many blocks as the outputs and the kernel reach over; what is beyond is cut off, or zeros that meet zeros.
    blocks = []
    for axis, (before, after) in enumerate(zeros[1:], start=2):
        length, tap = x.shape[axis], kernel.shape[axis - 1]
        blocks.append((length + before + after - tap) // stride + -(-tap // stride))
        edges[axis] = (before, stride * blocks[-1] - before - length)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(*edge, 0) for edge in edges])
    x = x.reshape(*x.shape[:2], blocks[0], stride, blocks[1], stride, x.shape[-1]).swapaxes(3, 4)
    x = x.reshape(*x.shape[:4], -1)
    return _joined(x, _blocked(kernel, stride), (stride, 1), (zeros[0], (0, 0), (0, 0)))


def _blocked(kernel: Array, stride: int) -> Array:
    """A kernel over pixels -> the same over blocks of stride x stride pixels, joined along the channels."""
    t, y, x, c_in, c_out = kernel.shape
    rows, columns = -(-y // stride), -(-x // stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, rows * stride - y), (0, columns * stride - x), (0, 0), (0, 0)))
    kernel = kernel.reshape(t, rows, stride, columns, stride, c_in, c_out).swapaxes(2, 3)
    return kernel.reshape(t, rows, columns, -1, c_out)
