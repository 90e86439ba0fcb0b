"""A bound on the scores of attention over normalized inputs: |q . k| <= |q| |k|, head by head."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir

from ._layers import layer_of, row, weights

Array = np.ndarray[Any, Any]
_LARGEST = 1 << 24


def score_bound(q: ir.Value, k: ir.Value, heads: int, scale: float) -> float | None:
    """Return what no score scale * q_h . k_h exceeds in size, or None where nothing is known.

    q, k [..., heads * size] are layers of a LayerNormalization: q = (z * gamma + beta) W + b with |z| <= sqrt(n) and
    sum(z) = 0, so that |q_h| <= sqrt(n) |C diag(gamma) W_h| + |beta W_h + b_h|, where C takes the mean of columns away.
    """
    norms = [_head_norms(v, heads) for v in (q, k)]
    if norms[0] is None or norms[1] is None:
        return None
    return float(np.max(norms[0] * norms[1])) * abs(scale)


def _head_norms(value: ir.Value, heads: int) -> Array | None:
    """Return a bound of the Euclidean norm of every head."""
    value, columns = _before_split(value)
    layer = _layer(_before_reshape(value))
    if layer is None:
        return None
    weight, bias, x = layer
    if weight.size > _LARGEST:
        return None
    norm = _before_reshape(x).producer()
    if norm is None or norm.op_type != "LayerNormalization" or norm.domain != "" or not _is_last(norm):
        return None
    gamma, beta = (ir.Module.constant(v) for v in (norm.inputs[1], norm.inputs[2] if len(norm.inputs) > 2 else None))
    rows = (weight.shape[0],)
    if gamma is None or gamma.shape != rows or (len(norm.inputs) > 2 and (beta is None or beta.shape != rows)):
        return None
    matrix = weight[:, columns]
    shift = np.broadcast_to(0.0 if bias is None else bias, weight.shape[1])[columns]
    with np.errstate(invalid="ignore"):
        scaled = gamma.astype(np.float64)[:, None] * matrix
        shift = shift + (0.0 if beta is None else beta.astype(np.float64) @ matrix)
    if not np.isfinite(scaled).all() or not np.isfinite(shift).all():
        return None
    size = scaled.shape[1] // heads
    scaled = scaled - scaled.mean(axis=0)
    blocks = [slice(h * size, (h + 1) * size) for h in range(heads)]
    return np.array([np.sqrt(*rows) * _spectral(scaled[:, b]) + np.linalg.norm(shift[b]) for b in blocks])


def _spectral(matrix: Array) -> float:
    """Return the spectral norm: the root of the largest eigenvalue of the Gram matrix, far cheaper than an SVD."""
    gram = matrix.T @ matrix
    return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0))) if gram.size else 0.0


def _layer(value: ir.Value) -> tuple[Array, Array | None, ir.Value] | None:
    """Return weight [in, out], bias and input of the layer that computes a value."""
    node = value.producer()
    if node is not None and node.op_type == "Add" and node.domain == "":
        node = next(iter(ir.producers(node)), None)
    found = None if node is None or node.op_type == "Conv" else layer_of(node)
    if found is None or isinstance(found, str) or found.output is not value:
        return None
    return weights(found).T, row(found), found.x


def _before_split(value: ir.Value) -> tuple[ir.Value, slice]:
    """Return what a Split along the features cuts a value from, and which columns it is."""
    node, dims = value.producer(), ir.known_dims(value)
    if node is None or node.op_type != "Split" or node.domain != "" or node.inputs[0] is None:
        return value, slice(None)
    if node.attributes.get_int("axis", 0) % max(1, len(dims)) != len(dims) - 1:
        return value, slice(None)
    sizes = [(ir.dims_of(v) or (None,))[-1] for v in node.outputs[: node.outputs.index(value) + 1]]
    if not all(isinstance(s, int) for s in sizes):
        return value, slice(None)
    numbers = ir.numbers(sizes)
    return node.inputs[0], slice(sum(numbers[:-1]), sum(numbers))


def _before_reshape(value: ir.Value) -> ir.Value:
    """Return what Reshapes that keep the features as they are make a value from."""
    node = value.producer()
    while node is not None and node.op_type == "Reshape" and node.domain == "" and node.inputs[0] is not None:
        before, after = ir.dims_of(node.inputs[0]), ir.dims_of(value)
        if not before or not after or before[-1] != after[-1] or not isinstance(after[-1], int):
            break
        value = node.inputs[0]
        node = value.producer()
    return value


def _is_last(norm: ir.Node) -> bool:
    axis, dims = norm.attributes.get_int("axis", -1), ir.dims_of(norm.inputs[0])
    return axis == -1 or (dims is not None and axis == len(dims) - 1)
