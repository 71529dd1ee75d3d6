"""Does a network answer to a clip as it does to what it was trained on? What keeps optima of classes near real video.

Driven by one class alone, the layers below it leave all that they ever answered, and the picture is of no thing. A
network with batch normalisation has kept the mean and the standard deviation of each of its channels over the data that
it was trained on, and these say, layer by layer, what natural activity is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp

from stjax.types import Activations, Moments, Scalar

EPSILON = 1e-6
"""Added to a variance before its root is taken, whose slope is infinite at 0."""


@dataclass(frozen=True, kw_only=True)
class Naturalness:
    """How far the activity of all layers is from what is natural; weighed against the unit, within a(x).

        N(x) = sum_l mean_c [ (m_lc - mu_lc)^2 + (s_lc - sigma_lc)^2 ]

    m and s are the mean and the standard deviation of channel c of layer l over the places of one clip; mu and sigma
    are its moments over the training data. Of layers whose moments are not known there is no term. Published for
    images, a batch of them at a time, with the unsquared norm over the channels and with variances: Yin et al.,
    Dreaming to distill: data-free knowledge transfer via DeepInversion, CVPR 2020.

    Args:
      weight: of N, in units of the objective, >= 0.

    >>> a = {"stem": jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)}
    >>> round(float(Naturalness(weight=1.0)(a, {"stem": Moments(jnp.zeros(1), jnp.ones(1))})), 3)
    4.0
    """

    weight: float

    def __call__(self, activations: Activations, moments: Mapping[str, Moments]) -> Scalar:
        """N(x), unweighted."""
        departure = jnp.zeros(())
        for layer, (mu, sigma) in moments.items():
            if layer in activations:
                a = activations[layer].astype(jnp.float32)
                a = a.reshape(-1, a.shape[-1])
                # As products with a row of 1 / places: a class of I3D takes 8 % longer with N, not 34 % as with `var`.
                share = jnp.full((len(a),), 1 / len(a))
                m, squares = (jnp.dot(share, x, precision="highest") for x in (a, a * a))
                s = jnp.sqrt(jnp.maximum(squares - m * m, 0.0) + EPSILON)
                departure += jnp.mean((m - mu) ** 2 + (s - sigma) ** 2)
        return departure
