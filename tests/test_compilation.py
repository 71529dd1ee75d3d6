"""How programs are compiled: with the options that are fast on a CPU where they are known, and kept between runs."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import stjax
from stjax import compilation
from stjax.networks.convolution import conv3x3

MAPS, KERNEL, BIAS = jnp.ones((2, 20, 20, 32)), jnp.ones((3, 3, 32, 32)), jnp.zeros(32)


def convolve(maps):
    return conv3x3(maps, KERNEL, BIAS, padding="VALID")


def program(jitted):
    return jitted.lower(MAPS).compile().as_text()


@pytest.fixture
def afresh():
    compilation._options.cache_clear()
    yield
    compilation._options.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only CPU has options")
def test_our_programs_take_the_faster_convolutions():
    assert "ynn" not in program(stjax.jit(convolve))
    if "ynn" not in program(jax.jit(convolve)):
        pytest.skip("this version of XLA takes them by itself")


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch, afresh):
    monkeypatch.setattr(compilation, "FAST_ON_CPU", {"xla_cpu_of_another_version": ""})
    assert compilation._options() == {}
    assert (stjax.jit(convolve)(MAPS) == 9 * 32).all()


def test_arguments_of_jax_jit_are_passed_on():
    @stjax.jit
    def named(x):
        """Twice."""
        return 2 * x

    assert (named.__name__, named.__doc__) == ("named", "Twice.")
    power = stjax.jit(lambda x, n: x**n, static_argnames="n")
    assert power(3.0, n=2) == 9.0


def test_compiled_programs_are_kept_in_the_user_s_cache_unless_told_otherwise(tmp_path):
    kept = "compilation.cache_programs(), jax.config.values['jax_compilation_cache_dir']"
    code = f"import jax; from stjax import compilation; print({kept})"
    ask = lambda **variables: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": str(tmp_path)} | variables,
    ).stdout.split()  # fmt: skip
    folder = str(tmp_path / "stjax" / f"compiled-{compilation.jax.__version__}-{compilation._processor()}")
    assert ask() == [folder, folder]
    assert ask(JAX_COMPILATION_CACHE_DIR="/elsewhere") == ["None", "/elsewhere"]
    assert ask(JAX_ENABLE_COMPILATION_CACHE="false") == ["None", "None"]
    (tmp_path / "file").touch()
    assert ask(XDG_CACHE_HOME=str(tmp_path / "file")) == ["None", "None"]
