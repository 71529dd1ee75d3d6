"""The optical flow of an optimum: of a clip of low contrast, in which not all that changes moves."""

from __future__ import annotations

import importlib
import importlib.util
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from stjax.errors import UsageError
from stjax.video.flow import LUMA

CONTRAST, REACH, ATTACHMENT = 0.25, 10.0, 8.0
"""Of the grey frames that flow is estimated on: standard deviation, grey 0..1; what is broader than REACH pixels is
taken away, and with it most of what flickers; weight of the data, lambda of TV-L1."""
SMALLEST, LARGEST = 8, 128
"""Sides that flow is estimated on. Frames with a longer side are halved first: flow of 224 px takes
four times as long, and shows no more."""
WINDOW, FLOOR = (1.0, 4.0, 4.0), 0.1
"""Over how many frames and pixels (sigma of a Gaussian) it is averaged whether change is explained; and below what
share of the clip's mean change a pixel counts as standing still."""


class OwnFlow(NamedTuple):
    """Where a clip's pixels go, and how much of what changes that explains.

    flow: from each frame to the next, pixels per frame; u right, v down. It fades to 0 where hardly anything changes:
      what flow is there is the neighbours'.
    explained: about each pixel, the share of the change from frame to frame that is gone once the next frame is
      brought back along the flow, 0..1; 1 where nothing changes.
    share: the same of the whole clip: at most 1, below 0 where the flow only adds to the difference; NaN of a clip in
      which nothing changes.
    speed: pixels per frame, which 99 % of the pixels stay below; of those that change, and by half or more as the flow
      explains.
    """

    flow: Float[np.ndarray, "n-1 height width uv=2"]
    explained: Float[np.ndarray, "n-1 height width"]
    share: float
    speed: float


def can_estimate() -> bool:
    """Whether scikit-image is installed."""
    return importlib.util.find_spec("skimage") is not None


def own_flow(frames: Real[np.ndarray, "n height width rgb=3"]) -> OwnFlow:
    """TV-L1 flow of a clip of any contrast, by scikit-image, with what it explains of the clip's change.

        explained = 1 - G |I_{t+1}(x + w(x)) - I_t(x)|^2 / (G |I_{t+1}(x) - I_t(x)|^2 + a tenth of the clip's mean)

    G averages over a few frames and pixels. Flow is estimated on grey frames, of which broad shading is taken away and
    to which one contrast is given; what it explains is measured on all three colours as they are. So flow that follows
    noise, or light that comes and goes, explains little (noise 0.1 to 0.2, flicker 0), whatever its length.

    Args:
      frames: consecutive, in grey levels or any other unit, with or without a mean; at least 8 pixels a side.
    Raises:
      UsageError: scikit-image is absent, or there are fewer than two RGB frames.

    On textures of 8 grey levels that shift by 0.15 to 6 px a frame, the mean error is 0.01 to 0.12 px. A disc of 12 px
    radius on a texture that stands still is seen at 2 px a frame, one of 6 px only in part.
    About 0.08 s for a pair of 112 x 112 on one CPU core.
    """
    if not can_estimate():
        raise UsageError("flow of an optimum needs scikit-image, which is not installed; install it: pip install "
                         "scikit-image")  # fmt: skip
    ndimage, registration = importlib.import_module("scipy.ndimage"), importlib.import_module("skimage.registration")
    x = np.asarray(frames, np.float32)
    if x.ndim != 4 or x.shape[-1] != 3 or len(x) < 2 or min(x.shape[1:3]) < SMALLEST:
        raise UsageError(f"flow needs frames of shape (n >= 2, height >= 8, width >= 8, 3): got {x.shape}")
    shape, times = x.shape[1:3], 1
    while max(x.shape[1:3]) > LARGEST:
        high, wide = x.shape[1] // 2, x.shape[2] // 2
        x = x[:, : 2 * high, : 2 * wide].reshape(len(x), high, 2, wide, 2, 3).mean(axis=(2, 4))
        times *= 2
    grey = x @ np.asarray(LUMA, np.float32)
    grey = grey - ndimage.gaussian_filter(grey, (0, REACH, REACH))
    grey = grey * (CONTRAST / max(float(grey.std()), np.finfo(np.float32).tiny))
    # Medians, since the solver leaves a chequerboard where it has not come to its end.
    flow = ndimage.median_filter(np.stack([_tvl1(registration, *pair) for pair in pairwise(grey)]), (1, 3, 3, 1))
    left, change = np.stack([_differences(ndimage, *pair, w) for pair, w in zip(pairwise(x), flow, strict=True)], 1)
    mean = float(change.mean())
    left, near = (ndimage.gaussian_filter(each, WINDOW) for each in (left, change))
    explained = (1 - left / (near + FLOOR * mean)).clip(0, 1) if mean > 0 else np.ones_like(near)
    share = 1 - float(left.mean()) / mean if mean > 0 else float("nan")
    seen = (near / (FLOOR * mean)).clip(0, 1) if mean > 0 else near
    flow = flow * seen[..., None]
    pace = np.hypot(flow[..., 0], flow[..., 1])[(explained >= 0.5) & (seen == 1)]
    speed = times * float(np.quantile(pace, 0.99)) if pace.size else 0.0
    flow, explained = times * _enlarged(flow, shape, times), _enlarged(explained, shape, times)
    return OwnFlow(flow.astype(np.float32), explained.astype(np.float32), share, speed)


def _tvl1(registration, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # Five warps find the same as the fifteen of the library's default, to 0.01 px. It answers along the axes (y, x).
    return registration.optical_flow_tvl1(first, second, attachment=ATTACHMENT, num_warp=5)[::-1].transpose(1, 2, 0)


def _differences(ndimage, this: np.ndarray, following: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Squared differences of two frames, brought back along the flow and as they are: (2, height, width).

    Where flow leads out of the frame nothing is known: both are 0.
    """
    y, x = np.mgrid[: this.shape[0], : this.shape[1]].astype(np.float32)
    y, x = y + flow[..., 1], x + flow[..., 0]
    inside = (y >= 0) & (y <= this.shape[0] - 1) & (x >= 0) & (x <= this.shape[1] - 1)
    back = np.stack(
        [ndimage.map_coordinates(each, [y, x], order=3, mode="nearest") for each in np.moveaxis(following, -1, 0)]
    )
    return np.stack([((np.moveaxis(back, 0, -1) - this) ** 2).sum(-1), ((following - this) ** 2).sum(-1)]) * inside


def _enlarged(x: np.ndarray, shape: tuple[int, int], times: int) -> np.ndarray:
    """Maps (n, height, width, ...) at `times` their size, the last row and column repeated up to a shape."""
    x = x.repeat(times, axis=1).repeat(times, axis=2)
    rest = [(0, side - own) for side, own in zip(shape, x.shape[1:3], strict=True)]
    return np.pad(x, [(0, 0), *rest, *[(0, 0)] * (x.ndim - 3)], mode="edge")
