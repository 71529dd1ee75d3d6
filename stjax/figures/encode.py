"""Pictures in uint8 -> PNG, GIF and MP4 files, each there whole or not at all, in place of one of ours at most."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stjax.errors import UsageError
from stjax.files import MARK, claim, replacing

FRAME_MS = 150
"""How long one flow field or frame is shown, as in the paper's figures (method.md, section 5)."""


def png(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Writes one picture, (height, width, rgb=3) uint8, without loss. Returns `path`."""
    made = PngInfo()
    made.add_text("Software", MARK)
    with replacing(claim(path.parent, path)) as temporary:
        Image.fromarray(_rgb(picture[None])[0]).save(temporary, format="PNG", compress_level=4, pnginfo=made)
    return path


def gif(path: Path, frames: NDArray[np.uint8], milliseconds: int = FRAME_MS) -> Path:
    """Writes a clip that loops for ever, in colours chosen for the whole clip; white, black and grounds are exact.

    Equal neighbours are merged into one frame that is shown longer, so a clip that stands still is one frame.

    Args:
      path: of the file.
      frames: (time, height, width, rgb=3) uint8.
      milliseconds: a frame is shown for; GIF keeps multiples of 10.
    Returns:
      path.
    Raises:
      UsageError: frames of another shape or type.
    """
    frames = _rgb(frames)
    # 255 colours at most: the 256th marks what did not change since the last frame, which packs far better.
    exact = [[255, 255, 255], [0, 0, 0], *_grounds(frames)]
    colours = np.concatenate([exact, _palette(frames, 255 - len(exact))]).ravel().tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    numbers = np.stack(
        [
            np.asarray(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
            for frame in frames
        ]
    )
    # Error diffusion makes still parts shimmer where something moves above: they keep their first colours.
    numbers = np.where((frames == frames[0]).all(axis=(0, -1)), numbers[0], numbers)
    # Pillow finds the nearest colour a few levels wide of the mark: paper must not turn out pink, nor grey speckled.
    for number, colour in enumerate(exact):
        numbers[(frames == np.array(colour, np.uint8)).all(axis=-1)] = number
    drawn = [Image.fromarray(number) for number in numbers]
    for image in drawn:
        image.putpalette(colours)
    with replacing(claim(path.parent, path)) as temporary:
        drawn[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=drawn[1:],
            duration=milliseconds,
            loop=0,
            optimize=True,
            disposal=1,
            comment=MARK.encode(),
        )
    return path


def mp4(path: Path, frames: NDArray[np.uint8], milliseconds: int = FRAME_MS) -> Path:
    """Writes a clip as H.264 in 4:2:0, which every browser and slide program plays. Returns `path`.

    Odd heights and widths get one more row or column, a copy of the last: the format knows even sizes only.
    A film has no loop of its own; ask the player.

    Args:
      path: of the file.
      frames: (time, height, width, rgb=3) uint8.
      milliseconds: a frame is shown for.
    Returns:
      path.
    Raises:
      UsageError: frames of another shape or type, or imageio-ffmpeg is not installed.
    """
    try:
        from imageio_ffmpeg import write_frames
    except ImportError as error:
        raise UsageError("MP4 needs imageio-ffmpeg; install it, or ask for GIF") from error
    frames = _rgb(frames)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    # Colours are converted and labelled as BT.709; unlabelled, players guess by size and tints shift.
    tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
    options = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-crf", "16", "-movflags", "+faststart"]
    options += ["-metadata", f"comment={MARK}"]
    options += [word for key, value in tags.items() for word in (f"-{key}", value)]
    with replacing(claim(path.parent, path)) as temporary:
        writer = write_frames(
            str(temporary),
            (width, height),
            fps=1000 / milliseconds,  # pyright: ignore[reportArgumentType]  (any number will do)
            codec="libx264",
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            quality=None,  # pyright: ignore[reportArgumentType]  (None: `-crf` says it)
            output_params=options,
            ffmpeg_log_level="error",
        )
        with warnings.catch_warnings():
            # JAX warns of any fork in its process; this child becomes ffmpeg at once and touches no JAX.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            writer.send(None)
        try:
            for frame in frames:
                writer.send(np.ascontiguousarray(frame))
        finally:
            writer.close()
    return path


def _grounds(frames: NDArray[np.uint8]) -> list[list[int]]:
    """Up to four colours of which there is much, a hundredth of all pixels or more each; white and black are not asked.

    >>> _grounds(np.array([[[[128] * 3] * 9 + [[255] * 3] * 9 + [[7, 8, 9]]]], np.uint8))
    [[128, 128, 128], [7, 8, 9]]
    """
    pixels = frames.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 30_000)].astype(np.int32)
    colours, counts = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1], np.int32), return_counts=True)
    much = (counts >= 0.01 * len(pixels)) & (colours > 0) & (colours < (1 << 24) - 1)
    most = colours[much][np.argsort(-counts[much], kind="stable")][:4]
    return [[int(c) >> 16, int(c) >> 8 & 255, int(c) & 255] for c in most]


def _palette(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """One palette for all frames, (count, 3), so that colours that stay, stay the same.

    Median cut alone gives pale grounds nearly all colours and dulls the small, vivid parts, which are what
    one looks at. So a box of like colours counts by the square root of its pixels, and a third of the palette
    is then chosen one by one as the colour farthest from all chosen before (Gonzalez 1985): dithering reaches
    what lies between colours, never what lies outside them.
    """
    pixels = frames.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 30_000)]
    boxes = (pixels >> 3).astype(np.int32) @ np.array([1024, 32, 1], np.int32)
    counts, some = np.bincount(boxes, minlength=1 << 15), np.zeros(1 << 15, np.int32)
    some[boxes] = np.arange(len(boxes))
    colours, counts = pixels[some[counts > 0]], counts[counts > 0]
    weight = np.cumsum(np.sqrt(counts))
    even = colours[np.searchsorted(weight, np.linspace(0, weight[-1], 4000, endpoint=False))]
    kept = 2 * count // 3
    cut = Image.fromarray(even[None]).quantize(kept, method=Image.Quantize.MEDIANCUT).getpalette() or []
    chosen = np.zeros((count, 3), np.uint8)
    kept = min(len(cut) // 3, kept)
    chosen[:kept] = np.reshape(cut[: 3 * kept], (-1, 3))
    points = colours.astype(np.float32)
    taken = np.concatenate([chosen[:kept], [[255] * 3, [0] * 3]]).astype(np.float32)
    nearest = ((points**2).sum(-1)[:, None] - 2 * points @ taken.T + (taken**2).sum(-1)).min(axis=1)
    for number in range(kept, count):
        chosen[number] = colours[nearest.argmax()]
        away = points - chosen[number]
        nearest = np.minimum(nearest, np.einsum("nc,nc->n", away, away))
    return chosen


def _rgb(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise UsageError(f"expected (time, height, width, 3) in uint8, got {frames.shape} in {frames.dtype}")
    return frames
