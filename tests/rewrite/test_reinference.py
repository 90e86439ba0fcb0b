import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import parse
from fcc.rewrite import Rewriter


def test_what_a_rewrite_makes_known_reaches_every_later_node() -> None:
    module = parse(
        "g (float x, float[1] z) => (float[K] d) { a = Range(x, x, x) b = Relu(a) c = Neg(b) d = Identity(c) }"
    )
    shapes.infer(module)
    first, _, last, _ = module.graph
    assert not isinstance((ir.dims_of(last.outputs[0]) or ())[0], int)
    rw = Rewriter(module, first, "test")
    rw.replace(first.outputs[0], rw.const(np.zeros(7, np.float32)))
    rw.erase(first)
    rw.commit()
    assert ir.dims_of(last.outputs[0]) == (7,)


def test_a_value_that_takes_over_keeps_what_is_known_of_it() -> None:
    module = parse(
        "g (float[N,2] x) => (float[N,2] y) <float[2] s = {1.0, 1.0}> { r = Resize(x, , s) a = Relu(r) y = Neg(a) }"
    )
    shapes.infer(module)
    x, resize = module.graph.inputs[0], next(iter(module.graph))
    assert ":" in str((ir.dims_of(resize.outputs[0]) or ())[0])
    rw = Rewriter(module, resize, "test")
    rw.replace(resize.outputs[0], x)
    rw.erase(resize)
    rw.commit()
    assert [str(d) for d in ir.dims_of(x) or ()] == ["N", "2"]


def test_what_takes_over_passes_on_what_it_learned() -> None:
    module = parse(
        "g (float[N,2] x, float[2] s) => (float[K,2] y, float[3] z) { r = Resize(x, , s) n = Neg(r) y = Abs(x) z = Shape(n) }"
    )
    shapes.infer(module)
    resize, negation, absolute, _ = module.graph
    before = (ir.dims_of(negation.outputs[0]) or ())[0]
    absolute.outputs[0].shape = ir.Shape([7, 2])
    rw = Rewriter(module, absolute, "test")
    rw.replace(absolute.outputs[0], resize.outputs[0])
    rw.erase(absolute)
    rw.commit()
    assert not isinstance(before, int)
    assert ir.dims_of(negation.outputs[0]) == (7, 2)
