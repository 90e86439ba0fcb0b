"""Torch forms of element-wise operators, comparisons and activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F

from .call import Call, Function, Table, Tensor
from .types import dtype_of


def _unary(f: Callable[[Tensor], Tensor]) -> Function:
    return lambda c: f(c[0])


def _binary(f: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda c: f(c[0], c[1])


def _variadic(f: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda c: reduce(f, c.inputs)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return a / b if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


def _clip(c: Call) -> Tensor:
    low, high = c[1], c[2]
    x = c[0] if low is None else torch.maximum(c[0], low)
    return x if high is None else torch.minimum(x, high)


def _prelu(c: Call) -> Tensor:
    return torch.where(c[0] < 0, c[0] * c[1], c[0])


def _softmax(f: Callable[..., Tensor]) -> Function:
    return lambda c: f(c[0], dim=c.get("axis", -1))


def _gelu(c: Call) -> Tensor:
    return F.gelu(c[0], approximate=c.get("approximate", "none"))


def _hard_sigmoid(c: Call) -> Tensor:
    return torch.clamp(c.get("alpha", 0.2) * c[0] + c.get("beta", 0.5), 0, 1)


def _selu(c: Call) -> Tensor:
    alpha, gamma = c.get("alpha", 1.67326319217681884765625), c.get("gamma", 1.05070102214813232421875)
    return gamma * F.elu(c[0], alpha)


def _cast(c: Call) -> Tensor:
    return c[0].to(dtype_of(c.get("to"), c.node.op_type))


def _mod(c: Call) -> Tensor:
    return torch.fmod(c[0], c[1]) if c.get("fmod", 0) else torch.remainder(c[0], c[1])


def _pow(c: Call) -> Tensor:
    return torch.pow(c[0], c[1]).to(c[0].dtype)


TABLE: Table = {
    **{
        name: _unary(f)
        for name, f in {
            "Abs": torch.abs,
            "Acos": torch.acos,
            "Asin": torch.asin,
            "Atan": torch.atan,
            "Ceil": torch.ceil,
            "Cos": torch.cos,
            "Cosh": torch.cosh,
            "Dropout": lambda x: x,
            "Erf": torch.erf,
            "Exp": torch.exp,
            "Floor": torch.floor,
            "HardSwish": F.hardswish,
            "Identity": lambda x: x,
            "IsNaN": torch.isnan,
            "Log": torch.log,
            "Mish": F.mish,
            "Neg": torch.neg,
            "Not": torch.logical_not,
            "Reciprocal": torch.reciprocal,
            "Relu": torch.relu,
            "Round": torch.round,
            "Sigmoid": torch.sigmoid,
            "Sign": torch.sign,
            "Sin": torch.sin,
            "Sinh": torch.sinh,
            "Softplus": lambda x: F.softplus(x, threshold=80),
            "Softsign": F.softsign,
            "Sqrt": torch.sqrt,
            "Tan": torch.tan,
            "Tanh": torch.tanh,
        }.items()
    },
    **{
        name: _binary(f)
        for name, f in {
            "Add": torch.add,
            "And": torch.logical_and,
            "Div": _divide,
            "Equal": torch.eq,
            "Greater": torch.gt,
            "GreaterOrEqual": torch.ge,
            "Less": torch.lt,
            "LessOrEqual": torch.le,
            "MatMul": torch.matmul,
            "Mul": torch.mul,
            "Or": torch.logical_or,
            "Sub": torch.sub,
            "Xor": torch.logical_xor,
        }.items()
    },
    "Max": _variadic(torch.maximum),
    "Min": _variadic(torch.minimum),
    "Sum": _variadic(torch.add),
    "Mean": lambda c: reduce(torch.add, c.inputs) / len(c.inputs),
    "Cast": _cast,
    "CastLike": lambda c: c[0].to(c[1].dtype),
    "Celu": lambda c: F.celu(c[0], c.get("alpha", 1.0)),
    "Clip": _clip,
    "Einsum": lambda c: torch.einsum(c.get("equation"), *c.inputs),
    "Elu": lambda c: F.elu(c[0], c.get("alpha", 1.0)),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda c: F.leaky_relu(c[0], c.get("alpha", 0.01)),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Mod": _mod,
    "PRelu": _prelu,
    "Pow": _pow,
    "Selu": _selu,
    "Softmax": _softmax(torch.softmax),
    "Swish": lambda c: c[0] * torch.sigmoid(c.get("alpha", 1.0) * c[0]),
    "ThresholdedRelu": lambda c: torch.where(c[0] > c.get("alpha", 1.0), c[0], torch.zeros_like(c[0])),
    "Where": lambda c: torch.where(c[0], c[1], c[2]),
}
