"""A net for every layer of `tpnum.nn` and every kind of net: what all roads must agree on."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np

from tpnum import nn

ACTIVATIONS = {
    layer.__name__: layer()
    for layer in (
        nn.Relu, nn.Abs, nn.Erf, nn.Gelu, nn.Sin, nn.Cos, nn.Rbf, nn.Gaussian, nn.ExpNormalized,
        nn.Gabor, nn.Sign, nn.Step, nn.Tanh, nn.Sigmoid, nn.Sigmoid_like, nn.Silu, nn.Swish, nn.Softplus,
        nn.Elu, nn.Selu, nn.Mish, nn.HardTanh,
    )
} | {
    "Exp": nn.Exp(0.3, 0.5),
    "LeakyRelu": nn.LeakyRelu(0.2),
    "ABRelu": nn.ABRelu(-0.5, 1.0),
    "RectifiedMonomial": nn.RectifiedMonomial(2),
    "Monomial": nn.Monomial(3),
    "Hermite": nn.Hermite(2),
    "Polynomial": nn.Polynomial((0.1, 0.5, 0.2)),
    "Elementwise": nn.Elementwise(lambda u: np.tanh(u) * np.cos(u)),
}  # fmt: skip


def fan(join, *branches):
    return (nn.FanOut(len(branches)), nn.parallel(*branches), join)


def dense(b_std=None, w_std=1.3):
    return nn.Dense(8, w_std, b_std)


def skip(b, act=nn.Relu, join=nn.FanInSum, w_std=1.3):
    return fan(join(), nn.serial(dense(b, w_std), act(), dense(b, w_std)), nn.Identity())


def branched(b):
    """Kinds of branched nets, with or without biases."""
    D = lambda: dense(b)  # noqa: E731
    relu = (D(), nn.Relu())
    return {
        "skip": (*relu, *skip(b), nn.Dense(1)),
        "two skips": (*relu, *skip(b), *skip(b), D(), nn.Relu(), nn.Dense(1)),
        "pre-activation": (
            D(),
            *fan(nn.FanInSum(), nn.serial(nn.Relu(), D()), nn.Identity()),
            nn.Relu(),
            D(),
        ),
        "skip that ends in relu": (*relu, *fan(nn.FanInSum(), nn.serial(*relu), nn.Identity())),
        "skip of tanh": (D(), nn.Tanh(), *skip(b, nn.Tanh), nn.Dense(1)),
        "skip of erf": (D(), nn.Erf(), *skip(b, nn.Erf), nn.Dense(1)),
        "concatenated": (*relu, *skip(b, join=nn.FanInConcat), D(), nn.Relu(), nn.Dense(1)),
        "gated": (
            *relu,
            *fan(nn.FanInProd(), nn.serial(D(), nn.Sigmoid()), nn.Identity()),
            D(),
            nn.Relu(),
            D(),
        ),
        "product of three": (
            *relu,
            *fan(nn.FanInProd(), nn.serial(*relu), nn.serial(D(), nn.Erf()), nn.Identity()),
            D(),
            nn.Relu(),
            D(),
        ),
        "two heads": (*relu, *fan(nn.FanInSum(), D(), D(), nn.serial(D(), nn.Relu())), nn.Dense(1)),
        "one gaussian, three functions": (
            D(),
            *fan(nn.FanInSum(), nn.Relu(), nn.Erf(), nn.Identity()),
            D(),
            nn.Relu(),
            D(),
        ),
        "two activated branches": (
            D(),
            *fan(nn.FanInSum(), nn.serial(D(), nn.Relu()), nn.serial(D(), nn.Abs())),
            D(),
            nn.Erf(),
            D(),
        ),
        "skip of a skip": (
            *relu,
            *fan(nn.FanInSum(), nn.serial(*skip(b), D(), nn.Relu()), nn.Identity()),
            D(),
        ),
        "product with a sum": (
            *relu,
            *skip(b),
            *fan(nn.FanInProd(), nn.Identity(), nn.serial(D(), nn.Hermite(2))),
            D(),
            nn.LayerNorm(),
            nn.Relu(),
            D(),
        ),
        "layernorm": (D(), nn.LayerNorm(), nn.Relu(), *skip(b), nn.LayerNorm(), D(), nn.Gelu(), nn.Dense(1)),
        "dropout": (*relu, nn.Dropout(0.8), *skip(b), nn.Dropout(0.5), D(), nn.Relu(), nn.Dense(1)),
        "standard": (
            nn.Dense(8, 1.3, b, "standard"),
            nn.Relu(),
            *skip(b),
            nn.Dense(8, 1.1, b, "standard"),
            nn.Abs(),
            nn.Dense(1),
        ),
        "repeated": (*relu, nn.repeat(nn.serial(*skip(b)), 2), nn.Dense(1)),
        "four closed kinds": (
            D(),
            nn.Erf(),
            D(),
            nn.Gelu(),
            D(),
            nn.Sin(),
            D(),
            nn.Rbf(),
            D(),
            nn.Abs(),
            D(),
        ),
    }


FLAT = {
    f"{name}, {'biases' if b else 'none'}": nn.serial(*layers)
    for b in (None, 0.3)
    for name, layers in (
        {name: (dense(b), act, dense(b), act, nn.Dense(1)) for name, act in ACTIVATIONS.items()} | branched(b)
    ).items()
}
"""Nets of inputs without index axes."""


def conv(b, shape=(3,), op=nn.Conv, padding="SAME", strides=None):
    return op(8, shape, strides, padding, 1.3, b)


def families(b):
    """(shape, layers) of nets over positions."""
    end, relu = nn.Dense(1), nn.Relu()
    return {
        "conv": (
            (5, 2),
            (conv(b), relu, conv(b, (2,), padding="VALID", strides=(2,)), nn.Erf(), nn.Flatten(), end),
        ),
        "circular": (
            (4, 2),
            (conv(b, padding="CIRCULAR"), relu, conv(b, padding="CIRCULAR"), relu, nn.GlobalAvgPool(), end),
        ),
        "positions remain": ((4, 2), (conv(b), relu, conv(b))),
        "two axes": (
            (2, 3, 2),
            (conv(b, (2, 2)), relu, nn.AvgPool((1, 2)), conv(b, (1, 2)), relu, nn.Flatten(), end),
        ),
        "local": (
            (4, 2),
            (
                conv(b, op=nn.ConvLocal),
                relu,
                conv(b, (2,), nn.ConvLocal, "VALID"),
                nn.Tanh(),
                nn.Flatten(),
                end,
            ),
        ),
        "local, pooled": ((4, 2), (conv(b, op=nn.ConvLocal), relu, nn.GlobalSumPool(), end)),
        "transposed": (
            (3, 2),
            (conv(b, (3,), nn.ConvTranspose, "SAME", (2,)), relu, conv(b), relu, nn.GlobalAvgPool(), end),
        ),
        "transposed, valid": (
            (3, 2),
            (conv(b, (2,), nn.ConvTranspose, "VALID", (2,)), relu, nn.Flatten(), end),
        ),
        "sum pool": (
            (5, 2),
            (conv(b), relu, nn.SumPool((2,), (1,)), conv(b, (1,)), relu, nn.GlobalSumPool(), end),
        ),
        "average pool, edges": (
            (5, 2),
            (conv(b), relu, nn.AvgPool((3,), (2,), "SAME", True), conv(b, (1,)), relu, nn.Flatten(), end),
        ),
        "resized": (
            (3, 2),
            (conv(b), relu, nn.ImageResize((-1, 5, -1), "linear"), conv(b), relu, nn.GlobalAvgPool(), end),
        ),
        "resized to the nearest": (
            (4, 2),
            (conv(b), relu, nn.ImageResize((-1, 3, -1), "nearest"), conv(b), relu, nn.Flatten(), end),
        ),
        "indexed": (
            (4, 2),
            (
                conv(b),
                relu,
                nn.Index((slice(None), slice(1, 3), slice(None))),
                conv(b, (2,)),
                relu,
                nn.Flatten(),
                end,
            ),
        ),
        "indexed to one row": (
            (2, 3, 2),
            (nn.Index((slice(None), 1)), conv(b, (1,)), relu, nn.Index((slice(None), slice(1, 3))), end),
        ),
        "residual conv": (
            (4, 2),
            (
                conv(b),
                relu,
                *fan(nn.FanInSum(), nn.serial(conv(b), relu, conv(b)), nn.Identity()),
                nn.GlobalAvgPool(),
                end,
            ),
        ),
        "sum of two branches": (
            (3, 2),
            (
                *fan(nn.FanInSum(), nn.serial(conv(b), relu), nn.serial(conv(b, (1,)), nn.Abs())),
                conv(b),
                nn.Erf(),
                nn.Flatten(),
                end,
            ),
        ),
        "gated conv": (
            (3, 2),
            (
                conv(b),
                relu,
                *fan(nn.FanInProd(), nn.serial(conv(b), nn.Sigmoid()), nn.Identity()),
                conv(b),
                relu,
                nn.GlobalAvgPool(),
                end,
            ),
        ),
        "concatenated channels": (
            (3, 2),
            (
                conv(b),
                relu,
                *fan(nn.FanInConcat(), conv(b), nn.Identity()),
                conv(b),
                relu,
                nn.GlobalAvgPool(),
                end,
            ),
        ),
        "layernorm over positions": ((3, 2), (conv(b), nn.LayerNorm((1, -1)), relu, nn.Flatten(), end)),
        "layernorm at positions": (
            (3, 2),
            (conv(b), nn.LayerNorm(), relu, conv(b), nn.LayerNorm(), nn.Gelu(), nn.GlobalAvgPool(), end),
        ),
        "dropout at positions": (
            (3, 2),
            (conv(b), relu, nn.Dropout(0.8), conv(b), relu, nn.GlobalAvgPool(), end),
        ),
        "recurrent": ((3, 2), (nn.SimpleRnn(8, activation=nn.Erf(), W_std=1.3, b_std=b), end)),
        "recurrent relu, last": (
            (4, 2),
            (nn.SimpleRnn(8, activation=relu, W_std=1.1, b_std=b, return_sequences=False), end),
        ),
        "two recurrent": (
            (3, 2),
            (
                nn.SimpleRnn(8, activation=relu, W_std=1.1, b_std=b),
                nn.SimpleRnn(8, activation=nn.Abs(), b_std=b, return_sequences=False),
                end,
            ),
        ),
        "in both directions, averaged": (
            (4, 2),
            (
                *fan(
                    nn.FanInConcat(),
                    nn.SimpleRnn(8, activation=nn.Erf(), W_std=1.2, b_std=b),
                    nn.SimpleRnn(8, activation=relu, b_std=b, reverse=True),
                ),
                nn.SimpleRnn(8, activation=relu, W_std=0.9, b_std=b),
                nn.GlobalAvgPool(),
                end,
            ),
        ),
        "recurrent between convolutions": (
            (4, 2),
            (
                conv(b),
                relu,
                nn.SimpleRnn(8, activation=relu, b_std=b),
                nn.Conv(8, (3,), padding="SAME"),
                relu,
                nn.SimpleRnn(8, activation=nn.Gelu(), b_std=b, reverse=True, return_sequences=False),
                end,
            ),
        ),
        "attention": (
            (3, 2),
            (nn.GlobalSelfAttention(8, 8, 8, 2, W_key_std=1.2, b_std=b), relu, nn.GlobalAvgPool(), end),
        ),
        "causal attention with embeddings": (
            (3, 2),
            (
                conv(b),
                relu,
                nn.GlobalSelfAttention(
                    8, 8, 8, 1, b_std=b, pos_emb_type="CONCAT", val_pos_emb=True, causal=True
                ),
                nn.Erf(),
                nn.Flatten(),
                end,
            ),
        ),
        "cross-attention": (
            (3, 2),
            (
                nn.FanOut(2),
                nn.parallel(nn.Dense(8), nn.serial(nn.Dense(8, b_std=b), relu)),
                nn.CrossAttention(8, 8, 8, 2, b_std=b),
                nn.Flatten(),
                end,
            ),
        ),
        "transformer": (
            (3, 2),
            (
                nn.Dense(8, b_std=b),
                nn.TransformerBlock(8, 2, b_std=b, scaling="1/n"),
                nn.GlobalAvgPool(),
                end,
            ),
        ),
    }


FAMILIES = {
    f"{name}, {'biases' if b else 'none'}": (shape, nn.serial(*layers))
    for b in (None, 0.3)
    for name, (shape, layers) in families(b).items()
}
"""Nets of inputs (positions, channels)."""


def layers_in(net):
    """A net and the layers in it."""
    found = [net] if isinstance(net, nn.Layer) else []
    inner = [getattr(net, f.name) for f in fields(net)] if is_dataclass(net) else []
    for value in inner:
        for item in value if isinstance(value, tuple) else (value,):
            found += layers_in(item)
    return found


def classes_in(net):
    return set(map(type, layers_in(net)))
