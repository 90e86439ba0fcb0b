"""Passes whose rules are a table: operator -> functions of a node that return a value, how to build it, or why not."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PassContext, PatternPass, Rewriter, ops
from fcc.rewrite.pattern import Op

from ._no_op_layout import Found
from ._outputs import output_refusal

Rule = Callable[[ir.Node, PassContext], Found]
Table = Mapping[str, tuple[Rule, ...]]


def roots(table: Table) -> Op:
    """Return the pattern of a node that a table has rules for."""
    return ops(*sorted(table))(variadic=True)


class TablePass(PatternPass, ABC):
    """The first rule of an operator that applies replaces its node; the reason of the last one is given else."""

    rules: ClassVar[Table]

    def check(self, m: Match) -> str | None:
        found = self._found(m)
        if isinstance(found, str):
            return found
        return output_refusal(m.root.outputs[0], found) if isinstance(found, ir.Value) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = self._found(m)
        assert not isinstance(found, str)
        rw.erase(m.root, *_behind(m.root, 3))
        return found if isinstance(found, ir.Value) else found(rw)

    def _found(self, m: Match) -> Found:
        found: Found = ""
        for rule in self.rules[m.root.op_type]:
            found = rule(m.root, m.ctx)
            if not isinstance(found, str):
                break
        return found


def _behind(node: ir.Node, depth: int) -> Iterator[ir.Node]:
    """Yield what computes the inputs of a node, users first: dead once the node is gone, or it stays."""
    producers = dict.fromkeys(ir.producers(node))
    yield from producers
    if depth > 1:
        for producer in producers:
            yield from _behind(producer, depth - 1)


def producer_of(value: ir.Value | None, *types: str) -> ir.Node | None:
    """Return the node of one of these types that makes a value, None when another one, or none, does."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in types else None


def only_for(node: ir.Node, value: ir.Value | None, *types: str) -> ir.Node | None:
    """Return the node of one of these types that makes a value for ``node`` alone, in the same graph."""
    found = producer_of(value, *types)
    if found is None or value is None or found.graph is not node.graph or ir.sole_user(value) is not node:
        return None
    return found


def kernel_refusal(ctx: PassContext, value: ir.Value, *types: str) -> str | None:
    """Return why the target cannot run one of these operators on the type of a value, None when it can."""
    if value.dtype is None:
        return "the type is not known"
    reasons = (ctx.target.refusal(t, "", 13, {"T": value.dtype.name.lower()}) for t in types)
    return next((r for r in reasons if r is not None), None)
