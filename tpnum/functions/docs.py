"""What each named function is, in one formula: the docstrings of `tpnum.relu` and its like."""

from __future__ import annotations

from tpnum.functions.record import REQUIRED, Record

FORMULAS = {
    "abrelu": "a min(u, 0) + b max(u, 0)",
    "abs": "|u|",
    "add": "x + y",
    "affine": "constant + coefs[0] x0 + coefs[1] x1 + ..",
    "arctan": "the angle whose tangent is u",
    "cbrt": "the real cube root of u",
    "constant": "c, whatever u is",
    "cos": "a cos(b u + c)",
    "div": "x / y",
    "elementwise_numerical": "fn(u), its kernels by the fixed rule of deg x deg Gauss-Hermite points",
    "elu": "u where u > 0, else alpha (exp(u) - 1)",
    "erf": "a erf(b u) + c",
    "exp": "a exp(b u)",
    "exp_normalized": "the activation, given q = E u^2, whose kernel is sqrt(q1 q2) exp(gamma (rho + shift))",
    "gabor": "exp(-u^2) sin(u)",
    "gaussian": "a exp(b u^2)",
    "gelu": "u Phi(u), Phi the normal distribution function; approximate is the usual form with tanh",
    "hard_tanh": "u cut off at -1 and 1",
    "hermite": "He_degree(u / sqrt(q)) / sqrt(degree!), given q = E u^2",
    "identity": "u",
    "leaky_relu": "alpha min(u, 0) + max(u, 0)",
    "log": "the natural logarithm of u",
    "maximum": "the larger of x and y",
    "minimum": "the smaller of x and y",
    "mish": "u tanh(log(1 + exp(u)))",
    "monomial": "u^degree",
    "mul": "x y",
    "normal_cdf": "Phi(u) = (1 + erf(u / sqrt(2))) / 2, the normal distribution function",
    "polynomial": "the sum of coef[i] u^i",
    "power": "u^exponent",
    "rbf": "sqrt(2) sin(sqrt(2 gamma) u + pi/4), the random feature of exp(-gamma |u - v|^2)",
    "reciprocal": "1 / u",
    "rectified_monomial": "u^degree where u > 0, else 0",
    "relu": "max(u, 0)",
    "selu": "scale (u where u > 0, else alpha (exp(u) - 1)), the scaled elu of self-normalising networks",
    "sigmoid": "1 / (1 + exp(-u))",
    "sigmoid_like": "erf(u / 2.4020563531719796) / 2 + 1/2",
    "sign": "-1, 0 or 1, the sign of u",
    "silu": "u / (1 + exp(-u)), also called swish",
    "sin": "a sin(b u + c)",
    "softplus": "log(1 + exp(u))",
    "softsign": "u / (1 + |u|)",
    "sqrt": "the square root of u",
    "square": "u^2",
    "step": "1 where u > 0, else 0",
    "sub": "x - y",
    "tanh": "tanh(u)",
}


def describe(name: str, record: Record) -> str:
    """The docstring of a named function."""
    given = [f"{key} = {value!r}" for key, value in record.params if value is not REQUIRED]
    options = (
        f"; other parameters than {', '.join(given)}: tpnum.functions.get({name!r}, ..)" if given else ""
    )
    return (
        f"{name}: {FORMULAS.get(name, name)}.\n\n"
        "Coordinate by coordinate: of arrays an array, of vectors or scalars of a program a new one.\n"
        f"Wherever a function is asked for, {name!r} says the same{options}."
    )
