"""The same command again does only what is missing, whatever befell the run before it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from conftest import slim
from numpy.lib import format as npy
from records import make_record

from stjax import FAST, MAHENDRAN, Clip, Model, Request, Statistics, UsageError, arrays, cli
from stjax.atlas import folder, plan, results, resume
from stjax.atlas.meeting import ALONE, Meeting, Process
from stjax.atlas.plan import Job
from stjax.atlas.writer import Writer
from stjax.files import checksum

STEPS = 3
# Equal chunks, so the same program on the same numbers: no round-off at all.
EXACT = 0.0
LIMIT = 16 * 1024


def words(weights: Path, out: Path, *more: object) -> list[str]:
    return ["visualize", "conv3_fusion", "-m", str(weights), "--chi", "2,1,0", "--steps", str(STEPS), "--out", str(out),
            *map(str, more)]  # fmt: skip


def within(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """The command in this process: exit code, stdout, stderr in one line each."""
    monkeypatch.setattr(sys, "argv", ["stjax", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    out, err = capsys.readouterr()
    return leaving.value.code or 0, " ".join(out.split()), " ".join(err.split())


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(out.glob("manifest*.jsonl")) for line in path.read_text().splitlines()]


def stored(out: Path) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for record in results.read(out):
        with np.load(out / record.arrays) as file:
            found[record.arrays] = dict(file)
    return found


def same(out: Path, whole: Path, atol: float = EXACT) -> None:
    """Complete, no job twice, no temporary file, and the arrays of an undisturbed run."""
    names = [(line["layer"], line["unit"], line["chi"]) for line in lines(out)]
    assert len(set(names)) == len(names)
    expected, actual = stored(whole), stored(out)
    assert actual.keys() == expected.keys()
    for name, streams in expected.items():
        for stream, array in streams.items():
            np.testing.assert_allclose(actual[name][stream], array, atol=atol, err_msg=f"{name} {stream}")
    assert [path for path in out.rglob("*") if path.name.startswith(".")] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, weights) -> Path:
    """An undisturbed run of all eight units, two at a time on one device, in a process of its own."""
    out = tmp_path_factory.mktemp("whole") / "atlas"
    done = process(words(weights, out, "--units", "all", "--chunk", 2))
    assert done.returncode == 0, done.stderr
    return out


def process(arguments: list[str], start: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after some Python."""
    code = f"{start}\nfrom stjax import cli\ncli.main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_only_what_is_missing_is_done(tmp_path, weights, capsys, monkeypatch):
    out = tmp_path / "atlas"
    assert within(capsys, monkeypatch, *words(weights, out, "--units", "2,5"))[0] == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("arrays/**/*")}
    code, stdout, _ = within(capsys, monkeypatch, *words(weights, out, "--units", "4:6"))
    assert code == 0
    assert "6 results in" in stdout
    assert ", 3 of them from before;" in stdout
    assert [(line["unit"], line["chi"]) for line in lines(out)] == [(u, c) for u in (2, 5, 4) for c in (2.0, 1.0, 0.0)]
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()}.items() <= before.items()
    # Nothing is missing now, but one picture.
    picture = out / "arrays/conv3_fusion/unit0004_chi1-direction.gif"
    picture.unlink()
    monkeypatch.setattr("stjax.atlas.run.run_jobs", lambda *_, **__: pytest.fail("nothing is to be found"))
    assert within(capsys, monkeypatch, *words(weights, out, "--units", "4:6"))[0] == 0
    assert picture.exists()


def test_more_starts_are_so_many_more_jobs(tmp_path, weights, capsys, monkeypatch):
    """And what one start has found stays, to the byte, whoever is found beside it."""
    out, elsewhere = tmp_path / "atlas", tmp_path / "elsewhere"
    assert within(capsys, monkeypatch, *words(weights, out, "--units", "2,5"))[0] == 0
    code, stdout, _ = within(capsys, monkeypatch, *words(weights, out, "--units", "5", "--starts", 3))
    assert code == 0
    assert "9 results in" in stdout
    assert ", 3 of them from before;" in stdout
    assert "conv3_fusion: 3 starts: their values differ by" in stdout
    new = [(line["unit"], line["chi"], line["start"]) for line in lines(out)][6:]
    assert new == [(5, chi, start) for chi in (2.0, 1.0, 0.0) for start in (1, 2)]
    assert within(capsys, monkeypatch, *words(weights, elsewhere, "--units", "5,0:4", "--starts", 2))[0] == 0
    found, others = ({line["arrays"]: line["sha256"] for line in lines(each)} for each in (out, elsewhere))
    shared = found.keys() & others.keys()
    assert len(shared) == 3 * 3  # starts 0 and 1 of unit 5, start 0 of unit 2
    assert {name: found[name] for name in shared} == {name: others[name] for name in shared}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (("--steps", 2), "steps 3 (now 2);"),
        (("--seed", 1, "--kappa", 0.5), "kappa 0.00660156 (now 0.5), seed 0 (now 1);"),
        (("--recipe", "mahendran"), r"recipe fast (now mahendran), constants \w+ (now \w+);"),
        (("--chunk", 3), "chunk 64 (now 3);"),
    ],
    ids=["steps", "seed and kappa", "recipe", "chunk"],
)
def test_other_settings_are_refused_and_the_difference_shown(
    tmp_path, weights, capsys, monkeypatch, changes, difference
):
    """What would fill the folder is a line as the first run left it."""
    asked = words(weights, tmp_path, "--units", "0")
    assert within(capsys, monkeypatch, *asked)[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, stdout, stderr = within(capsys, monkeypatch, *asked, *changes)
    assert (code, stdout) == (2, "")
    assert re.search(re.escape(difference).replace(r"\\w\+", r"\w+"), stderr), stderr
    assert "choose another with --out" in stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def ask(layer: str = "fc4", *, model: dict[str, Any] | None = None, ahat: float = 1.0, **changes: Any) -> Request:
    """A request of the slim network, which is not run."""
    network = slim()
    statistics = Statistics({each.name: np.full(each.units, ahat) for each in network.layers}, "made up")
    settings = {"name": "slim", "network": network, "params": {}, "statistics": statistics, "checksum": "abc"}
    settings |= model or {}
    return Request(**{"model": Model(**settings), "layer": layer, "units": [1, 2], "chi": [0.5], "chunk": 8} | changes)


def test_the_identity_is_what_a_result_depends_on(monkeypatch):
    identity = resume.identify(ask()).identity
    for same in ({"model": {"name": "other"}}, {"units": [3]}, {"chi": [1, 2]}, {"starts": 3}):
        assert resume.identify(ask(**same)).identity == identity
    clip = Clip(*(None if x is None else np.ones(x.shape, np.float32) for x in ask().probe.canvas()))
    others = [
        {"chunk": 4},
        {"model": {"checksum": "abd"}},
        {"layer": "conv3_fusion"},
        {"recipe": MAHENDRAN},
        {"recipe": FAST},
        {"recipe": dataclasses.replace(FAST, bound=100.0)},
        {"recipe": dataclasses.replace(FAST, steps=7)},
        {"ahat": 2.0},
        {"kappa": 0.5},
        {"seed": 1 << 32},
        {"precision": "bfloat16"},
        {"initial": clip},
        {"initial": clip._replace(motion=2 * clip.motion)},
    ]
    identities = [resume.identify(ask(**other)).identity for other in others]
    with jax.default_prng_impl("rbg"):
        identities.append(resume.identify(ask()).identity)
    version = resume.importlib.metadata.version
    for package, matters in (("jax", True), ("optax", False)):
        changed = lambda name, package=package: "9" if name == package else version(name)  # noqa: E731
        monkeypatch.setattr(resume.importlib.metadata, "version", changed)
        other = resume.identify(ask()).identity
        assert (other != identity) == matters
        identities += [other] * matters
    assert len({identity, *identities}) == 1 + len(identities)


def test_a_model_without_a_checksum_is_known_by_its_parameters():
    models = [{"checksum": "", "params": {"a": {"kernel": np.full((2, 3), x, np.float32)}}} for x in (0, 0, 1)]
    one, same, other = (resume.identify(ask(model=model)).identity for model in models)
    assert one == same != other


def test_every_seed_has_a_key_of_its_own():
    seeds = [0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**63, 2**64 - 1]
    for kind in ("threefry2x32", "rbg"):
        with jax.default_prng_impl(kind):
            keys = [plan.seed_key(seed) for seed in seeds]
            assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(seeds)
            assert {str(jax.random.key_impl(key)) for key in keys} == {kind} == {plan.prng()}
            for seed, key in zip(seeds[:5], keys, strict=False):
                assert key == jax.random.key(seed)
    for seed in (-1, 2**64, 10**20):
        with pytest.raises(UsageError, match="the seed must be in"):
            plan.seed_key(seed)
    with jax.threefry_partitionable(False):
        assert plan.prng() == "threefry2x32, not partitionable"


def test_layers_of_other_settings_may_share_a_folder(tmp_path):
    kept = make_record(layer="fc4", settings=vars(resume.identify(ask())))
    recipe = dataclasses.replace(ask().unbound, steps=100)
    other, same = (resume.identify(ask(layer, recipe=recipe)) for layer in ("conv3_fusion", "fc4"))
    resume.check_settings(tmp_path, [kept], "conv3_fusion", other)
    resume.check_settings(tmp_path, [kept], "fc4", kept.settings)
    with pytest.raises(UsageError, match=r"fc4 with steps 60 \(now 100\); choose another"):
        resume.check_settings(tmp_path, [kept], "fc4", same)


def test_missing_keeps_the_order_asked():
    records = [make_record(layer="fc4", unit=1, chi=0.5), make_record(layer="classes", unit=2, chi=0.5)]
    request = ask(units=[3, 1, 2], chi=[0.5, 1])
    wanted = [Job(3, 0.5), Job(3, 1.0), Job(1, 1.0), Job(2, 0.5), Job(2, 1.0)]
    assert resume.missing(records, request) == wanted


def packed(path: Path) -> None:
    """A quarter of a gigabyte of zeros in a quarter of a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("motion.npy", "w") as stream:
        npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 26,)})
        for _ in range(1 << 8):
            stream.write(bytes(1 << 20))


def promising(path: Path) -> None:
    """A header of a hundred bytes that speaks of a terabyte."""
    with zipfile.ZipFile(path, "w") as file, file.open("motion.npy", "w") as stream:
        npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)})


def overlapping(path: Path) -> None:
    """Thousands of members that are all the same megabyte."""
    with zipfile.ZipFile(path, "w") as file:
        with file.open("0.npy", "w") as stream:
            npy.write_array(stream, np.zeros(1 << 18, np.float32))
        for number in range(1, 3000):
            member = copy.copy(file.filelist[0])
            member.filename = f"{number}.npy"
            file.filelist.append(member)
        file._didModify = True


def other(**arrays: Any) -> Callable[[Path], None]:
    """A file that is whole, but another."""
    return lambda path: np.savez(path, **arrays)


FULL = {"appearance": np.arange(300, dtype=np.float32), "motion": np.arange(500, dtype=np.float32)}
DAMAGE = {
    "a flipped byte": lambda path: path.write_bytes(path.read_bytes()[:-900] + b"\xff" + path.read_bytes()[-899:]),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "swapped": other(**{name: array[::-1] for name, array in FULL.items()}),
    "not finite": other(**{name: array * np.nan for name, array in FULL.items()}),
    "an array missing": other(motion=FULL["motion"]),
    "an array more": other(**FULL, extra=np.ones(3)),
    "a pickled object": other(appearance=np.asarray([{}], object), motion=FULL["motion"]),
    "packed zeros": packed,
    "a header that promises": promising,
    "overlapping members": overlapping,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_at_the_cost_of_reading_the_file(tmp_path, damage):
    path = tmp_path / "arrays/a.npz"
    record = make_record(arrays="arrays/a.npz", sha256=arrays.save(path, FULL))
    assert resume.damage(tmp_path, record) is None
    damage(path)
    tracemalloc.start()
    assert resume.damage(tmp_path, record)
    if path.is_file():
        # Also of one whose record is a stranger's, and has the right checksum.
        forged = dataclasses.replace(record, sha256=checksum(path))
        assert (resume.damage(tmp_path, forged) is None) == (damage in map(DAMAGE.get, WHOLE))
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


WHOLE = ("swapped", "not finite", "an array missing", "an array more")
"""What nothing but its checksum tells from what was written."""


@pytest.mark.slow
def test_damaged_arrays_are_found_again_and_nothing_else(tmp_path, weights, whole):
    out = _copy(whole, tmp_path / "atlas")
    touched = [out / f"arrays/conv3_fusion/{name}.npz" for name in ("unit0003_chi0", "unit0006_chi1", "unit0007_chi0")]
    for path, damage in zip(touched, ("a flipped byte", "cut short", "gone"), strict=True):
        DAMAGE[damage](path)
    before = {path: path.stat().st_mtime_ns for path in out.glob("arrays/**/*.npz")}
    done = process(words(weights, out, "--units", "all", "--chunk", 2))
    assert done.returncode == 0, done.stderr
    stderr = "".join(done.stderr.split())
    for path in touched:
        assert f"damaged:{path.relative_to(out)}:" in stderr
    changed = {path for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed | {touched[2]} == set(touched)
    merged = results.read(out)
    (out / "manifest.jsonl").write_text("".join(record.to_json() + "\n" for record in merged))
    same(out, whole)


def _copy(folder: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, to))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_nothing_finished(tmp_path, weights, whole):
    """No file may grow beyond LIMIT here: arrays fit, but the manifest does not, and its last line is cut."""
    out = tmp_path / "atlas"
    arguments = words(weights, out, "--units", "all", "--chunk", 2)
    stopped = process(arguments, start=f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))")
    assert stopped.returncode == 2, stopped.stderr
    assert "Traceback" not in stopped.stderr
    told = " ".join(stopped.stderr.split())
    kept = results.read(out)
    assert 1 <= len(kept) < 24
    assert f"File too large; {len(kept)} of 24 finished and kept" in told
    assert (out / "manifest.jsonl").stat().st_size == LIMIT
    assert all(resume.damage(out, line) is None for line in kept)
    done = process(arguments)
    assert done.returncode == 0, done.stderr
    assert f"24 results in {out}, {len(kept)} of them from before" in " ".join(done.stdout.split())
    same(out, whole)


@pytest.mark.parametrize(
    ("process", "other", "free"),
    [
        (ALONE, ALONE, False),
        (ALONE, Process(0, 2), False),
        (Process(0, 2), ALONE, False),
        (Process(1, 2), ALONE, False),
        (Process(0, 2), Process(1, 2), True),
        (Process(1, 3), Process(2, 3), True),
        (Process(0, 2), Process(0, 2), False),
        (Process(1, 2), Process(0, 2), False),
    ],
)
def test_a_folder_is_filled_by_one_run_at_a_time(tmp_path, process, other, free):
    """The processes of a distributed run share it, once their first has it; another run does not get it from any."""
    with folder.hold(tmp_path, Meeting(process)):
        if free:
            with folder.hold(tmp_path, Meeting(other)):
                pass
        else:
            with pytest.raises(UsageError, match="one run at a time"), folder.hold(tmp_path, Meeting(other)):
                pass
    with folder.hold(tmp_path, Meeting(other)):
        pass


def test_a_writer_tells_of_its_first_error_and_stores_nothing_after_it():
    stored = []

    def store(item):
        if item == 2:
            raise OSError(28, "No space left on device")
        stored.append(item)

    def run():
        with Writer(store, room=1) as writer:
            for item in range(100):
                writer.put(item)

    with pytest.raises(OSError, match="No space left"):
        run()
    assert stored == [0, 1]


def test_a_writer_stores_what_was_put_before_ctrl_c():
    stored = []

    def run():
        with Writer(stored.append, room=9) as writer:
            for item in range(5):
                writer.put(item)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert stored == list(range(5))


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path, weights):
    """kill -9 at random moments of one run, from its start to its writing; every time the same command again."""
    arguments = ["visualize", "motion/conv2_1", "-m", weights, "--units", "all", "--chi", ",".join(map(str, range(15))),
                 "--steps", STEPS, "--chunk", 1, "--out"]  # fmt: skip
    out, whole = tmp_path / "killed", tmp_path / "whole"
    # Compiled once, as in daily use; with what compiles in less than a second.
    keeping = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    for command in (
        ["-m", "stjax", *arguments, whole],
        [Path(__file__).with_name("kills.py"), 20, 0, out, *arguments, out],
    ):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            capture_output=True, text=True, timeout=900, check=False, env=os.environ | keeping,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed with") == 20
    assert len(lines(out)) == 120
    same(out, whole)
    pictures = lambda folder: {p.relative_to(folder) for p in folder.rglob("*") if p.suffix in (".png", ".gif")}  # noqa: E731
    assert pictures(out) == pictures(whole)
