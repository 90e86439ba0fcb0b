"""Steps of generate: bodies with captures. Scan, loops that collect, loops that end by a condition, nested branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from .draft import Draft, Tensor
from .layers import several
from .moves import reshape, transpose
from .ops import binary, clip, identity, is_float, matmul, static, unary

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 2
INNER = (unary, binary, matmul, identity, clip, reshape, transpose)


def body_of(d: Draft) -> Draft:
    """Return the draft of a nested graph, whose weights have the type of the outer one."""
    return Draft(d.rng, d.opset, d.dtype, outer=d)


def depth(d: Draft) -> int:
    return 0 if d.outer is None else 1 + depth(d.outer)


def steps(d: Draft, most: int = 3) -> None:
    """Append a few steps, a nested branch or loop among them."""
    for _ in range(d.rng.randint(0, most)):
        nested = depth(d) < DEEPEST and d.chance(0.15)
        (d.pick([branch, collect, until]) if nested else d.pick(INNER))(d)


def shaped(d: Draft, like: Tensor) -> Tensor:
    """Return the last value of a body that is like another one, or make one."""
    same = [t for t in d.values if t.dtype == like.dtype and t.shape == like.shape and t not in d.inputs]
    return same[-1] if same else d.node(d.pick(["Identity", "Tanh"]), [like], like.shape)


def branch(d: Draft) -> None:
    """An If in which values of all outer graphs are used; one or two outputs."""
    x = d.value(is_float)
    if x is None:
        return
    condition = d.value(lambda t: t.dtype == "bool" and t.shape == () and t.raw)
    if condition is None or d.chance(0.3):
        condition = d.constant(d.chance(0.5), "bool")
    two = d.chance(0.3)
    graphs = []
    for name in ("then", "else"):
        body = body_of(d)
        steps(body)
        results = [shaped(body, x)]
        if two:
            results.append(body.node("Neg", [x], x.shape))
        graphs.append(body.graph(f"{name}_{d.fresh('g')}", results))
    several(
        d, "If", [condition], [(x.shape, x.dtype)] * (2 if two else 1), then_branch=graphs[0], else_branch=graphs[1]
    )


def collect(d: Draft) -> None:
    """A Loop that carries a state, captures values, and collects one row a step."""
    x = d.value(lambda t: t.dtype in ("float32", "float64") and all(isinstance(s, int) for s in t.shape))
    if x is None or depth(d) >= DEEPEST:
        return
    body = body_of(d)
    i, go = Tensor(d.fresh("i"), "int64", (), True), Tensor(d.fresh("c"), "bool", (), True)
    state = Tensor(d.fresh("b"), x.dtype, x.shape)
    body.inputs.extend([i, go, state])
    body.values.extend([state])
    steps(body, 2)
    half = body.node("Mul", [state, body.constant(0.5, x.dtype)], x.shape)
    new = body.node("Add", [half, x], x.shape)
    row = shaped(body, x) if d.chance(0.5) else body.node("Identity", [half], x.shape)
    same = body.node("Identity", [go], (), dtype="bool")
    rounds = d.pick([0, 1, 2, 4])
    graph = body.graph(d.fresh("body"), [same, new, row])
    start = None if d.chance(0.3) else d.constant(True, "bool")
    outputs = [(x.shape, x.dtype), ((rounds, *x.shape), x.dtype)]
    several(d, "Loop", [d.constant(rounds, "int64"), start, x], outputs, body=graph)


def until(d: Draft) -> None:
    """A Loop without a trip count that ends when a counter is large enough."""
    x = d.value(lambda t: t.dtype in ("float32", "float64"))
    if x is None or depth(d) >= DEEPEST:
        return
    body = body_of(d)
    i, go = Tensor(d.fresh("i"), "int64", (), True), Tensor(d.fresh("c"), "bool", (), True)
    state, count = Tensor(d.fresh("b"), x.dtype, x.shape), Tensor(d.fresh("n"), "int64", (), True)
    body.inputs.extend([i, go, state, count])
    more = body.node("Add", [count, body.constant(1, "int64")], (), dtype="int64")
    less = body.node("Less", [more, body.constant(d.pick([1, 3]), "int64")], (), dtype="bool")
    new = body.node(d.pick(["Tanh", "Neg", "Identity"]), [state], x.shape)
    graph = body.graph(d.fresh("body"), [less, new, more])
    operands = [None, d.constant(d.chance(0.8), "bool"), x, d.constant(0, "int64")]
    several(d, "Loop", operands, [(x.shape, x.dtype), ((), "int64")], body=graph)


def scan(d: Draft) -> None:
    """A Scan over the first axis, forward or back, with a state and a captured value."""
    x = d.value(lambda t: t.dtype == "float32" and t.rank > 1 and static(t, *range(t.rank)))
    if x is None or depth(d) >= DEEPEST:
        return
    body = body_of(d)
    state, row = Tensor(d.fresh("b"), x.dtype, x.shape[1:]), Tensor(d.fresh("r"), x.dtype, x.shape[1:])
    body.inputs.extend([state, row])
    body.values.extend([state, row])
    steps(body, 2)
    half = body.node("Mul", [state, body.constant(0.5, x.dtype)], state.shape)
    new = body.node("Add", [half, row], state.shape)
    out = body.node(d.pick(["Tanh", "Identity"]), [shaped(body, state)], state.shape)
    graph = body.graph(d.fresh("scan"), [new, out])
    start = d.weight(*state.shape, dtype=x.dtype)  # type: ignore[arg-type]
    if start.dtype != x.dtype:
        return
    more = {"scan_input_directions": [1]} if d.chance(0.4) else {}
    if d.chance(0.3):
        more["scan_output_directions"] = [1]
    several(d, "Scan", [start, x], [(state.shape, x.dtype), (x.shape, x.dtype)], body=graph, num_scan_inputs=1, **more)


def optional(d: Draft) -> None:
    """A node whose optional operand in the middle is absent."""
    x = d.value(lambda t: t.dtype == "float32")
    if x is not None:
        d.nodes.append(helper.make_node("Clip", [x.name, "", d.constant(3, x.dtype).name], [d.fresh()]))
        d.values.append(Tensor(d.nodes[-1].output[0], x.dtype, x.shape))


CONTROL: tuple[Callable[[Draft], None], ...] = (branch, branch, collect, collect, until, scan, scan, optional)
