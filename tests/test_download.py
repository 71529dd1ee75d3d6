"""Downloads against a server on this machine: resumed, checked, and plain about what went wrong."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from stjax import UsageError
from stjax.convert.download import cache, fetch
from stjax.convert.releases import RELEASES, Release, named

DATA = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.BaseHTTPRequestHandler):
    """One file at any address; what it does wrong is set by a test."""

    break_after: int | None = None  # bytes of one answer before the connection is cut
    ranges = True
    tag = '"one"'
    status = 200
    silent = False
    asked: list[str | None]

    def do_GET(self):
        cls = type(self)
        cls.asked.append(self.headers.get("Range"))
        if cls.silent:
            threading.Event().wait(5)
            return
        if cls.status != 200:
            self.send_error(cls.status)
            return
        begin = 0
        wanted = self.headers.get("Range")
        if wanted and cls.ranges and self.headers.get("If-Range") == cls.tag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        if begin >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(DATA) - begin))
        self.send_header("ETag", cls.tag)
        self.end_headers()
        end = len(DATA) if cls.break_after is None else begin + cls.break_after
        self.wfile.write(DATA[begin:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[type[Server]]:
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        handler.port = listening.server_port
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield handler
        listening.shutdown()


def release(server, digest: str = "") -> Release:
    return Release("a-release", f"http://127.0.0.1:{server.port}/weights.mat", "of a test", "none", digest)


RIGHT = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def test_a_file_comes_whole(tmp_path, server):
    seen = []
    path = fetch(release(server, RIGHT), tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["weights.mat"]
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    fetch(release(server, RIGHT), path.parent)
    assert len(server.asked) == 1, "what is there is not fetched again"


@pytest.mark.parametrize("digest", [RIGHT, RIGHT[:15], f"md5:{hashlib.md5(DATA).hexdigest()}", ""])
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
        fetch(release(server), tmp_path)
    server.break_after, server.tag = None, '"two"'
    assert fetch(release(server), tmp_path).read_bytes() == DATA


def test_a_server_that_knows_no_ranges(tmp_path, server):
    server.break_after, server.ranges = 300_000, False
    with pytest.raises(UsageError, match="the connection broke"):
        fetch(release(server), tmp_path)
    server.break_after = None
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path, server):
    (tmp_path / "weights.mat.part").write_bytes(DATA + b"more")
    (tmp_path / "weights.mat.part.tag").write_text(server.tag)
    assert fetch(release(server, RIGHT), tmp_path).read_bytes() == DATA


def test_another_checksum_leaves_nothing(tmp_path, server):
    with pytest.raises(
        UsageError, match=rf"must have md5 0000: http://.* gave {hashlib.md5(DATA).hexdigest()}; removed"
    ):
        fetch(release(server, "md5:0000"), tmp_path)
    assert not list(tmp_path.glob("weights.mat*"))


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
    nowhere = Release("a-release", f"http://127.0.0.1:{port}/weights.mat", "", "")
    with pytest.raises(UsageError, match=r"could not be had from http://127.*: .*refused"):
        fetch(nowhere, tmp_path)


def test_every_release_says_what_it_must():
    for name, one in RELEASES.items():
        assert named(name) is one
        assert one.address.startswith(("http://", "https://"))
        assert one.licence
        assert one.digest == "" or one.digest.split(":")[0] in hashlib.algorithms_available
    assert len({one.file for one in RELEASES.values()}) == len(RELEASES)
    with pytest.raises(UsageError, match="'imagenet-cafe' is not; nearest: imagenet-caffe"):
        named("imagenet-cafe")


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
