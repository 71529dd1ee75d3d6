"""Every form that conv3x3 may take on CPU agrees with a plain NumPy convolution in float64, and so do its gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.networks import convolution
from stjax.networks.convolution import conv3x3, max_pool

# (x shape, c_out, padding) -> (form forward, form backward); sizes that no tile divides, batches of rank 0 to 2
CASES = {
    ((3, 9, 12, 3), 64, "VALID"): ("direct", "scatter"),
    ((9, 8, 20), 64, "SAME"): ("direct", "scatter"),
    ((2, 3, 7, 6, 24), 5, "VALID"): ("direct", "scatter"),
    ((4, 3, 3, 24), 5, "VALID"): ("direct", "scatter"),
    ((2, 5, 4, 24), 5, "SAME"): ("direct", "scatter"),
    ((2, 11, 16, 24), 6, "VALID"): ("direct", "direct"),
    ((2, 9, 7, 24), 6, "SAME"): ("direct", "direct"),
    ((3, 3, 15, 16, 128), 128, "VALID"): ("winograd", "winograd"),
    ((8, 13, 14, 128), 132, "SAME"): ("winograd", "winograd"),
    ((7, 17, 18, 64), 64, "VALID"): ("winograd", "winograd"),
}
TOLERANCE = 1e-4  # of the spread; Winograd reaches 2e-5 to 5e-5 at its worst element, the others 3e-6


def draw(shape, c_out, padding):
    random = np.random.default_rng(0)
    x = random.normal(size=shape)
    kernel = random.normal(size=(3, 3, shape[-1], c_out)) / np.sqrt(9 * shape[-1])
    bias = random.normal(size=c_out)
    shrink = 2 if padding == "VALID" else 0
    g = random.normal(size=(*shape[:-3], shape[-3] - shrink, shape[-2] - shrink, c_out))
    return x, kernel, bias, g


def plain(x, kernel, bias, g, padding):
    """The convolution and the gradients of sum(y * g), as nine shifted products in float64."""
    p = 1 if padding == "SAME" else 0
    around = [(0, 0)] * (x.ndim - 3) + [(p, p), (p, p), (0, 0)]
    x = np.pad(x, around)
    g_x, g_kernel, y = np.zeros_like(x), np.zeros_like(kernel), np.zeros_like(g) + bias
    height, width = g.shape[-3:-1]
    for i in range(3):
        for j in range(3):
            window = (..., slice(i, i + height), slice(j, j + width), slice(None))
            y += x[window] @ kernel[i, j]
            g_x[window] += g @ kernel[i, j].T
            g_kernel[i, j] = np.tensordot(x[window], g, axes=[range(x.ndim - 1)] * 2)
    g_x = g_x[..., p : g_x.shape[-3] - p, p : g_x.shape[-2] - p, :]
    return y, g_x, g_kernel, g.sum(tuple(range(g.ndim - 1)))


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    error = np.abs(np.asarray(actual, np.float64) - expected).max() / np.std(expected)
    assert error < tolerance


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only CPU chooses")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forms_are_the_ones_this_table_means_to_cover(case):
    shape, c_out, padding = case
    shrink = 2 if padding == "VALID" else 0
    out = (int(np.prod(shape[:-3])), shape[-3] - shrink, shape[-2] - shrink)
    names = tuple(
        convolution._fast_form(*out, shape[-1], c_out, backward=backward).__name__.strip("_")
        for backward in (False, True)
    )
    assert names == CASES[case]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_equal_a_plain_loop(case):
    padding = case[-1]
    x, kernel, bias, g = draw(*case)
    expected = plain(x, kernel, bias, g, padding)

    @jax.jit
    def value_and_gradients(x, kernel, bias, g):
        y, pullback = jax.vjp(lambda *args: conv3x3(*args, padding=padding), x, kernel, bias)
        return y, *pullback(g)

    with jax.default_matmul_precision("highest"):
        actual = value_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, bias, g)))
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("shape", [(5, 10, 9, 3), (11, 15, 14, 128)], ids=str)
def test_vmap_equals_a_loop(shape, padding):
    # one map of 128 channels alone is below the 128 tiles that Winograd needs; eleven together are above
    x, kernel, bias, g = (jnp.asarray(a, jnp.float32) for a in draw(shape, 128, padding))

    def value_and_gradients(x, g):
        y, pullback = jax.vjp(lambda *args: conv3x3(*args, padding=padding), x, kernel, bias)
        return y, *pullback(g)

    with jax.default_matmul_precision("highest"):
        mapped = jax.jit(jax.vmap(value_and_gradients))(x, g)
        one = jax.jit(value_and_gradients)
        loop = [one(x[i], g[i]) for i in range(len(x))]
    for position, actual in enumerate(mapped):
        assert_close(actual, np.stack([np.asarray(result[position], np.float64) for result in loop]))


def test_vmap_over_kernels_equals_a_loop():
    x, kernel, bias, _ = (jnp.asarray(a, jnp.float32) for a in draw((2, 8, 8, 24), 6, "SAME"))
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])
    mapped = jax.vmap(lambda k: conv3x3(x, k, bias, padding="SAME"))(kernels)
    loop = np.stack([conv3x3(x, k, bias, padding="SAME") for k in kernels])
    assert_close(mapped, loop)


@pytest.mark.parametrize("case", list(CASES)[::3], ids=str)
def test_bfloat16_is_kept_and_summed_in_float32(case):
    padding = case[-1]
    x, kernel, bias, g = (jnp.asarray(a, jnp.bfloat16) for a in draw(*case))
    y, pullback = jax.vjp(lambda *args: conv3x3(*args, padding=padding), x, kernel, bias)
    gradients = pullback(g)
    assert [a.dtype for a in (y, *gradients)] == [jnp.bfloat16] * 4
    exact = plain(*(np.asarray(a, np.float64) for a in (x, kernel, bias, g)), padding)
    assert_close(y, exact[0], 0.03)  # one rounding to eight bits at four times the spread
    assert_close(gradients[0], exact[1], 0.03)


def test_bad_arguments_are_told_apart():
    x, kernel, bias = jnp.ones((2, 5, 3)), jnp.ones((3, 3, 3, 4)), jnp.ones(4)
    with pytest.raises(ValueError, match=r'"SAME" or "VALID", got .same.'):
        conv3x3(x, kernel, bias, padding="same")
    with pytest.raises(ValueError, match="3x3 or more, got 2x5"):
        conv3x3(x, kernel, bias, padding="VALID")
    with pytest.raises(ValueError, match=r"kernel must be \(3, 3, 3, c_out\)"):
        conv3x3(x, kernel[:, :2], bias, padding="SAME")
    with pytest.raises(ValueError, match=r"bias must be \(4,\)"):
        conv3x3(x, kernel, bias[:1], padding="SAME")
    with pytest.raises(ValueError, match="2x2 or more"):
        max_pool(x[:1])


@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 5, 4, 2), (2, 3, 4, 7, 1), (2, 2, 1)], ids=str)
def test_max_pool_equals_a_plain_loop(shape):
    x = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    height, width = shape[-3] // 2, shape[-2] // 2
    expected = np.zeros((*shape[:-3], height, width, shape[-1]), np.float32)
    winners = np.zeros(shape, np.float32)
    for i in range(height):
        for j in range(width):
            window = x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, :]
            expected[..., i, j, :] = window.max((-3, -2))
            winners[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, :] = window == window.max((-3, -2), keepdims=True)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), expected)
    np.testing.assert_array_equal(jax.grad(lambda x: max_pool(x).sum())(jnp.asarray(x)), winners)


def test_max_pool_shares_the_gradient_of_a_tie():
    x = jnp.asarray([[1.0, 1.0, 3.0], [0.0, 1.0, 3.0]])[..., None]
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)[..., 0]
    np.testing.assert_allclose(gradient, [[1 / 3, 1 / 3, 0], [0, 1 / 3, 0]], rtol=1e-6)
    flat = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((2, 2, 1)))
    assert float(flat.sum()) == 1.0
