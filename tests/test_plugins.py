"""Passes from files, modules and functions, as the README shows them."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import fcc
from fcc import ir
from fcc.errors import OptionError, PassError
from fcc.plugins import load
from fcc.testing import check

EXAMPLES = Path(__file__).parent.parent / "examples"
GRAPH = "g (float[N,4] x) => (float[N,4] y) <float low = {{{low}}}> {{ a = Clip(x, low) b = Relu(a) y = Exp(b) }}"


def example() -> Any:
    (p,) = load([EXAMPLES / "custom_pass.py"])
    return p


def test_example_pass() -> None:
    after = "g (float[N,4] x) => (float[N,4] y) { a = Clip(x, c0) y = Exp(a) }"
    check(example(), GRAPH.format(low="0.5"), after)


def test_example_pass_keeps_a_relu_that_works() -> None:
    check(example(), GRAPH.format(low="-1"), None, because="negative values")


def double_neg_model() -> onnx.ModelProto:
    nodes = [helper.make_node(op, [i], [o]) for op, i, o in (("Neg", "x", "a"), ("Neg", "a", "b"), ("Exp", "b", "y"))]
    value = [helper.make_tensor_value_info(n, 1, ["N", 3]) for n in "xy"]
    return helper.make_model(
        helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def test_graphsurgeon_function_runs_as_a_pass() -> None:
    if importlib.util.find_spec("onnx_graphsurgeon") is None:
        pytest.skip("onnx-graphsurgeon is not installed")
    compiled = fcc.compile(double_neg_model(), opt_level=0, plugins=[EXAMPLES / "graphsurgeon_function.py"])
    assert [n.op_type for n in compiled.proto().graph.node] == ["Exp"]
    assert [p.name for p in compiled.report.passes if p.applied] == ["double-negation"]


def test_a_function_that_changes_the_interface_is_undone() -> None:
    if importlib.util.find_spec("onnx_graphsurgeon") is None:
        pytest.skip("onnx-graphsurgeon is not installed")

    def rename(graph: Any) -> Any:
        graph.inputs[0].name = "other"
        return graph

    compiled = fcc.compile(double_neg_model(), plugins=[rename])
    assert [v.name for v in compiled.proto().graph.input] == ["x"]
    assert "changed the inputs or outputs" in compiled.report.guilty[0]["reason"]
    with pytest.raises(PassError, match="changed the inputs or outputs"):
        fcc.compile(double_neg_model(), plugins=[rename], strict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "defines no pass"), ("1/0", "ZeroDivisionError"), ("def f(:", "SyntaxError")],
)
def test_bad_plugin_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(text)
    with pytest.raises(OptionError, match=message):
        load([path])


def test_missing_plugin() -> None:
    with pytest.raises(OptionError, match="is no file"):
        load(["missing/plugin.py"])
    with pytest.raises(OptionError, match="cannot be imported"):
        load(["no_such_module_of_passes"])


def test_a_plugin_pass_is_named_in_the_pipeline() -> None:
    low = onnx.numpy_helper.from_array(np.array(0.0, np.float32), "low")
    nodes = [helper.make_node("Clip", ["x", "low"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    value = [helper.make_tensor_value_info(n, 1, ["N", 3]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [low])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compiled = fcc.compile(model, plugins=[example()], passes="eliminate-idle-relu")
    assert compiled.report.pipeline == "eliminate-idle-relu"
    assert [n.op_type for n in compiled.proto().graph.node] == ["Clip"]
    x = np.array([[-2.0, 0.0, 3.0]], np.float32)
    np.testing.assert_array_equal(compiled.session().run({"x": x})["y"], np.maximum(x, 0))
    assert isinstance(compiled.module, ir.Module)
