"""A server of one file on this machine, which does wrong what a test tells it to."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Server(http.server.BaseHTTPRequestHandler):
    """One file at any address."""

    data = b""
    port = 0
    break_after: int | None = None  # bytes of one answer before the connection is cut
    ranges = True
    tag = '"one"'
    status = 200
    silent = False
    sized = True
    headers_more: tuple[tuple[str, str], ...] = ()  # beside, or in place of, the right ones
    shift = 0  # by which a part begins elsewhere than asked for
    asked: list[str | None]

    def do_GET(self):
        cls = type(self)
        cls.asked.append(self.headers.get("Range"))
        if cls.silent:
            threading.Event().wait(5)
            return
        if cls.status != 200:
            self.send_response(cls.status)
            for name, value in cls.headers_more:
                self.send_header(name, value)
            self.end_headers()
            return
        begin = 0
        wanted = self.headers.get("Range")
        if wanted and cls.ranges and self.headers.get("If-Range") == cls.tag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        if begin and begin >= len(cls.data):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin + cls.shift}-{len(cls.data) - 1}/{len(cls.data)}")
        if cls.sized and "Content-Length" not in dict(cls.headers_more):
            self.send_header("Content-Length", str(len(cls.data) - begin))
        self.send_header("ETag", cls.tag)
        for name, value in cls.headers_more:
            self.send_header(name, value)
        self.end_headers()
        end = len(cls.data) if cls.break_after is None else begin + cls.break_after
        # Whoever has seen enough hangs up.
        with suppress(ConnectionError):
            self.wfile.write(cls.data[begin:end])

    def log_message(self, *_):
        pass


@contextmanager
def serving(data: bytes) -> Iterator[type[Server]]:
    """The handler of a server that listens; its attributes may be set while it does."""
    handler = type("Handler", (Server,), {"asked": [], "data": data})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        handler.port = listening.server_port
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield handler
        listening.shutdown()
