import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import parse

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize(
    ("direction", "count", "layout", "x", "y", "h"),
    [
        ("forward", 1, 0, "T,B,5", "T,1,B,7", "1,B,7"),
        ("bidirectional", 2, 0, "T,B,5", "T,2,B,7", "2,B,7"),
        ("reverse", 1, 1, "B,T,5", "B,T,1,7", "B,1,7"),
    ],
)
def test_dims_of_states(op: str, direction: str, count: int, layout: int, x: str, y: str, h: str) -> None:
    g = GATES[op] * 7
    module = parse(
        f"""g (float[{x}] x, float[{count},{g},5] w, float[{count},{g},7] r) => (float[] a, float[] b)
        {{ a, b = {op}<hidden_size=7, direction="{direction}", layout={layout}>(x, w, r) }}"""
    )
    for value in module.graph.outputs:
        value.shape = None
    shapes.infer(module)
    found = [",".join(str(d) for d in ir.dims_of(v) or ()) for v in module.graph.outputs]
    assert found == [y, h]
