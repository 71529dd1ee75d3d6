"""The smoothness penalty seen in its own eigenvectors, the cosines.

R_TV of equation (3), with open borders, is x^T (kappa (L_y + L_x) + chi kappa L_t) x. The orthonormal cosine
transform (DCT-II, Strang 1999) diagonalises each L: l_k = 2 - 2 cos(pi k / n). So functions of the penalty's
operator, such as its inverse, cost two small matrix products an axis.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def eigenvalues(n: int) -> np.ndarray:
    """l_k = 2 - 2 cos(pi k / n), k = 0..n-1: squared differences along an axis of n with open borders.

    >>> [float(v) for v in eigenvalues(2).round(6)]
    [0.0, 2.0]
    """
    return 2.0 - 2.0 * np.cos(np.pi * np.arange(n) / n)


def cosine(x: Array, axes: tuple[int, ...], inverse: bool = False) -> Array:
    """The orthonormal DCT-II along some axes, or its inverse, as products with the transform's matrix.

    >>> x = jnp.arange(12.0).reshape(2, 2, 3)
    >>> bool(jnp.allclose(cosine(cosine(x, (0, 2)), (0, 2), inverse=True), x, atol=1e-5))
    True
    """
    for axis in axes:
        n = x.shape[axis]
        k, i = np.arange(n)[:, None], np.arange(n)[None]
        matrix = np.sqrt(np.where(k == 0, 1, 2) / n) * np.cos(np.pi * (i + 0.5) * k / n)
        matrix = jnp.asarray(matrix.T if inverse else matrix, x.dtype)
        # Full precision also where products are rounded by default (TPU, tf32).
        product = lax.dot_general(matrix, x, (((1,), (axis,)), ((), ())), precision=lax.Precision.HIGHEST)
        x = jnp.moveaxis(product, 0, axis)
    return x


def smooth_gradient(x: Array, smoothing: Any, slow: int | None = None, chi: Any = 0.0) -> Array:
    """(1 + smoothing (L_y + L_x + chi L_t))^-1 x: the Sobolev smoothing of one stream.

    Args:
      x: a stream of a clip, (..., [fields,] height, width, rgb or uv).
      smoothing: >= 0; structure finer than about its root in pixels is damped. 0 leaves x as it is.
      slow: the axis of L_t, counted from the end; None for a still, in which chi has no part.
      chi: >= 0; 0 leaves frames or fields apart.

    >>> x = jnp.zeros((1, 1, 2, 1)).at[0, 0, 0, 0].set(1.0)
    >>> [round(float(v), 4) for v in smooth_gradient(x, 1.0).ravel()]
    [0.6667, 0.3333]
    """
    y = x.ndim - 3
    weights = {y: 1.0, y + 1: 1.0} | ({} if slow is None else {x.ndim + slow: chi})
    total = jnp.ones((1,) * x.ndim, x.dtype)
    for axis, weight in weights.items():
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        total = total + smoothing * weight * jnp.asarray(eigenvalues(x.shape[axis]).reshape(shape), x.dtype)
    axes = tuple(weights)
    return cosine(cosine(x, axes) / total, axes, inverse=True)
