"""Optical flow between the frames of a clip, in pixels."""

from __future__ import annotations

import importlib
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Real

from stjax.errors import UsageError

LUMA = (0.299, 0.587, 0.114)
"""RGB -> grey, ITU-R BT.601."""


def tvl1(frames: Real[np.ndarray, "n height width rgb=3"]) -> Float[np.ndarray, "n-1 height width uv=2"]:
    """TV-L1 flow from each frame to the next, by scikit-image.

        argmin_w  sum |grad w|  +  lambda |I_{t+1}(x + w(x)) - I_t(x)|,   lambda = 15, I in 0..1

    Scale the frames before, not the flow after: displacements are in pixels of the frames given.

    Args:
      frames: RGB, 0..255, uint8 or float.
    Returns:
      float32; u to the right, v downward, in pixels per frame, where the first frame of the pair stands.
    Raises:
      UsageError: scikit-image is absent, or there are fewer than two RGB frames.

    Zach, Pock & Bischof, A duality based approach for realtime TV-L1 optical flow, DAGM 2007.
    About 0.4 s for a pair of 224x224 on one CPU core.
    """
    try:
        registration = importlib.import_module("skimage.registration")
    except ImportError:
        raise UsageError(
            "TV-L1 flow needs scikit-image, which is not installed; install it: pip install scikit-image"
        ) from None
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise UsageError(f"flow needs frames of shape (n >= 2, height, width, 3): got {frames.shape}")
    # The weight of the data term is tuned for grey values in 0..1; on 0..255 the flow is noise.
    grey = (frames.astype(np.float32) @ np.asarray(LUMA, np.float32)) / 255.0
    # The library answers along the axes (y, x): (v, u).
    fields = [registration.optical_flow_tvl1(first, second)[::-1] for first, second in pairwise(grey)]
    return np.stack(fields).transpose(0, 2, 3, 1).astype(np.float32)
