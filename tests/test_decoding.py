"""What a video looks like and when: rotation, shape of pixel, fields, alpha, colours, rates, times; and its end."""

from __future__ import annotations

import gc
import itertools
import os
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from films import HEIGHT, WIDTH, av, number, picture, write

from stjax import UsageError, video
from stjax.video import decoder


def numbers(path: Path, **how) -> list[int]:
    with video.open(path, **how) as film:
        return [number(frame.rgb) for frame in film]


def first(path: Path, **how) -> np.ndarray:
    with video.open(path, **how) as film:
        return next(film).rgb


# Display matrices as cameras write them, and what they do to a picture by the standard: (x', y') = (ax + cy, bx + dy).
UPRIGHT = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1),
    (-1, 0, 0, 1): lambda x: x[:, ::-1],
    (1, 0, 0, -1): lambda x: x[::-1],
    (0, 1, 1, 0): lambda x: x.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda x: np.rot90(x, 2).transpose(1, 0, 2),
}


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The same MP4 with a display matrix, written where the standard says: in the header of its track."""
    a, b, c, d = (65536 * part for part in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, flags, times, track, duration, layer, group, volume
    assert struct.unpack(">9i", data[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("matrix", UPRIGHT)
def test_pictures_are_upright(matrix, tmp_path):
    path = write(tmp_path / "film.mp4", [3], codec="libx264", qp="1")
    plain = first(path)
    turned(path, matrix)
    assert (first(path) == UPRIGHT[matrix](plain)).all()
    # Half the short side, whichever that is now.
    assert first(path, short_side=48).shape == UPRIGHT[matrix](plain[::2, ::2]).shape


def test_interlaced_pictures_are_upright_too(tmp_path):
    path = write(tmp_path / "film.mp4", range(5), codec="libx264", **{"x264-params": "tff=1"})
    turned(path, (0, 1, -1, 0))
    with video.open(path) as film:
        assert [number(np.rot90(frame.rgb)) for frame in film] == list(range(5))


@pytest.mark.parametrize(("shape", "width"), [((16, 11), 186), ((1, 2), 64), ((500, 1), WIDTH), ((0, 1), WIDTH)])
def test_pixels_are_square(shape, width, tmp_path):
    def change(container, stream):
        if shape[0]:
            stream.codec_context.sample_aspect_ratio = Fraction(*shape)

    path = write(tmp_path / "film.mkv", [5], codec="libx264", change=change)
    with video.open(path) as film:
        assert (film.height, film.width) == (HEIGHT, width)
        rgb = next(film).rgb
    assert rgb.shape == (HEIGHT, width, 3)
    assert number(rgb) == 5


def test_short_sides_are_those_asked_for_and_shrinking_is_antialiased(tmp_path):
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, ::2] = 255
    path = write(tmp_path / "film.mkv", [0], codec="libx264rgb", pixels="rgb24", paint=lambda _: stripes, qp="0")
    assert (first(path) == stripes).all()
    small = first(path, short_side=24)
    assert small.shape == (24, 32, 3)
    assert np.abs(small[2:-2, 2:-2].astype(float) - 127.5).max() < 8
    assert first(path, short_side=192).shape == (192, 256, 3)


def test_fields_are_woven_into_frames_only_where_the_file_says_so(tmp_path):
    """A bar that jumps between the two fields of each frame leaves a comb, unless it is deinterlaced."""

    def fields(k: int):
        frame = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
        frame[0::2, 8 * k : 8 * k + 16] = 220
        frame[1::2, 8 * k + 4 : 8 * k + 20] = 220
        found = av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p")
        return found

    def comb(path: Path) -> tuple[int, float]:
        with video.open(path) as film:
            frames = np.stack([frame.rgb[..., 0].astype(float) for frame in film])
        return len(frames), np.abs(frames[2:-2, 8:-9] - (frames[2:-2, 7:-10] + frames[2:-2, 9:-8]) / 2).mean()

    plain = comb(write(tmp_path / "plain.mkv", range(12), codec="libx264", paint=fields, qp="4"))
    options = {"qp": "4", "x264-params": "tff=1"}
    flagged = comb(write(tmp_path / "flagged.mkv", range(12), codec="libx264", paint=fields, **options))
    assert plain[0] == flagged[0] == 12
    assert flagged[1] < 0.3 * plain[1]


def test_deinterlacing_keeps_numbers_and_times(tmp_path):
    path = write(tmp_path / "film.ts", codec="libx264", **{"x264-params": "tff=1"})
    with video.open(path) as film:
        frames = list(film)
    assert [number(frame.rgb) for frame in frames] == list(range(24))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(24) / 25, atol=1e-3)
    assert numbers(path, rate=12.5) == list(range(1, 24, 2))


@pytest.mark.parametrize(
    ("codec", "container", "pixels"),
    [("png", "mov", "rgba"), ("qtrle", "mov", "argb"), ("ffv1", "mkv", "yuva444p"), ("gif", "gif", "pal8")],
)
def test_what_is_transparent_lies_over_black(codec, container, pixels, tmp_path):
    shape = (HEIGHT, WIDTH // 4)
    alpha = np.concatenate([np.full(shape, a, np.uint8) for a in (0, 128, 255, 255)], axis=1)
    red = np.dstack([np.full_like(alpha, 200), np.full_like(alpha, 100), np.full_like(alpha, 50), alpha])

    def paint(_):
        frame = av.VideoFrame.from_ndarray(red, format="rgba")
        if pixels == "pal8":
            index = av.VideoFrame(WIDTH, HEIGHT, "pal8")
            plane = np.zeros((HEIGHT, index.planes[0].line_size), np.uint8)
            plane[:, :WIDTH] = np.where(alpha < 128, 0, 1)
            index.planes[0].update(plane.tobytes())
            palette = np.zeros((256, 4), np.uint8)
            palette[1:] = (50, 100, 200, 255)
            index.planes[1].update(palette.tobytes())
            return index
        return frame.reformat(format=pixels, src_colorspace="itu601", dst_colorspace="itu601")

    rgb = first(write(tmp_path / f"film.{container}", [0], codec=codec, pixels=pixels, paint=paint))
    inside = rgb[:, 4::8].astype(int)
    assert inside[:, 0].max() <= 3
    assert np.abs(inside[:, 11] - [200, 100, 50]).max() <= 4
    if pixels != "pal8":  # of which each colour is there or not
        assert np.abs(inside[:, 5] - [100, 50, 25]).max() <= 4


@pytest.mark.parametrize(("space", "red"), [("bt709", 0.2126), ("smpte170m", 0.299), (None, 0.299)])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_colours_follow_what_the_file_states(space, red, levels, tmp_path):
    """A red whose luma by the standard (Y = Kr R + Kg G + Kb B) is computed here."""
    blue = {0.2126: 0.0722, 0.299: 0.114}[red]
    colour = np.array([180.0, 60.0, 90.0])
    luma = colour @ [red, 1 - red - blue, blue]
    cb, cr = (colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)
    full = (luma, 128 + cb, 128 + cr)
    narrow = (16 + luma * 219 / 255, 128 + cb * 224 / 255, 128 + cr * 224 / 255)
    parts = full if levels == "pc" else narrow

    def paint(_):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, value in zip(frame.planes, parts, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        return frame

    def change(container, stream):
        stream.codec_context.color_range = 2 if levels == "pc" else 1
        if space:
            stream.codec_context.colorspace = {"bt709": 1, "smpte170m": 6}[space]

    rgb = first(write(tmp_path / "film.mkv", [0], codec="libx264", paint=paint, change=change, qp="0"))
    # Whole numbers of luma and chroma, and FFmpeg's own: up to three grey levels; the other matrix differs by ten.
    assert np.abs(rgb.reshape(-1, 3) - colour).max() <= 3.5


@pytest.mark.parametrize("rate", [24, Fraction(30000, 1001), 60])
def test_at_its_own_rate_each_frame_comes_once(rate, tmp_path):
    """Though Matroska rounds times to milliseconds."""
    path = write(tmp_path / "film.mkv", range(48), codec="libx264", rate=rate)
    assert numbers(path, rate=float(rate)) == list(range(48))
    assert numbers(path, rate=round(float(rate), 2)) == list(range(48))


def test_other_rates_repeat_and_leave_out(tmp_path):
    path = write(tmp_path / "film.mp4", range(20), rate=20)
    assert numbers(path, rate=40) == [k // 2 for k in range(40)]
    assert numbers(path, rate=10) == list(range(1, 20, 2))
    assert numbers(path, rate=1) == [10]
    with video.open(path, rate=40) as film:
        times = [frame.time for frame in film]
    assert (film.rate, film.frames) == (40.0, 40)
    assert times == [k / 40 for k in range(40)]


def test_a_varying_rate_is_resampled_by_presentation_time(tmp_path):
    """Frame k is shown from `begin[k]` on; at each moment asked for, the one that is on screen then."""
    begin = [0, 40, 80, 500, 520, 1000, 1400, 1440]
    path = write(tmp_path / "film.mkv", range(8), codec="libx264", times=lambda k: begin[k])
    with video.open(path) as film:
        frames = list(film)
    assert [number(frame.rgb) for frame in frames] == list(range(8))
    np.testing.assert_allclose([frame.time for frame in frames], np.array(begin) / 1000, atol=1e-3)
    for rate in (10, 25, 3):
        got = numbers(path, rate=rate)
        moments = (np.arange(len(got)) + 0.5) / rate * 1000
        expected = [max(k for k in range(8) if begin[k] <= moment) for moment in moments]
        assert got == expected
        assert len(got) == pytest.approx(1.44 * rate, abs=0.3 * rate)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts", "flv"])
@pytest.mark.parametrize("begin", [0, 700, -80])
def test_times_count_from_the_first_frame(container, begin, tmp_path):
    """With frames that are coded out of order, hence an edit list; and that of MP4 hides what lies before zero."""
    path = tmp_path / f"film.{container}"
    write(path, range(12), codec="libx264", times=lambda k: begin + 40 * k, bf="2")
    with video.open(path) as film:
        frames = list(film)
    hidden = 2 if begin < 0 and container in ("mp4", "mov") else 0
    assert [number(frame.rgb) for frame in frames] == list(range(hidden, 12))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12 - hidden) / 25, atol=2e-3)


def test_clocks_that_are_set_anew_do_not_stop_the_video(tmp_path):
    """Two recordings of one transport stream, of which the second begins hours later; no hours are filled."""
    path, whole = tmp_path / "both.ts", b""
    for k in range(2):
        part = tmp_path / f"{k}.ts"
        begin = 30_000_000 * k
        write(part, range(12 * k, 12 * k + 12), codec="libx264", times=lambda j, begin=begin: begin + 40 * j)
        whole += part.read_bytes()
    path.write_bytes(whole)
    with video.open(path) as film:
        frames = list(film)
    assert [number(frame.rgb) for frame in frames] == list(range(24))
    assert frames[-1].time == pytest.approx(23 / 25, abs=0.1)
    assert len(numbers(path, rate=25)) == pytest.approx(24, abs=2)


def test_empty_packets_are_not_the_end(tmp_path):
    """Theora and others write nothing where nothing changes; FFmpeg's decoders take nothing for the end."""
    path = tmp_path / "film.nut"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(12):
            frame = av.VideoFrame.from_ndarray(picture(k)).reformat(format="yuv420p")
            frame.pts, frame.time_base = k + (k >= 6), Fraction(1, 25)
            if k == 6:
                nothing = av.Packet(b"")
                nothing.pts = nothing.dts = 6
                nothing.time_base, nothing.stream = frame.time_base, stream
                container.mux(nothing)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert numbers(path) == list(range(12))
    assert numbers(path, rate=25) == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11]


def test_metadata_need_not_be_utf8(tmp_path):
    for container in ("avi", "mkv", "mp4"):
        path = write(tmp_path / f"film.{container}", range(3),
                     change=lambda container, stream: container.metadata.update(title="Z" * 8))  # fmt: skip
        data = path.read_bytes()
        assert b"Z" * 8 in data
        path.write_bytes(data.replace(b"Z" * 8, b"\xe4\xf6\xfc\xff\xfe\x80\x81\xc3"))
        assert numbers(path) == [0, 1, 2]


def with_sound(path: Path, *, seconds: float = 1.0, cover: bool = False, films: int = 1) -> Path:
    """A file of sound, `films` films and a picture of a cover."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("flac" if path.suffix == ".mkv" else "aac", rate=16000)
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(films)]
        if cover:
            streams.append(container.add_stream("mjpeg" if path.suffix == ".mkv" else "png", rate=25))
            streams[-1].disposition = av.stream.Disposition.attached_pic.value
        for k, stream in enumerate(streams):
            last = cover and k == len(streams) - 1
            stream.width, stream.height = (512, 384) if last else (WIDTH, HEIGHT)
            stream.pix_fmt = {"mpeg4": "yuv420p", "mjpeg": "yuvj420p", "png": "rgb24"}[stream.codec.name]
        for k, stream in enumerate(streams):
            last = cover and k == len(streams) - 1
            for j in [40] if last else range(12):
                frame = av.VideoFrame.from_ndarray(picture(j, stream.height, stream.width))
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = 0 if last else j, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, int(16000 * seconds)), np.float32), "fltp", "mono")
        samples.sample_rate, samples.pts = 16000, 0
        for frame in av.AudioResampler(sound.format, "mono", 16000, frame_size=1024).resample(samples):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def test_a_cover_is_no_video(tmp_path):
    for container in ("mp4", "mkv"):
        assert numbers(with_sound(tmp_path / f"film.{container}", cover=container == "mp4")) == list(range(12))
    for name, cover in (("song.mkv", False), ("song.mp4", False), ("covered.mp4", True)):
        with pytest.raises(UsageError, match="must have moving pictures: this has only audio"):
            video.open(with_sound(tmp_path / name, cover=cover, films=0))


def test_sound_may_be_longer_than_the_pictures(tmp_path):
    for container in ("mp4", "mkv", "avi"):
        assert numbers(with_sound(tmp_path / f"film.{container}", seconds=9.0)) == list(range(12))


def test_a_change_of_size_within_is_scaled_to_the_first(tmp_path):
    path, whole = tmp_path / "both.ts", b""
    for k in range(2):
        height, width = HEIGHT * (k + 1), WIDTH * (k + 1)
        part = tmp_path / f"{k}.ts"

        def change(container, stream, height=height, width=width):
            stream.height, stream.width = height, width

        write(part, range(12 * k, 12 * k + 12), codec="libx264", change=change,
              paint=lambda j, height=height, width=width: picture(j, height, width))  # fmt: skip
        whole += part.read_bytes()
    path.write_bytes(whole)
    with video.open(path) as film:
        frames = list(film)
    assert {frame.rgb.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert [number(frame.rgb) for frame in frames] == list(range(24))


def running(child: subprocess.Popen) -> bool:
    return child.poll() is None


def test_videos_can_be_closed_early_and_are_read_once(tmp_path):
    path = write(tmp_path / "film.mkv", codec="libx264")
    with video.open(path) as film:
        child = film._decoder.child
        assert os.getsid(child.pid) != os.getsid(0)  # where Ctrl-C does not reach it
        assert number(next(film).rgb) == 0
        assert running(child)
    assert not running(child)
    assert list(film) == []
    with video.open(path) as film:
        assert len(list(film)) == 24
        assert list(film) == []
    film = video.open(path)
    child = film._decoder.child
    del film
    gc.collect()
    assert not running(child)


def test_frames_belong_to_who_has_them(tmp_path):
    """They may be kept and written on; padding of rows is not kept along."""

    def change(container, stream):
        stream.width = 126

    path = write(tmp_path / "film.mkv", range(6), codec="libx264", change=change, paint=lambda k: picture(k)[:, :126])
    with video.open(path) as film:
        frames = [frame.rgb for frame in film]
    assert [number(rgb) for rgb in frames] == list(range(6))
    for rgb in frames:
        rgb[:] = 0
        whole = rgb if rgb.base is None else rgb.base
        assert whole.nbytes <= 1.01 * rgb.nbytes


def test_memory_is_flat_in_the_length(tmp_path):
    """Of the child, between its 50th and its 3,000th frame; this process holds what its pipe and one frame hold."""
    path = write(tmp_path / "film.mkv", itertools.islice(itertools.cycle(range(48)), 3000), codec="mpeg4", rate=100)

    def resident(process: int) -> int:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").is_file():
        pytest.skip("without /proc there is nothing to measure by")
    sizes = []
    with video.open(path, short_side=384) as film:
        for k, _ in enumerate(film):
            if k in (50, 1500, 2990):
                sizes.append((resident(film._decoder.child.pid), resident(os.getpid())))
    assert np.ptp(np.array(sizes), axis=0).max() < 8e6


@pytest.mark.parametrize("how", [{"rate": 0}, {"rate": -1.0}, {"rate": 1e9}, {"rate": float("nan")}, {"short_side": 0},
                                 {"short_side": 100_000}])  # fmt: skip
def test_numbers_out_of_range_are_refused(how, tmp_path):
    with pytest.raises(UsageError, match="must be"):
        video.open(write(tmp_path / "film.mkv", range(2)), **how)


def test_absence_of_pyav_is_said_in_one_line(monkeypatch, tmp_path):
    path = write(tmp_path / "film.mkv", range(2))
    monkeypatch.setattr(decoder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'stjax\[video\]'") as raised:
        video.open(path)
    assert not isinstance(raised.value, video.VideoError)


def test_the_child_loads_little(tmp_path):
    """Neither NumPy nor JAX, and of stjax only what decodes: it starts in a tenth of a second."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("without /proc nobody tells what a process has loaded")
    with video.open(write(tmp_path / "film.mkv", range(48), rate=1)) as film:
        maps = Path(f"/proc/{film._decoder.child.pid}/maps").read_text()
    assert "libavcodec" in maps
    assert "numpy" not in maps
    assert "jax" not in maps.replace("stjax", "")
