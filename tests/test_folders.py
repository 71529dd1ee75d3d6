"""Folders: of frames, of videos, in the authors' layout; stored flow; and shots parted as frames come."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from films import HEIGHT, WIDTH, number, picture, write
from PIL import Image

from stjax import UsageError, video
from stjax.preprocess import encode_flow
from stjax.video.cuts import numbered_shots, shots
from stjax.video.listing import Refusal, attempt, listing
from stjax.video.stored import flow_folders, stored_flow


def folder_of(path: Path, count: int = 12, name: str = "frame{:06d}.jpg", first: int = 1) -> Path:
    """Frames by another writer than ours, in an order that a file system does not keep."""
    path.mkdir(parents=True)
    for k in reversed(range(count)):
        Image.fromarray(picture(k)).save(path / name.format(k + first), quality=95)
    return path


@pytest.mark.parametrize("name", ["frame{:06d}.jpg", "{}.png", "img-{}.JPEG", "2 {}.bmp", "{:03d}.webp"])
def test_frames_come_in_the_order_of_their_numbers(name, tmp_path):
    path = folder_of(tmp_path / "clip", name=name)
    (path / ".hidden.jpg").write_bytes(b"no picture")
    (path / "Thumbs.db").write_bytes(b"no picture")
    with video.open(path) as film:
        assert (film.height, film.width, film.rate, film.frames, film.duration) == (HEIGHT, WIDTH, 25.0, 12, 12 / 25)
        frames = list(film)
    assert [number(frame.rgb) for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == [k / 25 for k in range(12)]


def test_a_long_list_of_names_is_no_hindrance(tmp_path):
    """More of them than a pipe holds."""
    path = folder_of(tmp_path / "clip", 1, "0.png", 0)
    for k in range(1, 700):
        os.link(path / "0.png", path / f"{k}{'x' * 200}.png")
    with video.open(path, short_side=12) as film:
        assert film.frames == 700
        assert sum(1 for _ in film) == 700


def test_a_folder_has_the_rate_that_is_given_and_any_size(tmp_path):
    path = folder_of(tmp_path / "clip")
    with video.open(path, rate=10, short_side=48) as film:
        assert (film.rate, film.duration) == (10.0, 1.2)
        frames = list(film)
    assert [frame.time for frame in frames] == [k / 10 for k in range(12)]
    assert frames[0].rgb.shape == (48, 64, 3)


def test_pictures_of_a_folder_are_those_of_another_reader(tmp_path):
    path = folder_of(tmp_path / "clip", 3, "{}.png")
    with video.open(path) as film:
        assert all((frame.rgb == picture(k)).all() for k, frame in enumerate(film))
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "grey").mkdir()
    Image.fromarray(grey).save(tmp_path / "grey" / "0.jpg", quality=95)
    with video.open(tmp_path / "grey") as film, Image.open(tmp_path / "grey" / "0.jpg") as read:
        ours, theirs = next(film).rgb, np.asarray(read)
    assert np.abs(ours.astype(int) - theirs[..., None]).max() <= 1
    # A photograph taken upright, with a camera that lay on its side.
    (tmp_path / "turned").mkdir()
    turned = Image.fromarray(picture(5))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned" / "0.jpg", quality=95, exif=exif)
    with video.open(tmp_path / "turned") as film:
        rgb = next(film).rgb
    assert number(np.rot90(rgb)) == 5


def test_broken_folders_are_refused(tmp_path):
    path = folder_of(tmp_path / "clip")
    for name, content, word in (
        ("frame000005.jpg", b"no picture", "frame000005.jpg is not"),
        ("frame000005.jpg", b"", "frame000005.jpg is not"),
        ("notes.txt", b"hello", "notes.txt is none"),
    ):
        before = (path / name).read_bytes() if (path / name).exists() else None
        (path / name).write_bytes(content)
        with pytest.raises(video.VideoError, match=word), video.open(path) as film:
            list(film)
        (path / name).unlink()
        if before:
            (path / name).write_bytes(before)
    Image.fromarray(picture(0)[:48]).save(path / "frame000005.jpg")
    with pytest.raises(video.VideoError, match="pictures of one size"), video.open(path) as film:
        list(film)
    (path / "frame000005.jpg").unlink()
    os.mkfifo(path / "frame000005.jpg")
    with pytest.raises(video.VideoError, match=r"frame000005\.jpg is not"), video.open(path) as film:
        list(film)


@pytest.fixture
def layout(tmp_path) -> Path:
    """As the authors lay out data: two videos, one of which has flow."""
    for name in ("v_Run_g01_c01", "v_Run_g01_c10"):
        folder_of(tmp_path / "jpegs_256" / name)
    for axis in "uv":
        path = tmp_path / "tvl1_flow" / axis / "v_Run_g01_c01"
        path.mkdir(parents=True)
        for k in range(11):
            code = np.full((HEIGHT, WIDTH), 10 * k + (100 if axis == "u" else 60), np.uint8)
            Image.fromarray(code).save(path / f"frame{k + 1:06d}.jpg", quality=100)
    return tmp_path


def test_the_authors_layout_is_a_list_of_videos(layout):
    found, refused = listing([layout])
    assert [path.relative_to(layout).as_posix() for path in found] == [
        "jpegs_256/v_Run_g01_c01", "jpegs_256/v_Run_g01_c10"]  # fmt: skip
    assert refused == []
    with video.open(found[0]) as film:
        assert [number(frame.rgb) for frame in film] == list(range(12))


def test_stored_flow_gives_back_the_very_codes(layout):
    fields = list(stored_flow(layout / "jpegs_256" / "v_Run_g01_c01"))
    assert len(fields) == 11
    for k, field in enumerate(fields):
        assert (field.shape, field.dtype) == ((HEIGHT, WIDTH, 2), np.float32)
        codes = np.asarray(encode_flow(field, mean=0.0))
        assert (codes == [10 * k + 100, 10 * k + 60]).all()
        np.testing.assert_allclose(field[0, 0], np.array([10 * k + 100, 10 * k + 60]) * 40 / 255 - 20, rtol=1e-5)
    without = layout / "jpegs_256" / "v_Run_g01_c10"
    assert flow_folders(without) is None
    with pytest.raises(UsageError, match="tvl1_flow/u/v_Run_g01_c10"):
        next(stored_flow(without))


def test_folders_are_listed_as_people_count(tmp_path):
    root = tmp_path / "clips"
    names = ["b/clip2.mp4", "b/clip10.mp4", "b/.hidden.mp4", "a.mkv", "C.avi", ".cache/x.mp4", "b/c/deep.mov"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    folder_of(root / "b" / "frames", 2)
    (root / "empty.mp4").write_bytes(b"")
    (root / "nothing").mkdir()
    (root / "loop").symlink_to(root)
    (root / "gone.mp4").symlink_to(root / "absent")
    os.mkfifo(root / "pipe")
    found, refused = listing([root, root / "a.mkv", tmp_path / "absent"])
    assert [path.relative_to(root).as_posix() for path in found] == [
        "a.mkv", "b/c/deep.mov", "b/clip2.mp4", "b/clip10.mp4", "b/frames", "C.avi", "a.mkv"]  # fmt: skip
    assert {refusal.path.name: refusal.reason for refusal in refused} == {
        "empty.mp4": "this file is empty",
        "nothing": "this folder holds no video",
        "gone.mp4": "there is no such file",
        "pipe": "this is neither a file nor a folder",
        "absent": "there is no such file",
    }


def test_a_bad_video_stops_nothing_but_itself(tmp_path):
    write(tmp_path / "1.mkv", range(5))
    (tmp_path / "2.mkv").write_bytes(b"no video" * 100)
    path = write(tmp_path / "3.avi", range(7))
    path.rename(tmp_path / "3.mp4")
    found, refused = listing([tmp_path])

    def count(path: Path) -> int:
        with video.open(path) as film:
            return sum(1 for _ in film)

    assert [(path.name, n) for path, n in attempt(found, count, refused)] == [("1.mkv", 5), ("3.mp4", 7)]
    ((path, reason),) = refused
    assert path.name == "2.mkv"
    assert reason == "a video must be whole, and of a format that FFmpeg knows: this is not"

    def wrong(path: Path) -> int:
        raise UsageError("this is no video's fault")

    with pytest.raises(UsageError, match="no video's fault"):
        list(attempt(found, wrong, []))
    assert isinstance(refused[0], Refusal)


def parted(frames: np.ndarray) -> list[slice]:
    """Cuts of a whole video, by the formula: d > 10 and d > 2.5 median of the nine around it."""
    small = frames[:, ::4, ::4].astype(np.float32)
    change = np.abs(small[1:] - small[:-1]).mean((1, 2, 3))
    usual = np.array([np.median(change[max(0, i - 4) : i + 5]) for i in range(len(change))])
    edges = [0, *(1 + np.flatnonzero((change > 10.0) & (change > 2.5 * usual))).tolist(), len(frames)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("seed", range(20))
def test_shots_are_parted_as_frames_come(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    level = np.cumsum(rng.normal(0, 1, n) + rng.choice([0, 0, 0, 0, 60, -60], n))
    frames = np.clip(128 + level, 0, 255)[:, None, None, None] + rng.normal(0, 3, (n, 12, 16, 3))
    expected = parted(frames)
    assert shots(frames) == expected
    assert [shot for shot, _ in numbered_shots(frames)] == [
        k for k, run in enumerate(expected) for _ in range(run.stop - run.start)]  # fmt: skip


def test_no_more_than_four_frames_are_read_ahead():
    read = []

    def frames():
        for k in range(30):
            read.append(k)
            yield np.full((8, 8, 3), 200.0 * (k >= 15))

    for k, (shot, frame) in enumerate(numbered_shots(frames())):
        assert len(read) <= k + 5
        assert shot == (k >= 15)
        assert frame[0, 0, 0] == 200.0 * (k >= 15)


def test_shots_of_a_file(tmp_path):
    def scene(k: int) -> np.ndarray:
        return picture(k) if k < 10 else 255 - picture(k)

    path = write(tmp_path / "film.mkv", range(20), codec="libx264", paint=scene)
    with video.open(path) as film:
        parts = [shot for shot, _ in numbered_shots(film, rgb=lambda frame: frame.rgb)]
    assert parts == [0] * 10 + [1] * 10
