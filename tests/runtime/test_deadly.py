"""Functions that call what nothing defines: onnxruntime would end the process."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from fcc.errors import LoadError
from fcc.runtime import open_session
from fcc.runtime.deadly import deadly


def model(domain: str, op: str, nested: bool = False) -> onnx.ModelProto:
    """Return x -> own.Call(x), whose body is one operator, in a branch or not."""
    body = [helper.make_node(op, ["a"], ["b"], domain=domain)]
    if nested:
        b = helper.make_tensor_value_info("b", 1, [2])
        branch = helper.make_graph(body, "g", [], [b])
        go = helper.make_node("Constant", [], ["go"], value=helper.make_tensor("v", 9, [], [1]))
        body = [go, helper.make_node("If", ["go"], ["b"], then_branch=branch, else_branch=branch)]
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 17), ("own", 1), ("other", 1), ("com.microsoft", 1))]
    function = helper.make_function("own", "Call", ["a"], ["b"], body, opsets)
    x, y = (helper.make_tensor_value_info(n, 1, [2]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Call", ["x"], ["y"], domain="own")], "g", [x], [y])
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("domain", "op"), [("other", "Foo"), ("own", "Relu"), ("", "Foo")])
def test_is_refused(domain: str, op: str, nested: bool, tmp_path: Path) -> None:
    data = model(domain, op, nested).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for given in (data, path):
        with pytest.raises(LoadError, match=r"function own\.Call calls .*, which nothing defines"):
            open_session(given)


@pytest.mark.parametrize(("domain", "op"), [("", "Relu"), ("com.microsoft", "Gelu")])
def test_runs(domain: str, op: str) -> None:
    data = model(domain, op).SerializeToString()
    assert deadly(data) == ""
    assert open_session(data).outputs[0].name == "y"


def test_a_function_may_call_another() -> None:
    proto = model("own", "Inner")
    proto.functions.add().CopyFrom(model("ai.onnx", "Relu").functions[0])
    proto.functions[1].name = "Inner"
    assert deadly(proto.SerializeToString()) == ""


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\xca\x01\x02\xff\xff"])
def test_what_is_no_model_is_left_to_the_runtime(data: bytes) -> None:
    assert deadly(data) == ""
