"""Videos of strangers: each fault in one line, and no crash, hang or flood of memory in this process or its child."""

from __future__ import annotations

import itertools
import os
import re
import resource
import struct
import subprocess
import sys
import time
import wave
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from damage import spoiled
from films import HEIGHT, WIDTH, av, number, picture, write

from stjax import video
from stjax.video import decoder

FEW, MANY = 200, 2000
GIBIBYTE = 1 << 30


def drain(path: Path | str, most: int = 10_000) -> int:
    """How many frames there are, up to a number."""
    with video.open(path) as film:
        return sum(1 for _ in itertools.islice(film, most))


def refused(path: Path | str) -> str:
    """Why a video is refused, when it is opened or as it is read: one line that names it."""
    with pytest.raises(video.VideoError) as raised:
        drain(path)
    text = str(raised.value)
    assert text.isprintable()
    assert text.endswith(f": {raised.value.reason}")
    assert Path(path).name in text or not str(path).isprintable()
    assert "Error" not in text
    assert "<none>" not in text
    return raised.value.reason


def children_stay_small() -> bool:
    """No child has held 2 GiB; a child counts with what this process held when it was started."""
    own, children = (
        resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return children <= max(2 * GIBIBYTE, own)


@pytest.mark.parametrize("part", [0.5, 0.8])
@pytest.mark.parametrize(
    ("container", "codec", "how"),
    [
        ("mp4", "mpeg4", {}),
        ("mp4", "mpeg4", {"muxing": {"movflags": "faststart"}}),
        ("mp4", "libx264", {"muxing": {"movflags": "frag_keyframe+empty_moov"}, "g": "12"}),
        ("mkv", "mpeg4", {"rate": 5}),
        ("webm", "libvpx", {"rate": 5}),
        ("ivf", "libvpx", {}),
        ("apng", "apng", {"pixels": "rgb24"}),
        ("rm", "rv20", {"rate": 5}),
    ],
)
def test_truncated(container, codec, how, part, tmp_path):
    """Where the format says how long it is; a transport stream ends anywhere."""
    path = write(tmp_path / f"film.{container}", range(48), codec=codec, **how)
    assert drain(path) == 48
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert "whole" in refused(path)


def test_damage_within_is_passed_over(tmp_path):
    path = write(tmp_path / "film.avi", range(48), codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    begin, end = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)][20:22]
    data[begin : end - 8] = bytes(end - 8 - begin)  # up to the header of the next piece
    path.write_bytes(data)
    with video.open(path) as film:
        frames = [number(frame.rgb) for frame in film]
    assert frames == [k for k in range(48) if k != 20]


def y4m(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\nFRAME\n".encode() + bytes(1000)


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def gif(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    image = b"\x2c" + bytes(4) + size + b"\x00\x02\x02\x44\x01\x00"
    return b"GIF89a" + size + b"\x80\x00\x00" + bytes(6) + image + b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + image + b"\x3b"


BAD = {
    "empty.mp4": (b"", "empty"),
    "text.mp4": (b"This is a text.\n" * 100, "of a format that FFmpeg knows"),
    "noise.mp4": (np.random.default_rng(0).bytes(50_000), ""),
    "zeros.avi": (bytes(100_000), ""),
    "page.mp4": (b"<!DOCTYPE html><html><body>404</body></html>", "of a format that FFmpeg knows"),
    "large.y4m": (y4m(7680, 4320), ""),
    "huge.y4m": (y4m(30000, 30000), ""),
    "endless.y4m": (y4m(2_000_000_000, 2_000_000_000), ""),
    "large.png": (png(7680, 4320), ""),
    "huge.png": (png(30000, 30000), ""),
    "endless.png": (png(1 << 30, 1 << 30), ""),
    "huge.gif": (gif(65535, 65535), ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_soon_and_in_one_line(name, tmp_path):
    data, word = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    begin = time.monotonic()
    assert word in refused(path)
    assert time.monotonic() - begin < 5
    assert children_stay_small()


def test_sound_alone_and_no_frames_at_all(tmp_path):
    with wave.open(str(tmp_path / "song.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    assert refused(tmp_path / "song.wav") == "a video must have moving pictures: this has only audio"
    for container in ("mp4", "mkv", "avi"):
        assert "must" in refused(write(tmp_path / f"none.{container}", []))


def test_one_frame_is_a_video_and_names_do_not_matter(tmp_path):
    assert drain(write(tmp_path / "one.mkv", [7])) == 1
    path = write(tmp_path / "film.mkv")
    for name in ("film.avi", "film.m3u8", "film.txt", "film", "%03d.jpg", "-i", "concat:film|film"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert drain(tmp_path / name) == 24
    strange = tmp_path / "a\x1b[2J\nb.mp4"
    strange.write_bytes(b"no video" * 10)
    assert "FFmpeg" in refused(strange)


ADDRESSES = """
http://127.0.0.1/film.mkv https://x rtsp://x/y concat:a.mkv|b.mkv file:film.mkv lavfi:testsrc pipe:0
subfile,,start,0,end,0,,:film.mkv data:video/mp4;base64,AAAA
"""


@pytest.mark.parametrize("address", ADDRESSES.split())
def test_addresses_are_refused(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "film.mkv", range(2))
    reason = refused(address)
    assert "not an address" in reason or "No such file" in reason


M3U8 = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{film}\n#EXT-X-ENDLIST\n"
XML = '<?xml version="1.0"?>\n'
LISTS = {
    "list.m3u8": M3U8,
    "spaced.m3u8": f"\n\n{M3U8}",
    "marked.m3u8": f"\ufeff{M3U8}",
    "list.ffconcat": "ffconcat version 1.0\nfile '{film}'\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 32\n",
    "list.mpd": XML + '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><BaseURL>{film}</BaseURL></MPD>',
    "list.pls": "[playlist]\nFile1={film}\nNumberOfEntries=1\n",
    "list.xspf": XML + "<playlist><trackList><track><location>{film}</location></track></trackList></playlist>",
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("disguised", [False, True])
def test_lists_of_other_files_are_refused(name, disguised, tmp_path):
    film = write(tmp_path / "film.ts", codec="mpeg2video")
    for named in (film.name, str(film), f"file:{film}"):
        path = tmp_path / ("list.mp4" if disguised else name)
        path.write_text(LISTS[name].format(film=named))
        reason = refused(path)
        assert "other files" in reason or "of a format that FFmpeg knows" in reason


def test_films_that_lie_elsewhere_are_not_fetched(tmp_path):
    """A QuickTime track may say that its samples are in another file."""
    film = write(tmp_path / "film.mov", codec="mjpeg", pixels="yuvj420p")
    data = bytearray(film.read_bytes())
    other = tmp_path / "other.mov"
    other.write_bytes(data)
    at = data.rindex(b"url ")
    data[at : at + 8] = b"url \0\0\0\0"  # no longer in this file
    media = data.index(b"mdat") + 4
    data[media : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - media)
    film.write_bytes(data)
    assert "must" in refused(film)


@pytest.mark.parametrize("more", [0, 1])
def test_a_child_opens_no_other_file(more, tmp_path):
    """And no socket; of a folder of pictures, one picture at a time."""
    code = f"""
import runpy, socket, sys
child = runpy.run_path({str(decoder.CHILD)!r})
child["_close_doors"]({more})
held = []
for k in range({more}):
    held.append(open(sys.executable, "rb"))
for attempt in (lambda: open(sys.executable, "rb"), socket.socket):
    try:
        held.append(attempt())
        print("opened")
    except OSError as error:
        print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["24", "24"], done.stderr


def test_what_is_no_file_is_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "absent.mp4")
    (tmp_path / "folder").mkdir()
    assert "it is empty" in refused(tmp_path / "folder")
    os.mkfifo(tmp_path / "fifo")
    assert "must be a file" in refused(tmp_path / "fifo")
    assert "must be a file" in refused("/dev/zero")
    assert "null" in refused("a\0b")
    assert "long" in refused("a" * 5000)
    path = write(tmp_path / "film.mkv", range(2))
    path.chmod(0)
    if not os.access(path, os.R_OK):
        assert "Permission denied" in refused(path)


HOSTILE_CHILDREN = {
    "hangs": ("import time\ntime.sleep(100)", "nothing came of it"),
    "is killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "ended with code -11"),
    "fails": ("raise ImportError('libx is missing')", "ImportError: libx is missing"),
    "says nothing": ("", "ended with code 0"),
    "says nonsense": ("import sys\nsys.stdout.write('x' * 1000)\nsys.stdout.flush()", "FFmpeg"),
    "has a huge frame": (
        "import json, struct, sys\nabout = json.dumps(dict(height=1 << 20, width=1 << 20, rate=1.0)).encode()\n"
        "sys.stdout.buffer.write(struct.pack('<cdQ', b'v', 0.0, len(about)) + about)\nsys.stdout.flush()",
        "led astray",
    ),
    "has no numbers": (
        "import struct, sys\nsys.stdout.buffer.write(struct.pack('<cdQ', b'v', 0.0, 4) + b'nope')\nsys.stdout.flush()",
        "led astray",
    ),
    "promises a long message": (
        "import struct, sys\nsys.stdout.buffer.write(struct.pack('<cdQ', b'v', 0.0, 1 << 60))\nsys.stdout.flush()",
        "led astray",
    ),
    "sends a frame of another size": (
        "import json, struct, sys\nabout = json.dumps(dict(height=4, width=4, rate=1.0)).encode()\n"
        "sys.stdout.buffer.write(struct.pack('<cdQ', b'v', 0.0, len(about)) + about)\n"
        "sys.stdout.buffer.write(struct.pack('<cdQ', b'f', 0.0, 1 << 50))\nsys.stdout.flush()",
        "led astray",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_CHILDREN)
def test_nothing_that_a_child_does_harms_its_parent(name, tmp_path, monkeypatch):
    code, word = HOSTILE_CHILDREN[name]
    child = tmp_path / "child.py"
    child.write_text(code)
    monkeypatch.setattr(decoder, "CHILD", child)
    monkeypatch.setattr(decoder, "PATIENCE", 1.0)
    path = write(tmp_path / "film.mkv", range(2))
    begin = time.monotonic()
    with pytest.raises(video.VideoError) as raised:
        drain(path)
    assert word in raised.value.reason
    assert str(raised.value).isprintable()
    assert time.monotonic() - begin < 5


def test_who_reads_slowly_is_not_taken_for_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "PATIENCE", 0.5)
    with video.open(write(tmp_path / "film.mkv", range(3))) as film:
        for _ in film:
            time.sleep(1.0)


def test_a_child_has_an_end_to_its_memory(tmp_path, monkeypatch):
    path = write(tmp_path / "film.mkv", range(3), codec="libx264", paint=lambda k: picture(k, HEIGHT * 20, WIDTH * 20),
                 change=lambda c, s: (setattr(s, "height", HEIGHT * 20), setattr(s, "width", WIDTH * 20)))  # fmt: skip
    assert drain(path) == 3
    monkeypatch.setattr(decoder, "MEMORY", 16 << 20)
    assert refused(path)  # some decoders say no more than that they failed


def test_a_code_that_nobody_knows(tmp_path):
    path = write(tmp_path / "film.avi", range(3))
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    assert refused(path) == "a video must be in a code that FFmpeg reads: this is in an unknown one"


SEEDS = """
mp4/libx264 mp4/libx265 mp4/libsvtav1 webm/libvpx-vp9 mkv/ffv1 mkv/snow avi/mpeg4 avi/cinepak avi/utvideo ts/mpeg2video
flv/flv mov/png mov/prores_ks wmv/wmv2 mxf/mpeg2video ogv/libvpx gif/gif rm/rv20 nut/ffvhuff apng/apng
"""
PIXELS = {"gif": "rgb8", "png": "rgba", "cinepak": "rgb24", "prores_ks": "yuv422p10le", "apng": "rgba"}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[tuple[str, bytes]]:
    """Small whole files of many formats."""
    folder = tmp_path_factory.mktemp("seeds")
    found = []
    for name in SEEDS.split():
        container, codec = name.split("/")
        if codec in av.codecs_available:
            path = write(folder / f"film.{container}", range(8), codec=codec, pixels=PIXELS.get(codec, "yuv420p"))
            found.append((name, path.read_bytes()))
    return found


def survive(seeds: list[tuple[str, bytes]], folder: Path, numbers: range) -> None:
    """Damaged files, two at a time: each gives frames, or one line that says why not, within a decoder's patience."""

    def one(k: int) -> tuple[str, float, int]:
        name, data = seeds[k % len(seeds)]
        path = folder / f"{k}"
        path.write_bytes(spoiled(data, k))
        begin = time.monotonic()
        try:
            got = drain(path, 2000)
        except video.VideoError:
            got = 0
        path.unlink()
        return f"{name}, {k}", time.monotonic() - begin, got

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(one, numbers))
    slowest = max(outcomes, key=lambda outcome: outcome[1])
    assert slowest[1] < decoder.PATIENCE + 2, slowest
    assert children_stay_small()
    # Most damage is survived, and some is fatal: both ways are tried.
    assert 0.2 < np.mean([got > 0 for _, _, got in outcomes]) < 0.98


def test_damaged_files(seeds, tmp_path):
    survive(seeds, tmp_path, range(1, FEW + 1))


@pytest.mark.slow
def test_two_thousand_damaged_files(seeds, tmp_path):
    survive(seeds, tmp_path, range(FEW + 1, FEW + MANY + 1))
