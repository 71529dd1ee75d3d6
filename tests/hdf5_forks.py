"""Runs the HDF5 child on many files, each in a fork of this process, so that h5py is imported once.

    python hdf5_forks.py FOLDER SECONDS

FOLDER holds files 0, 1, 2, ...; of file 7, the child's output goes into the folder out-7. Prints the exit codes as
JSON; minus the signal's number for one that crashed, "hung" for one that took longer than SECONDS.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

from stjax.convert.readers import hdf5


def main() -> None:
    """All files, one after another."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    spec = importlib.util.spec_from_file_location("hdf5_child", hdf5.CHILD)
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    codes = []
    for number in range(len(list(folder.iterdir()))):
        out = folder / f"out-{number}"
        out.mkdir()
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            file = folder / str(number)
            sys.argv = ["", str(file), str(out), json.dumps(hdf5.limits(file.stat().st_size))]
            try:
                child.main()
            except SystemExit:
                os._exit(1)
            os._exit(0)
        codes.append(wait(pid, seconds))
    print(json.dumps(codes))


def wait(pid: int, seconds: float) -> int | str:
    """The exit code of a fork, ended when its time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


if __name__ == "__main__":
    main()
