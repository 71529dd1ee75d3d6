"""3-D convolution and max-pooling, in whatever form a backend has them, equal XLA's own in float64; gradients too."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from stjax.networks.convolution3d import conv3d, max_pool3d, same

TOLERANCE = 1e-5  # of the largest value; float32 sums of up to 1029 products reach 1e-6

# (taps, stride, (time, height, width), padding): odd and even lengths, SAME with as many zeros before as behind or not
CASES = [
    (1, 1, (3, 5, 4), ("VALID", "SAME", "VALID")),
    (3, 1, (4, 7, 6), ("SAME", "SAME", "SAME")),
    (3, 1, (5, 6, 7), ("VALID", "VALID", "VALID")),
    (3, 1, (4, 6, 5), ("VALID", "SAME", "SAME")),
    (3, 1, (4, 6, 5), ("SAME", "VALID", "SAME")),
    (3, 1, (1, 2, 3), ("SAME", "SAME", "SAME")),
    (7, 2, (8, 12, 10), ("SAME", "SAME", "SAME")),
    (7, 2, (9, 13, 11), ("SAME", "SAME", "SAME")),
    (7, 2, (9, 8, 11), ("VALID", "VALID", "VALID")),
    (7, 2, (10, 12, 9), ("VALID", "SAME", "SAME")),
    (7, 2, (6, 11, 14), ("SAME", "VALID", "VALID")),
    (7, 2, (2, 3, 4), ("SAME", "SAME", "SAME")),
]
POOLS = [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))]


def draw(taps, size, *batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(*batch, *size, 3))
    kernel = random.normal(size=(taps, taps, taps, 3, 5)) / np.sqrt(3 * taps**3)
    return x, kernel, random.normal(size=5)


def zeros(size, taps, stride, padding):
    """TensorFlow's own words for SAME: what the stride leaves over decides."""
    total = [max(taps - (n % stride or stride), 0) if p == "SAME" else 0 for n, p in zip(size, padding, strict=True)]
    return [(n // 2, n - n // 2) for n in total]


def of_xla(x, kernel, bias, stride, padding):
    edges = zeros(x.shape[-4:-1], kernel.shape[0], stride, padding)
    names = ("NDHWC", "DHWIO", "NDHWC")
    y = lax.conv_general_dilated(x, kernel, (stride,) * 3, edges, dimension_numbers=names)
    return y + jnp.broadcast_to(bias, y.shape)


def value_and_gradients(function, *operands):
    """The value, and the gradients of its product with one array of noise."""
    y, pullback = jax.vjp(function, *operands)
    noise = np.random.default_rng(1).normal(size=y.shape)
    return y, *pullback(jnp.asarray(noise, y.dtype))


def in_double(function, *operands):
    with jax.enable_x64(True):
        wide = [jnp.asarray(each, jnp.float64) for each in operands]
        return [np.asarray(each) for each in jax.jit(functools.partial(value_and_gradients, function))(*wide)]


def in_single(function, *operands):
    with jax.default_matmul_precision("highest"):
        narrow = [jnp.asarray(each, jnp.float32) for each in operands]
        return jax.jit(functools.partial(value_and_gradients, function))(*narrow)


def assert_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, e, rtol=0, atol=TOLERANCE * np.abs(e).max())


@pytest.mark.parametrize(("taps", "stride", "size", "padding"), CASES, ids=str)
def test_value_and_gradients_are_those_of_a_3d_convolution(taps, stride, size, padding):
    operands = draw(taps, size, 2)
    expected = in_double(lambda *args: of_xla(*args, stride, padding), *operands)
    assert_close(in_single(lambda *args: conv3d(*args, stride=stride, padding=padding), *operands), expected)


@pytest.mark.parametrize(("taps", "stride", "size", "padding"), [CASES[3], CASES[9]], ids=str)
def test_clips_may_have_more_batch_axes_or_none_or_be_mapped_over(taps, stride, size, padding):
    x, kernel, bias = (jnp.asarray(each, jnp.float32) for each in draw(taps, size, 2, 3))
    once = functools.partial(conv3d, stride=stride, padding=padding)
    expected = of_xla(x.reshape(6, *x.shape[2:]), kernel, bias, stride, padding)
    with jax.default_matmul_precision("highest"):
        together = once(x, kernel, bias)
        assert together.shape == (2, 3, *expected.shape[1:])
        assert_close([together.reshape(expected.shape)], [expected])
        assert_close([once(x[1, 2], kernel, bias)], [expected[5]])

        def mapped(x, kernel, bias):
            return jax.vmap(jax.vmap(once, (0, None, None)), (0, None, None))(x, kernel, bias)

        ours = jax.jit(functools.partial(value_and_gradients, mapped))(x, kernel, bias)
        theirs = jax.jit(functools.partial(value_and_gradients, once))(x, kernel, bias)
    assert_close(ours, theirs)


def test_the_zeros_are_those_of_tensorflow():
    for length in range(1, 20):
        for side, stride in ((1, 1), (2, 2), (3, 1), (3, 2), (7, 2)):
            assert same(length, side, stride) == zeros((length,), side, stride, ("SAME",))[0]


@pytest.mark.parametrize(
    ("size", "padding"),
    [((4, 6, 7), ("SAME",) * 3), ((5, 7, 8), ("SAME", "VALID", "SAME")), ((8, 9, 6), ("VALID", "SAME", "VALID"))],
    ids=str,
)
@pytest.mark.parametrize(("window", "stride"), POOLS, ids=str)
def test_max_pooling_and_its_gradient_are_those_of_reduce_window(window, stride, size, padding):
    shape = (2, *size, 3)
    # All below 0, where zeros would win; no two alike.
    x = -1.0 - np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
    edges = [zeros((n,), side, step, (p,))[0] for n, side, step, p in zip(size, window, stride, padding, strict=True)]

    def of_xla(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), [(0, 0), *edges, (0, 0)])

    expected = in_single(of_xla, x)
    actual = in_single(functools.partial(max_pool3d, window=window, stride=stride, padding=padding), x)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-6, atol=1e-6)


def test_a_tie_shares_its_gradient():
    x = jnp.zeros((2, 2, 2, 1))
    pool = functools.partial(max_pool3d, window=(2, 2, 2), stride=(2, 2, 2), padding=("VALID",) * 3)
    np.testing.assert_allclose(jax.grad(lambda x: pool(x).sum())(x), jnp.full_like(x, 1 / 8))


def test_what_does_not_fit_is_told():
    x, kernel, bias = jnp.ones((4, 5, 6, 3)), jnp.ones((3, 3, 3, 3, 2)), jnp.ones(2)
    valid, zero = ("VALID",) * 3, ("SAME",) * 3
    for operands in ((x[0], kernel, bias), (x, kernel[0], bias), (x, kernel[..., :2, :], bias), (x, kernel, bias[:1])):
        with pytest.raises(ValueError, match=r"x must be \(\*batch, time, height, width, c_in\)"):
            conv3d(*operands, padding=zero)
    with pytest.raises(ValueError, match='VALID window of 3 needs as long an axis: got 2; use "SAME"'):
        conv3d(x[:2], kernel, bias, padding=valid)
    with pytest.raises(ValueError, match="VALID window of 3 needs as long an axis: got 2"):
        max_pool3d(x[:, :2], window=(1, 3, 3), stride=(1, 2, 2), padding=valid)
    for padding in (("same", "SAME", "SAME"), ("SAME", "SAME", "FULL")):
        with pytest.raises(ValueError, match='padding must be "SAME" or "VALID" on each axis'):
            conv3d(x, kernel, bias, padding=padding)
        with pytest.raises(ValueError, match='padding must be "SAME" or "VALID"'):
            max_pool3d(x, window=(2, 2, 2), stride=(2, 2, 2), padding=padding)
