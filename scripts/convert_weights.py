"""Published weights of VGG-16 and two-stream VGG-16 -> one file of stjax. The same as `stjax convert`.

    python scripts/convert_weights.py ucf101-img-vgg16-split1.mat ucf101-TVL1flow-vgg16-split1.mat \\
        --out weights/ucf101.safetensors

`--help` lists every option; weights/README.md says where the files are. `stjax inspect` looks into one.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    runpy.run_module("stjax", run_name="__main__")
