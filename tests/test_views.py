"""Truth of a network of frames: what its views are, what is named, and tables of a network that knows but three things.

The network of these tests says of a clip how much its end is brighter than its beginning, how bright it is, and how
dark: so what each view must do to each class is known without it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw_params
from scipy import ndimage
from test_displacement import texture
from test_i3d import slim

import stjax
from stjax import Clip, Field, Input, Layer, Model, Preprocessing, Statistics, UsageError, video
from stjax.analysis import naming, views
from stjax.analysis.change import change_of
from stjax.analysis.naming import Judged
from stjax.analysis.views import LASTING, VIEWS
from stjax.atlas import results, resume
from stjax.atlas.plan import Job
from stjax.atlas.run import Summary
from stjax.types import sees_frames
from stjax.video import optima

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("sunrise", "snow", "night")
FRAMES, SIDE, FEWEST = 12, 32, 5
MEAN = (127.5, 127.5, 127.5)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Scores: last frame less first, mean, and its negative. It takes clips of `FEWEST` frames or more."""

    frames: int = FRAMES
    size: int = SIDE

    @property
    def inputs(self):
        return (Input(name="appearance", kind="rgb", shape=(self.frames, self.size, self.size, 3), slow="time"),)

    @property
    def layers(self):
        whole = Field(None, None, None)
        return (Layer(name="classes", units=3, inputs=("appearance",), field=whole, grid=(1, 1, 1), role="classes"),)

    def init(self, key, clip):
        del clip
        return {"params": {"scale": 0.1 * jax.random.normal(key, (3,))}}

    def apply(self, variables, clip):
        level = clip.appearance.mean((-1, -2, -3))
        scores = jnp.stack([level[-1] - level[0], level.mean(), -level.mean()]) * variables["params"]["scale"]
        return scores, {"classes": scores[None, None, None]}

    def resized(self, frames, size):
        if frames < FEWEST:
            raise UsageError(f"a clip must have {FEWEST} frames or more: got {frames}")
        return Brightness(frames, size)


@pytest.fixture
def model():
    return Model(
        name="brightness",
        network=Brightness(),
        params={"scale": jnp.full((3,), 0.1)},
        statistics=Statistics({"classes": np.ones(3)}, "by hand"),
        preprocessing=Preprocessing(mean=MEAN),
        class_names=NAMES,
        checksum="b" * 64,
    )


def rising(by: float = 20.0) -> np.ndarray:
    """A textured clip whose end is brighter than its beginning."""
    light = np.linspace(-by, by, FRAMES)[:, None, None, None]
    return (light + 3 * texture(SIDE, 2.0)).astype(np.float32)


# Views


def test_each_view_is_what_its_name_says():
    x = np.random.default_rng(1).normal(0, 30, (9, 32, 48, 3)).astype(np.float32)
    shown = views.views(x, MEAN)
    assert tuple(shown) == VIEWS
    np.testing.assert_array_equal(shown["plain"], x)
    np.testing.assert_array_equal(shown["moved"][:, 2:, :-4], x[:, :-2, 4:])
    np.testing.assert_array_equal(shown["moved"][:, :2, :-4], np.broadcast_to(x[:, :1, 4:], (9, 2, 44, 3)))
    np.testing.assert_array_equal(shown["mirrored"][:, :, 0], x[:, :, -1])
    np.testing.assert_array_equal(shown["reversed"][0], x[8])
    np.testing.assert_array_equal(shown["every 3rd frame"], x[[0, 3, 6]])
    np.testing.assert_allclose(shown["blurred"], ndimage.gaussian_filter(x, (0, 1, 1, 0), mode="nearest"), atol=2e-2)
    assert np.sort(shown["shuffled"][:, 0, 0, 0]).tolist() == np.sort(x[:, 0, 0, 0]).tolist()
    assert (shown["shuffled"] != x).any()
    assert (shown["shuffled"] != x[::-1]).any()
    np.testing.assert_allclose(shown["mean frame"], np.broadcast_to(x.mean(0), x.shape), atol=1e-4)
    stored = shown["8 bits"] + 127.5
    assert ((stored == np.round(stored)) & (stored >= 0) & (stored <= 255)).all()
    assert (shown["noisy"] - x).std() == pytest.approx(8, rel=0.02)
    sizes = {name: shown[name].shape[1:3] for name in ("enlarged", "reduced", "larger", "smaller")}
    assert sizes == {"enlarged": (32, 48), "reduced": (32, 48), "larger": (40, 60), "smaller": (24, 36)}


def test_what_is_enlarged_or_reduced_stays_where_it_was():
    """A ramp: its slope is that of the scale, but for what antialiasing leaves, and its middle does not move."""
    x = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None], (2, 64, 64, 3))
    shown = views.views(x, MEAN)
    for name, slope in (("enlarged", 48 / 64), ("reduced", 64 / 56), ("larger", 64 / 80), ("smaller", 64 / 48)):
        row = shown[name][0, len(shown[name][0]) // 2, :, 0]
        middle = slice(len(row) // 4, 3 * len(row) // 4)
        assert np.diff(row[middle]).mean() == pytest.approx(slope, rel=0.01), name
        np.testing.assert_allclose(np.diff(row[middle]), slope, rtol=0.1, err_msg=name)
        assert row.mean() == pytest.approx(31.5, abs=0.01)
    np.testing.assert_array_equal(shown["reduced"][:, :, :4], np.repeat(shown["reduced"][:, :, 4:5], 4, 2))


def test_noise_has_the_spectrum_and_the_colours_of_its_clip_and_nothing_else_of_it():
    x = rising() * np.asarray([1.0, 0.5, 0.0], np.float32) + 7
    noise = views.scrambled(x)
    for colour in range(2):
        spectra = [np.abs(np.fft.fftn(each[..., colour] - each[..., colour].mean())) for each in (x, noise)]
        np.testing.assert_allclose(*spectra, atol=1e-2 * spectra[0].max())
    np.testing.assert_allclose(noise.mean((0, 1, 2)), x.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(noise[..., 2], 7, atol=1e-3)
    alike = [np.corrcoef(views.scrambled(x, seed)[..., 0].ravel(), x[..., 0].ravel())[0, 1] for seed in range(40)]
    # Of this clip most is one slow wave, which any phase may suit.
    assert abs(np.mean(alike)) < 3 * np.std(alike) / np.sqrt(40)
    assert np.max(alike) < 0.99


# Names


def test_names_are_softmax_in_float64_and_stay_finite():
    z = np.asarray([[3.0, 1.0, 2.0], [0.0, 900.0, -900.0]])
    found = views.name(z, np.asarray([2, 1]))
    p = np.exp(2.0) / np.exp([3.0, 1.0, 2.0]).sum()
    assert found.rank.tolist() == [1, 0]
    assert found.probability == pytest.approx([p, 1.0])
    assert found.log_odds == pytest.approx([np.log(p / (1 - p)), 900.0])


def test_of_a_clip_of_no_class_or_a_view_that_is_not_taken_nothing_is_known():
    found = views.name(np.asarray([[1.0, 2.0], [np.nan, np.nan]]), np.asarray([-1, 0]))
    assert all(np.isnan(part).all() for part in found)


def test_views_that_a_network_does_not_take_are_left_out(model):
    scores = views.seen(model, views.views(rising(), MEAN))
    unknown = [view for view, row in zip(VIEWS, scores, strict=True) if np.isnan(row).all()]
    assert unknown == ["every 3rd frame"]  # of 4 frames
    assert scores[0, 0] == pytest.approx(4.0, rel=1e-3)


def test_i3d_takes_other_sizes_and_no_clip_that_is_too_short(model):
    network = slim(streams=("appearance",))
    i3d = dataclasses.replace(model, network=network, params=draw_params(network), class_names=tuple("abcde"))
    shown = {"other": np.zeros((9, 33, 33, 3), np.float32), "short": np.zeros((8, 45, 45, 3), np.float32)}
    assert np.isnan(views.seen(i3d, shown)).any(1).tolist() == [False, True]


def judged(model, *clips: tuple[int, np.ndarray]) -> Judged:
    """Clips of classes, at one chi."""
    scores = np.stack([views.seen(model, views.views(x, MEAN)) for _, x in clips])
    change = np.asarray([change_of(x) for _, x in clips])
    return Judged(np.asarray([label for label, _ in clips]), scores[None, :, None], change[:, None])


def test_a_class_with_a_direction_falls_backwards_and_others_do_not(model):
    bright = rising(0) + 30
    one = judged(model, (0, rising()), (1, bright), (2, -bright))
    measured = naming.measures(one)
    assert measured[naming.PLAIN] == 1
    # In each view that lasts but one, which the network does not take.
    assert measured[naming.FIRST] == len(LASTING) - 1
    falls = naming.fall(one, "reversed")
    assert falls[0, 0] > 5
    np.testing.assert_allclose(falls[1:], 0, atol=1e-3)
    assert naming.share_first(one)[VIEWS.index("reversed"), 0] == pytest.approx(2 / 3)
    assert naming.gap(falls, np.asarray([True, False, False])) == pytest.approx(falls[0], abs=1e-3)
    # A clip of which nobody knows what it shows changes nothing of what is named, and counts for what moves.
    four = judged(model, (0, rising()), (1, bright), (2, -bright), (-1, rising(200)))
    assert naming.measures(four)[naming.PLAIN] == 1
    assert naming.measures(four)["temporal"] > 2 * measured["temporal"]


def test_under_each_others_names_each_clip_is_asked_for_each_other_class_once(model):
    one = judged(model, (0, rising()), (1, rising(0) + 30), (2, rising(0) - 30))
    asked = {(i, int(label)) for turn in (1, 2) for i, label in enumerate(naming.renamed(one, turn).label)}
    assert asked == {(i, k) for i in range(3) for k in range(3) if i != k}
    assert naming.measures(naming.renamed(one, 1))[naming.PLAIN] == 0


def test_chance_holds_what_random_classes_show_and_not_a_direction():
    random = np.random.default_rng(0)
    directed = np.arange(20) < 6
    falls = random.normal(0, 1, (20, 1))
    low, high = naming.chance_of_gap([falls], directed)
    # The standard error of a difference of means of 6 and of 14.
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * falls.std() * np.sqrt(1 / 6 + 1 / 14), rel=0.15)
    assert naming.gap(falls + 3.0 * directed[:, None], directed)[0] > high[0]


# Change


def test_change_is_that_of_a_known_movement():
    big = 8 * texture(80, 1.5)
    frames = np.stack([big[8:72, 8 + 2 * t : 72 + 2 * t] for t in range(4)]).astype(np.float32)
    found = change_of(frames)
    assert found.temporal == pytest.approx(np.mean([np.abs(frames[t + 1] - frames[t]).mean() for t in range(3)]))
    assert found.contrast == pytest.approx(frames.std(), rel=1e-4)
    assert found.by_shifts == pytest.approx(1, abs=1e-6)
    if optima.can_estimate():
        assert found.speed == pytest.approx(2, rel=0.2)
        assert found.by_flow > 0.9


# The script, from optima to tables


@pytest.fixture
def check(monkeypatch, model):
    monkeypatch.syspath_prepend(SCRIPTS)
    import check_classes

    monkeypatch.setattr(stjax, "load", lambda name: model)
    monkeypatch.setattr(check_classes, "cache_programs", lambda: None)
    # Estimated flow would be all that takes time.
    monkeypatch.setattr(optima, "can_estimate", lambda: False)

    def run(*options: str) -> tuple[str, dict]:
        monkeypatch.setattr(sys, "argv", ["check_classes.py", "--models", "brightness", *options])
        check_classes.main()
        out = Path(options[options.index("--out") + 1])
        return (out / "truth.md").read_text(), json.loads((out / "truth.json").read_text())

    return run


@pytest.fixture
def quick(check, monkeypatch):
    """The same, with optima made by hand."""

    def found(folder: Path, request: stjax.Request) -> Path:
        """Optima as they would be found: each class as its name says, the clearer the lower chi."""
        settings = resume.identify(request)
        folder.mkdir(parents=True, exist_ok=True)
        for unit, chi in ((unit, chi) for unit in request.units for chi in request.chi):
            clip = (rising(), rising(0) + 30, rising(0) - 30)[unit] / (1 + chi) + request.seed
            numbers = {name: np.float32(1.0) for name in ("value", "activation", "activation_start")}
            summary = Summary(**numbers, penalties={}, gradient_max=Clip(appearance=np.float32(1.0)))
            results.write(folder, request, settings, stjax.Result(Job(unit, chi), Clip(appearance=clip), summary))
        return folder

    monkeypatch.setattr(sys.modules["class_optima"], "find", found)
    return check


def row(text: str, title: str, first: str) -> list[str]:
    table = text.partition(f"### {title}")[2].partition("###")[0]
    return next(line for line in table.splitlines() if line.startswith(f"| {first}")).strip("| ").split(" | ")[1:]


SHORT = ("--steps", "8", "--chi", "10,0", "--few", "1", "--directed", "sunrise")


def test_optima_are_judged_beside_chance_and_not_again(quick, tmp_path, monkeypatch):
    out = str(tmp_path / "truth")
    command = (*SHORT, "--classes", "sunrise,snow,2", "--starts", "2", "--layers", "classes", "--units", "2")
    grey = np.full((36, 40, 3), 200, np.uint8)
    monkeypatch.setattr(video, "open", lambda path: (video.Frame(t / 25, grey) for t in range(40)))
    clip = tmp_path / "snow" / "v1.mp4"
    clip.parent.mkdir()
    clip.touch()
    text, measured = quick(*command, "--clips", str(clip.parent), "--out", out)
    assert measured["classes"] == list(NAMES)
    assert measured["directed"] == ["sunrise"]
    own = measured["groups"]["optima of brightness"]
    assert len(own) == 2
    assert all(run[naming.PLAIN][1] == 1 for run in own)
    titles = {
        *("optima of brightness", "noise of the same contrast and spectrum", "free frames", "real clips"),
        *("optima of untrained-0, judged by brightness", "optima of untrained-0, judged by itself"),
    }
    assert set(measured["groups"]) == titles
    assert "judged by itself" in text.partition("### Contrast")[0]
    assert "judged by itself" not in text.partition("### Contrast")[2]
    for title in (*titles, "chance: optima of brightness, names shuffled"):
        assert len(row(text, "Named first", title)) == 2, title
    assert row(text, "Named first", "optima of brightness")[1] == "100.0 (100-100)"
    assert row(text, "Named first", "real clips") == ["100.0"] * 2
    assert row(text, "Named first, and log-odds", "every 3rd frame") == ["-"] * 4
    assert measured["depth"]["classes"]["units"] == 2
    assert "authors, conv3_3" in text

    def fail(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(views, "seen", fail)
    assert quick(*command, "--clips", str(clip.parent), "--out", out)[0] == text


def test_folders_of_results_are_read_each_with_its_seed(quick, tmp_path):
    """What one command found, another judges, and finds the same."""
    first = quick(
        *SHORT, "--classes", "sunrise,snow", "--starts", "2", "--untrained", "0", "--out", str(tmp_path / "a")
    )
    folders = ",".join(str(tmp_path / "a" / f"brightness-seed{seed}") for seed in (0, 1))
    again = quick("--results", folders, *SHORT[4:], "--no-free", "--untrained", "0", "--out", str(tmp_path / "b"))
    assert again[1]["groups"]["optima of brightness"] == first[1]["groups"]["optima of brightness"]
    assert again[1]["chi"] == [10, 0]
    with pytest.raises(UsageError, match="a class in common at every chi and seed: these have none"):
        quick("--results", folders, "--chi", "5,0", "--out", str(tmp_path / "b"))
    with pytest.raises(UsageError, match="at every chi and seed: night is not there"):
        quick("--results", folders, "--classes", "night", "--out", str(tmp_path / "b"))
    with pytest.raises(UsageError, match=r"'sunset' is not; nearest: sunrise"):
        quick("--results", folders, "--directed", "sunset", "--out", str(tmp_path / "b"))
    with pytest.raises(UsageError, match=r"both have unit 0 at chi = 10 from seed 1; leave one out"):
        quick("--results", f"{folders},{tmp_path / 'a' / 'brightness-seed1'}", "--out", str(tmp_path / "b"))
    alone = ("--chi", "0", "--classes", "night", "--no-free", "--untrained", "0")
    quick(*alone, "--out", str(tmp_path / "c"))
    both = f"{tmp_path / 'a' / 'brightness-seed0'},{tmp_path / 'c' / 'brightness-seed0'}"
    joined = quick("--results", both, "--chi", "0", "--no-free", "--untrained", "0", "--out", str(tmp_path / "b"))[1]
    assert joined["classes"] == list(NAMES)
    assert len(joined["groups"]["optima of brightness"]) == 1
    with pytest.raises(UsageError, match="must hold some of classes"):
        quick("--results", str(tmp_path / "b"), "--out", str(tmp_path / "b"))


def test_other_networks_and_other_peoples_results_are_refused(quick, tmp_path, monkeypatch, model, network, params):
    quick(*SHORT, "--classes", "snow", "--no-free", "--untrained", "0", "--out", str(tmp_path / "a"))
    monkeypatch.setattr(stjax, "load", lambda name: dataclasses.replace(model, checksum="c" * 64))
    with pytest.raises(UsageError, match="with other weights; nearest: --models brightness"):
        quick("--results", str(tmp_path / "a" / "brightness-seed0"), "--out", str(tmp_path / "b"))
    flow = dataclasses.replace(model, name="slim", network=network, params=params)
    monkeypatch.setattr(stjax, "load", lambda name: flow)
    with pytest.raises(
        UsageError, match=r"slim is shown appearance of kind rgb and motion of kind flow; .*check_truth"
    ):
        quick("--classes", "snow", "--out", str(tmp_path / "b"))


@pytest.mark.slow
def test_optima_are_found_where_there_are_none(check, tmp_path):
    """By the ascent itself, which the others leave out."""
    out = tmp_path / "truth"
    text, measured = check(*SHORT, "--classes", "snow,sunrise", "--no-free", "--out", str(out))
    for title in ("optima of brightness", "optima of untrained-0, judged by itself"):
        assert measured["groups"][title][0][naming.PLAIN][1] == 1, title
    assert (out / "brightness-seed0" / "index.html").is_file()
    again = check("--results", str(out / "brightness-seed0"), *SHORT, "--no-free", "--out", str(out))
    assert again[0] == text


def test_a_video_is_seen_as_published_and_named_by_its_file_or_folder(monkeypatch, model):
    monkeypatch.syspath_prepend(SCRIPTS)
    import real_clips

    frames = np.zeros((30, 72, 108, 3), np.uint8)
    # Scaled to a short side of 37 px: of the middle 32 x 32, this bright part is the middle half.
    frames[:, 21:51, 39:69] = 255
    frames[9:21, 0, 0] = 255
    monkeypatch.setattr(video, "open", lambda path: (video.Frame(t / 25, rgb) for t, rgb in enumerate(frames)))
    clip = real_clips.clip_of(Path("a.mp4"), model)
    assert clip.shape == (FRAMES, SIDE, SIDE, 3)
    assert clip[0, 16, 16, 0] == pytest.approx(127.5)
    assert clip[0, 2, 2, 0] == pytest.approx(-127.5)
    lit = np.argwhere(clip[0, :, :, 0] > 0)
    assert (lit.min(0) + lit.max(0) == 31).all() or np.abs(lit.min(0) + lit.max(0) - 31).max() <= 1
    frames = frames[:11]
    with pytest.raises(UsageError, match=r"must have 12 frames or more: a\.mp4 has 11"):
        real_clips.clip_of(Path("a.mp4"), model)
    assert [real_clips.label_of(Path(p), NAMES) for p in ("x/night.mp4", "snow/1.mp4", "x/1.mp4")] == [2, 1, -1]


def test_what_sees_frames_alone():
    assert sees_frames(Brightness().inputs)
    assert not sees_frames(slim().inputs)
