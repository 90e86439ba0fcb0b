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
