"""What a target lacks or runs badly, node by node, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fcc import ir
from fcc.analysis.partition import partition
from fcc.target import TargetSpec

from .node_facts import support_of
from .placement import placement_of

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class LintRow:
    """A finding: the node ("" for the model), the reason in words, and whether the provider cannot run it (error)."""

    node: str
    reason: str
    severity: Severity = "error"


Rule = Callable[[ir.Module, TargetSpec], Iterator[LintRow]]


def name_of(node: ir.Node) -> str:
    """Return what a report calls a node: its name, else its first output."""
    return node.name or next((v.name for v in node.outputs if v.name), node.op_type)


def missing_kernels(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Nodes that the first provider has no kernel for; onnxruntime falls back to the next provider."""
    for graph in module.graphs():
        for node, reason in placement_of(module, graph, spec).reasons.items():
            yield LintRow(name_of(node), reason)
    yield from _in_functions(module, spec)


def _in_functions(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """What the bodies of model-local functions that stay have no kernel for; element types are open in a body."""
    local = {(f.domain, f.name) for f in module.model.functions.values()}
    for function in module.model.functions.values():
        for node in function.all_nodes():
            if (node.domain, node.op_type) not in local:
                reason = support_of(node, module, spec, opsets=function.opset_imports).refusal
                if reason is not None:
                    yield LintRow(f"{function.name}/{name_of(node)}", reason)


def borders(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Nodes on the CPU that tensors are copied to and from, and what that moves; sizes that are open count as 1."""
    for graph in module.graphs():
        for node, copies in placement_of(module, graph, spec).culprits().items():
            moved = sum(c.bytes() for c in copies)
            count = f"{len(copies)} copies" if len(copies) > 1 else "1 copy"
            text = f"{node.op_type} runs on the CPU: {count} between device and host ({moved} bytes), no CUDA graph"
            yield LintRow(name_of(node), text, "warning")


def engines(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """More than one TensorRT engine: what cuts the graph."""
    placed = placement_of(module, module.graph, spec)
    if not placed.reasons:
        return
    pieces = partition(module.graph, placed.labels())
    count = sum(p.label == "TensorRT" for p in pieces)
    if count > 1:
        cutting = ", ".join(sorted({n.op_type for n in placed.reasons}))
        yield LintRow("", f"TensorRT runs {count} subgraphs, cut by {cutting}", "warning")


def opset_window(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """An opset of ai.onnx outside the provider's window; what the frontend could not bring into it."""
    low, high = spec.opsets
    opset = module.opset()
    if not low <= opset <= high:
        yield LintRow("", f"opset {opset} is outside {low} to {high}, what {spec.name} takes")


def static_int8(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """QuantizeLinear around float kernels: a provider that never fuses them only loses by them."""
    count = sum(1 for n in module.nodes() if n.op_type == "QuantizeLinear" and n.domain in ("", "com.microsoft"))
    if count:
        yield LintRow("", f"{count} QuantizeLinear run as kernels around float ops: {spec.int8_refusal[0]}", "warning")


def run_rules(rules: tuple[Rule, ...], module: ir.Module, spec: TargetSpec) -> list[LintRow]:
    """Return the findings of all rules, in order, each once."""
    return list(dict.fromkeys(row for rule in rules for row in rule(module, spec)))


def by_reason(rows: list[LintRow]) -> Mapping[str, list[str]]:
    """Return reason -> nodes, for a report that says each thing once."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        grouped.setdefault(row.reason, []).append(row.node)
    return grouped
