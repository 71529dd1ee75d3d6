"""The recipes of CONTRIBUTING.md, carried out block by block as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stjax import networks
from stjax.ascent import recipes
from stjax.convert import tables

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks(title: str) -> list[tuple[str, str, str]]:
    """Of a section: (language, file or "", text)."""
    section = re.search(rf"^### {title}$(.*?)(?=^### |\Z)", TEXT, re.M | re.S)
    assert section, title
    return [(language, name.strip(), text) for language, name, text in BLOCK.findall(section[1])]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the blocks have defined so far; what they register is taken back."""
    kept = [(registry, dict(registry)) for registry in (networks.ARCHITECTURES, tables.TABLES, recipes.RECIPES)]
    yield {"tmp_path": tmp_path_factory.mktemp("contributing"), "__name__": __name__}
    for registry, before in kept:
        registry.clear()
        registry.update(before)


# Later ones use what earlier ones define, as a reader does: run as one, in the order of the page.
def test_the_recipes_work_as_written(names: dict[str, Any]) -> None:
    titles = re.findall(r"^### (.*)$", TEXT, re.M)
    assert titles == ["A regulariser", "An objective", "A network", "A weight source", "A recipe"]
    for title in titles:
        code = [text for language, file, text in blocks(title) if language == "python" and not file]
        assert code, title
        for text in code:
            exec(compile(text, f"CONTRIBUTING.md, {title}", "exec"), names)


@pytest.mark.slow
def test_the_network_recipe_works_on_the_command_line(tmp_path: Path) -> None:
    ((file, code),) = [(file, text) for language, file, text in blocks("A network") if language == "python" and file]
    (tmp_path / file).write_text(code)
    lines = [text for language, _, text in blocks("A network") if language == "console"]
    commands = [line.removeprefix("$ ") for text in lines for line in text.splitlines()]
    assert [shlex.split(command)[:2] for command in commands] == [["stjax", "layers"], ["stjax", "visualize"]]
    outputs = []
    for command in commands:
        run = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        )
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    assert {"first", "second"} <= set(re.findall(r"\w+", outputs[0]))
    assert (tmp_path / "atlas" / "my_networks.make" / "second" / "index.html").is_file()
    assert len(list((tmp_path / "atlas").rglob("*.npz"))) == 4


def test_the_map_names_every_room() -> None:
    table = TEXT[TEXT.index("## The rooms") : TEXT.index("## Checks")]
    named = set(re.findall(r"`(\w+)/?`", table))
    here = {path.stem for path in (ROOT / "stjax").iterdir() if path.suffix in ("", ".py") and path.stem[0] != "_"}
    assert here - {"weights"} <= named
    assert named - here <= {"scripts"}


def test_files_that_are_named_exist() -> None:
    for path in set(re.findall(r"`((?:stjax|tests|scripts|weights|\.ci)/[\w/.*-]*)`", TEXT)):
        assert list(ROOT.glob(path.rstrip("/"))), path
