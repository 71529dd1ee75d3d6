"""Compiled programs are kept between runs: the next run of a layer begins in a second where it took ten."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax


def keep() -> Path | None:
    """Tells JAX to keep what takes longer than a second to compile, in a folder of the user's cache.

    `~/.cache/stjax`, or below XDG_CACHE_HOME; it may be deleted at any time. JAX's own settings go first:
    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.

    Returns:
      The folder; None where JAX has been told otherwise, or where it cannot be made.
    """
    told: dict[str, Any] = jax.config.values
    if told["jax_compilation_cache_dir"] is not None or not told["jax_enable_compilation_cache"]:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "stjax" / f"compiled-{jax.__version__}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _processor() -> str:
    """Of this machine's kind: programs for another one's instructions would crash, and a home may be shared."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        kind += next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return hashlib.sha256(kind.encode()).hexdigest()[:8]
