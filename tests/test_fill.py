"""A folder is filled without holding what is on the disk already in memory as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import dataclasses, os, resource, sys
from pathlib import Path
import jax, numpy as np
sys.path.insert(0, sys.argv[1])
from conftest import draw_params, slim
import stjax
from stjax.atlas import fill, results, resume

os.fsync = lambda file: None  # 5,000 of them take a while, and no memory
network = slim()
statistics = stjax.Statistics({"conv3_fusion": np.ones(8)}, "made up")
model = stjax.Model(name="slim", network=network, params=draw_params(network), statistics=statistics)
directory = Path(sys.argv[2])
for number in (8, 625):
    request = stjax.Request(
        model=model, layer="conv3_fusion", units=range(8), chi=np.arange(number) / 16, chunk=8,
        recipe=dataclasses.replace(stjax.MAHENDRAN, steps=1),
    )
    settings = resume.identify(request)
    share = fill.share_of(directory, request, settings, results.read(directory))
    fill.fill_folder(directory, request, settings, share.jobs)  # on 8 devices
    print(len(share.jobs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_flat_from_64_to_5000_units(tmp_path):
    """The arrays of 5,000 units are 75 MB here; kept, they would come on top of the 45 that are seen.

    Those are a few chunks under way, which 64 units do not need, and the manifest's lines, 4 kB each.
    """
    command = [sys.executable, "-c", CODE, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    (few, at_few), (many, at_many) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (64, 5000 - 64)
    assert len(list(tmp_path.rglob("*.npz"))) == 5000
    assert at_many - at_few < 60_000, f"{at_few} kB with {few} units, {at_many} kB with {many} more"
