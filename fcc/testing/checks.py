"""check(): one pass on one graph, text in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target

from .compare import same_outputs
from .corpus import Seed, record, text_of
from .texts import expected_module, model_from


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
    source = model_from(before, opset, constants or {}, seed)
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
    expected = canonical(expected_module(after, opset))
    assert found == expected, f"{p.name} gave\n{found}expected\n{expected}from\n{start}{ctx.log.refused}"
    emitted = serde.serialize_model(module.model)
    onnx.checker.check_model(emitted)
    same_outputs(reference, emitted, tolerance=tolerance, sizes=sizes, seed=seed)
    again = PassContext(target=ctx.target, log=Log(strict=True), stats=stats)
    assert run_pass(p, module, again) == 0, f"{p.name} is not idempotent:\n{canonical(module)}"
    record(Seed(text_of(p), before, opset, target, constants or {}, seed, sizes or {}))
    return module
