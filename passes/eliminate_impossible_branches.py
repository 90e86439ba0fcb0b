"""eliminate-impossible-branches: an If of whose branches one would make the model fail, as the other branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import Log, PassContext, Rewriter, Site, SitePass, run_pass

from .eliminate_identity import EliminateIdentity
from .fold_shapes import FoldShapes
from .inline_if import InlineConstantIfs, inline_branch

_RANKS = {"LSTM": 3, "GRU": 3, "RNN": 3}
"""Operators of the default domain -> the one rank that their first input may have; a runtime stops at any other."""
_BRANCHES = ("then_branch", "else_branch")
_MOST = 16
_ROUNDS = 4


class EliminateImpossibleBranches(SitePass):
    """Take the only branch of an If that the nodes behind it can live with.

    LSTM(Unsqueeze(If(c) {then: Squeeze(x, -1), else: x}, 0), ...)  ->  LSTM(Unsqueeze(Squeeze(x, -1), 0), ...)

    torch.onnx writes such pairs for modules that take batched and unbatched input. A branch is impossible when, with
    it taken, shapes follow for which a node of the same graph stops (``_RANKS``), which runs whenever the If does: on
    every input that the model has an answer for, the other one is taken. Shapes: branches of different rank. Exact
    wherever the model gives an answer.
    Source: ONNX If-25, LSTM-22 (X has rank 3).
    """

    name: ClassVar[str] = "eliminate-impossible-branches"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for graph in list(module.graphs()):
            if any(n.op_type in _RANKS and n.domain == "" for n in graph):
                for node in [n for n in graph if _differs(n)][:_MOST]:
                    if node.graph is graph:
                        yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        if shapes.elements(site.anchor.inputs[0]) is not None:
            return "the condition is known"
        impossible = [_is_impossible(site, branch) for branch in _BRANCHES]
        if impossible == [False, False]:
            return "the model may run with either branch"
        return "the model cannot run with either branch" if all(impossible) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        taken = _BRANCHES[1 if _is_impossible(site, _BRANCHES[0]) else 0]
        inline_branch(site.anchor, site.anchor.attributes[taken].as_graph(), rw)


def _differs(node: ir.Node) -> bool:
    """Whether a node is an If whose branches give values of different rank."""
    if node.op_type != "If" or node.domain != "":
        return False
    then, other = (node.attributes[b].as_graph().outputs for b in _BRANCHES)
    ranks = [(ir.dims_of(a), ir.dims_of(b)) for a, b in zip(then, other, strict=False)]
    return any(a is not None and b is not None and len(a) != len(b) for a, b in ranks)


def _is_impossible(site: Site, branch: str) -> bool:
    """Return whether a node of its graph stops when the If takes ``branch``, by inference on a copy."""
    copy = site.module.clone()
    name = site.anchor.outputs[0].name
    node = next(n for n in copy.nodes() if n.outputs and n.outputs[0].name == name)
    graph = node.graph
    assert graph is not None
    condition = ir.Value(
        name=copy.fresh(f"{name}/taken"),
        type=ir.TensorType(ir.DataType.BOOL),
        shape=ir.Shape(()),
        const_value=ir.tensor(np.asarray(branch == _BRANCHES[0])),
    )
    copy.graph.initializers.add(condition)
    node.replace_input_with(0, condition)
    _settle(copy, site.ctx)
    return any(_stops(n) for n in graph)


def _settle(module: ir.Module, ctx: PassContext) -> None:
    """Inline what is decided until nothing more is; declared shapes, which may be those of the other branch, go."""
    quiet = PassContext(ctx.target, Log(), ctx.shapes)
    for _ in range(_ROUNDS):
        for node in module.nodes():
            for value in node.outputs:
                value.shape = None
        module.reindex()
        shapes.infer(module)
        if not sum(run_pass(p, module, quiet) for p in (FoldShapes(), InlineConstantIfs(), EliminateIdentity())):
            break


def _stops(node: ir.Node) -> bool:
    rank = _RANKS.get(node.op_type) if node.domain == "" else None
    dims = ir.dims_of(node.inputs[0]) if rank is not None else None
    return dims is not None and len(dims) != rank
