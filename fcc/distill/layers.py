"""Torch forms of layers with weights, pools and normalizations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .call import Call, NoForm, Table, Tensor


def _gemm(c: Call) -> Tensor:
    a = c[0].T if c.get("transA", 0) else c[0]
    b = c[1].T if c.get("transB", 0) else c[1]
    y = c.get("alpha", 1.0) * (a @ b)
    return y if c[2] is None else y + c.get("beta", 1.0) * c[2]


def _window(c: Call, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return strides, dilations, and what is padded before and after each axis."""
    rank = len(kernel)
    strides, dilations = (c.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = c.get("pads") or [0] * (2 * rank)
    before, after, auto = pads[:rank], pads[rank:], c.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for n, k, s, d in zip(c[0].shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            before.append(low)
            after.append(total - low)
    return strides, dilations, before, after


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Return a tensor with its last axes padded."""
    if not any((*before, *after)):
        return x
    return F.pad(x, [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair], value=value)


def _conv(c: Call) -> Tensor:
    x, w, b = c[0], c[1], c[2]
    rank = w.ndim - 2
    strides, dilations, before, after = _window(c, w.shape[2:])
    if before == after:
        padding = list(before)
    else:
        x, padding = _padded(x, before, after), [0] * rank
    return torch.convolution(x, w, b, strides, padding, dilations, False, [0] * rank, c.get("group", 1))


def _conv_transpose(c: Call) -> Tensor:
    c.only(auto_pad=("NOTSET", "VALID"), output_shape=(None,))
    x, w, b = c[0], c[1], c[2]
    rank = w.ndim - 2
    strides, dilations, before, after = _window(c, w.shape[2:])
    more = c.get("output_padding") or [0] * rank
    y = torch.convolution(x, w, b, strides, [0] * rank, dilations, True, more, c.get("group", 1))
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        y = y.narrow(axis + 2, low, y.shape[axis + 2] - low - high)
    return y


_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _rank(c: Call) -> int:
    rank = len(c.get("kernel_shape"))
    if rank not in _MAX:
        raise NoForm(f"{c.node.op_type} over {rank} axes")
    return rank


def _max_pool(c: Call) -> Tensor:
    if c.results > 1:
        raise NoForm("MaxPool with indices")
    kernel, pool = c.get("kernel_shape"), _MAX[_rank(c)]
    strides, dilations, before, after = _window(c, kernel)
    if c.get("ceil_mode", 0) and any((*before, *after)):
        raise NoForm("MaxPool with ceil_mode and pads")
    x = _padded(c[0], before, after, -math.inf)
    return pool(x, kernel, strides, 0, dilations, bool(c.get("ceil_mode", 0)))


def _average_pool(c: Call) -> Tensor:
    c.only(ceil_mode=(0,))
    kernel, pool = c.get("kernel_shape"), _AVERAGE[_rank(c)]
    strides, dilations, before, after = _window(c, kernel)
    if any(d != 1 for d in dilations):
        raise NoForm("AveragePool with dilations")
    y = pool(_padded(c[0], before, after), kernel, strides)
    if c.get("count_include_pad", 0) or not any((*before, *after)):
        return y
    return y / pool(_padded(torch.ones_like(c[0][:1, :1]), before, after), kernel, strides)


def _normalized(x: Tensor, first: int, epsilon: float) -> Tensor:
    """Return a tensor of mean 0 and variance 1 over its axes from ``first`` on."""
    axes = list(range(first, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


def _by_channel(w: Tensor, x: Tensor) -> Tensor:
    return w.reshape(-1, *([1] * (x.ndim - 2)))


def _batch_norm(c: Call) -> Tensor:
    c.only(training_mode=(0,))
    x, scale, shift, mean, var = c.inputs
    factor = scale * torch.rsqrt(var + c.get("epsilon", 1e-5))
    return x * _by_channel(factor, x) + _by_channel(shift - mean * factor, x)


def _layer_norm(c: Call) -> Tensor:
    if c.results > 1:
        raise NoForm("LayerNormalization with its mean")
    y = _normalized(c[0], c.get("axis", -1) % c[0].ndim, c.get("epsilon", 1e-5)) * c[1]
    return y if c[2] is None else y + c[2]


def _instance_norm(c: Call) -> Tensor:
    y = _normalized(c[0], 2, c.get("epsilon", 1e-5))
    return y * _by_channel(c[1], c[0]) + _by_channel(c[2], c[0])


def _group_norm(c: Call) -> Tensor:
    if c.opset < 21:
        raise NoForm("GroupNormalization of opset 18: its scale is by group")
    x = c[0]
    y = _normalized(x.reshape(x.shape[0], c.get("num_groups"), -1), 2, c.get("epsilon", 1e-5)).reshape(x.shape)
    return y * _by_channel(c[1], x) + _by_channel(c[2], x)


def _rms_norm(c: Call) -> Tensor:
    axes = list(range(c.get("axis", -1) % c[0].ndim, c[0].ndim))
    return c[0] * torch.rsqrt((c[0] * c[0]).mean(axes, keepdim=True) + c.get("epsilon", 1e-5)) * c[1]


def _over_space(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


TABLE: Table = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda c: c[0].mean(_over_space(c[0]), keepdim=True),
    "GlobalMaxPool": lambda c: c[0].amax(_over_space(c[0]), keepdim=True),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _max_pool,
    "RMSNormalization": _rms_norm,
}
