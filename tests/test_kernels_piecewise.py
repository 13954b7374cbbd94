"""Strips of piecewise activations against mpmath: relative accuracy at both ends of the correlation."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tpnum.errors import LimitError
from tpnum.gauss.closed.piecewise import FAMILIES, MAX_POWER
from tpnum.kernels import duals, piecewise

DTYPES = [np.float32, np.float64]
EMPTY = {t: np.empty(0, t) for t in DTYPES}


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(50):
        yield


def grid(dtype) -> np.ndarray:
    y = np.concatenate([10.0 ** -np.arange(0, 31, 1.5), np.linspace(0.03, 1.0, 23), [0.0]])
    return np.concatenate([y, -y]).astype(dtype)


def angle(e) -> mp.mpf:
    """arccos rho of a co-correlation."""
    theta = 2 * mp.asin(mp.sqrt(mp.mpf(float(abs(e))) / 2))
    return theta if np.copysign(1, e) > 0 else mp.pi - theta


def arc_cosine(n: int, e) -> mp.mpf:
    """J_n(theta) / J_n(0) as (-1)^n (sin)^{2n+1} (d/d cos)^n of (pi - theta)/sin (CS09 eq. 4), exactly."""
    # (A(c) sin + B(c) (pi - theta)) / sin^{2k+1}, polynomials in c = cos, lowest degree first
    a, b = [0], [1]

    def derivative(f):
        return [k * f[k] for k in range(1, len(f))]

    def times(f, g):
        out = [0] * max(len(f) + len(g) - 1, 1)
        for i, u in enumerate(f):
            for j, v in enumerate(g):
                out[i + j] += u * v
        return out

    def plus(*fs):
        return [sum(f[k] for f in fs if k < len(f)) for k in range(max(map(len, fs)))]

    for k in range(n):
        a, b = (
            plus(times(derivative(a), [-1, 0, 1]), times(a, [0, -2 * k]), times(b, [-1])),
            plus(times(derivative(b), [-1, 0, 1]), times(b, [0, -(2 * k + 1)])),
        )
    with mp.workdps(50 + 40 * (2 * n + 1)):
        theta = angle(e)
        c = mp.cos(theta)
        sine, rest = (mp.fsum(f[k] * c**k for k in range(len(f))) for f in (a, b))
        value = sine * mp.sin(theta) + rest * (mp.pi - theta)
        return (-1) ** n * value / (mp.pi * mp.fac2(2 * n - 1))


def error(e, rho: mp.mpf, gap: mp.mpf) -> float:
    """Error of a co-correlation relative to 1 - |rho| = gap; of rho itself where it may change sign."""
    if gap < mp.mpf("0.9"):
        assert np.copysign(1, e) == (1 if rho > 0 else -1)
        return float(abs(abs(mp.mpf(float(e))) - gap) / gap) if gap else float(abs(e))
    return float(abs(mp.mpf(float(np.copysign(1, e))) * (1 - abs(mp.mpf(float(e)))) - rho))


def run(name, params, e, q, slopes=True):
    family = FAMILIES[name]
    rows = family.profile(np.array([q[0]]), params).astype(e.dtype)
    cols = family.profile(np.full(e.size + 3, q[1]), params).astype(e.dtype)
    out, d = e.copy(), np.empty(e.size if slopes else 0, e.dtype)
    duals.named(family.strip)(out, rows, cols, 0, 0, 3, out, d)
    return out, d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b", [(0, 1), (1, 1), (-1, 1), (0.01, 1), (-0.3, 1.2), (1, 1 + 1e-6), (2, -0.5)])
def test_abrelu(a, b, dtype):
    eps = np.finfo(dtype).eps
    e = grid(dtype)
    out, d = run("abrelu", (a, b), e, (0.7, 3.0))
    odd, even = (mp.mpf(a) + mp.mpf(b)) / 2, (mp.mpf(b) - mp.mpf(a)) / 2
    w = odd**2 / (odd**2 + even**2)
    for k in range(e.size):
        with mp.workdps(120):
            bent = 2 * arc_cosine(1, e[k]) - mp.cos(angle(e[k]))
            rho = w * mp.cos(angle(e[k])) + (1 - w) * bent
            slope = odd**2 + even**2 * (1 - 2 * angle(e[k]) / mp.pi)
            assert error(out[k], rho, 1 - abs(rho)) < 5 * eps
            assert abs(mp.mpf(float(d[k])) - slope) < 3 * eps * (odd**2 + even**2)
    alone, _ = run("abrelu", (a, b), e, (0.7, 3.0), slopes=False)
    assert np.array_equal(alone, out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8])
def test_rectified_powers(n, dtype):
    eps = np.finfo(dtype).eps
    e = grid(dtype)
    q = (0.3, 2.0)
    out, d = run("rectpow", (n,), e, q)
    root = np.sqrt(np.prod(FAMILIES["rectpow"].slope_moment(np.array(q), (n,))))
    for k in range(e.size):
        near, far = arc_cosine(n, e[k]), arc_cosine(n - 1, e[k]) if n else 0
        with mp.workdps(120):
            assert error(out[k], near, 1 - near) < 6 * eps
        assert abs(mp.mpf(float(d[k])) - root * far) <= 6 * eps * root
    if n == 0:
        assert np.allclose(run("step", (), e, q)[0], out, rtol=3 * eps, atol=0)


@pytest.mark.parametrize("degree", [MAX_POWER + 1, 1.5, -1])
def test_powers_beyond_the_kernel_are_refused(degree):
    assert MAX_POWER == piecewise.MAX_POWER
    with pytest.raises(LimitError, match="whole number up to 8"):
        FAMILIES["rectpow"].profile(np.ones(3), (degree,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sign(dtype):
    eps = np.finfo(dtype).eps
    e = grid(dtype)
    out, d = run("sign", (), e, (1.0, 1.0))
    assert np.array_equal(np.signbit(out), np.signbit(e)) and abs(out).max() <= 1 and not d.any()
    for k in range(e.size):
        gap = 4 * mp.asin(mp.sqrt(mp.mpf(float(abs(e[k]))) / 2)) / mp.pi
        assert abs(abs(float(out[k])) - gap) <= 3 * eps * mp.sqrt(gap)


def test_equal_and_opposite_are_exact():
    e = np.array([0.0, -0.0])
    for name, params, opposite in (("sign", (), -0.0), ("abrelu", (1, 1), -0.0), ("abrelu", (-1, 1), 0.0)):
        out, _ = run(name, params, e, (1.0, 2.0))
        assert out[0] == 0.0 and not np.signbit(out[0])
        assert out[1] == 0.0 and np.signbit(out[1]) == np.signbit(opposite)
    for name, params in (("step", ()), ("abrelu", (0, 1)), ("rectpow", (2,))):
        assert np.array_equal(run(name, params, e, (1.0, 2.0))[0], [0.0, 1.0])


class Net:
    """Dense layers with activation a min(u, 0) + b max(u, 0), all in mpmath, for one row and many columns."""

    def __init__(self, a, b, weight, bias, q, trained=None):
        self.odd, self.even = (mp.mpf(a) + mp.mpf(b)) / 2, (mp.mpf(b) - mp.mpf(a)) / 2
        self.m = self.odd**2 + self.even**2
        self.weight, self.bias = mp.mpf(weight), mp.mpf(bias)
        self.trained = tuple(map(mp.mpf, trained)) if trained else (self.weight, self.bias)
        self.q = [[mp.mpf(float(v)) for v in q]]

    def grow(self) -> None:
        self.q.append([self.weight * self.m * v + self.bias for v in self.q[-1]])

    def pair(self, e, i, j, depth):
        """K, T and 1 - |rho| with its sign after ``depth`` layers from K = sqrt(q_i q_j) rho = T."""
        with mp.workdps(110):
            k = t = mp.sqrt(self.q[0][i] * self.q[0][j]) * mp.cos(angle(e))
            for layer in range(depth):
                root = mp.sqrt(self.q[layer][i] * self.q[layer][j])
                rho = max(min(k / root, mp.mpf(1)), mp.mpf(-1))
                theta = mp.acos(rho)
                bent = 2 / mp.pi * (mp.sin(theta) + (mp.pi / 2 - theta) * rho)
                f = root * (self.odd**2 * rho + self.even**2 * bent)
                d = self.odd**2 + self.even**2 * (1 - 2 * theta / mp.pi)
                k = self.weight * f + self.bias
                t = self.weight * d * t + self.trained[0] * f + self.trained[1]
            rho = k / mp.sqrt(self.q[depth][i] * self.q[depth][j])
            return k, t, rho


Q = np.array([1.0, 1.0, 1.0 + 1e-9, 0.3, 2.0, 1e-4, 1e4, 1e-8, 1e8])


def strips(net, dtype, layer, normalised=True):
    """Rows w1, w2, a, b, c, x, y of `abrelu_layer`, computed in float64 as a caller would."""
    q, after = (np.array([float(v) for v in net.q[k]]) for k in (layer, layer + 1))
    weight, bias, m, odd, even = (float(v) for v in (net.weight, net.bias, net.m, net.odd, net.even))
    u, v = (np.sqrt(q), np.sqrt(after)) if normalised else (np.ones_like(q), np.ones_like(q))
    one = np.ones_like(q)
    return np.array(
        [
            odd**2 / m * one,
            even**2 / m * one,
            np.sqrt(weight * m * q / after),
            np.sqrt(bias / after),
            np.sqrt(weight * m) * u / v,
            np.sqrt(float(net.trained[0]) * m * q) / v,
            np.sqrt(float(net.trained[1])) / v,
        ]
    ).astype(dtype)


def cosines(e):
    return np.copysign(1 - abs(e), e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [0.0, 0.01, 1.0])
def test_relu_layers_keep_their_digits(bias, dtype):
    """Ten layers, all pairs of norms, co-correlations from 1e-30: K, T and 1 - rho to a few eps.

    Without a tangent kernel 1 - rho is computed by another polynomial.
    """
    eps, depth = np.finfo(dtype).eps, 10
    net = Net(0, 1, 2.0, bias, Q)
    for _ in range(depth):
        net.grow()
    values = grid(dtype)[::5]
    for i in (0, 5, 8):
        for value in values:
            e = np.full(Q.size, value)
            t = cosines(e)
            only = e.copy()
            for layer in range(depth):
                rows = strips(net, dtype, layer)[2:4]
                signed = layer == 0
                if bias:
                    piecewise.relu_bias_layer(e, t, rows, rows, 0, i, 0, signed)
                    piecewise.relu_bias_layer(only, EMPTY[dtype], rows, rows, 0, i, 0, signed)
                else:
                    piecewise.relu_layer(e, t, signed)
                    piecewise.relu_layer(only, EMPTY[dtype], signed)
            assert (e >= 0).all() and (only >= 0).all()
            root = np.sqrt(np.array([[float(v) for v in net.q[depth]]], dtype=np.float64)).astype(dtype)
            k, tangent = np.empty_like(e), t.copy()
            piecewise.covariance(e, root, root, 0, i, 0, k)
            tangent *= root[0, i] * root[0]
            for j in range(0, Q.size, 1 if value > 0 else 3):
                kernel, ntk, rho = net.pair(value, i, j, depth)
                assert abs(float(k[j]) / float(kernel) - 1) < 6 * eps
                assert abs(float(tangent[j]) / float(ntk) - 1) < 16 * eps
                size = mp.sqrt(1 - rho) if bias else 1 - rho
                for made in (e, only):
                    assert abs(mp.mpf(float(made[j])) - (1 - rho)) <= 12 * eps * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b", [(0, 1), (-0.4, 1.0), (0.9, 1.1), (1, 1)])
@pytest.mark.parametrize("trained", [None, (1.0, 1.0), (0.0, 0.0), (3.0, 0.0)])
def test_general_layer(a, b, trained, dtype):
    """Any tangent variances, tangents normalised or not, and correlations of either sign."""
    eps, depth, i = np.finfo(dtype).eps, 3, 3
    net = Net(a, b, 1.7, 0.2, Q[:7], trained)
    for _ in range(depth):
        net.grow()
    root0, root = (np.sqrt(np.array([float(v) for v in net.q[k]])) for k in (0, depth))
    for value in grid(dtype)[::7]:
        for normalised in (True, False):
            e = np.full(7, value)
            t = cosines(e) if normalised else (cosines(e) * (root0[i] * root0)).astype(dtype)
            only = e.copy()
            for layer in range(depth):
                rows = strips(net, dtype, layer, normalised)
                piecewise.abrelu_layer(e, t, rows, rows, 0, i, 0)
                piecewise.abrelu_layer(only, EMPTY[dtype], rows, rows, 0, i, 0)
            assert np.array_equal(e, only)
            scale = root[i] * root
            tangent = t * scale if normalised else t
            for j in range(7):
                kernel, ntk, rho = net.pair(value, i, j, depth)
                assert abs(float(cosines(e)[j]) - float(rho)) < 8 * eps
                if rho > 0:
                    assert abs(mp.mpf(float(abs(e[j]))) - (1 - rho)) <= 12 * eps * mp.sqrt(1 - rho)
                bound = net.pair(0.0, i, i, depth)[1] * net.pair(0.0, j, j, depth)[1]
                assert abs(float(tangent[j]) - float(ntk)) <= 12 * eps * float(mp.sqrt(bound))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_general_layer_is_the_relu_layer(dtype):
    eps = np.finfo(dtype).eps
    net = Net(0, 1, 2.0, 0.1, np.linspace(0.5, 2.0, 64))
    net.grow()
    rows = strips(net, dtype, 0)
    e = np.resize(grid(dtype), 64)
    t = cosines(e)
    e2, t2 = e.copy(), t.copy()
    piecewise.abrelu_layer(e, t, rows, rows, 0, 2, 0)
    piecewise.relu_bias_layer(e2, t2, rows, rows, 2, 2, 0, True)
    assert np.allclose(e, e2, rtol=4 * eps, atol=0) and np.allclose(t, t2, rtol=4 * eps, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_layer(dtype):
    """rho' = a_i a rho + b_i b, with all digits near both ends; the strip starts at a column of the block."""
    eps = np.finfo(dtype).eps
    e = grid(dtype)
    angles = np.linspace(0, np.pi / 2, 7).astype(dtype)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    for p in angles:
        rows = np.array([[np.cos(p)], [np.sin(p)], [0.3], [0.5], [0.7]], dtype=dtype)
        for r in angles:
            col = np.array([[np.cos(r)], [np.sin(r)], [0.2], [0.4], [0.6]], dtype=dtype)
            cols = np.repeat(col, e.size + 2, 1)
            out, t = e.copy(), np.full(e.size, 2.0, dtype)
            piecewise.dense_layer(out, t, rows, cols, 0, 0, 2)
            a, b = rows[:2, 0].astype(float), cols[:2, 0].astype(float)
            rho = cosines(e.astype(float))
            want = 2 * rows[2] * col[2] + rows[3] * col[3] * rho + rows[4] * col[4]
            assert np.allclose(t, want, rtol=4 * eps)
            for k in range(0, e.size, 3):
                s, y = np.copysign(1, float(e[k])), mp.mpf(float(abs(e[k])))
                w, v = mp.mpf(a[0]) * mp.mpf(b[0]), mp.mpf(a[1]) * mp.mpf(b[1])
                true = s * w * (1 - y) + v
                side = -1 if true < 0 else 1
                gap = ((mp.mpf(a[0]) - mp.mpf(b[0])) ** 2 + (mp.mpf(a[1]) - side * mp.mpf(b[1])) ** 2) / 2
                gap += w * (y if s == side else 2 - y)
                if abs(true) > 1e-5:
                    assert np.copysign(1, out[k]) == side
                    assert abs(abs(mp.mpf(float(out[k]))) - gap) <= 4 * eps * gap + tiny
                else:
                    assert abs(float(cosines(out[k])) - float(true)) < 4 * eps


MOMENTS = {
    ("abrelu", (-0.3, 1.2)): (
        lambda u: mp.mpf(1.2) * max(u, 0) + mp.mpf(-0.3) * min(u, 0),
        lambda u: mp.mpf(1.2) if u > 0 else mp.mpf(-0.3),
    ),
    ("rectpow", (0,)): (lambda u: int(u > 0), lambda u: 0),
    ("rectpow", (1,)): (lambda u: max(u, 0), lambda u: int(u > 0)),
    ("rectpow", (3,)): (lambda u: max(u, 0) ** 3, lambda u: 3 * max(u, 0) ** 2),
    ("step", ()): (lambda u: int(u > 0), lambda u: 0),
    ("sign", ()): (mp.sign, lambda u: 0),
}


@pytest.mark.parametrize("name, params", MOMENTS)
def test_moments_of_the_families(name, params):
    """Moments, means and slopes against quadrature, from q = 1e-8 to 1e8; q = 0 is a constant."""
    f, slope = MOMENTS[name, params]
    family = FAMILIES[name]
    q = np.array([1e-8, 0.5, 3.0, 1e8])
    got = [part(q, params) for part in (family.moment, family.mean, family.slope, family.slope_moment)]
    at_zero = [part(np.zeros(2), params) for part in (family.moment, family.mean, family.slope)]
    assert np.isfinite(at_zero).all() and not at_zero[0].any() and not at_zero[1].any()
    integrands = (lambda u: f(u) ** 2, f, lambda u: f(u) * u, lambda u: slope(u) ** 2)
    with mp.workdps(20):
        for k, v in enumerate(q):
            root = mp.sqrt(mp.mpf(float(v)))
            for value, g, unit in zip(got, integrands, (1, 1, root**2, 1), strict=True):
                size = mp.mpf(float(value[k])) * unit or mp.mpf(1)
                ratio = mp.quad(lambda z, g=g, s=root, m=size: g(s * z) / m * mp.npdf(z), [-12, -4, 0, 4, 12])
                assert abs(ratio - (1 if value[k] else 0)) < 1e-14
