"""LayerNormalization and RMSNormalization written in primitives: where one ends, and its scale and bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .. import ir
from .interior import interior
from .recognize import Reduced, Scale, centered, is_aligned, mean_of, number, producer, scale_of, unexpanded

_FURTHEST = 6  # nodes between the root of the statistic and the end of the normalization
_DEEPEST = 4  # sums within sums
_PATH = frozenset({"Reciprocal", "Mul", "Div", "Add", "Sub", "Neg", "Reshape", "Squeeze", "Unsqueeze", "Expand"})
_ENDS = frozenset({"Mul", "Div", "Add", "Sub", "Neg"})


@dataclass(frozen=True)
class Factor:
    """A factor of a product, or a divisor."""

    value: ir.Value
    divides: bool


@dataclass(frozen=True)
class Normalization:
    """``root`` = sign * n * factors + bias_sign * bias, n = (x - mean(x)) / sqrt(var(x) + epsilon) over the axes.

    Not ``centered``: n = x / sqrt(mean(x * x) + epsilon). ``interior`` are the nodes that compute it, the root's last.
    """

    root: ir.Value
    of: Reduced
    epsilon: float
    centered: bool
    sign: float
    factors: tuple[Factor, ...]
    bias: ir.Value | None
    bias_sign: float
    interior: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Term:
    """A product: how often x, x - mean(x), mean(x) and the inverse deviation occur in it, and what else."""

    x: int = 0
    center: int = 0
    mean: int = 0
    scale: int = 0
    sign: float = 1.0
    factors: tuple[Factor, ...] = ()

    def times(self, other: _Term, divides: bool) -> _Term:
        s = -1 if divides else 1
        flipped = tuple(replace(f, divides=not f.divides) for f in other.factors) if divides else other.factors
        return _Term(
            self.x + s * other.x,
            self.center + s * other.center,
            self.mean + s * other.mean,
            self.scale + s * other.scale,
            self.sign * other.sign,
            self.factors + flipped,
        )

    @property
    def kind(self) -> tuple[int, int, int, int]:
        return (self.x, self.center, self.mean, self.scale)


_REST, _CENTERED, _PLAIN, _MEAN = (0, 0, 0, 0), (0, 1, 0, 1), (1, 0, 0, 1), (0, 0, 1, 1)


def statistics(graph: ir.Graph) -> Iterator[tuple[ir.Node, Scale]]:
    """Yield every node of a graph that takes the square root of a variance or a mean of squares plus epsilon."""
    for node in graph:
        if node.op_type in ("Sqrt", "Pow") and node.domain == "":
            found = scale_of(node.outputs[0])
            if found is not None:
                yield node, found


def ends(node: ir.Node) -> list[ir.Node]:
    """Return the nodes in which a normalization with the statistic of ``node`` may end, the furthest first."""
    found: dict[ir.Node, None] = {}
    level = [node]
    for _ in range(_FURTHEST):
        users = [u.node for n in level for u in n.outputs[0].uses()]
        level = [u for u in dict.fromkeys(users) if u.op_type in _PATH and u.domain == "" and u.graph is node.graph]
        for user in level:
            found.pop(user, None)
            found[user] = None
    return [n for n in reversed(found) if n.op_type in _ENDS]


@dataclass(frozen=True)
class _Reader:
    """Reads values as sums of products with one statistic, each value once."""

    scale: Scale
    products: dict[tuple[ir.Value, int], _Term] = field(default_factory=dict)
    leaves: dict[ir.Value, _Term | None] = field(default_factory=dict)

    def terms(self, value: ir.Value, sign: float, depth: int) -> Iterator[tuple[ir.Value, _Term]]:
        """Yield the terms of a sum as products, each with the value it is."""
        product = self.product(value, depth)
        if product.kind != _REST or depth == 0:
            yield value, replace(product, sign=product.sign * sign)
            return
        node = producer(value, "Add", "Sub", "Neg")
        if node is None or not self.depends(value, depth):
            yield value, replace(product, sign=sign)
            return
        for i, operand in enumerate(node.inputs):
            if operand is not None:
                negated = node.op_type == "Neg" or (node.op_type == "Sub" and i == 1)
                yield from self.terms(operand, -sign if negated else sign, depth - 1)

    def depends(self, value: ir.Value, depth: int) -> bool:
        """Return whether a sum has a term with the statistic in it."""
        if self.product(value, depth).kind != _REST:
            return True
        node = producer(value, "Add", "Sub", "Neg")
        return node is not None and depth > 0 and any(self.depends(v, depth - 1) for v in node.inputs if v is not None)

    def product(self, value: ir.Value, depth: int) -> _Term:
        """Return a value as a product; one that holds neither x nor the statistic is one factor."""
        key = (value, depth)
        if key not in self.products:
            self.products[key] = self._product(value, depth)
        return self.products[key]

    def _product(self, value: ir.Value, depth: int) -> _Term:
        leaf = self.leaf(value)
        if leaf is not None:
            return leaf
        node = producer(value, "Mul", "Div", "Neg")
        operands = [v for v in node.inputs if v is not None] if node is not None and depth else []
        if node is not None and operands:
            first = self.product(operands[0], depth - 1)
            if node.op_type == "Neg":
                return replace(first, sign=-first.sign)
            second = self.product(operands[1], depth - 1)
            if first.kind != _REST or second.kind != _REST:
                return first.times(second, node.op_type == "Div")
        if number(value) == -1.0:
            return _Term(sign=-1.0)
        return _Term(factors=(Factor(value, False),))

    def leaf(self, value: ir.Value) -> _Term | None:
        """Return x, x - mean(x), mean(x) or the (inverse) deviation as a term."""
        if value not in self.leaves:
            self.leaves[value] = _leaf(value, self.scale)
        return self.leaves[value]


def normalizations(node: ir.Node, scale: Scale) -> Iterator[Normalization]:
    """Yield the normalizations by ``scale``, the statistic of ``node``, that some value is, the furthest end first."""
    reader = _Reader(scale)
    for end in ends(node):
        found = _normalization(end, reader)
        if found is not None:
            yield found


def _normalization(end: ir.Node, reader: _Reader) -> Normalization | None:
    root, scale = end.outputs[0], reader.scale
    if ir.dims_of(root) is None or ir.dims_of(root) != ir.dims_of(scale.of.x):
        return None
    terms = list(reader.terms(root, 1.0, _DEEPEST))
    bias = [(v, t) for v, t in terms if t.kind == _REST]
    main = [t for _, t in terms if t.kind != _REST]
    first = _joined(main, scale.centered)
    if first is None or len(bias) > 1:
        return None
    value, bias_sign = (bias[0][0], bias[0][1].sign) if bias else (None, 1.0)
    stops = {scale.of.x, *(f.value for f in first.factors), *(() if value is None else (value,))}
    of = (scale.of, scale.epsilon, scale.centered)
    return Normalization(root, *of, first.sign, first.factors, value, bias_sign, interior(end, stops))


def _joined(main: list[_Term], is_centered: bool) -> _Term | None:
    """Return the one product that the terms mean: (x - mean) * s * g, x * s * g - mean * s * g, or x * s * g."""
    if len(main) == 1:
        return main[0] if main[0].kind == (_CENTERED if is_centered else _PLAIN) else None
    if len(main) != 2 or not is_centered:
        return None
    first, second = sorted(main, key=lambda t: -t.x)
    if first.kind != _PLAIN or second.kind != _MEAN or first.sign != -second.sign:
        return None
    same = sorted(map(_key, first.factors)) == sorted(map(_key, second.factors))
    return first if same else None


def _key(factor: Factor) -> tuple[int, bool]:
    return id(factor.value), factor.divides


def _leaf(value: ir.Value, scale: Scale) -> _Term | None:
    """Return x, x - mean(x), mean(x) or the (inverse) deviation as a term."""
    over = scale.of
    if value is over.x:
        return _Term(x=1)
    if value.producer() is None:
        return None
    center = centered(value)
    if center is not None and center[0] == over:
        return _Term(center=1, sign=float(center[1]))
    if not is_aligned(value, over):
        return None
    if mean_of(unexpanded(value)) == over:
        return _Term(mean=1)
    found = scale_of(unexpanded(value))
    if found is None or replace(found, inverse=True) != replace(scale, inverse=True):
        return None
    return _Term(scale=1 if found.inverse else -1)
