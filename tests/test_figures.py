"""What the figures show, and what is on disk when something goes wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from records import BOTH, SETTINGS, film, flow, make_record, still, store_arrays

from stjax import figures
from stjax.errors import UsageError
from stjax.figures import color, encode, layout, sheets, views
from stjax.figures.look import look
from stjax.record import Record
from stjax.types import Input


def moving(side: int = 12, fields: int = 10) -> np.ndarray:
    """A blob that goes right, in flow that moves with it: (1, fields, side, side, 2) float32."""
    y, x = np.mgrid[:side, :side] / side
    centre = np.linspace(0.2, 0.8, fields)[:, None, None]
    blob = np.exp(-((x - centre) ** 2 + (y - 0.5) ** 2) / 0.02)
    return np.stack([60 * blob, 8 * blob - 4], axis=-1)[None].astype(np.float32)


def draw_array(each: Input, unit: int) -> np.ndarray:
    """Noise of a unit's own, or the blob for flow."""
    if each.kind == "flow":
        return moving(each.length("height"), each.length("fields"))
    return np.random.default_rng(unit).normal(size=each.shape).astype(np.float32) * 20


def finish(
    directory: Path, layer: str, unit: int, chi: float | None, inputs: tuple[Input, ...] = (), **changes: Any
) -> Record:
    """Puts one result on disk; returns its record."""
    inputs = inputs or {"appearance": (still(),), "motion": (flow(),)}.get(layer.partition("/")[0], BOTH)
    record = make_record(inputs, layer=layer, unit=unit, chi=chi, **changes)
    return store_arrays(directory, record, {each.name: draw_array(each, unit) for each in inputs})


def conv(directory: Path, units: int) -> list[Record]:
    """Both streams of one layer, at chi 0 and 10."""
    found = []
    for unit in range(units):
        found.append(finish(directory, "appearance/conv2_1", unit, None))
        found += [finish(directory, "motion/conv2_1", unit, chi) for chi in (0.0, 10.0)]
    return found


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.is_file()]


# Colours


def test_frames_span_all_greys_and_knows_the_mean():
    picture = color.frames(np.array([[[[-1.0, 0, 1]]], [[[0, 0, 2.0]]]]), mean=(10, 10, 10))
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    shifted = color.frames(np.zeros((1, 1, 3)), mean=(0, 50, 100))
    assert shifted.tolist() == [[[0, 128, 255]]]


def test_zero_flow_is_one_grey_in_all_three_channels():
    flow = np.random.default_rng(0).normal(3, 9, size=(10, 8, 8, 2))
    flow[4, 2, 3] = 0
    zero = color.components(flow)[4, 2, 3]
    assert zero[0] == zero[1] == zero[2]
    assert 0 < zero[0] < 255


def test_components_have_one_scale_for_the_whole_clip():
    flow = np.zeros((2, 1, 2, 2))
    flow[0, 0, 0], flow[1, 0, 0] = (-4, 0), (2, 0)
    picture = color.components(flow)  # u, v, speed lie in -4..4
    assert picture[0, 0, 0].tolist() == [0, 128, 255]
    assert picture[1, 0, 0].tolist() == [191, 128, 191]


@pytest.mark.parametrize(
    ("flow", "expected"),
    [((5, 0), (255, 0, 0)), ((0, 5), (255, 229, 0)), ((-5, 0), (0, 208, 255)), ((0, -5), (88, 0, 255))],
    ids=["right red", "down yellow", "left cyan", "up violet"],
)
def test_direction_colours(flow, expected):
    assert color.direction(np.full((1, 1, 2), flow, float))[0, 0].tolist() == list(expected)


def test_direction_is_white_when_still_and_paler_when_slower():
    flow = np.zeros((2, 1, 2, 2))
    flow[0, 0, 0], flow[1, 0, 0] = (8, 0), (4, 0)
    picture = color.direction(flow)
    assert picture[0, 0, 1].tolist() == [255, 255, 255]
    assert picture[1, 0, 0].tolist() == [
        255,
        127,
        127,
    ]  # half the speed of the clip's fastest, in another field
    assert (color.direction(np.zeros((1, 2, 2, 2))) == 255).all()


def test_direction_has_no_seam_at_the_right():
    flow = np.array([[[5, 0.0], [5, -0.0]]])
    assert (color.direction(flow) == [255, 0, 0]).all()


def test_direction_agrees_with_a_published_port():
    flow_vis = pytest.importorskip("flow_vis")
    flow = np.random.default_rng(1).normal(size=(64, 64, 2))
    expected = flow_vis.flow_to_color(flow).astype(int)
    assert np.abs(color.direction(flow) - expected).max() <= 1


@pytest.mark.parametrize("convention", ["direction", "components"])
def test_legend_is_a_disc_on_white(convention):
    key = color.legend(convention, 41)
    assert key.shape == (41, 41, 3)
    assert (key[0, 0] == 255).all()
    assert not (key[20, 40] == 255).all()


@pytest.mark.parametrize("draw_it", [color.direction, color.components])
def test_colours_refuse_what_is_not_finite_or_not_flow(draw_it):
    with pytest.raises(UsageError, match="finite"):
        draw_it(np.full((1, 2, 2, 2), np.nan))
    with pytest.raises(UsageError, match="height, width, 2"):
        draw_it(np.zeros((2, 2, 3)))
    with pytest.raises(UsageError, match="components"):
        color.legend("hue")


# Files


def test_gif_has_ten_frames_of_150_ms_and_loops_for_ever(tmp_path):
    frames = color.direction(moving(24)[0])
    with Image.open(encode.gif(tmp_path / "a.gif", frames)) as image:
        assert getattr(image, "n_frames", 1) == 10
        assert image.info["loop"] == 0
        for number in range(10):
            image.seek(number)
            assert image.info["duration"] == 150
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert np.abs(shown - frames[number]).mean() < 6


def test_gif_keeps_white_and_black_exact_and_still_parts_still(tmp_path):
    frames = np.random.default_rng(0).integers(180, 256, (4, 20, 40, 3), dtype=np.uint8)
    frames[:, :, 10:20], frames[:, :, 20:30] = 255, 0
    frames[:, :, 30:] = frames[0, :, 30:]
    with Image.open(encode.gif(tmp_path / "a.gif", frames)) as image:
        shown = []
        for number in range(4):
            image.seek(number)
            shown.append(np.asarray(image.convert("RGB")))
    film = np.stack(shown)
    assert (film[:, :, 10:20] == 255).all()
    assert (film[:, :, 20:30] == 0).all()
    assert (film[:, :, 30:] == film[0, :, 30:]).all()


def test_mp4_can_be_read_and_has_even_sides(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = np.repeat(color.components(moving(33)[0]), 2, axis=2)[:, :, :65]
    path = encode.mp4(tmp_path / "a.mp4", frames)
    command = [ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    film = np.frombuffer(done.stdout, np.uint8).reshape(-1, 34, 66, 3)
    assert len(film) == 10
    assert all(word in done.stderr.decode() for word in ("h264", "yuv420p", "66x34", "6.67 fps", "00:00:01.50"))
    assert np.abs(film[5][:33, :65].astype(int) - frames[5]).mean() < 12


def test_png_is_exact(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(encode.png(tmp_path / "a.png", picture)) as image:
        assert (np.asarray(image) == picture).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = encode.gif(tmp_path / "a.gif", color.direction(moving()[0]))
    before = path.read_bytes()

    def save(_, file, **options):
        Path(file).write_bytes(b"GIF89a, half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", save)
    for write, shape in ((encode.gif, (2, 4, 4, 3)), (encode.png, (4, 4, 3))):
        with pytest.raises(OSError, match="disk full"):
            write(path, np.zeros(shape, np.uint8))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


def test_a_failed_film_leaves_nothing(tmp_path, monkeypatch):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def write_frames(path, *_, **options):
        Path(path).write_bytes(b"half")
        yield
        yield
        raise OSError("encoder died")

    monkeypatch.setattr(ffmpeg, "write_frames", write_frames)
    with pytest.raises(OSError, match="encoder died"):
        encode.mp4(tmp_path / "a.mp4", np.zeros((3, 4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_writers_refuse_floats(tmp_path):
    with pytest.raises(UsageError, match="uint8"):
        encode.gif(tmp_path / "a.gif", np.zeros((2, 4, 4, 3)))  # pyright: ignore[reportArgumentType]


# One unit


def test_a_unit_is_drawn_beside_its_array(tmp_path):
    fused = finish(tmp_path, "conv5_fusion", 3, 1.0)
    written = figures.draw_record(tmp_path, fused)
    stem = tmp_path / "arrays/conv5_fusion/unit0003_chi1"
    ends = ("-appearance.png", "-direction.png", "-direction.gif", "-components.png", "-components.gif")
    assert written == [Path(f"{stem}{end}") for end in ends]
    assert [size(path) for path in written] == [(96, 96)] * 5  # 12 px, eight times
    assert figures.draw_record(tmp_path, fused) == written
    assert not leftovers(tmp_path)


def test_a_dead_unit_has_no_picture_not_even_an_old_one(tmp_path):
    record = finish(tmp_path, "motion/conv2_1", 0, 1.0)
    old = figures.draw_record(tmp_path, record)
    assert figures.draw_record(tmp_path, replace(record, ending="dead")) == []
    assert old
    assert not any(path.exists() for path in old)


def test_an_array_that_is_not_finite_is_not_drawn(tmp_path):
    record = finish(tmp_path, "motion/conv2_1", 0, 1.0)
    record = store_arrays(tmp_path, record, {"motion": np.full((1, 10, 12, 12, 2), np.inf, np.float32)})
    assert figures.draw_record(tmp_path, record) == []
    assert look(tmp_path, record).word == "not finite"


@pytest.mark.parametrize("arrays", [{}, {"motion": np.zeros((1, 9, 12, 12, 2), np.float32)}], ids=["none", "misshapen"])
def test_an_array_of_another_shape_than_its_record_says_is_refused(tmp_path, arrays):
    record = store_arrays(tmp_path, finish(tmp_path, "motion/conv2_1", 0, 1.0), arrays)
    with pytest.raises(UsageError, match=r"motion must have the shape of its record, \(1, 10, 12, 12, 2\): got"):
        figures.draw_record(tmp_path, record)


def test_a_record_cannot_lead_out_of_its_folder(tmp_path):
    for name in ("../other.npz", "/etc/other.npz"):
        with pytest.raises(UsageError, match="below its own folder"):
            figures.draw_record(tmp_path, make_record(arrays=name))
    with pytest.raises(UsageError, match="not there"):
        figures.draw_record(tmp_path, make_record(arrays="gone.npz"))


def test_rgb_that_moves_is_a_clip_in_one_stretch_of_grey(tmp_path):
    """Of two streams that are both RGB each has its own files; the brightest and the darkest are anywhere in a clip."""
    both = finish(tmp_path, "both", 3, 1.0, inputs=(film(12, 18), film(12, 18, 6, name="motion")))
    written = figures.draw_record(tmp_path, both)
    stem = tmp_path / "arrays/both/unit0003_chi1"
    ends = (".png", ".gif", "-xt.png", "-yt.png")
    assert written == [Path(f"{stem}-{stream}{end}") for stream in ("appearance", "motion") for end in ends]
    assert [size(path) for path in written] == [(90, 60)] * 8  # 18 x 12 px, five times
    for path, frames in ((written[1], 8), (written[5], 6)):
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == frames
    seen = look(tmp_path, both).pictures["appearance"]
    assert (seen.min(), seen.max()) == (0, 255)
    # A few extreme values are cut off at either end, for the sake of the others' contrast.
    assert 0 < (seen == 0).mean() < 0.01 > (seen == 255).mean() > 0
    with Image.open(written[0]) as image:
        assert (np.asarray(image)[2::5, 2::5] == seen[3]).all()


def test_samples_of_flow_follow_one_another_and_one_of_rgb_is_shown(tmp_path):
    record = finish(tmp_path, "fc6", 0, 1.0, inputs=(still(time=3), flow(fields=4, time=1)))
    record = replace(record, inputs=(still(time=3), flow(fields=4, time=3)))
    arrays = {"appearance": np.stack([np.full((12, 12, 3), k, np.float32) for k in range(3)])}
    arrays["appearance"][1, 0, 0] = 9
    arrays["motion"] = np.concatenate([k * moving(12, 4) for k in (1, 2, 3)])
    seen = look(tmp_path, store_arrays(tmp_path, record, arrays))
    assert {name: len(x) for name, x in seen.pictures.items()} == {"appearance": 1, "direction": 12, "components": 12}
    assert seen.pictures["appearance"].max() == 255
    assert seen.fastest["motion"] == pytest.approx(3 * np.hypot(60, 4) / 6.375, rel=0.05)


# Sheets


@pytest.mark.parametrize("count", [1, 2, 7, 36, 81, 512])
@pytest.mark.parametrize("side", [3, 40, 92, 224])
@pytest.mark.parametrize("still", [True, False])
def test_pages_hold_every_unit_and_stay_small(count, side, still):
    columns = (layout.Column("appearance"), *[layout.Column("chi", (0, 4, 9))] * 4)
    sheet = layout.Sheet(title="", note="", columns=columns, side=layout.fit(side, count), still=still)
    limit = sheets.STILL_PAGE if still else sheets.MOVING_PAGE
    across, down = layout.grid(count, (sheet.block_width, sheet.row_height), limit)
    assert across <= count
    assert down >= 1
    assert -(-count // (across * down)) <= 60
    width = across * (sheet.block_width + layout.MARGIN) + layout.MARGIN
    height = down * sheet.row_height + layout.HEADER + layout.FOOTER + 30
    assert width <= limit[0]
    assert height <= limit[1]


def test_a_layer_has_animated_and_still_sheets_of_both_conventions(tmp_path):
    written = figures.draw_layer(tmp_path, conv(tmp_path, 3))
    names = [path.relative_to(tmp_path).as_posix() for path in written]
    assert names == [f"sheets/conv2_1-{c}-1.{e}" for c in ("direction", "components") for e in ("gif", "png")]
    with Image.open(written[0]) as image:
        assert getattr(image, "n_frames", 1) == 10
        assert image.info["duration"] == 150
    assert not leftovers(tmp_path)


def test_many_chi_shrink_the_cells_not_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "MOVING_PAGE", (560, 420))
    monkeypatch.setattr(sheets, "STILL_PAGE", (1250, 420))
    found = [finish(tmp_path, "fc6", 0, float(chi), inputs=(still(20), flow(20))) for chi in range(6)]
    for path in figures.draw_layer(tmp_path, found):
        limit = sheets.STILL_PAGE if path.suffix == ".png" else sheets.MOVING_PAGE
        assert size(path)[0] <= limit[0]


def test_many_units_go_to_several_pages_and_old_pages_go(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "MOVING_PAGE", (500, 420))
    monkeypatch.setattr(sheets, "STILL_PAGE", (900, 420))
    found = conv(tmp_path, 3)
    many = figures.draw_layer(tmp_path, found)
    other = tmp_path / "sheets" / "conv2_10-direction-9.png"
    other.write_bytes(b"another layer's")
    few = figures.draw_layer(tmp_path, found[:3])
    assert len(few) == 4
    assert len(many) > 4
    assert sorted(path for path in (tmp_path / "sheets").iterdir()) == sorted([*few, other])
    assert all(size(path)[1] <= 420 for path in [*few, *many] if path.exists())


@pytest.mark.parametrize("count", [1, 5, 23, 130])
def test_animated_pages_show_the_units_of_the_still_pages(tmp_path, monkeypatch, count):
    monkeypatch.setattr(sheets, "MOVING_PAGE", (700, 700))
    monkeypatch.setattr(sheets, "STILL_PAGE", (1500, 1100))
    drawn: dict[bool, list[list[str]]] = {True: [], False: []}

    def note(sheet, rows, across):
        drawn[sheet.still].append([row.label for row in rows])
        return np.zeros((1, 2, 2, 3), np.uint8)

    monkeypatch.setattr(layout, "draw", note)
    first = finish(tmp_path, "motion/conv2_1", 0, 1.0)
    figures.draw_layer(tmp_path, [replace(first, unit=unit) for unit in range(count)])
    assert drawn[True] == drawn[False]
    assert sorted(int(label) for page in drawn[True][: len(drawn[True]) // 2] for label in page) == [*range(count)]
    assert count < 100 or len(drawn[True]) > 2


@pytest.mark.parametrize("side", [48, 60, 90, 128])
@pytest.mark.parametrize("still", [True, False])
def test_headings_stay_above_their_own_column(side, still):
    columns = (
        layout.Column("appearance, chi = 10"),
        layout.Column("chi = 10", (0, 4, 9)),
        layout.Column("chi = 0.1234"),
    )
    sheet = layout.Sheet(title="", note="", columns=columns, side=side, still=still)
    for column, lines in zip(columns, sheet.titles, strict=True):
        assert all(layout._width(line, sheet.title_size) <= sheet.column_width(column) for line in lines)
    assert sheet.titles[1] == ["chi = 10"]
    assert side < 90 or ", ".join(sheet.titles[0]) == columns[0].title or sheet.titles[0] == [columns[0].title]


NAMES = {
    "letters": "W" * 5000, "spaces": " " * 5000, "lines": "left\nright\n" * 1000, "marks": "e\u0301" * 500_000,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_length_is_cut_at_a_cost_of_its_width(name, monkeypatch):
    looked_at, width = [], layout._width
    monkeypatch.setattr(layout, "_width", lambda text, size: looked_at.append(len(text)) or width(text, size))
    clipped = layout._clipped(NAMES[name], 13, 300)
    assert width(clipped, 13) <= 300
    assert clipped.endswith("...") or not clipped
    assert sum(looked_at) < 20 * 300
    monkeypatch.undo()
    sheet = layout.Sheet(title=NAMES[name], note=NAMES[name], columns=(layout.Column(NAMES[name]),), side=90,
                         named=True, provenance=NAMES[name])  # fmt: skip
    page = layout.draw(sheet, [layout.Row(NAMES[name], (layout.Cell(None, layout.PENDING, NAMES[name]),))], 1)
    assert page.shape[2] <= layout.WORDS + 3 * layout.MARGIN


def test_columns_are_appearance_then_falling_chi(tmp_path):
    plan = sheets._Plan.of(tmp_path, conv(tmp_path, 2))
    sheet = plan.sheet("conv2_1", "direction", still=True)
    assert [column.title for column in sheet.columns] == ["appearance", "chi = 10", "chi = 0"]
    assert sheet.columns[1].tiles == (0, 4, 9)


def test_a_fused_layer_shows_the_appearance_of_the_largest_chi(tmp_path):
    found = [finish(tmp_path, "classes", 0, chi, name="Archery") for chi in (0.0, 5.0)]
    arrays = {"appearance": np.full((1, 12, 12, 3), 3.0, np.float32), "motion": moving()}
    found[1] = replace(store_arrays(tmp_path, found[1], arrays), settings=replace(SETTINGS, mean=(0.0, 0.0, 0.0)))
    plan = sheets._Plan.of(tmp_path, found)
    sheet = plan.sheet("classes", "direction", still=False)
    row = plan.row(found, "direction", sheet)
    assert sheet.columns[0].title == "appearance, chi = 5"
    assert row.label == "0  Archery"
    assert row.cells[0].frames is not None
    assert (row.cells[0].frames == 128).all()


COLUMNS = {
    "frames alone": ([(film(), (10.0, 1.0, 0.0))], ["chi = 10", "chi = 1", "chi = 0"]),
    "two films": (
        [((film(), film(name="motion")), (5.0, 0.0))],
        ["appearance, chi = 5", "appearance, chi = 0", "motion, chi = 5", "motion, chi = 0"],
    ),
    "a still and a film": (
        [((still(), film(name="motion")), (5.0, 0.0))],
        ["appearance, chi = 5", "chi = 5", "chi = 0"],
    ),
    "a film and flow": ([((film(), flow()), (5.0,))], ["appearance, chi = 5", "motion, chi = 5"]),
    "still flow": ([(replace(flow(), slow=None), (None,))], ["motion"]),
    "layers of one name": (
        [(still(), (None,)), (film(name="motion"), (5.0, 0.0))],
        ["appearance", "chi = 5", "chi = 0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("layers", "titles"), COLUMNS.values(), ids=COLUMNS.keys())
def test_every_stream_has_a_column_and_at_each_chi_if_it_can_be_slow(layers, titles):
    records = [
        make_record(inputs if isinstance(inputs, tuple) else (inputs,), layer=f"{number}/fc6", chi=chi)
        for number, (inputs, chis) in enumerate(layers)
        for chi in chis
    ]
    columns = views.columns(records)
    assert [column.title for column in columns] == titles
    assert all(views.in_column(records, column) for column in columns)
    assert len(views.columns([*records, *(replace(record, start=1) for record in records)])) == 2 * len(titles)


def test_frames_have_sheets_of_their_own_with_tiles_that_move(tmp_path):
    """As wide as their windows are; five frames side by side on the still sheet, slices and flow below them."""
    found = [finish(tmp_path, "block1/conv", 0, chi, inputs=(film(20, 30),)) for chi in (10.0, 1.0, 0.0)]
    written = figures.draw_layer(tmp_path, found)
    names = [path.relative_to(tmp_path).as_posix() for path in written]
    assert names == ["sheets/block1/conv-frames-1.gif", "sheets/block1/conv-frames-1.png"]
    assert sorted(figures.sheet_paths(tmp_path, "block1/conv")) == sorted(written)
    assert figures.draw_layer(tmp_path, found) == written
    with Image.open(written[0]) as image:
        assert getattr(image, "n_frames", 1) == 8
    plan = sheets._Plan.of(tmp_path, found)
    sheet = plan.sheet("block1/conv", "frames", still=True)
    row = plan.row(found, "frames", sheet)
    assert [(column.title, column.tiles, column.size) for column in sheet.columns] == [
        (f"chi = {chi}", (0, 2, 4, 5, 7), (5, 2)) for chi in (10, 1, 0)
    ]
    assert sheet.note == "appearance · frames 1, 3, 5, 6, 8 of each clip"
    # 8 frames are as long as 20 px in an x-t slice, as 30 px in a y-t slice.
    assert sheet.more.endswith("45 degrees: 2.5 and 3.8 px/frame")
    assert sheet.key is not None
    for cell in row.cells:
        assert cell.frames is not None
        assert cell.frames.shape == (8, plan.side, plan.side, 3)
        high = round(plan.side * 20 / 30)
        beside = np.delete(cell.frames, range((plan.side - high) // 2, (plan.side - high) // 2 + high), axis=1)
        assert (beside == layout.GROUND).all()
        assert not (cell.frames[:, plan.side // 2] == layout.GROUND).all()


def test_films_and_flow_share_the_sheets_of_flow(tmp_path):
    found = [finish(tmp_path, "mixed", 0, chi, inputs=(film(), flow())) for chi in (10.0, 0.0)]
    names = [path.name for path in figures.draw_layer(tmp_path, found)]
    assert names == [f"mixed-{c}-1.{e}" for c in ("direction", "components") for e in ("gif", "png")]
    sheet = sheets._Plan.of(tmp_path, found).sheet("mixed", "direction", still=True)
    assert sheet.note == "motion as direction · frames 1, 3, 5, 6, 8 and fields 1, 5, 10 of each clip"
    assert [column.tiles for column in sheet.columns] == [(0, 2, 4, 5, 7)] * 2 + [(0, 4, 9)] * 2
    assert [sheet.tiles(column) for column in sheet.columns] == [(5, 2)] * 2 + [(3, 1)] * 2


def test_only_a_stream_before_a_slash_is_no_part_of_the_name(tmp_path):
    found = [finish(tmp_path, "block1/conv", 0, 1.0), finish(tmp_path, "block2/conv", 0, 1.0)]
    with pytest.raises(UsageError, match="block1/conv, block2/conv"):
        figures.draw_layer(tmp_path, found)
    page = figures.write_index(tmp_path, found).read_text(encoding="utf-8")
    assert page.count("<section") == 2
    assert figures.bare("motion/block1/conv") == "block1/conv"


def test_a_dead_cell_is_hatched_and_says_so(tmp_path):
    found = conv(tmp_path, 2)
    found[1] = replace(found[1], ending="dead")
    plan = sheets._Plan.of(tmp_path, found)
    row = plan.row(found[:2], "direction", plan.sheet("conv2_1", "direction", still=True))
    assert [cell.word for cell in row.cells] == ["", layout.PENDING, "dead"]
    hatched, plain = layout.placeholder(90, "dead"), layout.placeholder(90, layout.PENDING)
    assert hatched[:20].std() > 3 * plain[:20].std()
    figures.draw_layer(tmp_path, [replace(record, ending="dead") for record in found])  # all dead: still a sheet


def test_numbers_in_captions():
    assert views.gain(make_record()) == "5.2 x ahat"
    assert views.gain(make_record(settings={"rough": "over two clips"})) == "~5.2 x ahat"
    assert views.gain(make_record(activation_end=-1.0)) == "-0.2 x ahat"
    assert views.gain(make_record(activation_end=3.0, ahat=0.0)) == "a = 3"
    assert views.gain(make_record(activation_end=float("nan"))) == ""


def test_a_sheet_is_of_one_layer(tmp_path):
    with pytest.raises(UsageError, match="conv2_1, fc6"):
        figures.draw_layer(tmp_path, [*conv(tmp_path, 1), finish(tmp_path, "fc6", 0, 1.0)])
    with pytest.raises(UsageError, match="none"):
        figures.draw_layer(tmp_path, [])


def test_appearance_alone_gives_stills(tmp_path):
    written = figures.draw_layer(tmp_path, [finish(tmp_path, "appearance/fc6", 0, None)])
    assert [path.name for path in written] == ["fc6-frames-1.png"]


# The page


def test_index_holds_every_record_and_links_only_inwards(tmp_path):
    found = [*conv(tmp_path, 2), finish(tmp_path, "classes", 7, 5.0, name="<b>Rope & Climb")]
    found.append(finish(tmp_path, "classes", 8, 5.0, ending="dead"))
    for record in found:
        figures.draw_record(tmp_path, record)
    for layer in ("conv2_1", "classes"):
        figures.draw_layer(tmp_path, [r for r in found if r.layer.endswith(layer)])
    path = figures.write_index(tmp_path, found)
    page = path.read_text(encoding="utf-8")
    links = re.findall(r"""(?:href|src)=["']([^"']*)["']""", page)
    local = [unquote(link) for link in links if not link.startswith("#")]
    assert local
    assert all((tmp_path / link).is_file() for link in local)
    assert not re.search(r"https?:|//|<script|url\(|@import", page)
    assert {record.arrays for record in found if record.ending != "dead"} <= set(local)
    assert {sheet.relative_to(tmp_path).as_posix() for sheet in (tmp_path / "sheets").iterdir()} <= set(local)
    assert "&lt;b&gt;Rope &amp; Climb" in page
    assert "<b>Rope" not in page
    assert page.count('class="none dead"') == 2  # appearance, and motion at the one chi
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", page))
    assert page.count("5.2 \N{MULTIPLICATION SIGN} â") == sum(r.ending != "dead" for r in found) + 1  # twice
    # Every picture that was written can be reached, and nothing moves for those who do not want it.
    pictures = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "arrays").rglob("*.[pg][ni][gf]")}
    assert len(pictures) == 2 + 4 * 4 + 5
    stills = set(re.findall(r'<source media="\(prefers-reduced-motion: reduce\)" srcset="([^"]*)">', page))
    assert pictures == set(local) & pictures | stills
    moving = re.findall(r'(<picture>)?(?:<source[^>]*>)?<img[^>]*src="arrays[^"]*\.gif"', page)
    assert moving == ["<picture>"] * len(moving)
    assert len(moving) == 10


def test_every_appearance_of_a_fused_unit_is_linked(tmp_path):
    found = [finish(tmp_path, "classes", 0, chi) for chi in (10.0, 5.0, 1.0, 0.0)]
    for record in found:
        figures.draw_record(tmp_path, record)
    page = figures.write_index(tmp_path, found).read_text(encoding="utf-8")
    assert set(re.findall(r'href="(arrays[^"]*appearance.png)"', page)) == {
        record.arrays.replace(".npz", "-appearance.png") for record in found
    }


def test_the_page_says_where_ahat_is_rough(tmp_path):
    rough = replace(SETTINGS, rough="over <3> clips")
    found = [replace(each, settings=rough) if each.input("motion") else each for each in conv(tmp_path, 1)]
    page = figures.write_index(tmp_path, found).read_text(encoding="utf-8")
    assert page.count("of motion/conv2_1 is a rough scale and no more, recorded over &lt;3&gt; clips") == 1
    assert page.count("≈ 5.2 \N{MULTIPLICATION SIGN} â") == 2
    assert page.count("5.2 \N{MULTIPLICATION SIGN} â") == 3
    assert sheets._Plan.of(tmp_path, found).provenance.endswith("~: ahat is rough · drawn by stjax")
    assert "rough" not in sheets._Plan.of(tmp_path, found[:1]).provenance


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_sideways_in_a_browser(tmp_path, width):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    found = [
        *conv(tmp_path, 2),
        *(finish(tmp_path, "classes", 7, chi, name="W" * 5000) for chi in (10.0, 5.0, 1.0, 0.0)),
    ]
    for record in found:
        figures.draw_record(tmp_path, record)
    for layer in ("conv2_1", "classes"):
        figures.draw_layer(tmp_path, [r for r in found if r.layer.endswith(layer)])
    figures.write_index(tmp_path, found)
    # A window of Chromium has at least 500 pixels; a frame within has what one asks for.
    (tmp_path / "frame.html").write_text(
        f"<iframe src=index.html width={width} height=800 style='border: 0' onload='document.title = "
        "(page => page.scrollWidth - page.clientWidth)(this.contentDocument.documentElement)'></iframe>"
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000")  # fmt: skip
    address = (tmp_path / "frame.html").as_uri()
    done = subprocess.run([chromium, *options, address], capture_output=True, text=True, timeout=50, check=True)
    assert "<title>0</title>" in done.stdout


def test_the_page_of_a_network_without_flow_has_no_switch(tmp_path):
    found = [finish(tmp_path, "block1/conv", 0, chi, inputs=(film(20, 30),)) for chi in (10.0, 1.0, 0.0)]
    for record in found:
        figures.draw_record(tmp_path, record)
    figures.draw_layer(tmp_path, found)
    page = figures.write_index(tmp_path, found).read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert not re.search("components|Motion as|radio", body)
    assert [unquote(link) for link in re.findall(r'<img[^>]*src="([^"]*)"', body)] == [
        "sheets/key-direction.png",
        "sheets/block1/conv-frames-1.png",
        *(
            f"arrays/block1/conv/unit0000_chi{chi}-appearance{end}"
            for chi in (10, 1, 0)
            for end in (".gif", "-xt.png", "-yt.png")
        ),
    ]
    assert body.count("no scikit-image") == 3
    assert (
        len(re.findall(r'<source media="\(prefers-reduced-motion: reduce\)" srcset="[^"]*-appearance.png">', body)) == 3
    )
    assert 'alt="block1/conv unit 0, chi 10, appearance"' in body
    assert "&chi; weighs slowness" in body
    still_page = figures.write_index(tmp_path, [finish(tmp_path, "second", 0, None, inputs=(still(),))])
    assert "&chi;" not in still_page.read_text(encoding="utf-8")


def test_index_of_a_run_under_way(tmp_path):
    found = [finish(tmp_path, "motion/conv2_1", 0, 1.0)]
    page = figures.write_index(tmp_path, found).read_text(encoding="utf-8")
    assert "no picture" in page
    assert figures.write_index(tmp_path, []).exists()
    assert not leftovers(tmp_path)
