"""Fixtures of the pass tests."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target
from fcc.testing.compare import assert_close
from fcc.testing.corpus import Seed, record, text_of
from fcc.testing.texts import expected_module


def source(text: str, constants: dict[str, Any] | None = None, opset: int = 21) -> onnx.ModelProto:
    return testing.model_from(text, opset, constants or {}, 0)


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng, made = np.random.default_rng(seed), {}
    for value in model.graph.input:
        shape = [3 if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim]
        made[value.name] = rng.standard_normal(shape).astype(np.float32)
    return made


def observed(module: ir.Module, names: list[str], samples: list[dict[str, Any]]) -> CalibrationStats:
    """Statistics by the reference evaluator, so that structure is tested without onnxruntime."""
    model = ir_proto(module)
    model.graph.output.extend(
        onnx.ValueInfoProto(name=n) for n in names if n not in {o.name for o in model.graph.output}
    )
    del model.graph.value_info[:]
    evaluator, stats = ReferenceEvaluator(model), CalibrationStats()
    for fed in samples:
        with np.errstate(all="ignore"):
            found = dict(zip(evaluator.output_names, evaluator.run(None, fed), strict=True))
        stats.update({n: np.asarray(found[n]) if n in found else fed[n] for n in names})
    return stats


def ir_proto(module: ir.Module) -> onnx.ModelProto:
    return serde.serialize_model(module.clone().model)


class Quantized:
    """A model before and after insert-qdq, with what the log says."""

    source = staticmethod(source)
    feeds = staticmethod(feeds)
    observed = staticmethod(observed)
    proto = staticmethod(ir_proto)

    def __init__(
        self,
        text: str,
        constants: dict[str, Any] | None = None,
        *,
        target: str = "cpu",
        isa: str = "avx2",
        opset: int = 21,
        symbols: dict[str, int] | None = None,
        precision: str = "int8",
        scheme: str | None = None,
        **options: Any,
    ) -> None:
        self.before = source(text, constants, opset)
        self.module = read(self.before)
        shapes.infer(self.module)
        p, log = InsertQdq(**options), Log(strict=True, explain=frozenset({InsertQdq.name}))
        bare = PassContext(get_target(target, isa=isa).quantizing(precision, scheme), log, symbols or {})
        self.names = p.tensors(self.module, bare)
        self.samples = [feeds(self.before, s) for s in range(4)]
        stats = observed(self.module, self.names, self.samples)
        for key, found in p.watch(self.module, bare, stats).items():
            stats.watched[key] = deepcopy(found.empty)
            self._watched(found, stats.watched[key])
        self.ctx = replace(bare, stats=stats)
        self.applied = run_pass(p, self.module, self.ctx)
        ir.verify(self.module)
        self.after = ir_proto(self.module)
        onnx.checker.check_model(self.after)
        again = replace(self.ctx, log=Log(strict=True))
        assert run_pass(p, self.module, again) == 0

    def _watched(self, watch: Any, into: Any) -> None:
        for fed in self.samples:
            model = ir_proto(self.module)
            model.graph.output.append(onnx.ValueInfoProto(name=watch.tensor))
            del model.graph.value_info[:]
            found = (
                ReferenceEvaluator(model).run([watch.tensor], fed)[0] if watch.tensor not in fed else fed[watch.tensor]
            )
            into.update(np.asarray(found))

    @property
    def ops(self) -> Counter[str]:
        return Counter(n.op_type for n in self.module.nodes())

    @property
    def reasons(self) -> list[str]:
        return [r.reason for r in self.ctx.log.refused]

    def array(self, name: str) -> np.ndarray[Any, Any]:
        found = ir.Module.constant(self.module.graph.initializers[name])
        assert found is not None
        return found

    def chain(self) -> list[str]:
        return [n.op_type for n in self.module.graph]

    def error(self) -> float:
        """Relative error against the source, by the reference evaluator."""
        old, new = ReferenceEvaluator(self.before), ReferenceEvaluator(self.after)
        pairs = [(old.run(None, f)[0], new.run(None, f)[0]) for f in self.samples]
        a, b = (np.concatenate([np.ravel(p[k]) for p in pairs]) for k in (0, 1))
        return float(np.linalg.norm(a - b) / np.linalg.norm(a))

    def kernels(self) -> Counter[str]:
        pytest.importorskip("onnxruntime")
        from fcc.runtime import kernels

        return kernels(self.after.SerializeToString())

    def runtime_error(self, optimize: bool = True) -> float:
        pytest.importorskip("onnxruntime")
        from fcc.runtime import open_session

        old = open_session(self.before.SerializeToString(), optimize=False)
        new = open_session(self.after.SerializeToString(), optimize=optimize)
        name = self.before.graph.output[0].name
        pairs = [(old.run(f)[name], new.run(f)[name]) for f in self.samples]
        a, b = (np.concatenate([np.ravel(p[k]) for p in pairs]) for k in (0, 1))
        return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.fixture
def quantize() -> type[Quantized]:
    """``quantize(text, constants, ...)`` applies insert-qdq to a model in ONNX's text form."""
    return Quantized


def executed(
    p: Pass,
    before: str | onnx.ModelProto,
    after: str | None = None,
    *,
    constants: dict[str, Any] | None = None,
    sizes: dict[str, int] | None = None,
    target: str = "cpu",
    opset: int = 21,
    tolerance: float | None = None,
    applications: int | None = None,
) -> ir.Module:
    """Apply a pass and compare the outputs in onnxruntime, for what the reference evaluator has not implemented.

    Structure (``after``), verifier, checker and idempotence as in ``fcc.testing.check``.
    """
    pytest.importorskip("onnxruntime")
    from fcc.runtime import open_session

    source = testing.model_from(before, opset, constants or {}, 0) if isinstance(before, str) else before
    module = read(source)
    shapes.infer(module)
    ctx = PassContext(get_target(target), Log(strict=True, explain=frozenset({p.name})))
    applied = run_pass(p, module, ctx)
    assert applied if applications is None else applied == applications, [r.reason for r in ctx.log.refused]
    ir.verify(module)
    if after is not None:
        expected = canonical(expected_module(after, opset))
        assert canonical(module) == expected, f"{canonical(module)}expected\n{expected}"
    emitted = ir_proto(module)
    onnx.checker.check_model(emitted)
    rng, dims = np.random.default_rng(0), dict(sizes or {})
    constant = {t.name for t in source.graph.initializer}
    fed = {
        v.name: testing.random_input(v.type.tensor_type, rng, dims)
        for v in source.graph.input
        if v.name not in constant
    }
    old, new = (open_session(m.SerializeToString(), optimize=False).run(fed) for m in (source, emitted))
    for name in old:
        assert_close(name, old[name], new[name], tolerance)
    assert run_pass(p, module, replace(ctx, log=Log(strict=True))) == 0
    if isinstance(before, str):
        record(Seed(text_of(p), before, opset, target, constants or {}, 0, sizes or {}))
    return module


@pytest.fixture(name="executed", scope="session")
def executed_fixture() -> Any:
    """``executed(pass, text, after, ...)``: ``check`` by onnxruntime."""
    return executed
