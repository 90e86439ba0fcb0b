"""One row of the table of rewrites: a model through the whole of ``fcc.compile`` at -O2, structure and answers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import fcc
from fcc.backends import size_of
from fcc.testing import random_array

ALL = ("cpu", "cuda", "tensorrt")


def ops_of(graph: onnx.GraphProto) -> Iterator[str]:
    """Op types of a graph and of the graphs nested in it."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            yield from ops_of(attribute.g)


def model(text: str, constants: dict[str, Any], opset: int, seed: int = 3) -> onnx.ModelProto:
    """A model of ONNX's textual syntax; a tensor declared in ``<...>`` is a constant, seeded unless given."""
    header = "" if text.lstrip().startswith("<") else f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
    proto = onnx.parser.parse_model(header + text)
    rng = np.random.default_rng(seed)
    for info in list(proto.graph.value_info):
        kind = info.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        array = random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
        array = np.abs(array) + np.float32(0.5) if info.name.startswith("var") else array
        given = np.broadcast_to(np.asarray(constants.get(info.name, array), array.dtype), shape)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(given, order="C"), info.name))
        proto.graph.value_info.remove(info)
    return proto


def outputs(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def assert_same(source: onnx.ModelProto, found: onnx.ModelProto, sizes: Sequence[int] = (1, 3)) -> None:
    """The same answers from the runtime with its optimizations off; every symbol takes each of ``sizes``."""
    rng = np.random.default_rng(5)
    own = {t.name for t in source.graph.initializer}
    for size in sizes:
        feeds = {}
        for v in source.graph.input:
            kind = v.type.tensor_type
            shape = [d.dim_value or size for d in kind.shape.dim]
            feeds[v.name] = random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
        for fed in ({k: v for k, v in feeds.items() if k not in own}, feeds) if own & set(feeds) else (feeds,):
            for a, b in zip(outputs(source, fed), outputs(found, fed), strict=True):
                assert a.dtype == b.dtype
                assert a.shape == b.shape
                np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * max(1.0, float(np.abs(a).max(initial=0))))


@dataclass(frozen=True)
class Row:
    """A compiled row: ``source`` and ``found`` are models, ``ops`` what is left of each target."""

    source: onnx.ModelProto
    found: dict[str, onnx.ModelProto]

    def shapes(self, target: str = "cpu") -> set[tuple[int, ...]]:
        """Shapes of the constants that are left."""
        return {tuple(t.dims) for t in self.found[target].graph.initializer}


Compile = Callable[..., Row]


@pytest.fixture
def compiled() -> Compile:
    """``compiled(text, left, ...)``: what is left of the graph on every target, its answers, and its size are right."""

    def run(
        text: str | onnx.ModelProto,
        left: str,
        constants: dict[str, Any] | None = None,
        *,
        opset: int = 21,
        targets: Sequence[str] = ALL,
        sizes: Sequence[int] = (1, 3),
        seed: int = 3,
        **options: Any,
    ) -> Row:
        source = model(text, constants or {}, opset, seed) if isinstance(text, str) else text
        onnx.checker.check_model(source)
        found = {}
        for target in targets:
            result = fcc.compile(source, target=target, opt_level=2, require_parity=True, **options)
            assert not result.report.guilty
            assert result.report.opt_level == 2
            assert not [n for n in result.report.notes if "would write" in n], result.report.notes
            assert result.emitted.size <= size_of(source)
            proto = result.proto()
            onnx.checker.check_model(proto, full_check=True)
            assert Counter(ops_of(proto.graph)) == Counter(left.split()), (target, list(ops_of(proto.graph)))
            assert_same(source, proto, sizes)
            found[target] = proto
        return Row(source, found)

    return run
