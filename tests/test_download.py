"""Downloads against a server on this machine: resumed, checked, and plain about what went wrong."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import writers
from serving import Server, serving
from writers import tower, write

from stjax import UsageError
from stjax.convert import answers, download
from stjax.convert.download import cache
from stjax.convert.release import Held, Release
from stjax.convert.releases import RELEASES, release_named

DATA = np.random.default_rng(0).bytes(3_000_000)
# One whose contents are told; the others are told by their checksum.
STREAM = writers.network()
HELD = Held("matconvnet", STREAM)
fetch = functools.partial(download.fetch, insecure=True)


@pytest.fixture
def server() -> Iterator[type[Server]]:
    with serving(DATA) as listening:
        yield listening


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    return write("MatConvNet DagNN", tower(classes=6), tmp_path_factory.mktemp("weights") / "a.mat").read_bytes()


def release(server, digest: str = "", held: Held = HELD) -> Release:
    return Release("a-release", f"http://127.0.0.1:{server.port}/weights.mat", "of a test", "none", held, digest)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


RIGHT = sha256(DATA)


def test_a_file_comes_whole(tmp_path, server):
    seen = []
    path = fetch(release(server, RIGHT), tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["weights.mat"]
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    fetch(release(server, RIGHT), path.parent)
    assert len(server.asked) == 1, "what is there is not fetched again"


@pytest.mark.parametrize("digest", [RIGHT, RIGHT[:15], f"md5:{hashlib.md5(DATA).hexdigest()}"])
def test_a_broken_connection_is_resumed(tmp_path, server, digest):
    server.break_after = 1_000_000
    path = fetch(release(server, digest), tmp_path)
    assert path.read_bytes() == DATA
    assert server.asked[0] is None
    assert len(server.asked) >= 3
    assert server.asked[1].startswith("bytes=")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.mat"]


def test_a_second_command_goes_on_where_the_first_gave_up(tmp_path, server):
    server.break_after = 300_000
    with pytest.raises(UsageError, match=r"the connection broke 4 times, 1,200,000 bytes are kept; try again later"):
        fetch(release(server, RIGHT), tmp_path)
    assert not (tmp_path / "weights.mat").exists()
    server.break_after = None
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA
    assert server.asked[-1] == "bytes=1200000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path, server):
    server.break_after = 300_000
    with pytest.raises(UsageError):
        fetch(release(server, RIGHT), tmp_path)
    server.break_after, server.tag = None, '"two"'
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_a_server_that_knows_no_ranges(tmp_path, server):
    server.break_after, server.ranges = 300_000, False
    with pytest.raises(UsageError, match="the connection broke"):
        fetch(release(server, RIGHT), tmp_path)
    server.break_after = None
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path, server):
    (tmp_path / "weights.mat.stjax-part").write_bytes(DATA + b"more")
    (tmp_path / "weights.mat.stjax-part.tag").write_text(server.tag)
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_a_missing_file_is_said_with_its_address(tmp_path, server):
    server.status = 404
    with pytest.raises(UsageError, match=r"could not be had from http://127.*weights.mat: the server answers 404"):
        fetch(release(server), tmp_path)


def test_a_silent_server(tmp_path, server):
    server.silent = True
    with pytest.raises(UsageError, match=r"timed out; try again later .* by other means and give it to stjax convert"):
        fetch(release(server), tmp_path, patience=0.3)


def test_no_server_at_all(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nowhere = Release("a-release", f"http://127.0.0.1:{port}/weights.mat", "", "", HELD)
    with pytest.raises(UsageError, match=r"could not be had from http://127.*: .*refused"):
        fetch(nowhere, tmp_path)


def test_every_release_says_what_it_must():
    for name, one in RELEASES.items():
        assert release_named(name) is one
        assert one.address.startswith(("http://", "https://"))
        assert one.licence
        assert one.held.network.num_classes in (101, 1000)
        assert one.held.network.widths == ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
        assert one.held.network.dense == (4096, 4096)
        assert one.digest == "" or one.digest.split(":")[0] in hashlib.algorithms_available
    assert len({one.file for one in RELEASES.values()}) == len(RELEASES)
    with pytest.raises(UsageError, match="'imagenet-cafe' is not; nearest: imagenet-caffe"):
        release_named("imagenet-cafe")


def test_what_is_there_already_is_never_touched(tmp_path, server):
    """A file of the user's own that happens to have the name of a download."""
    (tmp_path / "weights.mat").write_bytes(b"mine")
    for digest in ("", RIGHT):
        with pytest.raises(
            UsageError, match=r"weights\.mat is there already, and is not a-release: .*; move it, or give"
        ):
            fetch(release(server, digest), tmp_path)
    assert (tmp_path / "weights.mat").read_bytes() == b"mine"
    assert server.asked == []


def test_what_appears_meanwhile_is_never_replaced(tmp_path, server):
    def appear(done, total):
        (tmp_path / "weights.mat").write_bytes(b"mine")

    with pytest.raises(
        UsageError, match=r"the folder must take downloads: .*: weights\.mat has appeared in it meanwhile"
    ):
        fetch(release(server, RIGHT), tmp_path, progress=appear)
    assert (tmp_path / "weights.mat").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["weights.mat", "weights.mat.stjax-part", "weights.mat.stjax-part.tag"])
@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "folder", "pipe"])
def test_no_link_is_followed_to_write(tmp_path, server, name, kind):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    make = {
        "link": lambda path: path.symlink_to(precious),
        "hard link": lambda path: path.hardlink_to(precious),
        "dangling link": lambda path: path.symlink_to(tmp_path / "nowhere"),
        "folder": lambda path: path.mkdir(),
        "pipe": lambda path: os.mkfifo(path),
    }
    make[kind](folder / name)
    # What has our own name for a tag may be unlinked, as long as nothing is written through it.
    refused = contextlib.nullcontext() if name.endswith(".tag") and kind != "folder" else pytest.raises(UsageError)
    with refused:
        fetch(release(server, RIGHT), folder)
    assert precious.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


# What may come in place of a file

PAGE = b"  <!DOCTYPE html><title>Log in to the hotel's network</title>"
WRONG = {
    "empty": (b"", {}, "it is empty"),
    "a page": (PAGE, {}, "the server sends a web page"),
    "said to be a page": (
        b"x",
        {"headers_more": (("Content-Type", "text/html; charset=utf-8"),)},
        "text/html: a web page",
    ),
    "gzip": (gzip.compress(DATA), {}, "the server sends gzip"),
    "said to be gzip": (DATA, {"headers_more": (("Content-Encoding", "gzip"),)}, r"sends it packed \(gzip\)"),
    "cut, of unknown length": (DATA[:-1], {"sized": False}, "its sha256 must be"),
    "another": (DATA[::-1], {}, "its sha256 must be"),
    "no length": (DATA, {"headers_more": (("Content-Length", "many"),)}, "gives no sensible length: many"),
    "a negative length": (DATA, {"headers_more": (("Content-Length", "-1"),)}, "gives no sensible length: -1"),
    "an odd digit": (DATA, {"headers_more": (("Content-Length", "\u00b2"),)}, "gives no sensible length"),
    "a huge length": (DATA, {"headers_more": (("Content-Length", "9" * 5000),)}, "gives no sensible length: 999"),
    "too long a length": (
        DATA,
        {"headers_more": (("Content-Length", str(2**40)),)},
        "are announced, none of these",
    ),
    "two lengths": (
        DATA,
        {"headers_more": (("Content-Length", "3000000"), ("Content-Length", "7"))},
        "gives no sensible length",
    ),
    "no content": (b"", {"status": 204}, "the server answers 204"),
    "a file of this machine": (
        b"",
        {"status": 302, "headers_more": (("Location", "file:///etc/passwd"),)},
        "sends on to file:///etc/passwd, which is not https",
    ),
    "another protocol": (
        b"",
        {"status": 302, "headers_more": (("Location", "ftp://127.0.0.1/weights.mat"),)},
        "sends on to ftp://127.0.0.1/weights.mat, which is not https",
    ),
    "round and round": (b"", {"status": 302, "headers_more": (("Location", "/weights.mat"),)}, "sends on and on"),
    "nowhere": (b"", {"status": 302, "headers_more": (("Location", "http://[/"),)}, "could not be had"),
    "an unheard-of status": (b"", {"status": 999}, "could not be had|answers 999"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_and_not_kept(tmp_path, server, case):
    server.data, changes, message = WRONG[case]
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(UsageError, match=message) as caught:
        fetch(release(server, RIGHT), tmp_path)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_reply_cannot_write_to_the_terminal(tmp_path, server):
    server.status, server.responses = 404, {404: ("\x1b[31mred\x1b]0;title\x07", "")}
    with pytest.raises(UsageError) as caught:
        fetch(release(server, RIGHT), tmp_path)
    assert str(caught.value).isprintable()
    assert r"\x1b[31mred" in str(caught.value)


@pytest.mark.parametrize("sized", [True, False])
def test_sizes_are_capped(tmp_path, server, monkeypatch, sized):
    monkeypatch.setattr(answers, "LARGEST", 1_000_000)
    server.sized = sized
    with pytest.raises(UsageError, match="1,000,000"):
        fetch(release(server, RIGHT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_anything_comes(tmp_path, server, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageError, match=r"must take downloads: .*: 3,000,000 bytes are to come, 1,000 are free"):
        fetch(release(server, RIGHT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_begins_elsewhere_is_refused(tmp_path, server):
    server.break_after, server.shift = 1_000_000, 5
    with pytest.raises(UsageError, match="sends another part than asked for: bytes 1000005-"):
        fetch(release(server, RIGHT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_https_is_never_left(monkeypatch):
    """No certificate is at hand for a server of our own: the answer is made up."""
    places = iter(["https://example.org/b", "http://example.org/c"])

    def answer(self, request, timeout):
        raise urllib.error.HTTPError(request.full_url, 302, "", {"Location": next(places)}, None)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answer)
    with pytest.raises(answers.Wrong, match=r"sends on to http://example\.org/c, which is not https"):
        answers.ask(urllib.request.Request("http://example.org/a"), 1.0)


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_takes_nothing(tmp_path, server, where):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"the folder must take downloads: .*; nearest: another --folder"):
        fetch(release(server, RIGHT), tmp_path / where)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_pipe_in_place_of_a_tag_is_not_waited_for(tmp_path, server):
    (tmp_path / "weights.mat.stjax-part").write_bytes(DATA[:1000])
    os.mkfifo(tmp_path / "weights.mat.stjax-part.tag")
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA
    assert server.asked == [None]


def test_two_at_once(tmp_path, server):
    pytest.importorskip("fcntl")

    def again(done, total):
        with pytest.raises(UsageError, match="another process is downloading the same file"):
            fetch(release(server, RIGHT), tmp_path)

    assert fetch(release(server, RIGHT), tmp_path, progress=again).read_bytes() == DATA


# Files without a checksum


def test_plain_http_without_a_checksum_is_asked_for(tmp_path, server):
    with pytest.raises(UsageError, match=r"over plain http and has no published checksum: .*; nearest: --insecure"):
        download.fetch(release(server), tmp_path)
    assert server.asked == []
    assert download.fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_a_file_is_told_by_what_it_holds(tmp_path, server, weights):
    server.data = weights
    assert fetch(release(server), tmp_path).read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir()] == ["weights.mat"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"network": STREAM.clone(num_classes=7)}, "num_classes must be 7: got 6"),
        ({"network": STREAM.clone(streams=("motion",))}, r"streams must be \('motion',\): got \('appearance',\)"),
        ({"network": STREAM.clone(dense=(8, 10))}, r"dense must be \(8, 10\): got \(8, 9\)"),
        ({"table": "caffe"}, "of another architecture"),
    ],
)
def test_a_file_that_holds_something_else_is_not_kept(tmp_path, server, weights, held, message):
    server.data = weights
    with pytest.raises(UsageError, match=f"{message}.*; not kept"):
        fetch(release(server, held=HELD._replace(**held)), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_file_without_checksum_and_length_is_not_kept(tmp_path, server, weights, share):
    server.data, server.sized = weights[: int(share * len(weights))], False
    with pytest.raises(UsageError, match="not kept"):
        fetch(release(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_two_streams_is_not_one(tmp_path, server):
    server.data = writers.dag(writers.fused_params(tower(classes=6), tower(20, classes=6), writers.fusion("conv2d")))
    with pytest.raises(UsageError, match=r"streams must be \('appearance',\): got \('appearance', 'motion'\)"):
        fetch(release(server), tmp_path)


def test_which_releases_are_exposed():
    exposed = [name for name, one in RELEASES.items() if one.exposed]
    assert len(exposed) == 12
    assert all(name.startswith(("ucf101", "cuhk")) for name in exposed)


def test_no_home(monkeypatch):
    for name in ("STJAX_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UsageError, match=r"needs HOME, XDG_CACHE_HOME or STJAX_CACHE; nearest: --folder \."):
        cache()


def test_the_cache_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("STJAX_CACHE", str(tmp_path))
    assert cache() == tmp_path
    monkeypatch.delenv("STJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "stjax"


def test_every_release_is_in_the_table_of_weights():
    from pathlib import Path

    table = (Path(__file__).parents[1] / "weights" / "README.md").read_text()
    for one in RELEASES.values():
        assert f"`{one.name}`" in table
        assert one.digest.partition(":")[2] in table
