"""Reads files in a process that is watched: how long each takes, how much memory, and what comes of it.

    python watched.py        paths come in, a line each; a line of JSON goes out for each

Peak memory is the most that the process has held while it read one file (VmHWM, set back before each by way of
/proc/self/clear_refs), above what it held once stjax was imported. Of an HDF5 file, it is the most that any child has
held so far, the interpreter included and never less than this process holds: the system tells no more of children.
Where it does not tell at all, it is 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 10.0
"""Seconds that a file may take."""
ROOM = 4 << 30
"""Bytes beyond which a reader gets no more, so that one that fails does not take the machine with it."""


class Outcome(NamedTuple):
    """What came of one file.

    seconds, peak: how long it took and the bytes of memory it took.
    refused: the reason, of a file whose arrays are not read; "" where they are.
    digest: of all values that were read.
    fault: what should never happen: a traceback, a hang, an end of the process.
    """

    seconds: float
    peak: int
    refused: str = ""
    digest: str = ""
    fault: str = ""


class Watch:
    """A process that reads one file after another; started anew after one that ended it.

    Args:
      program: that reads; this one, except where a test wants another.
    """

    def __init__(self, program: Path = Path(__file__)) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()

    def read(self, path: Path) -> Outcome:
        """What comes of one file."""
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        begin = time.perf_counter()
        try:
            line = self.lines.get(timeout=2 * PATIENCE)
        except queue.Empty:
            self.end()
            return Outcome(time.perf_counter() - begin, 0, fault="hangs")
        if not line:
            code = self.process.wait()
            self.end()
            return Outcome(time.perf_counter() - begin, 0, fault=f"ends the process, {code}")
        return Outcome(**json.loads(line))

    def end(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self.process = None

    def _start(self) -> None:
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(self.program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=_pump, args=(self.process.stdout, self.lines), daemon=True).start()
        assert self.lines.get(timeout=120) == "ready\n"


def _pump(pipe: Iterable[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            lines.put(line)
    lines.put("")


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """A watch that is ended with the block."""
    watch = Watch()
    try:
        yield watch
    finally:
        watch.end()


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return 0


def digest(contents: Any) -> str:
    """Of all values that a reader returned, whatever the order of their bytes; HDF5 has no checksum of its names."""
    found: list[str] = []
    for array in contents.arrays.values():
        kind, native = f"{array.dtype.newbyteorder('=')}|{array.shape}|", array.dtype.newbyteorder("=")
        found.append(hashlib.sha256(kind.encode() + array.astype(native, order="C").tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    from stjax import UsageError
    from stjax.convert.readers import container
    from stjax.convert.tables import match
    from stjax.convert.two_stream.streams import translate

    try:
        contents = container.read(path)
    except UsageError as error:
        return {"refused": str(error), "fault": "more than one line" if "\n" in str(error) else ""}
    with contextlib.suppress(UsageError):
        translate(contents, match(contents))
    return {"digest": digest(contents)}


def main() -> None:
    """One file after another, until there are no more."""
    import resource
    import warnings

    import stjax.convert.tables

    assert stjax.convert.tables
    # An odd escape in a damaged header, an overflow in a damaged number: no fault, and no line of ours.
    warnings.simplefilter("ignore")
    most = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print("ready", flush=True)
    base = _status("VmRSS")
    spent = 0.0
    for line in sys.stdin:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        begin = time.perf_counter()
        try:
            said = _read(Path(line[:-1]))
        except BaseException:
            said = {"fault": traceback.format_exc()[-2000:]}
        seconds = time.perf_counter() - begin
        before, usage = spent, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = usage.ru_utime + usage.ru_stime
        peak = max(_status("VmHWM") - base, usage.ru_maxrss << 10 if spent > before else 0)
        print(json.dumps({"seconds": seconds, "peak": peak, **said}), flush=True)


if __name__ == "__main__":
    main()
