"""eliminate-identity: Identity(x) -> x."""

from __future__ import annotations

from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._outputs import output_refusal


class EliminateIdentity(PatternPass):
    """Remove a node that returns its input: Identity.

    Identity(x) -> x

    Shapes: any. An Identity that gives a graph output its name stays where the input cannot take that name (it is a
    graph input, a constant, a value of an outer graph, or an output itself).
    Source: ONNX Identity-1.
    """

    name: ClassVar[str] = "eliminate-identity"
    pattern = op.Identity(var("x"))

    def check(self, m: Match) -> str | None:
        return output_refusal(m.root.outputs[0], m["x"])

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m["x"]
