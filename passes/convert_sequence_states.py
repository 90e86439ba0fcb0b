"""convert-sequence-states: a Loop that appends to a sequence -> a Loop that stacks a scan output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.loops import Carried, Looped, control_flow, looped, plain
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._loop_signature import signature


@dataclass(frozen=True)
class _Appended:
    """A sequence that starts empty; every trip appends ``value`` by ``insert``, and ``joins`` join it in the end."""

    carried: Carried
    insert: ir.Node
    value: ir.Value
    joins: tuple[ir.Node, ...]


class ConvertSequenceStates(SitePass):
    """Stack what a Loop appends to a sequence, instead of carrying the sequence.

    ConcatFromSequence<new_axis=1>(Loop(n, c, SequenceEmpty()) {s -> SequenceInsert(s, v)}) -> Loop(n, c) {v stacked}
    With another axis, or without a new one, a Transpose and a Reshape follow.

    torch.onnx writes lists that a scripted loop appends to in this way. The sequence is used by nothing else.
    Shapes: without a new axis, those of v are known numbers and not 0, so that they are the same in every trip.
    Numerics: exact, data movement only. Where no trip runs, the source has no answer and the result is empty.
    Source: ONNX Loop-25 (scan outputs), SequenceInsert-11, ConcatFromSequence-11.
    """

    name: ClassVar[str] = "convert-sequence-states"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in reversed(list(control_flow(module, "Loop"))):
            loop = looped(node) if node.graph is not None else ""
            if not isinstance(loop, str) and any(_is_sequence(c.init) for c in loop.carried):
                yield Site(node, module, ctx, loop)

    def check(self, site: Site) -> str | None:
        found = _appended(site.data)
        return found if isinstance(found, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        loop, found = site.data, _appended(site.data)
        assert not isinstance(found, str)
        gone = {a.carried.index for a in found}
        kept = [c.index for c in loop.carried if c.index not in gone]
        stacks = range(len(loop.stacked))
        added = rw.resign(site.anchor, signature(loop, kept, (), stacks, [a.value for a in found]))
        for a, stack in zip(found, added, strict=True):
            rw.erase(*a.joins)
            dims = ir.dims_of(a.value)
            stack.shape = None if dims is None else ir.to_shape([None, *dims])
            for join in a.joins:
                rw.replace(join.outputs[0], _joined(join, stack, rw))
        empty = [p for a in found if (p := a.carried.init.producer()) is not None]
        rw.erase(site.anchor, *(a.insert for a in found), *empty)


def _is_sequence(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "SequenceEmpty" and node.domain == ""


def _appended(loop: Looped) -> list[_Appended] | str:
    """Return the sequences that can go, or why the last one cannot."""
    found, reason = [], ""
    for c in loop.carried:
        if _is_sequence(c.init):
            sequence = _sequence(loop, c)
            if isinstance(sequence, str):
                reason = sequence
            else:
                found.append(sequence)
    return found or reason


def _sequence(loop: Looped, c: Carried) -> _Appended | str:
    insert = ir.sole_user(c.inner)
    if insert is None or insert.op_type != "SequenceInsert" or insert.domain or insert.graph is not loop.body:
        return "a trip does more with the sequence than append to it"
    value = insert.inputs[1]
    alone = plain(c.given, loop.body) is insert.outputs[0] and not insert.outputs[0].uses()
    if value is None or len(insert.inputs) != 2 or not alone:
        return "a trip does more with the sequence than append to it"
    joins = tuple(c.result.consumers())
    if c.result.is_graph_output() or any(j.op_type != "ConcatFromSequence" or j.domain for j in joins):
        return "the sequence is used other than by joining it"
    if any(j.graph is not loop.node.graph for j in joins):
        return "the sequence is used in another graph"
    reason = next((r for j in joins if (r := _unjoinable(j, value))), None)
    return reason or _Appended(c, insert, value, joins)


def _unjoinable(join: ir.Node, value: ir.Value) -> str | None:
    dims = ir.dims_of(value)
    if join.attributes.get_int("new_axis", 0):
        return "the rank of what is stacked is not known" if dims is None else None
    if not dims or not all(isinstance(d, int) and d for d in dims):
        return "the shape of what is joined is not known, or empty"
    return None


def _joined(join: ir.Node, stack: ir.Value, rw: Rewriter) -> ir.Value:
    """Return the stack [trips, *dims] as the node joins it."""
    rank = len(ir.known_dims(stack))
    new = join.attributes.get_int("new_axis", 0) != 0
    axis = join.attributes.get_int("axis", 0) % (rank if new else rank - 1)
    moved = stack
    if axis:
        moved = rw.op("Transpose", stack, perm=[*range(1, axis + 1), 0, *range(axis + 1, rank)])
    if new:
        return moved
    dims = ir.known_dims(moved)
    target = [*dims[:axis], -1, *dims[axis + 2 :]]
    joined: ir.Value = rw.op("Reshape", moved, np.asarray(target, np.int64))
    return joined
