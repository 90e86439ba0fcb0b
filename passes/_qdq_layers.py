"""The weight ops that int8 knows, each as a Layer: operands, row bias, what vanishes behind it, the form to emit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear, linear_of
from fcc.target.qdq import QdqRule, QdqScheme

Array = np.ndarray[Any, Any]
DIRECT = "MatMulIntegerToFloat"
# 33,000 products of at most 255 * 127 and a bias of at most 2^30 fit the int32 accumulator whatever the data.
MOST_PRODUCTS = 33_000


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights.

    ``raw`` is the value after the bias, ``out`` the one after the activation that a following QuantizeLinear absorbs
    (``raw`` when there is none). ``form`` is the op that replaces it: a MatMul with a bias becomes a Gemm, since
    onnxruntime would make a Gemm with a float bias of it, which has no integer kernel; where it cannot (rank > 2, or
    an addend that is no row), the contrib op itself, which gives float.
    """

    rule: QdqRule
    form: str
    nodes: tuple[ir.Node, ...]
    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    raw: ir.Value
    activation: ir.Node | None
    alpha: float = 1.0
    beta: float = 1.0

    @property
    def node(self) -> ir.Node:
        """The weight op."""
        return self.nodes[0]

    @property
    def out(self) -> ir.Value:
        """The value that a QuantizeLinear would follow."""
        return self.raw if self.activation is None else self.activation.outputs[0]

    @property
    def axis(self) -> int:
        """The axis of the output channels of the weight."""
        return self.rule.weight_axis(ir.plain(self.node), len(ir.known_dims(self.weight)))

    @property
    def channels(self) -> int:
        """The number of output channels."""
        dims = ir.known_dims(self.weight)
        return int(dims[self.axis])  # type: ignore[arg-type]  # constants have known dims

    def weight_array(self) -> Array:
        """Return the weight as it is stored, alpha included."""
        assert self.weight.const_value is not None
        array: Array = self.weight.const_value.numpy()
        return array if self.alpha == 1 else array.astype(np.float64) * self.alpha

    def bias_array(self) -> Array | None:
        """Return the bias [channels], beta included, or None."""
        if self.bias is None:
            return None
        array = ir.Module.constant(self.bias)
        assert array is not None
        return np.broadcast_to(array.reshape(-1).astype(np.float64) * self.beta, (self.channels,))


def layer_of(node: ir.Node, scheme: QdqScheme) -> Layer | str:
    """Return the layer that starts with a node, or the reason why it stays float."""
    rule = scheme.rules[node.op_type]
    found = _alone(node, rule) if scheme.float_operands else _VIEWS[node.op_type](node, rule)
    if isinstance(found, str):
        return found
    return _refusal(found) or (None if scheme.float_operands else _bias_refusal(found)) or found


def _conv(node: ir.Node, rule: QdqRule) -> Layer | str:
    x, weight, bias = (*node.inputs, None)[:3]
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    return _layer(rule, "Conv", (node,), (x, weight, bias), node.outputs[0])


def _gemm(node: ir.Node, rule: QdqRule) -> Layer | str:
    view = linear_of(node)
    if isinstance(view, str):
        return view
    return _layer(rule, "Gemm", view.nodes, (view.x, view.weight, view.bias), view.output, view.alpha, view.beta)


def _matmul(node: ir.Node, rule: QdqRule) -> Layer | str:
    view = linear_of(node)
    if isinstance(view, str):
        return view
    return _layer(rule, _matmul_form(view), view.nodes, (view.x, view.weight, view.bias), view.output)


def _matmul_form(view: Linear) -> str:
    if view.bias is not None:
        return "Gemm" if len(ir.known_dims(view.x)) == 2 else DIRECT
    user = ir.sole_user(view.output)
    return DIRECT if user is not None and user.op_type == "Add" else "MatMul"


def _alone(node: ir.Node, rule: QdqRule) -> Layer | str:
    """Return the layer of an op that stays, whatever is added behind it; ``bias`` is the one of its own operands."""
    found = linear_of(node) if node.op_type in ("Gemm", "MatMul") else _conv(node, rule)
    if isinstance(found, str):
        return found
    bias = (*node.inputs, None, None)[2]
    return Layer(rule, node.op_type, (node,), found.x, found.weight, bias, node.outputs[0], None)


_VIEWS: dict[str, Callable[[ir.Node, QdqRule], Layer | str]] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}


def _layer(
    rule: QdqRule,
    form: str,
    nodes: tuple[ir.Node, ...],
    operands: tuple[ir.Value, ir.Value, ir.Value | None],
    raw: ir.Value,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Layer:
    user = ir.sole_user(raw) if form != DIRECT else None
    absorbed = user is not None and user.domain == "" and user.op_type in rule.absorbs and _vanishes(user, raw)
    return Layer(rule, form, nodes, *operands, raw, user if absorbed else None, alpha, beta)


def clip_limits(node: ir.Node) -> tuple[float, float] | None:
    """Return (min, max) of a Clip with constant limits, infinite where absent; None when they are not constant."""
    limits = [-np.inf, np.inf]
    for i, value in enumerate(node.inputs[1:3]):
        if value is not None:
            array = ir.Module.constant(value)
            if array is None or array.size != 1:
                return None
            limits[i] = float(array.reshape(()))
    return limits[0], limits[1]


def _vanishes(node: ir.Node, raw: ir.Value) -> bool:
    """Return whether quantizing alone does what the activation does: its result covers zero and what is calibrated."""
    if node.inputs[0] is not raw:
        return False
    if node.op_type != "Clip":
        return True
    limits = clip_limits(node)
    return limits is not None and limits[0] <= 0 <= limits[1] and limits[0] < limits[1]


def _refusal(layer: Layer) -> str | None:
    for what, value in (("input", layer.x), ("weight", layer.weight)):
        if value.dtype != ir.DataType.FLOAT:
            return f"the {what} is {value.dtype}: integer kernels replace float32 ones only"
    dims = ir.known_dims(layer.weight)
    if not prod(d for d in dims if isinstance(d, int)):
        return "the weight is empty"
    products = prod(d for d in dims if isinstance(d, int)) // layer.channels
    if products > MOST_PRODUCTS:
        return f"{products} products may overflow the int32 accumulator"
    if layer.form in ("Conv", "ConvTranspose") and len(dims) < 3:
        return "the convolution has no spatial axis"
    array = ir.Module.constant(layer.weight)
    if array is None or not np.all(np.isfinite(array)):
        return "the weight holds NaN or infinity"
    return None


def _bias_refusal(layer: Layer) -> str | None:
    if layer.bias is None:
        return None
    array = ir.Module.constant(layer.bias)
    if array is None:
        return "the bias is not constant"
    if array.size != 1 and (array.size != layer.channels or array.shape[-1] != layer.channels):
        return "the bias is no row of one number per output channel"
    return None if np.all(np.isfinite(array)) else "the bias holds NaN or infinity"
