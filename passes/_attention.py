"""Scaled dot product attention written in primitives: what its parts are, found from the last product back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcc import ir

from ._operands import small_constant

_SWAP = [0, 2, 1, 3]
_SWAP_LAST = [0, 1, 3, 2]
_KEYS = [0, 2, 3, 1]


@dataclass(frozen=True)
class Heads:
    """An operand [batch, sequence, heads * size] before it was split into ``heads`` of ``size``."""

    packed: ir.Value
    heads: int
    size: int


@dataclass(frozen=True)
class Attention:
    """softmax(scale * q k^T + mask) v; ``nodes`` compute it, last first.

    ``merge`` is the Reshape of [batch, sequence, heads, size] to [batch, sequence, heads * size], or to what else.
    """

    q: Heads
    k: Heads
    v: Heads
    mask: ir.Value | None
    scale: float
    merge: ir.Node
    nodes: tuple[ir.Node, ...]

    @property
    def output(self) -> ir.Value:
        """The value to replace."""
        return self.merge.outputs[0]


def attention_of(last: ir.Node) -> Attention | str:
    """Return the attention whose product with the values is ``last``, or the reason why there is none."""
    nodes: list[ir.Node] = []
    merged = _merge(last, nodes)
    if isinstance(merged, str):
        return merged
    nodes.append(last)
    softmax = _producer(last.inputs[0], "Softmax")
    if softmax is None:
        return "the left factor is no Softmax"
    rank = len(ir.dims_of(softmax.outputs[0]) or ())
    if rank != 4 or softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return "the Softmax is not over the last of 4 axes"
    nodes.append(softmax)
    scores, mask = _masked(softmax.inputs[0], nodes)
    scores, scale = _scaled(scores, nodes)
    product = _producer(scores, "MatMul")
    if product is None:
        return "the scores are no product of queries and keys"
    nodes.append(product)
    queries, left = _scaled(product.inputs[0], nodes)
    keys, right = _scaled(product.inputs[1], nodes)
    q, v = _heads(queries, nodes), _heads(last.inputs[1], nodes)
    k = _keys(keys, nodes)
    for name, found in (("queries", q), ("keys", k), ("values", v)):
        if found is None:
            return f"the {name} are not split into heads by a Reshape and a Transpose"
    assert q is not None
    assert k is not None
    assert v is not None
    return Attention(q, k, v, mask, scale * left * right, merged, tuple(nodes))


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def _merge(last: ir.Node, nodes: list[ir.Node]) -> ir.Node | str:
    """Return the Reshape that puts the heads side by side again."""
    transpose = ir.sole_user(last.outputs[0])
    if transpose is None or transpose.op_type != "Transpose" or _perm(transpose) != _SWAP:
        return "the heads are not put back in place by a Transpose"
    reshape = ir.sole_user(transpose.outputs[0])
    if reshape is None or reshape.op_type != "Reshape" or reshape.inputs[0] is not transpose.outputs[0]:
        return "the heads are not put side by side by a Reshape"
    nodes += [reshape, transpose]
    return reshape


def _masked(value: ir.Value | None, nodes: list[ir.Node]) -> tuple[ir.Value | None, ir.Value | None]:
    """Return scores and the mask added to them."""
    add = _producer(value, "Add")
    if add is None:
        return value, None
    for scores, mask in (add.inputs, reversed(add.inputs)):
        inner, _ = _scaled(scores, [])
        if _producer(inner, "MatMul") is not None:
            nodes.append(add)
            return scores, mask
    return value, None


def _scaled(value: ir.Value | None, nodes: list[ir.Node]) -> tuple[ir.Value | None, float]:
    """Return what a scalar constant multiplies or divides, and the factor; the value itself and 1 otherwise."""
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div"):
        return value, 1.0
    for i, other in ((0, 1), (1, 0)) if node.op_type == "Mul" else ((0, 1),):
        array = small_constant(node.inputs[other])
        if array is None or array.size != 1 or array.ndim > 4:
            continue
        factor = float(array.reshape(()))
        if not np.isfinite(factor) or factor == 0:
            continue
        nodes.append(node)
        inner, rest = _scaled(node.inputs[i], nodes)
        return inner, rest * (factor if node.op_type == "Mul" else 1 / factor)
    return value, 1.0


def _perm(node: ir.Node) -> list[int]:
    return list(node.attributes.get_ints("perm", ()))


def _heads(value: ir.Value | None, nodes: list[ir.Node], perm: list[int] | None = None) -> Heads | None:
    """Transpose(Reshape(packed, [batch, sequence, heads, size]), perm)."""
    transpose = _producer(value, "Transpose")
    reshape = _producer(transpose.inputs[0], "Reshape") if transpose is not None else None
    if transpose is None or reshape is None or _perm(transpose) != (perm or _SWAP):
        return None
    packed = reshape.inputs[0]
    before, after = ir.dims_of(packed), ir.dims_of(reshape.outputs[0])
    if packed is None or before is None or after is None or len(before) != 3 or len(after) != 4:
        return None
    heads, size = after[2:]
    if before[:2] != after[:2] or None in before[:2] or not isinstance(heads, int) or not isinstance(size, int):
        return None
    if heads * size != before[2] or heads * size == 0:
        return None
    nodes += [transpose, reshape]
    return Heads(packed, heads, size)


def _keys(value: ir.Value | None, nodes: list[ir.Node]) -> Heads | None:
    """The keys are transposed: at once with the split into heads, or after it."""
    outer = _producer(value, "Transpose")
    if outer is not None and _perm(outer) == _SWAP_LAST:
        nodes.append(outer)
        return _heads(outer.inputs[0], nodes)
    return _heads(value, nodes, _KEYS)
