"""How programs are compiled: on a CPU with the faster convolutions, and kept between runs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

FAST_ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""XLA's own products and convolutions in place of YNNPACK's, its default in JAX 0.10: 8 maps of 38 x 38 with 64
channels each way run at 183 GFLOP/s for 78 on 2 cores."""


def jit(fun: Callable[..., Any], **how: Any) -> Any:
    """`jax.jit` with the options that make XLA fast on a CPU; elsewhere the same as `jax.jit`.

    For the outermost function, the one that your loop calls: what it calls itself is compiled with it.

    Args:
      fun: a pure function.
      how: as for `jax.jit`, about static or donated arguments.
    Returns:
      The function compiled at its first call, with the signature and help of `fun`, and `lower` as that of `jax.jit`.
    Raises:
      ValueError: at a call from inside another jit, where JAX takes no options; use `jax.jit` there.

    >>> double = jit(lambda x: 2 * x)
    >>> float(double(4.0))
    8.0
    """

    @functools.cache
    def jitted() -> Any:
        # At the first call: naming a backend starts it, which an import must not.
        return jax.jit(fun, compiler_options=_options(), **how)

    def compiled(*args: Any, **kwargs: Any) -> Any:
        return jitted()(*args, **kwargs)

    def lower(*args: Any, **kwargs: Any) -> Any:
        return jitted().lower(*args, **kwargs)

    # What wraps nothing of its own, as a `functools.partial`, has no name.
    if hasattr(fun, "__name__"):
        functools.update_wrapper(compiled, fun)
    else:
        compiled.__wrapped__ = fun  # type: ignore[attr-defined]
    compiled.lower = lower  # type: ignore[attr-defined]
    return compiled


@functools.cache
def _options() -> dict[str, str]:
    """Those that this version of XLA knows."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=FAST_ON_CPU).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return FAST_ON_CPU


def cache_programs() -> Path | None:
    """Tells JAX to keep what takes longer than a second to compile, in a folder of the user's cache.

    `~/.cache/stjax`, or below XDG_CACHE_HOME; it may be deleted at any time. JAX's own settings go first:
    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.

    Returns:
      The folder; None where JAX has been told otherwise, or where it cannot be made.
    """
    told: dict[str, Any] = jax.config.values
    if told["jax_compilation_cache_dir"] is not None or not told["jax_enable_compilation_cache"]:
        return None
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "stjax" / f"compiled-{jax.__version__}-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
    # It cannot be made, or nobody knows where this user's home is.
    except (OSError, RuntimeError):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _processor() -> str:
    """Of this machine's kind: programs for another one's instructions would crash, and a home may be shared."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        kind += next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return hashlib.sha256(kind.encode()).hexdigest()[:8]
