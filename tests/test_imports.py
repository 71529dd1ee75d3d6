"""Who may import whom: each room only from rooms before it, read from the source with `ast`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stjax"

# Rooms of one rank do not know one another.
ORDER = (
    {"types", "errors", "files", "arrays", "compilation", "endings", "preprocess", "record", "version"},
    {"networks", "ascent", "video", "figures"},
    {"model"},
    {"convert", "atlas", "attribution", "training"},
    {"analysis"},
    {"user_model"},
    {"zoo"},
    {"commands"},
    {"cli", "scripts"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# Within the lowest rank: errors import nothing of ours, the types everything is made of import errors alone.
WITHIN = {
    "preprocess": {"types", "errors"},
    "record": {"types", "errors", "endings"},
    "files": {"errors"},
    "arrays": {"files"},
    "types": {"errors"},
    "errors": set(),
    "compilation": set(),
    "endings": set(),
    "version": set(),
}
# What looks at a network for a given clip does not find clips.
APART = {"attribution": {"ascent"}, "analysis": {"ascent", "atlas", "convert"}}
# What is at the door, not in a room.
DOOR = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}


def room(path: Path) -> str:
    if PACKAGE not in path.parents:
        return "scripts"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever the statement stands, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported(path)]
    return {part[1] for part in parts if part[0] == "stjax" and len(part) > 1} & RANK.keys()


FILES = sorted({*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")} - DOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    here = room(path)
    assert here in RANK, f"{here} is a new room: give it its place in the order"
    below = {name for name, rank in RANK.items() if rank < RANK[here]} - APART.get(here, set())
    allowed = WITHIN.get(here, below) | {here}
    upward = rooms_imported(path) - allowed
    assert not upward, f"{here} must not import {', '.join(sorted(upward))}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_flax_stays_in_its_room(path):
    uses = {name for name in imported(path) if name.split(".")[0] == "flax"}
    assert not uses or room(path) == "networks", f"{path.name} imports {uses}: only networks/ knows flax"


def test_no_two_files_import_each_other_in_a_circle():
    def module(path: Path) -> str:
        return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    files = {module(path): path for path in FILES if PACKAGE in path.parents}
    graph = {
        name: {n if n in files else n.rpartition(".")[0] for n in imported(path)} & files.keys() - {name}
        for name, path in files.items()
    }
    done: list[str] = []
    while ready := [name for name, needs in graph.items() if name not in done and needs <= set(done)]:
        done += ready
    assert not graph.keys() - set(done), f"a circle among {sorted(graph.keys() - set(done))}"


def test_the_rules_would_notice(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def late():\n    from stjax.cli import app\n    import flax.linen\n")
    assert rooms_imported(file) == {"cli"}
    assert "flax.linen" in imported(file)
