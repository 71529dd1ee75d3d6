"""Right frames at right times, of each container, codec and pixel format that PyAV can write."""

from __future__ import annotations

import numpy as np
import pytest
from films import number, picture, write

from stjax import video

FORMATS = """
mp4  libx264/yuv420p libx264/yuv422p libx264/yuv444p libx264/yuv420p10le libx264/gray libx265/yuv420p libsvtav1/yuv420p
mp4  libvpx-vp9/yuv420p mpeg4/yuv420p mpeg2video/yuv420p
mov  prores_ks/yuv422p10le prores_ks/yuva444p10le qtrle/rgb24 qtrle/argb png/rgba png/rgb48be png/gray16be png/monob
mov  cfhd/yuv422p10le v210/yuv422p10le svq1/yuv410p mjpeg/yuvj420p jpeg2000/yuv444p tiff/rgb24
mkv  libx264/yuv420p libx265/yuv420p10le ffv1/yuv444p16le ffv1/gray16le rawvideo/yuv420p libvpx/yuv420p
mkv  mpeg2video/yuv420p snow/yuv420p
webm libvpx/yuv420p libvpx-vp9/yuv420p libsvtav1/yuv420p
avi  mpeg4/yuv420p libx264/yuv420p msmpeg4/yuv420p mjpeg/yuvj420p huffyuv/yuv422p utvideo/yuv420p cinepak/rgb24
avi  zmbv/bgr0 rawvideo/bgr24 magicyuv/yuv444p
flv  flv/yuv420p libx264/yuv420p flashsv/bgr24
ts   libx264/yuv420p libx265/yuv420p mpeg2video/yuv420p
mpg  mpeg1video/yuv420p mpeg2video/yuv420p
vob  mpeg2video/yuv420p
wmv  wmv1/yuv420p wmv2/yuv420p libx264/yuv420p
mxf  mpeg2video/yuv420p prores_ks/yuv422p10le
nut  ffvhuff/yuv420p rawvideo/rgb565le
3gp  mpeg4/yuv420p
rm   rv20/yuv420p
ogv  libvpx/yuv420p
swf  flv/yuv420p
ivf  libvpx-vp9/yuv420p
y4m  rawvideo/yuv420p
apng apng/rgba
gif  gif/rgb8
f4v  libx264/yuv420p
avif libsvtav1/yuv420p
h264 libx264/yuv420p
hevc libx265/yuv420p
m2v  mpeg2video/yuv420p
obu  libsvtav1/yuv420p
mjpeg mjpeg/yuvj420p
"""
"""Containers, and what is written into them; the last five are none: they hold no times but a rate."""
CASES = [(row.split()[0], *each.split("/")) for row in FORMATS.strip().splitlines() for each in row.split()[1:]]


@pytest.mark.parametrize(("container", "codec", "pixels"), CASES, ids=map("-".join, CASES))
def test_every_frame_comes_once_and_in_time(container, codec, pixels, tmp_path):
    path = write(tmp_path / f"film.{container}", codec=codec, pixels=pixels)
    with video.open(path) as film:
        frames = list(film)
    assert [number(frame.rgb) for frame in frames] == list(range(24))
    # Matroska and its like round to milliseconds, GIF to hundredths.
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(24) / 25, atol=2e-3)
    assert film.rate == pytest.approx(25, rel=0.05)
    assert (film.height, film.width) == frames[0].rgb.shape[:2] == picture(0).shape[:2]
    assert frames[0].rgb.dtype == np.uint8
    assert film.frames in (24, None)
    if container not in ("mpg", "vob"):  # of these FFmpeg guesses it, here from one packet
        assert film.duration is None or film.duration == pytest.approx(24 / 25, abs=0.09)
