import pytest

from fcc import ir
from fcc.errors import VerifyError
from fcc.ir.text import parse

LSTM = """g (float[3,1,4] x, float[1,8,4] w, float[1,8,2] r) => (float[1,1,2] y) {
    s, h = LSTM<hidden_size=2>(x, w, r) y = Neg(h) }"""


def test_absent_output_is_legal() -> None:
    module = parse(LSTM)
    next(iter(module.graph)).outputs[0].name = ""
    ir.verify(module)
    ir.verify_nodes(module.nodes())


def test_used_output_without_name_is_not() -> None:
    module = parse(LSTM)
    next(iter(module.graph)).outputs[1].name = ""
    with pytest.raises(VerifyError, match="an output has no name"):
        ir.verify_nodes(module.nodes())
