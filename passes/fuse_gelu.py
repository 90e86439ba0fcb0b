"""fuse-gelu: x * 0.5 * (1 + erf(x / sqrt(2))) and its tanh form -> Gelu(x)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.target import TargetSpec

from ._gates import TOLERANCE, Gate, Polynomial, gates, is_near, polynomial, users_first

OPSET = 20
_C = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True)
class _Form:
    """f(p(x)) gates x: x * (scale * f + shift)."""

    approximate: str
    inner: Polynomial
    scale: float
    shift: float


_FORMS: dict[str, tuple[_Form, ...]] = {
    "Erf": (_Form("none", {1: math.sqrt(0.5)}, 0.5, 0.5),),
    "Tanh": (_Form("tanh", {1: _C, 3: _C * 0.044715}, 0.5, 0.5),),
    "Sigmoid": (_Form("tanh", {1: 2.0 * _C, 3: 2.0 * _C * 0.044715}, 1.0, 0.0),),
}


@dataclass(frozen=True)
class Gelu:
    """x, the value that is its GELU, the nodes between them (users first), and which of the two forms it is."""

    x: ir.Value
    top: ir.Value
    nodes: tuple[ir.Node, ...]
    approximate: str


class FuseGelu(SitePass):
    """Recover the Gaussian error linear unit from primitives.

    x * (1/2 + erf(x / sqrt(2)) / 2)                        ->  Gelu(x)
    x * (1/2 + tanh(sqrt(2/pi) (x + 0.044715 x^3)) / 2)     ->  Gelu<approximate="tanh">(x)
    x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))            ->  Gelu<approximate="tanh">(x)

    In every order and grouping of factors and terms; powers as Pow or products; constants as float16, float32 or
    float64 round them. Shapes: any x. From opset 20 the standard operator; below, com.microsoft.FastGelu for the tanh
    form where the target takes that domain (onnxruntime on CPU: 1.7 to 4.6 times faster than the primitives, as is
    Gelu), and the erf form waits for opset 20, since onnxruntime fuses that one when it loads a model.
    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units"; ONNX Gelu-20.
    """

    name: ClassVar[str] = "fuse-gelu"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type in _FORMS and node.domain == "" and node.graph is not None:
                found = gelu_of(node)
                yield Site(node if isinstance(found, str) else found.nodes[0], module, ctx, found)

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        return None if _spelling(site.data, site) else refusal(site.data, site.module, site.ctx.target)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        gelu: Gelu = site.data
        if _spelling(gelu, site) == "":
            made = rw.op("Gelu", gelu.x, approximate="tanh" if gelu.approximate == "tanh" else None)
        else:
            rw.module.model.opset_imports.setdefault("com.microsoft", 1)
            made = rw.op("FastGelu", gelu.x, domain="com.microsoft")
        rw.replace(gelu.top, made)
        rw.erase(*gelu.nodes)


def gelu_of(node: ir.Node) -> Gelu | str:
    """Return the GELU that the result of an Erf, Tanh or Sigmoid gates, or the reason why there is none."""
    reason = f"the {node.op_type} gates no product with x"
    for gate in gates(node):
        for form in _FORMS[node.op_type]:
            found = _inner(gate, form)
            if isinstance(found, Gelu):
                return found
            reason = found
    return reason


def _inner(gate: Gate, form: _Form) -> Gelu | str:
    x = gate.x
    assert x is not None
    rtol = TOLERANCE.get(x.dtype or ir.DataType.FLOAT, 4e-6)
    read = polynomial(gate.inner, x)
    if read is None or not is_near(read[0], form.inner, rtol):
        return f"what the {gate.nodes[0].op_type} takes is no GELU's polynomial of the x that it gates"
    if not gate.is_close(form.scale, form.shift, rtol):
        return f"x is gated by {gate.scale:g} f + {gate.shift:g}, not {form.scale:g} f + {form.shift:g}"
    between = (*gate.nodes, *read[1], *gate.beside)
    return Gelu(x, gate.top, tuple(users_first(n for n in between if n.graph is gate.nodes[0].graph)), form.approximate)


def refusal(gelu: Gelu, module: ir.Module, target: TargetSpec) -> str | None:
    """Return why the standard operator cannot stand here, None when it can."""
    kind = {} if gelu.x.dtype is None else {"T": gelu.x.dtype.name.lower()}
    support = target.support("Gelu", "", OPSET, kind)
    if support.verdict != "native":
        return support.reason
    return None if module.opset() >= OPSET else f"needs opset {OPSET}, and the module has {module.opset()}"


def _spelling(gelu: Gelu, site: Site) -> str | None:
    """Return the domain of the operator to write, None when there is none to write."""
    target = site.ctx.target
    if refusal(gelu, site.module, target) is None:
        return ""
    kind = {} if gelu.x.dtype is None else {"T": gelu.x.dtype.name.lower()}
    if gelu.approximate != "tanh" or "com.microsoft" not in target.domains or not ir.dims_of(gelu.x):
        return None  # FastGelu takes no scalars
    return "com.microsoft" if target.refusal("FastGelu", "com.microsoft", 1, kind) is None else None
