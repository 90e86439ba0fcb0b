"""Test a pass: text in, text out, five checks in one call. For authors of custom passes too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from . import ir
from .analysis import shapes
from .frontend import read
from .ir.text import canonical
from .rewrite import Log, Pass, PassContext, run_pass
from .target import get_target

TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 2e-2, "bfloat16": 1e-1}
HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'


def check(
    p: Pass,
    before: str,
    after: str | None,
    *,
    because: str = "",
    constants: Mapping[str, Any] | None = None,
    opset: int = 21,
    target: str = "cpu",
    stats: Any = None,
    tolerance: float | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ir.Module:
    """Check that ``p`` turns ``before`` into ``after`` (None: leaves it alone ``because`` of a reason), and return it.

    Both are graphs in ONNX's textual syntax,
    ``g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }``.
    A tensor declared in ``<...>`` that no node produces is a constant with seeded random contents, unless
    ``constants`` gives them; ``after`` may use any name for a new constant. In turn: the structure equals ``after``
    (names of internal values do not matter); the outputs equal those of ``before`` on random inputs within the
    tolerance of their dtype (symbolic dims take ``sizes``, default 2 and 3); onnx.checker and the verifier pass; a
    second run changes nothing; for a refusal, the graph is untouched and the reason contains ``because``.

    Raises:
        AssertionError: a check failed; the message shows both graphs.
    """
    source = _model(before, opset, constants or {}, seed)
    module = read(source)
    shapes.infer(module)
    reference = serde.serialize_model(module.clone().model)
    start = canonical(module)
    ctx = PassContext(target=get_target(target), log=Log(strict=True, explain=frozenset({p.name})), stats=stats)
    applied = run_pass(p, module, ctx)
    ir.verify(module)
    found = canonical(module)
    if after is None:
        reasons = [r.reason for r in ctx.log.refused]
        assert applied == 0, f"{p.name} was applied:\n{start}became\n{found}"
        assert found == start, f"{p.name} changed the graph without saying so:\n{found}"
        assert not because or any(because in r for r in reasons), f"no reason contains {because!r}: {reasons}"
        return module
    expected = canonical(_expected(after, opset))
    assert found == expected, f"{p.name} gave\n{found}expected\n{expected}from\n{start}{ctx.log.refused}"
    emitted = serde.serialize_model(module.model)
    onnx.checker.check_model(emitted)
    same_outputs(reference, emitted, tolerance=tolerance, sizes=sizes, seed=seed)
    again = PassContext(target=ctx.target, log=Log(strict=True), stats=stats)
    assert run_pass(p, module, again) == 0, f"{p.name} is not idempotent:\n{canonical(module)}"
    return module


def same_outputs(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    *,
    tolerance: float | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> None:
    """Assert that two models give the same outputs on seeded random inputs, by onnx.reference.

    The error of an output is max|y - y0| / max(1, max|y0|); integers must be equal; NaN must stand at the same places.
    """
    rng = np.random.default_rng(seed)
    overridable = {t.name for t in before.graph.initializer}
    dims: dict[str, int] = dict(sizes or {})
    feeds = {v.name: _random(v.type.tensor_type, rng, dims) for v in before.graph.input}
    plain = {k: v for k, v in feeds.items() if k not in overridable}
    for fed in (plain, feeds) if len(plain) != len(feeds) else (feeds,):
        old, new = (ReferenceEvaluator(m).run(None, dict(fed)) for m in (before, after))
        for value, a, b in zip(before.graph.output, old, new, strict=True):
            _assert_close(value.name, np.asarray(a), np.asarray(b), tolerance)


def _assert_close(name: str, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], tolerance: float | None) -> None:
    assert a.dtype == b.dtype, f"output {name}: dtype {b.dtype} instead of {a.dtype}"
    assert a.shape == b.shape, f"output {name}: shape {b.shape} instead of {a.shape}"
    limit = TOLERANCE.get(str(a.dtype)) if tolerance is None else tolerance
    if limit is None or a.size == 0:
        assert np.array_equal(a, b), f"output {name} differs"
        return
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y)), f"output {name}: NaN at other places"
    finite = np.isfinite(x) & np.isfinite(y)
    assert np.array_equal(x[~finite & ~np.isnan(x)], y[~finite & ~np.isnan(y)]), f"output {name}: infinities differ"
    if finite.any():
        error = np.abs(x - y)[finite].max() / max(1.0, np.abs(x[finite]).max())
        assert error <= limit, f"output {name}: error {error:.3g} above {limit:.3g}"


def _random(kind: Any, rng: np.random.Generator, dims: dict[str, int]) -> np.ndarray[Any, Any]:
    shape = []
    for d in kind.shape.dim:
        if d.dim_param:
            shape.append(dims.setdefault(d.dim_param, 2 + len(dims) % 2))
        else:
            shape.append(d.dim_value)
    return random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)


def random_array(dtype: Any, shape: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return a seeded random array: normal floats, small integers from 0, or bools."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 4, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def _model(text: str, opset: int, constants: Mapping[str, Any], seed: int) -> onnx.ModelProto:
    if not text.lstrip().startswith("<"):
        text = HEADER.format(opset=opset) + text
    try:
        model = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise AssertionError(f"the graph does not parse: {error}") from None
    rng = np.random.default_rng(seed)
    known = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    produced = known | {o for n in model.graph.node for o in n.output}
    for info in list(model.graph.value_info):
        if info.name in produced:
            continue
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [d.dim_value for d in kind.shape.dim]
        given = constants.get(info.name)
        array = random_array(dtype, shape, rng) if given is None else np.broadcast_to(given, shape).astype(dtype)
        if given is None and re.search("var", info.name) and dtype.kind == "f":
            array = np.abs(array) + np.asarray(0.5, dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(array, order="C"), info.name))
        model.graph.value_info.remove(info)
    return model


def _expected(text: str, opset: int) -> ir.Module:
    """Parse the expected graph; a name that nothing defines stands for a constant."""
    if not text.lstrip().startswith("<"):
        text = HEADER.format(opset=opset) + text
    module = ir.Module(serde.deserialize_model(onnx.parser.parse_model(text)))
    for graph in module.graphs():
        for node in graph:
            for value in node.inputs:
                if value is not None and value.producer() is None and not value.is_graph_input():
                    value.const_value = value.const_value or ir.tensor(np.zeros(1, np.float32))
                    if not value.is_initializer():
                        module.graph.initializers.add(value)
    return module
