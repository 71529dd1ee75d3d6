"""Do the readers of weight files withstand files of strangers? Thousands that are damaged, hundreds made to harm.

    python scripts/attack_readers.py                      3,000 damaged and 480 hostile files, ten minutes
    python scripts/attack_readers.py --damaged 300 --hostile 50 --first 7000000

Each file is read as `stjax convert` and `stjax inspect` read it, in a process that is watched: tests/watched.py says
how time and memory are measured, tests/damage.py and tests/hostile.py what is done to the files. `--first` gives other
damage; the same number gives the same files. Prints a table, and every file that broke the rule, and ends with 1 if
any did: one line or arrays, within 10 s and 1 GiB, and never values that a checksum in the file contradicts.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_table import markdown_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile  # pyright: ignore[reportMissingImports]
from damage import Seed, hdf5_seeds, seeds  # pyright: ignore[reportMissingImports]
from watched import PATIENCE, Outcome, Watch, watching  # pyright: ignore[reportMissingImports]

MOST_MEMORY = 1 << 30
MAGNITUDES = (20_000, 300_000, 1_000_000, 500)
"""Of hostile structures, about bytes: first each with the first."""
HDF5_SHARE = 30
"""One of so many damaged files is of each layout that a child reads: it takes 100 times longer."""


class Row(NamedTuple):
    """What came of files of one kind: `faults` are those that broke the rule, by name."""

    kind: str
    outcomes: list[Outcome]
    faults: list[str]


def fault(outcome: Outcome) -> str:
    """How a file broke the rule, "" if it did not."""
    if outcome.fault:
        return outcome.fault
    if outcome.seconds > PATIENCE:
        return f"{outcome.seconds:.1f} s"
    return f"{outcome.peak >> 20} MiB" if outcome.peak > MOST_MEMORY else ""


def damaged(seed: Seed, numbers: range, path: Path, watch: Watch) -> Row:
    """A seed, damaged in so many ways."""
    whole = watch.read(seed.write(0, path))
    if not whole.digest:
        raise SystemExit(f"{seed.name}, undamaged, must be read: {whole}")
    row = Row(seed.name, [], [])
    for number in numbers:
        outcome = watch.read(seed.write(number, path))
        wrong = seed.checked and outcome.digest not in ("", whole.digest)
        said = "other values than its checksums allow" if wrong else fault(outcome)
        row.outcomes.append(outcome)
        row.faults.extend([f"{seed.name}, damage {number}: {said}"] if said else [])
    return row


def attacks(count: int) -> Iterator[tuple[str, int]]:
    """Names of hostile structures, and magnitudes."""
    yield from itertools.islice(((name, n) for n in MAGNITUDES for name in hostile.ATTACKS), count)


def attacked(name: str, n: int, path: Path, watch: Watch) -> tuple[Outcome, str]:
    """One hostile file, and how it broke the rule."""
    outcome = watch.read(hostile.write(name, n, path))
    said = fault(outcome)
    if not said and not outcome.refused and name not in hostile.HARMLESS:
        said = "is accepted"
    return outcome, f"{name}, {n}: {said}" if said else ""


def run(damages: int, hostiles: int, first: int) -> list[Row]:
    """All files, one after another."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="stjax-attack-") as folder, watching() as watch:
        path = Path(folder) / "file"
        children = list(hdf5_seeds(Path(folder)))
        inside = list(seeds(Path(folder)))
        share, left = damages // HDF5_SHARE, damages
        for i, seed in enumerate([*children, *inside]):
            count = share if i < len(children) else -(-left // (len(children) + len(inside) - i))
            rows.append(damaged(seed, range(first, first + count), path, watch))
            left -= count
            print(".", end="", file=sys.stderr, flush=True)
        kinds: dict[str, Row] = {}
        for name, n in attacks(hostiles):
            kind = f"hostile {name.partition(':')[0]}"
            outcome, said = attacked(name, n, path, watch)
            row = kinds.setdefault(kind, Row(kind, [], []))
            row.outcomes.append(outcome)
            row.faults.extend([said] if said else [])
        print(file=sys.stderr)
    return rows + list(kinds.values())


def cells(row: Row) -> list[object]:
    """A row of the table."""
    slowest = max((o.seconds for o in row.outcomes), default=0.0)
    peak = max((o.peak for o in row.outcomes), default=0)
    read = sum(bool(o.digest) for o in row.outcomes)
    return [row.kind, len(row.outcomes), read, f"{slowest:.2f} s", f"{peak / (1 << 20):.0f} MiB", len(row.faults)]


def main() -> None:
    """Reads all, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damaged", type=int, default=3000, help="files with damage, of all layouts together")
    parser.add_argument("--hostile", type=int, default=2 * len(hostile.ATTACKS), help="files made to harm")
    parser.add_argument("--first", type=int, default=1, help="number of the first damage")
    asked = parser.parse_args()
    begin = time.perf_counter()
    rows = run(asked.damaged, asked.hostile, asked.first)
    total = Row("all", [o for row in rows for o in row.outcomes], [f for row in rows for f in row.faults])
    heads = ["files", "number", "read", "slowest", "most memory", "broke the rule"]
    print("\n".join(markdown_table(heads, [cells(row) for row in [*rows, total]])))
    print("\n".join(total.faults))
    print(f"{len(total.outcomes)} files in {time.perf_counter() - begin:.0f} s")
    sys.exit(bool(total.faults))


if __name__ == "__main__":
    main()
