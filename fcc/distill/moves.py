"""Torch forms of operators that move data, and of shape arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .call import Call, NoForm, Table, Tensor


def _reshape(c: Call) -> Tensor:
    sizes = c.ints(1) or []
    if not c.get("allowzero", 0):
        sizes = [c[0].shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return c[0].reshape(sizes)


def _flatten(c: Call) -> Tensor:
    axis = c.get("axis", 1)
    axis = axis + c[0].ndim if axis < 0 else axis
    return c[0].reshape(math.prod(c[0].shape[:axis]), math.prod(c[0].shape[axis:]))


def _transpose(c: Call) -> Tensor:
    return c[0].permute(c.get("perm") or list(reversed(range(c[0].ndim))))


def _squeeze(c: Call) -> Tensor:
    axes = c.ints(1, "axes")
    if axes is None:
        axes = [i for i, n in enumerate(c[0].shape) if n == 1]
    gone = {a % c[0].ndim for a in axes}
    return c[0].reshape([n for i, n in enumerate(c[0].shape) if i not in gone])


def _unsqueeze(c: Call) -> Tensor:
    axes = c.ints(1, "axes") or []
    rank = c[0].ndim + len(axes)
    new, old = {a % rank for a in axes}, iter(c[0].shape)
    return c[0].reshape([1 if i in new else next(old) for i in range(rank)])


def _split(c: Call) -> tuple[Tensor, ...]:
    axis, count = c.get("axis", 0), len(c.node.outputs)
    sizes = c.ints(1)
    if sizes is None:
        step = math.ceil(c[0].shape[axis] / count)
        sizes = [step] * (count - 1) + [c[0].shape[axis] - step * (count - 1)]
    return tuple(torch.split(c[0], sizes, axis))


def _slice(c: Call) -> Tensor:
    x = c[0]
    starts, ends = c.ints(1) or [], c.ints(2) or []
    axes, steps = c.ints(3) or list(range(len(starts))), c.ints(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept = range(x.shape[axis])[start:end:step]
        if step == 1:
            x = x.narrow(axis, kept.start if len(kept) else 0, len(kept))
        else:
            x = x.index_select(axis, torch.tensor(list(kept), dtype=torch.int64))
    return x


def _from_end(index: Tensor, size: int) -> Tensor:
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index)


def _gather(c: Call) -> Tensor:
    axis = c.get("axis", 0) % c[0].ndim
    index = _from_end(c[1], c[0].shape[axis])
    found = c[0].index_select(axis, index.reshape(-1))
    return found.reshape(*c[0].shape[:axis], *index.shape, *c[0].shape[axis + 1 :])


def _gather_elements(c: Call) -> Tensor:
    axis = c.get("axis", 0)
    return torch.gather(c[0], axis, _from_end(c[1], c[0].shape[axis]))


def _gather_nd(c: Call) -> Tensor:
    c.only(batch_dims=(0,))
    return c[0][tuple(_from_end(i, n) for i, n in zip(c[1].unbind(-1), c[0].shape, strict=False))]


def _scatter_nd(c: Call) -> Tensor:
    c.only(reduction=("none",))
    at = tuple(_from_end(i, n) for i, n in zip(c[1].unbind(-1), c[0].shape, strict=False))
    return c[0].index_put(at, c[2])


def _scatter_elements(c: Call) -> Tensor:
    c.only(reduction=("none",))
    axis = c.get("axis", 0)
    return c[0].scatter(axis, _from_end(c[1], c[0].shape[axis]), c[2])


def _expand(c: Call) -> Tensor:
    return c[0].expand(torch.broadcast_shapes(c[0].shape, tuple(c.ints(1) or ())))


def _pad(c: Call) -> Tensor:
    x, pads, mode = c[0], c.ints(1) or [], c.get("mode", "constant")
    axes = c.ints(3)
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if mode == "constant":
            value = 0 if c[2] is None else c[2].item()
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after], value=value)
        elif min(before, after) < 0:
            raise NoForm(f"Pad by {mode} of a negative size")
        else:
            modes: Any = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
            index = np.pad(np.arange(x.shape[axis]), (before, after), mode=modes[mode])
            x = x.index_select(axis, torch.from_numpy(index))
    return x


def _shape(c: Call) -> Tensor:
    rank = c[0].ndim
    return torch.tensor(list(c[0].shape)[c.get("start", 0) : c.get("end", rank)], dtype=torch.int64)


def _constant_of_shape(c: Call) -> Tensor:
    value = torch.from_numpy(np.array(c.get("value", np.zeros(1, np.float32)))).reshape(())
    return value.expand(c.ints(0) or []).clone()


def _range(c: Call) -> Tensor:
    start, stop, step = (t.reshape(()) for t in c.inputs)
    count = max(0, math.ceil((stop.item() - start.item()) / step.item()))
    return start + step * torch.arange(count).to(start.dtype)


def _depth_to_space(c: Call) -> Tensor:
    (n, depth, h, w), b = c[0].shape, c.get("blocksize")
    dcr = c.get("mode", "DCR") == "DCR"
    x = c[0].reshape((n, b, b, depth // b**2, h, w) if dcr else (n, depth // b**2, b, b, h, w))
    x = x.permute((0, 3, 4, 1, 5, 2) if dcr else (0, 1, 4, 2, 5, 3))
    return x.reshape(n, depth // b**2, h * b, w * b)


def _space_to_depth(c: Call) -> Tensor:
    (n, depth, h, w), b = c[0].shape, c.get("blocksize")
    x = c[0].reshape(n, depth, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, depth * b**2, h // b, w // b)


def _trilu(c: Call) -> Tensor:
    cut = torch.triu if c.get("upper", 1) else torch.tril
    return cut(c[0], 0 if c[1] is None else int(c[1].item()))


def _one_hot(c: Call) -> Tensor:
    depth = int(c[1].reshape(-1)[0].item())
    hot = _from_end(c[0], depth).unsqueeze(-1) == torch.arange(depth)
    axis = c.get("axis", -1)
    off, on = c[2].unbind()
    return torch.where(hot, on, off).movedim(-1, axis)


TABLE: Table = {
    "Concat": lambda c: torch.cat(list(c.inputs), c.get("axis")),
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": lambda c: torch.tensor(c[0].numel(), dtype=torch.int64),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda c: c[0].repeat(c.ints(1) or []),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
