"""Says how the runs in a folder ended: which share of them reached ahat, and in which share every input grew.

    stjax visualize conv5_fusion --model vgg16-imagenet --units all --chi 10,0 --out fusion
    python scripts/check_endings.py fusion

An input has grown if its mean square is above that of the noise that the run started from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from markdown_table import markdown_table

import stjax
from stjax import arrays, endings
from stjax.ascent import recipes
from stjax.atlas import results
from stjax.record import Record

LISTED = 12


def grown(folder: Path, record: Record) -> dict[str, bool]:
    """Whether each input of a result holds more than its start did."""
    recipe = recipes.recipe_named(record.settings.recipe)
    # Uniform within +-noise / 0.9, see `stjax.start_ascent`.
    begun = (recipe.noise / 0.9) ** 2 / 3
    held = arrays.load(folder / record.arrays, record.sha256)
    return {each.name: bool(np.square(held[each.name]).mean() > begun) for each in record.inputs}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of a run")
    folder = parser.parse_args().folder
    layers: dict[tuple[str, float | None], list[Record]] = defaultdict(list)
    for record in results.read(folder):
        layers[record.layer, record.chi].append(record)
    rows, low = [], []
    for (layer, chi), records in sorted(layers.items(), key=str):
        words = Counter(record.ending for record in records)
        alive = [record for record in records if record.ending != endings.DEAD]
        each = [grown(folder, record) for record in alive]
        ratio = np.median([record.activation_end / record.ahat for record in alive])
        rows.append(
            [
                layer,
                "-" if chi is None else f"{chi:g}",
                str(len(records)),
                f"{words[endings.REACHED] / len(records):.1%}",
                f"{np.mean([all(inputs.values()) for inputs in each]):.1%}",
                f"{ratio:.0f}",
                ", ".join(f"{number} {word}" for word, number in words.items() if word != endings.REACHED) or "-",
            ]
        )
        low += [(layer, chi, r.unit, r.ending, r.activation_end / r.ahat) for r in alive
                if r.ending != endings.REACHED]  # fmt: skip
    heads = ("layer", "chi", "results", "reached ahat", "all inputs grew", "median a / ahat", "others")
    print(*markdown_table(heads, rows), sep="\n")
    for line in low[:LISTED]:
        print(json.dumps(line))


if __name__ == "__main__":
    try:
        main()
    except stjax.UsageError as error:
        sys.exit(f"error: {error}")
