"""Random spellings of normalizations: each is recovered whole, and the answers stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_dead_code import EliminateDeadCode
from fcc.passes.fuse_instance_norm import FuseInstanceNorm
from fcc.passes.fuse_layer_norm import FuseLayerNorm
from fcc.passes.fuse_rms_norm import FuseRmsNorm
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class Writer:
    """Nodes and constants of a graph in ONNX's text form."""

    draw: Draw
    opset: int
    lines: list[str] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def op(self, text: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def number(self, value: float) -> str:
        name = f"k{len(self.constants)}"
        shape, values = self.one_of(("", str(value)), ("[1]", str(value)))
        self.constants[name] = f"float{shape} {name} = {{{values}}}"
        return name

    def ints(self, values: list[int]) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = f"int64[{len(values)}] {name} = {{{','.join(map(str, values))}}}"
        return name

    def array(self, name: str, dims: list[int]) -> str:
        self.arrays[name] = f"float[{','.join(map(str, dims))}] {name}"
        return name

    def commuted(self, op_type: str, a: str, b: str) -> str:
        return self.op(f"{op_type}({a}, {b})" if self.one_of(True, False) else f"{op_type}({b}, {a})")


@dataclass
class Case:
    """A tensor, the normalized axes, and how the statistics are laid out."""

    w: Writer
    dims: list[int | str]
    axes: list[int]
    keepdims: int

    def reduce(self, op_type: str, v: str) -> str:
        axes = [a - len(self.dims) if self.w.one_of(True, False) else a for a in self.axes]
        if op_type == "ReduceSum" or self.w.opset >= 18:
            return self.w.op(f"{op_type}<keepdims={self.keepdims}>({v}, {self.w.ints(axes)})")
        return self.w.op(f"{op_type}<keepdims={self.keepdims}, axes={axes}>({v})")

    def mean(self, v: str) -> str:
        n = prod(d for a in self.axes if isinstance(d := self.dims[a], int))
        form = self.w.one_of("mean", "times", "over")
        if form == "mean":
            return self.reduce("ReduceMean", v)
        total = self.reduce("ReduceSum", v)
        if form == "times":
            return self.w.commuted("Mul", total, self.w.number(1 / n))
        return self.w.op(f"Div({total}, {self.w.number(n)})")

    def aligned(self, v: str, expand: bool = True) -> str:
        """Lay a statistic along x again, by Unsqueeze, Reshape or an Expand."""
        kept = [1 if i in self.axes else d for i, d in enumerate(self.dims)]
        static = [d if isinstance(d, int) else -1 for d in kept]
        if not self.keepdims and len(self.axes) < len(self.dims):
            v = self.w.op(
                f"Unsqueeze({v}, {self.w.ints(self.axes)})"
                if self.w.one_of(True, False)
                else f"Reshape({v}, {self.w.ints(static)})"
            )
        if expand and "N" not in self.dims and self.w.one_of(True, False, False):
            full = self.w.ints([d for d in self.dims if isinstance(d, int)])
            v = self.w.op(f"Expand({v}, {full})")
        return v

    def square(self, v: str) -> str:
        form = self.w.one_of("Mul", "Pow")
        return self.w.op(f"Mul({v}, {v})" if form == "Mul" else f"Pow({v}, {self.w.number(2.0)})")

    def inverse(self, statistic: str, epsilon: float) -> tuple[str, bool]:
        """Return (the aligned deviation, or its inverse, which of them)."""
        e = self.w.commuted("Add", statistic, self.w.number(epsilon))
        form = self.w.one_of("div", "rec", "one", "inner", "pow", "half")
        if form == "inner":
            return self.aligned(self.w.op(f"Sqrt({self.w.op(f'Reciprocal({e})')})")), True
        if form == "pow":
            return self.aligned(self.w.op(f"Pow({e}, {self.w.number(-0.5)})")), True
        s = self.w.op(f"Pow({e}, {self.w.number(0.5)})" if form == "half" else f"Sqrt({e})")
        if form in ("div", "half"):
            return self.aligned(s), False
        early = self.w.one_of(True, False)
        s = self.aligned(s, expand=False) if early else s
        r = self.w.op(f"Reciprocal({s})" if form == "rec" else f"Div({self.w.number(1.0)}, {s})")
        return (r if early else self.aligned(r)), True

    def vector(self, name: str, axes: list[int]) -> str:
        """A constant that varies along some axes of x."""
        dims = [d if i in axes and isinstance(d, int) else 1 for i, d in enumerate(self.dims)]
        while len(dims) > 1 and dims[0] == 1 and self.w.one_of(True, False):
            dims = dims[1:]
        return self.w.array(name, dims)


def case_of(draw: Draw, suffix: bool, least_rank: int = 2, opsets: tuple[int, ...] = (17, 18, 21)) -> Case:
    rank = draw(st.integers(least_rank, 4))
    dims: list[int | str] = [draw(st.sampled_from([1, 2, 3, 5])) for _ in range(rank)]
    if suffix:
        axes = list(range(draw(st.integers(max(0, least_rank - 2), rank - 1)), rank))
    else:
        axes = sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1)))
    if 0 not in axes and draw(st.booleans()):
        dims[0] = "N"
    return Case(
        Writer(draw, draw(st.sampled_from(opsets))), dims, axes, 0 if draw(st.booleans()) and len(axes) < rank else 1
    )


def centered(c: Case, x: str, m: str) -> tuple[str, float]:
    """Return x - mean in some spelling, and its sign."""
    form = c.w.one_of("sub", "sub", "add", "flip")
    if form == "sub":
        return c.w.op(f"Sub({x}, {m})"), 1
    if form == "add":
        return c.w.commuted("Add", x, c.w.op(f"Neg({m})")), 1
    return c.w.op(f"Sub({m}, {x})"), -1


def variance(c: Case, x: str, m: str, d: str) -> str:
    if c.w.one_of(True, False):
        return c.mean(c.square(d))
    v = c.w.op(f"Sub({c.mean(c.square(x))}, {c.square(m)})")
    clamp = c.w.one_of("", "Max", "Relu", "Clip")
    if clamp == "Max":
        return c.w.commuted("Max", v, c.w.number(0.0))
    if clamp == "Clip":
        zero = c.w.op(f"Clip({v}, {scalar(c.w, 0.0)})")
        return zero
    return c.w.op(f"Relu({v})") if clamp else v


def scalar(w: Writer, value: float) -> str:
    name = f"k{len(w.constants)}"
    w.constants[name] = f"float {name} = {{{value}}}"
    return name


def finish(c: Case, x: str, d: str, m: str, r: tuple[str, bool], axes: list[int]) -> None:
    """Scale and shift the centered value in some order, or x and the mean apart."""
    w = c.w
    g = c.vector("g", axes) if w.one_of(True, False) else None
    b = c.vector("b", axes) if w.one_of(True, False) else None
    scale, inverse = r
    if inverse and g and w.one_of(True, False):
        scale, g = w.commuted("Mul", scale, g), None

    def join(v: str) -> str:
        return w.commuted("Mul", v, scale) if inverse else w.op(f"Div({v}, {scale})")

    if b and m and w.one_of(True, False):
        if g is not None and inverse:
            scale, g = w.commuted("Mul", scale, g), None
        if g is None:
            w.commuted("Add", join(x), w.op(f"Sub({b}, {join(m)})"))
            return
    n = w.commuted("Mul", d, g) if g and w.one_of(True, False) else None
    y = join(n or d)
    if g and n is None:
        y = w.commuted("Mul", y, g)
    if b:
        w.op(f"Sub({y}, {b})") if w.one_of(True, False) else w.commuted("Add", y, b)


def model(c: Case) -> Any:
    *_, last = c.w.lines
    c.w.lines[-1] = "y" + last[last.index(" ") :]
    dims = ",".join(map(str, c.dims))
    heads = ", ".join([*c.w.constants.values(), *c.w.arrays.values()])
    text = f"g (float[{dims}] x) => (float[{dims}] y) <{heads}> {{ {' '.join(c.w.lines)} }}"
    return testing.model_from(text, c.w.opset, {}, 0)


def recovered(p: Pass, source: Any, size: int, target: str = "cuda") -> list[str]:
    """Run a pass, compare with the source, and return the op types that are left."""
    module = read(source)
    shapes.infer(module)
    run_pass(EliminateDeadCode(), module, PassContext(get_target(target)))
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target(target), Log(strict=True, explain=frozenset({p.name})))
    applied = run_pass(p, module, ctx)
    assert applied == 1, ctx.log.refused
    ir.verify(module)
    testing.same_outputs(before, serde.serialize_model(module.model), tolerance=3e-4, sizes={"N": size})
    return [n.op_type for n in module.nodes()]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_layer_norm(data: st.DataObject) -> None:
    c = case_of(data.draw, data.draw(st.booleans()))
    m = c.mean("x")
    laid = c.aligned(m)
    d, _ = centered(c, "x", laid)
    r = c.inverse(variance(c, "x", m, d), 0.05)
    finish(c, "x", d, laid, r, c.axes)
    left = recovered(FuseLayerNorm(), model(c), data.draw(st.integers(0, 3)))
    assert [t for t in left if t != "Transpose"] == ["LayerNormalization"]
    assert len(left) in (1, 3)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_instance_norm(data: st.DataObject) -> None:
    c = case_of(data.draw, True, 3)
    c.axes = list(range(2, len(c.dims)))
    m = c.mean("x")
    laid = c.aligned(m)
    d, _ = centered(c, "x", laid)
    r = c.inverse(variance(c, "x", m, d), 0.05)
    finish(c, "x", d, laid, r, [1])
    if len(c.dims) == 3 and not c.w.arrays:
        return
    assert recovered(FuseInstanceNorm(), model(c), data.draw(st.integers(1, 3))) == ["InstanceNormalization"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_rms_norm(data: st.DataObject) -> None:
    c = case_of(data.draw, True, opsets=(23,))
    r = c.inverse(c.mean(c.square("x")), 0.05)
    g = c.w.array("g", [d for a in c.axes if isinstance(d := c.dims[a], int)]) if data.draw(st.booleans()) else None
    y = c.w.commuted("Mul", "x", r[0]) if r[1] else c.w.op(f"Div(x, {r[0]})")
    if g:
        c.w.commuted("Mul", y, g)
    assert recovered(FuseRmsNorm(), model(c), data.draw(st.integers(0, 3))) == ["RMSNormalization"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_rms_norm_in_the_form_that_the_runtime_fuses(data: st.DataObject) -> None:
    c = case_of(data.draw, True)
    c.axes = [len(c.dims) - 1]
    e = c.w.commuted("Add", c.mean(c.w.op("Mul(x, x)")), c.w.number(0.05))
    r = c.w.op(f"Reciprocal({c.aligned(c.w.op(f'Sqrt({e})'), expand=False)})")
    c.w.commuted("Mul", c.w.commuted("Mul", "x", r), c.vector("g", c.axes))
    left = recovered(FuseRmsNorm(), model(c), data.draw(st.integers(0, 3)), "cpu")
    assert left == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
