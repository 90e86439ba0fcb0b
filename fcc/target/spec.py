"""TargetSpec: all that the compiler knows of a target, as frozen data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from fcc.target.kernels import NATIVE, Support, has_function, kernel_table
from fcc.target.parser_table import parser_table
from fcc.target.qdq import QdqScheme, powers_of_two, widened
from fcc.target.restrictions import NodeFacts, Restriction


class OpTable(Protocol):
    """What answers whether a provider takes an op with these dtypes: a KernelTable or a ParserTable."""

    def refusal(self, op_type: str, domain: str, version: int, dtypes: Mapping[str, str]) -> str | None: ...


@dataclass(frozen=True)
class OptionRow:
    """A recommended option: it adds speed, never correctness, and applies when ``when`` is a fact of the model.

    ``when`` "" means always. ``provider`` "" is a key of the session configuration; else an option of that provider.
    """

    provider: str
    key: str
    value: str
    when: str = ""


@dataclass(frozen=True)
class TargetSpec:
    """A target: its providers in order, its opset window, and its tables.

    ``opsets`` is the inclusive window of ai.onnx. ``domains`` are those a node may come from without a lint row.
    ``channel_blocks`` are the numbers of channels that convolution kernels work on at once, the largest first: a
    multiple of one should stay a multiple of it. ``qdq`` is None where static int8 is refused, with the reason and the
    alternative in ``int8_refusal``.
    ``fp16_islands`` are ops that have a kernel for float16 but whose values leave its range in ordinary models;
    ``keep_float`` lists (domain, op) -> inputs that stay float32 in a float16 graph.
    """

    name: str
    isa: str
    providers: tuple[str, ...]
    opsets: tuple[int, int]
    domains: frozenset[str]
    restrictions: tuple[Restriction, ...]
    fp16_islands: frozenset[str]
    keep_float: Mapping[tuple[str, str], frozenset[int]]
    options: tuple[OptionRow, ...]
    channel_blocks: tuple[int, ...] = ()
    qdq: QdqScheme | None = None
    int8_refusal: tuple[str, str] = ("", "")

    def quantizing(self, precision: str | None, scheme: str | None) -> TargetSpec:
        """Return the target with the static scheme that a precision and ``--scheme`` ask for."""
        qdq = self.qdq
        if qdq is not None and precision == "int16":
            qdq = widened(qdq)
        if qdq is not None and scheme == "pow2":
            qdq = powers_of_two(qdq)
        return self if qdq is self.qdq else replace(self, qdq=qdq)

    @property
    def table(self) -> OpTable:
        """The op table of the first provider, loaded when first asked for."""
        return _TABLES[self.name]()

    def support(
        self, op_type: str, domain: str, version: int, dtypes: Mapping[str, str], node: NodeFacts | None = None
    ) -> Support:
        """Say whether the first provider runs an op: by a kernel, expanded to its ONNX function body, or not.

        ``version`` is the op's since-version or the opset version of its domain. ``dtypes`` maps type variables of the
        op's schema, or input names, to ONNX element types ("float16"), that of input 0 first; leave out what is
        unknown. ``node`` adds the conditions on attributes, shapes and constants.

        Expanded: the provider lacks a kernel, so does the CPU, and ONNX defines the op by other ops, which
        onnxruntime then places one by one (whether they have kernels is not asked here). A function that the CPU has a
        kernel for is not expanded: it runs on the CPU, so it is refused.
        """
        domain = "" if domain == "ai.onnx" else domain
        reason = self.table.refusal(op_type, domain, version, dtypes)
        if reason is None:
            violated = (r for r in self.restrictions if node and not domain and op_type in r.ops and r.violated(node))
            row = next(violated, None)
            return NATIVE if row is None else Support("refused", f"{op_type}: {row.reason}")
        if self.name != "tensorrt" and has_function(op_type, domain, version):
            fallback = kernel_table("CPU").refusal(op_type, domain, version, dtypes)
            if fallback is not None:
                return Support("expanded", reason)
        return Support("refused", reason)

    def refusal(
        self, op_type: str, domain: str, version: int, dtypes: Mapping[str, str], node: NodeFacts | None = None
    ) -> str | None:
        """Return None when the op runs on the first provider, by a kernel or expanded, else the reason in words."""
        return self.support(op_type, domain, version, dtypes, node).refusal

    def recommended(self, facts: Collection[str] = ()) -> dict[str, dict[str, str]]:
        """Return provider -> options ("" -> session configuration) for a model of which these facts hold."""
        chosen: dict[str, dict[str, str]] = {}
        for row in self.options:
            if not row.when or row.when in facts:
                chosen.setdefault(row.provider, {})[row.key] = row.value
        return chosen


_TABLES: Mapping[str, Callable[[], OpTable]] = {
    "cpu": partial(kernel_table, "CPU"),
    "cuda": partial(kernel_table, "CUDA"),
    "tensorrt": parser_table,
}
