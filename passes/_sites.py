"""The patterns of linear ops with constant weights, and what stands between an affine node and the ops behind it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, any_of, const, op, ops, var
from fcc.rewrite.pattern import Op, Pattern

from ._absorb import Absorber, absorber_of
from ._affine import Channels, affine_of
from ._fold import Folded, ahead


def linear_patterns(x: Pattern) -> tuple[Op, ...]:
    """Return the patterns of a linear op of ``x``: node "linear", weight "w", constant bias "b" or none."""
    matmul = op.MatMul(x, const("w"), name="linear")
    weighted = ops("Conv", "ConvTranspose", "Gemm")(x, const("w"), const("b").optional(), name="linear")
    return weighted, op.Add(matmul, const("b")), matmul


def ahead_patterns(source: Op) -> tuple[Op, ...]:
    """Return the patterns of a linear op of ``source`` (shared), or of its Flatten or Reshape (node "view")."""
    flatten = op.Flatten(source, name="view", shared=True)
    reshape = op.Reshape(source, var("shape"), name="view", shared=True)
    return linear_patterns(any_of(source, flatten, reshape))


LINEAR = any_of(*linear_patterns(var("x")))


@dataclass(frozen=True)
class FoldBehind(PatternPass):
    """What ends in an affine node behind LINEAR becomes the linear op with other weights; ``folded`` says which."""

    max_copy: int = 1 << 20

    @abstractmethod
    def folded(self, m: Match) -> Folded | str:
        """Return the linear op after absorbing the root, or the reason why it cannot."""

    def check(self, m: Match) -> str | None:
        found = self.folded(m)
        return found if isinstance(found, str) else found.refusal(m.ctx.target, self.max_copy)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = self.folded(m)
        assert isinstance(found, Folded)
        return found.emit(rw, m["x"], m.ctx.target)


@dataclass(frozen=True)
class Ahead:
    """An affine node, the view of its result (or None), and the linear op that may absorb it."""

    source: ir.Node
    operand: int
    view: ir.Node | None
    linear: Absorber

    def fold(self) -> Folded | str:
        """Return the linear op after absorbing the source, or the reason why it cannot."""
        channels, times = self.linear.inputs, 1
        if self.view is not None:
            found = _through_view(self.source.outputs[0], channels)
            if isinstance(found, str):
                return found
            channels, times = found
        x = ir.dims_of(self.source.inputs[self.operand])
        if x is None or len(x) != channels.rank or (self._broadcasts() and x[channels.axis] != channels.count):
            return (
                f"the input is not known to have {channels.count} channels on axis {channels.axis} of {channels.rank}"
            )
        affine = affine_of(self.source, self.operand, channels)
        return affine if isinstance(affine, str) else ahead(self.linear, affine.repeated(times))

    def _broadcasts(self) -> bool:
        """Whether the constant could repeat an input axis of size 1."""
        if self.source.op_type == "BatchNormalization" or len(self.source.inputs) < 2:
            return False
        return any(d != 1 for d in ir.known_dims(self.source.inputs[1 - self.operand]))

    def input(self, rw: Rewriter) -> ir.Value:
        """Return what the linear op takes once the source is gone."""
        x = self.source.inputs[self.operand]
        assert x is not None
        if self.view is None:
            return x
        seen: ir.Value = rw.like(self.view, x, *self.view.inputs[1:])
        return seen


def _through_view(value: ir.Value, channels: Channels) -> tuple[Channels, int] | str:
    """[N, C, *rest] seen as [N, C * prod(rest)]: every channel is a block of prod(rest) columns.

    A row-major reshape to as many columns as a sample has elements leaves every sample in its row.
    """
    dims = ir.dims_of(value)
    if dims is None or len(dims) < 2 or (channels.rank, channels.axis) != (2, 1):
        return "the shape in front of the reshape is not known, or the linear op takes no matrix"
    sizes = ir.numbers(dims[1:])
    if len(sizes) != len(dims) - 1 or prod(sizes) != channels.count:
        return "the reshape does not keep the batch axis and flatten the others"
    return Channels(len(dims), 1, sizes[0]), prod(sizes[1:])


def ahead_of(m: Match, operand: int) -> Ahead | str:
    """Return the site of a match of ``ahead_patterns``."""
    linear = absorber_of(m.nodes["linear"], m.get("b"))
    if isinstance(linear, str):
        return linear
    if m.root is linear.node and linear.bias is None and _with_added(linear).bias is not None:
        return "the Add behind the MatMul is its bias and takes part"
    return Ahead(m.nodes["source"], operand, m.nodes.get("view"), linear)


def others_refusal(m: Match, operand: int, max_copy: int) -> str | None:
    """Return why another user of the source's result cannot absorb it too, so that the source would stay; else None."""
    source = m.nodes["source"]
    for user, view in _consumers(source):
        if isinstance(user, str):
            return user
        if user is m.nodes["linear"]:
            continue
        reason: str | None = "it lies in a subgraph"
        if user.graph is source.graph:
            linear = absorber_of(user)
            folded = linear if isinstance(linear, str) else Ahead(source, operand, view, _with_added(linear)).fold()
            reason = folded if isinstance(folded, str) else folded.refusal(m.ctx.target, max_copy)
        if reason is not None:
            return f"another user, {user.op_type} {user.name!r}, cannot absorb it: {reason}"
    return None


def _consumers(source: ir.Node) -> Iterator[tuple[ir.Node | str, ir.Node | None]]:
    """Yield (linear op or a reason, view or None) for every use of the result of ``source``."""
    result = source.outputs[0]
    views = [u.node for u in result.uses() if _is_view(u.node)]
    for view in (None, *views):
        value = result if view is None else view.outputs[0]
        if value.is_graph_output():
            yield f"{value.name!r} is a graph output", view
        yield from ((u.node, view) for u in value.uses() if view is not None or not _is_view(u.node))


def _is_view(node: ir.Node) -> bool:
    return node.op_type in ("Flatten", "Reshape") and node.domain == ""


def _with_added(linear: Absorber) -> Absorber:
    """Return a MatMul with the row that its only user adds to it as its bias; any other op as it is."""
    add = ir.sole_user(linear.node.outputs[0]) if linear.node.op_type == "MatMul" else None
    if add is None or add.op_type != "Add" or add.domain != "":
        return linear
    other = add.inputs[1] if add.inputs[0] is linear.node.outputs[0] else add.inputs[0]
    found = absorber_of(linear.node, other)
    return linear if isinstance(found, str) else found
