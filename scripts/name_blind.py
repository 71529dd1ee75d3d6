"""Can somebody name optima of classes who sees nothing but them? Shuffled tiles without names, and what was answered.

    python scripts/name_blind.py --results seed0 --out blind               tiles A.png, B.png, ...; names.txt; key.json
    python scripts/name_blind.py --answers answers.txt --out blind         how many are right, and what chance gives

Each tile shows frames of one class's optimum, a row for each chi; names.txt has the names in alphabetical order.
Whoever answers writes lines such as `A: playing tennis`, each name once. Names guessed at random, each once, are right
in one case on the average, whatever their number.
"""

from __future__ import annotations

import argparse
import json
import math
import string
import sys
from pathlib import Path

import class_optima
import numpy as np

import stjax
from stjax import files
from stjax.atlas import results
from stjax.errors import UsageError, nearest
from stjax.figures import color, encode, layout
from stjax.figures.look import EXTREME

SIDE, GAP = 224, 8
"""Of a frame on a tile, and between frames, in pixels."""


def letters(count: int) -> list[str]:
    """Names of tiles.

    >>> letters(28)[-3:]
    ['Z', 'AA', 'AB']
    """
    one = string.ascii_uppercase
    return [*one, *(a + b for a in one for b in one)][:count]


def tile(rows: list[np.ndarray], mean: tuple[float, ...], count: int) -> np.ndarray:
    """Frames of one optimum, evenly spread over its time; a row for each clip. At the same brightness and contrast."""
    shown = []
    for frames in rows:
        picture = color.frames(frames, mean, EXTREME)
        at = np.linspace(0, len(picture) - 1, count).round().astype(int)
        cells = layout.resize(picture[at], SIDE)
        shown.append(np.concatenate([np.pad(c, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for c in cells], 1))
    return np.concatenate(shown)


def ask(folders: list[Path], out: Path, seed: int, count: int) -> None:
    """Writes tiles in a random order, the names, and the key."""
    records = [record for folder in folders for record in results.read(folder)]
    names = {record.layer for record in records if record.layer.rpartition("/")[2] == "classes"}
    if len(names) != 1:
        raise UsageError(f"results must be of the classes of one network: these are of {len(names)} such layers")
    model = stjax.load(records[0].settings.model)
    (layer,) = names
    run, *others = class_optima.runs(folders, layer, {model.name: model})
    if others:
        raise UsageError(f"results must be of one seed: these are of {1 + len(others)}")
    units, chi = class_optima.common([run])
    order = np.random.default_rng(seed).permutation(units)
    out.mkdir(parents=True, exist_ok=True)
    for letter, unit in zip(letters(len(units)), order, strict=True):
        rows = [class_optima.frames(run.cells[int(unit), c]) for c in chi]
        encode.png(out / f"{letter}.png", tile(rows, model.preprocessing.mean, count))
    key = {letter: model.class_names[unit] for letter, unit in zip(letters(len(units)), order, strict=True)}
    files.write_text(out / "names.txt", "\n".join(sorted(key.values())) + "\n")
    files.write_text(out / "key.json", json.dumps({"made": files.MARK, "chi": chi, "key": key}, indent=2))


def judge(answers: Path, out: Path) -> str:
    """How many answers are right, which are wrong, and how likely so many are by chance.

    Raises:
      UsageError: a line is no answer, or names what was not asked.
    """
    key = json.loads((out / "key.json").read_text())["key"]
    given: dict[str, str] = {}
    for line in filter(str.strip, answers.read_text().splitlines()):
        letter, colon, name = (part.strip() for part in line.partition(":"))
        if not colon or letter not in key:
            raise UsageError(f"an answer must be a line such as A: playing tennis; got {line[:80]!r}")
        if name not in key.values():
            raise UsageError(f"a name must be one of names.txt: {name[:80]!r} is not; {nearest(name, key.values())}")
        given[letter] = name
    right = [letter for letter, name in key.items() if given.get(letter) == name]
    wrong = [f"{key[letter]} (as {given.get(letter, 'nothing')})" for letter in key if letter not in right]
    return (
        f"{len(right)} of {len(key)} named right; by chance so many or more: {tail(len(right), len(key)):.2g}\n"
        f"right: {', '.join(key[letter] for letter in right)}\nwrong: {', '.join(wrong)}"
    )


def tail(right: int, count: int) -> float:
    """The probability that a random permutation of `count` names has `right` or more in their places.

    >>> [round(tail(n, 3), 4) for n in (0, 1, 3)]
    [1.0, 0.6667, 0.1667]
    """
    total = 0.0
    for fixed in range(right, count + 1):
        rest = count - fixed
        deranged = sum((-1) ** i / math.factorial(i) for i in range(rest + 1))
        total += deranged / math.factorial(fixed)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", help="folders of stjax visualize, of one seed, with commas between")
    parser.add_argument("--answers", type=Path, help="a file of answers; instead of --results")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--frames", type=int, default=5, help="of each clip on a tile")
    parser.add_argument("--out", type=Path, default=Path("blind"))
    options = parser.parse_args()
    if (options.results is None) == (options.answers is None):
        raise UsageError("one of --results and --answers must be given, and not both")
    if options.answers:
        print(judge(options.answers, options.out))
    else:
        ask([Path(text) for text in options.results.split(",")], options.out, options.seed, options.frames)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"error: {error}")
