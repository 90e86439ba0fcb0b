"""Scaled dot product attention written in primitives: softmax(scale * q k^T + masks) v, from its last product back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fcc import ir

from ._axes import layouts, number
from ._views import full_dims

_LEADING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_DEEPEST = 12
LOW = -1e9
"""What masks: scores below 1e9 leave no weight to a key whose score is this number, or has it added."""
LOW_HALF = -6e4
"""The same in float16, for scores below 3e4."""


@dataclass(frozen=True)
class Term:
    """A mask where it meets the scores: added to them, or choosing between them and ``fill``.

    ``keep`` is None for what is added, else the truth value with which a score is kept. ``rank`` is that of the scores.
    """

    value: ir.Value
    rank: int
    keep: bool | None = None
    fill: float = 0.0


@dataclass(frozen=True)
class Scores:
    """What the Softmax takes: ``scale`` times a ``product`` under masks, the last one first, as are the nodes.

    With a ``cap``: cap * tanh(scale * product) under masks.
    """

    product: ir.Node
    scale: float
    terms: tuple[Term, ...]
    nodes: tuple[ir.Node, ...]
    cap: float | None = None


@dataclass(frozen=True)
class Attention:
    """``q`` [.., S, H] and ``k`` [.., H, T] meet in a product, ``v`` [.., T, V] in the last one.

    ``scale`` multiplies the scores, what scales queries and keys left aside; with a ``cap`` they become
    cap * tanh(scores). ``guard``: rows of NaN become 0. ``nodes`` compute it, last first.
    """

    q: ir.Value
    k: ir.Value
    v: ir.Value
    terms: tuple[Term, ...]
    scale: float
    cap: float | None
    guard: bool
    nodes: tuple[ir.Node, ...]

    @property
    def output(self) -> ir.Value:
        """The product with the values."""
        return self.nodes[0].outputs[0]


def is_attention_end(node: ir.Node) -> bool:
    """Return whether a node multiplies what a Softmax gives, perhaps cast or laid out anew, with something."""
    return node.op_type == "MatMul" and node.domain == "" and bool(_probabilities(node))


def attention_of(last: ir.Node) -> Attention | str:
    """Return the attention whose product with the values is ``last``, or the reason why there is none."""
    behind = _probabilities(last)
    if not behind:
        return "the left factor is no Softmax"
    softmax, guard = behind[-1], any(n.op_type == "IsNaN" for n in behind)
    dims = full_dims(softmax.outputs[0])
    if dims is None or len(dims) not in (3, 4) or 0 in dims:
        return "the Softmax is not over the last of 3 or 4 axes of known size"
    if softmax.attributes.get_int("axis", -1) not in (-1, len(dims) - 1):
        return "the Softmax is not over the last axis"
    found = _read(softmax.inputs[0], 0)
    if isinstance(found, str):
        return found
    q, k, v = (*found.product.inputs, last.inputs[1])
    if q is None or k is None or v is None:
        return "an operand is absent"
    nodes = (last, *behind, *found.nodes)
    if any(_narrows(n, q.dtype) for n in nodes):
        return "scores are cast to a narrower type"
    if v.dtype != q.dtype:
        return "the values are of another type than the queries"
    return Attention(q, k, v, found.terms, found.scale, found.cap, guard, nodes)


def _narrows(node: ir.Node, dtype: ir.DataType | None) -> bool:
    return node.op_type == "Cast" and node.outputs[0].dtype not in (dtype, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def producer(value: ir.Value | None, *types: str) -> ir.Node | None:
    """Return the node of the default domain that makes a value, if it is of one of these types."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in types else None


def _probabilities(last: ir.Node) -> tuple[ir.Node, ...]:
    """Return the nodes from a product back to the Softmax of its left factor, none where there is no Softmax.

    Between them may come casts, other leading axes, and what turns NaN to 0.
    """
    value, nodes = last.inputs[0], list[ir.Node]()
    while len(nodes) < _DEEPEST:
        node = producer(value, "Softmax", "Cast", "Where", *_LEADING)
        if node is None or (node.op_type in _LEADING and not _leads(node)):
            return ()
        nodes.append(node)
        if node.op_type == "Softmax":
            return tuple(nodes)
        value = node.inputs[0]
        if node.op_type == "Where":
            test, value = producer(node.inputs[0], "IsNaN"), node.inputs[2]
            if test is None or test.inputs[0] is not value or number(node.inputs[1]) != 0.0:
                return ()
            nodes.append(test)
    return ()


def _leads(node: ir.Node) -> bool:
    """Return whether a node lays out axes anew before the last two."""
    before, after = full_dims(node.inputs[0]), full_dims(node.outputs[0])
    return before is not None and after is not None and before[-2:] == after[-2:] and 0 not in before


# -- from the Softmax back to the product ----------------------------------------------------------------------------
def _read(value: ir.Value | None, depth: int) -> Scores | str:
    node = None if value is None else value.producer()
    rule = None if node is None or node.domain != "" or depth > _DEEPEST else _RULES.get(node.op_type)
    if node is None or rule is None:
        return "the scores are no product of queries and keys"
    return rule(node, depth + 1)


def _matmul(node: ir.Node, depth: int) -> Scores | str:
    return Scores(node, 1.0, (), (node,))


def _same(node: ir.Node, depth: int) -> Scores | str:
    """Casts between floats; other leading axes."""
    if node.op_type in _LEADING and not _leads(node):
        return "the scores are laid out anew"
    return _behind(node, _read(node.inputs[0], depth))


def _behind(node: ir.Node, found: Scores | str, *terms: Term) -> Scores | str:
    if isinstance(found, str):
        return found
    return replace(found, terms=(*terms, *found.terms), nodes=(node, *found.nodes))


def _factor(node: ir.Node, depth: int) -> Scores | str:
    """A scale: a fill goes with it, what is added does not."""
    step = next((s for s in list(layouts(node.outputs[0]))[1:2]), None)
    found = "the scores are multiplied by what is no scalar constant" if step is None else _read(step[0], depth)
    if isinstance(found, str) or step is None:
        return found
    if any(t.keep is None for t in found.terms):
        return "a mask is scaled together with the scores"
    factor = step[1].scale
    if found.cap is not None:
        return (
            "a bound of the scores is scaled twice"
            if found.cap != 1.0 or factor <= 0
            else _behind(node, replace(found, cap=factor))
        )
    terms = tuple(replace(t, fill=t.fill * factor) for t in found.terms)
    return replace(found, scale=found.scale * factor, terms=terms, nodes=(node, *found.nodes))


def _tanh(node: ir.Node, depth: int) -> Scores | str:
    found = _read(node.inputs[0], depth)
    if not isinstance(found, str) and (found.terms or found.cap is not None):
        return "a mask is bounded together with the scores"
    return found if isinstance(found, str) else _behind(node, replace(found, cap=1.0))


def _add(node: ir.Node, depth: int) -> Scores | str:
    reason: Scores | str = ""
    for scores, mask in (node.inputs, tuple(reversed(node.inputs))):
        found = _read(scores, depth)
        if not isinstance(found, str) and mask is not None:
            return _behind(node, found, Term(mask, _rank(node)))
        reason = reason or found
    return reason


def _where(node: ir.Node, depth: int) -> Scores | str:
    condition, kept, other = node.inputs
    for keep, scores, fill in ((True, kept, number(other)), (False, other, number(kept))):
        if fill is not None and condition is not None:
            return _behind(node, _read(scores, depth), Term(condition, _rank(node), keep, fill))
    return "the scores are chosen beside what is no scalar constant"


def _max(node: ir.Node, depth: int) -> Scores | str:
    """Max(x, c) with c below all scores, which OPT has lest a mask overflows."""
    for scores, low in (node.inputs, tuple(reversed(node.inputs))):
        if len(node.inputs) == 2 and masks(number(low), node.outputs[0].dtype):
            return _behind(node, _read(scores, depth))
    return "the scores are bounded"


def masks(fill: float | None, dtype: ir.DataType | None) -> bool:
    """Return whether a score of this size leaves its key no weight."""
    return fill is not None and fill <= (LOW_HALF if dtype == ir.DataType.FLOAT16 else LOW)


def _rank(node: ir.Node) -> int:
    return len(ir.known_dims(node.outputs[0]))


_RULES: Mapping[str, Callable[[ir.Node, int], Scores | str]] = {
    **dict.fromkeys(("Cast", *_LEADING), _same),
    **dict.fromkeys(("Div", "Mul"), _factor),
    "Add": _add,
    "MatMul": _matmul,
    "Max": _max,
    "Tanh": _tanh,
    "Where": _where,
}
