"""fuse-activations: Relu, LeakyRelu, Abs, HardSigmoid, HardSwish and Mish from the primitives they are written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import exp
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._attention import producer
from ._gates import TOLERANCE, gates, multiples, polynomial, scalar, users_first
from ._operands import small_constant

# its fusion of Relu and Clip reads the bounds in these types, and throws at others; no one counts on a Relu of double
_LOADED_BEFORE_CLIP = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_SINCE = {"HardSwish": 14, "Mish": 18}
_SINCE_BFLOAT16 = {"HardSigmoid": 22, "HardSwish": 22, "Mish": 22}
_AS_FAST_EXPANDED = {
    "cpu": frozenset(
        (name, kind) for name in ("HardSwish", "Mish") for kind in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    )
}
"""Functions without a kernel that a target runs as fast as the primitives (onnxruntime 1.31, measured).

Not in float64: the CPU has no kernel for HardSigmoid and Softplus there.
"""


@dataclass(frozen=True)
class _Found:
    """``top`` is op_type(x), perhaps times a value; the nodes from it down to x."""

    op_type: str
    x: ir.Value
    top: ir.Value
    nodes: tuple[ir.Node, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    times: ir.Value | None = None


class FuseActivations(SitePass):
    """Recover activations from primitives.

    Max(x, 0), Clip(x, 0), Where(x > 0, x, 0)                  ->  Relu(x)
    Max(x, a x) with 0 <= a <= 1, Where(x > 0, x, a x)         ->  LeakyRelu<alpha=a>(x)
    Max(x, -x), Where(x > 0, x, -x)                            ->  Abs(x)
    k Clip(a x + b, 0, h) with k h = 1                         ->  HardSigmoid<alpha=k a, beta=k b>(x)
    x Clip(x + 3, 0, 6) / 6, x HardSigmoid<1/6, 1/2>(x)        ->  HardSwish(x)
    x tanh(softplus(x)), x tanh(log(1 + exp(x)))               ->  Mish(x)
    Where(x > t, x, Softplus(x)) where both round to x         ->  Softplus(x)
    1 / (1 + exp(-x))                                          ->  Sigmoid(x);  y / (1 + exp(-x)) -> y Sigmoid(x)

    In every order of operands and grouping of factors, with any of the four comparisons. Shapes: any float x. Only
    where the target has a kernel for the operator, or runs its expansion as fast. Softplus alone and x sigmoid(x) are
    left: onnxruntime's Softplus is 3 to 8 times slower than log(1 + exp(x)) on CPU, and it fuses x sigmoid(x) itself.
    Source: ONNX Relu-14, LeakyRelu-16, Abs-13, HardSigmoid-6, HardSwish-14, Mish-18.
    """

    name: ClassVar[str] = "fuse-activations"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            rules = _RULES.get(node.op_type, ()) if node.domain == "" else ()
            for rule in rules:
                found = rule(node) if node.graph is not None else None
                if found is not None:
                    yield Site(found.nodes[0], module, ctx, found)
                    break

    def check(self, site: Site) -> str | None:
        found: _Found = site.data
        if found.x.dtype is None or not found.x.dtype.is_floating_point():
            return "x holds no floats"
        if ir.dims_of(found.x) is None or ir.dims_of(found.x) != ir.dims_of(found.top):
            return "the shape changes, or is not known"
        if found.op_type == "Relu" and found.x.dtype not in _LOADED_BEFORE_CLIP:
            return f"onnxruntime does not load a Relu of {found.x.dtype} in front of a Clip"
        since, target = _SINCE.get(found.op_type, 1), site.ctx.target
        if found.x.dtype == ir.DataType.BFLOAT16:
            since = max(since, _SINCE_BFLOAT16.get(found.op_type, 1))
        if site.module.opset() < since:
            return f"{found.op_type} needs opset {since}, and the module has {site.module.opset()}"
        support = target.support(found.op_type, "", site.module.opset(), {"T": found.x.dtype.name.lower()})
        fast = support.verdict == "expanded" and (found.op_type, found.x.dtype) in _AS_FAST_EXPANDED.get(
            target.name, ()
        )
        return None if support.verdict == "native" or fast else support.reason

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: _Found = site.data
        made = rw.op(found.op_type, found.x, **found.attributes)
        rw.replace(found.top, made if found.times is None else rw.op("Mul", found.times, made))
        rw.erase(*found.nodes)


def _piecewise(node: ir.Node, x: ir.Value, factor: float, between: tuple[ir.Node, ...]) -> _Found | None:
    """x above zero, factor * x below."""
    nodes = tuple(users_first(n for n in (node, *between) if n.graph is node.graph))
    if factor == 0.0:
        return _Found("Relu", x, node.outputs[0], nodes)
    if factor == -1.0:
        return _Found("Abs", x, node.outputs[0], nodes)
    return _Found("LeakyRelu", x, node.outputs[0], nodes, {"alpha": factor})


def _linear(value: ir.Value, x: ir.Value) -> tuple[float, tuple[ir.Node, ...]] | None:
    """Return (c, nodes) where a value is c * x, c = 0 where it is the constant zero."""
    read = polynomial(value, x)
    if read is None or not set(read[0]) <= {1} or (0 in read[0]):
        return None
    return read[0].get(1, 0.0), read[1]


def _max(node: ir.Node) -> _Found | None:
    """Max(x, c x), c <= 1."""
    if len(node.inputs) != 2:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        found = None if x is None or other is None or scalar(x) is not None else _linear(other, x)
        if found is not None and x is not None and (0.0 <= found[0] < 1.0 or found[0] == -1.0):
            return _piecewise(node, x, *found)
    return None


_ABOVE = {"Greater": True, "GreaterOrEqual": True, "Less": False, "LessOrEqual": False}


@dataclass(frozen=True)
class _Switch:
    """x where it is above a number, else another value."""

    x: ir.Value
    number: float
    below: ir.Value
    test: ir.Node


def _switch(node: ir.Node) -> _Switch | None:
    """Read Where(x > c, x, y), with any of the four comparisons and in both orders."""
    condition, then, other = node.inputs
    test = None if condition is None else condition.producer()
    if test is None or test.op_type not in _ABOVE or test.domain != "" or then is None or other is None:
        return None
    above, (left, right) = _ABOVE[test.op_type], test.inputs
    if scalar(left) is not None:
        above, left, right = not above, right, left
    x, below = (then, other) if above else (other, then)
    number = scalar(right)
    return _Switch(x, number, below, test) if left is x and number is not None else None


def _where(node: ir.Node) -> _Found | None:
    """Where(x > 0, x, c x)."""
    switch = _switch(node)
    found = None if switch is None or switch.number != 0.0 else _linear(switch.below, switch.x)
    return None if found is None or switch is None else _piecewise(node, switch.x, found[0], (switch.test, *found[1]))


_EPSILON = {ir.DataType.FLOAT: 2.0**-24, ir.DataType.FLOAT16: 2.0**-11, ir.DataType.DOUBLE: 2.0**-53}


def _linear_softplus(node: ir.Node) -> _Found | None:
    """Where(x > t, x, Softplus(x)), with t so large that both round to x above it, as torch writes softplus."""
    switch = _switch(node)
    softplus = None if switch is None else switch.below.producer()
    if switch is None or softplus is None or softplus.op_type != "Softplus" or softplus.domain != "":
        return None
    epsilon = _EPSILON.get(switch.x.dtype or ir.DataType.UNDEFINED, 0.0)
    if softplus.inputs[0] is not switch.x or switch.number < 1 or exp(-switch.number) > switch.number * epsilon:
        return None
    nodes = tuple(users_first(n for n in (node, switch.test, softplus) if n.graph is node.graph))
    return _Found("Softplus", switch.x, node.outputs[0], nodes)


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the bounds of a Clip of which the lower is given; an upper that is absent is infinite."""
    if len(node.inputs) < 2 or "min" in node.attributes or "max" in node.attributes:
        return None
    low, high = scalar(node.inputs[1]), float("inf")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        found = scalar(node.inputs[2])
        if found is None:
            return None
        high = found
    kind = node.inputs[1]
    top = small_constant(kind)
    largest = np.finfo(top.dtype).max if top is not None and top.dtype.kind == "f" else np.inf
    return None if low is None else (low, float("inf") if high >= largest else high)


def _clip(node: ir.Node) -> _Found | None:
    """Clip(x, 0); x Clip(x + 3, 0, 6) / 6; k Clip(a x + b, 0, 1 / k)."""
    bounds, inner = _bounds(node), node.inputs[0]
    if bounds is None or inner is None or bounds[0] != 0.0 or bounds[1] <= 0.0:
        return None
    if bounds[1] == float("inf"):
        return _piecewise(node, inner, 0.0, ())
    return _hard_swish(node, bounds[1]) or _hard_sigmoid(node, bounds[1])


def _hard_swish(node: ir.Node, high: float, attributes: tuple[float, float] | None = None) -> _Found | None:
    for gate in gates(node):
        x = gate.x
        assert x is not None
        read: tuple[Mapping[int, float], tuple[ir.Node, ...]] | None = polynomial(gate.inner, x)
        if attributes is not None:
            read = ({0: attributes[1], 1: attributes[0]}, ()) if gate.inner is x else None
        if read is None or gate.shift != 0.0:
            continue
        wanted = {0: 0.5 / gate.scale, 1: 1.0 / 6.0 / gate.scale} if gate.scale else {}
        rtol = TOLERANCE.get(x.dtype or ir.DataType.FLOAT, 4e-6)
        if _near(dict(read[0]), wanted, rtol) and abs(gate.scale * high - 1.0) <= rtol:
            between = (*gate.nodes, *read[1], *gate.beside)
            nodes = users_first(n for n in between if n.graph is node.graph)
            return _Found("HardSwish", x, gate.top, tuple(nodes))
    return None


def _near(found: dict[int, float], wanted: dict[int, float], rtol: float) -> bool:
    return set(found) == set(wanted) and all(abs(found[k] - w) <= rtol * abs(w) for k, w in wanted.items())


def _from_hard_sigmoid(node: ir.Node) -> _Found | None:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return _hard_swish(node, 1.0, (alpha, beta))


def _hard_sigmoid(node: ir.Node, high: float) -> _Found | None:
    """Read a x + b down to where it is linear in something else, and the factor behind the Clip."""
    inner, top, factor, above = node.inputs[0], node.outputs[0], 1.0, [node]
    if inner is None:
        return None
    user = ir.sole_user(top)
    if high != 1.0 and user is not None and user.op_type in ("Mul", "Div") and user.graph is node.graph:
        number = scalar(user.inputs[1]) if user.inputs[0] is top else scalar(user.inputs[0])
        if number and (user.op_type == "Mul" or user.inputs[0] is top):
            factor = number if user.op_type == "Mul" else 1.0 / number
            top, above = user.outputs[0], [user, node]
    if abs(factor * high - 1.0) > 4e-6:
        return None
    for x in _below(inner):
        read = polynomial(inner, x)
        if read is not None and 1 in read[0] and set(read[0]) <= {0, 1}:
            nodes = tuple(users_first(n for n in (*above, *read[1]) if n.graph is node.graph))
            alpha, beta = factor * read[0][1], factor * read[0].get(0, 0.0)
            return _Found("HardSigmoid", x, top, nodes, {"alpha": alpha, "beta": beta})
    return None


def _below(value: ir.Value) -> list[ir.Value]:
    """Return what a value is computed from by sums and products with constants, the deepest first."""
    found: list[ir.Value] = []
    while len(found) < 4:
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in ("Add", "Sub", "Mul", "Div", "Neg"):
            break
        rest = [v for v in node.inputs if v is not None and scalar(v) is None]
        if len(rest) != 1 or ir.sole_user(value) is None:
            break
        value = rest[0]
        found.insert(0, value)
    return found


def _mish(node: ir.Node) -> _Found | None:
    for gate in gates(node):
        x = gate.x
        softplus = None if x is None or (gate.scale, gate.shift) != (1.0, 0.0) else _softplus(gate.inner, x)
        if softplus is not None and x is not None:
            nodes = users_first(n for n in (*gate.nodes, *softplus) if n.graph is node.graph)
            return _Found("Mish", x, gate.top, tuple(nodes))
    return None


def _softplus(value: ir.Value, x: ir.Value) -> tuple[ir.Node, ...] | None:
    """Return the nodes that compute log(1 + exp(x))."""
    softplus, log = producer(value, "Softplus"), producer(value, "Log")
    if softplus is not None:
        return (softplus,) if softplus.inputs[0] is x else None
    add = None if log is None else producer(log.inputs[0], "Add")
    if log is None or add is None:
        return None
    for one, e in (add.inputs, add.inputs[::-1]):
        exp = producer(e, "Exp")
        if exp is not None and exp.inputs[0] is x and scalar(one) == 1.0:
            return log, add, exp
    return None


def _logistic(node: ir.Node) -> _Found | None:
    """1 / (1 + exp(-x)), from its Exp up, where nothing else uses what lies between."""
    add = ir.sole_user(node.outputs[0])
    if node.inputs[0] is None or add is None or add.op_type != "Add" or add.domain != "" or add.graph is not node.graph:
        return None
    inverse = ir.sole_user(add.outputs[0])
    if all(scalar(v) != 1.0 for v in add.inputs) or inverse is None or inverse.graph is not node.graph:
        return None
    dividend = inverse.inputs[0] if inverse.op_type == "Div" and inverse.inputs[1] is add.outputs[0] else None
    if inverse.domain != "" or (dividend is None and inverse.op_type != "Reciprocal"):
        return None
    for factor, x, between in multiples(node.inputs[0]):
        if factor == -1.0 and ir.dims_of(x) == ir.dims_of(add.outputs[0]):
            nodes = tuple(users_first(n for n in (inverse, add, node, *between) if n.graph is node.graph))
            times = None if dividend is None or scalar(dividend) == 1.0 else dividend
            return _Found("Sigmoid", x, inverse.outputs[0], nodes, times=times)
    return None


_RULES: dict[str, tuple[Callable[[ir.Node], _Found | None], ...]] = {
    "Clip": (_clip,),
    "Exp": (_logistic,),
    "HardSigmoid": (_from_hard_sigmoid,),
    "Max": (_max,),
    "Tanh": (_mish,),
    "Where": (_where, _linear_softplus),
}
