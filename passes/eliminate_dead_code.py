"""eliminate-dead-code: what no output of the model depends on is removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from fcc import ir
from fcc.rewrite import ModulePass, PassContext

from ._live import live_values


@dataclass
class _Dead:
    """What can go: nodes in order (none inside another one), optional outputs, initializers, functions, imports."""

    nodes: list[ir.Node] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    functions: list[tuple[str, str, str]] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        kinds = self.nodes, self.outputs, self.initializers, self.functions, self.imports
        return sum(len(found) for found in kinds)


class EliminateDeadCode(ModulePass):
    """Remove nodes, optional outputs, initializers, functions and opset imports that no output depends on.

    (y, mask) = Dropout(x), mask unused -> y = Dropout(x);   y = f(x), y unused -> nothing

    Shapes: any. An ONNX graph has no side effects, so a node whose outputs are all unused goes, with its subgraphs
    and all that only they use; a node without outputs stays. Inputs, overridable initializers and the outputs of
    If, Loop and Scan stay. O(nodes + uses).
    Source: ONNX IR specification, "Graphs" and "Optional inputs and outputs".
    """

    name: ClassVar[str] = "eliminate-dead-code"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None if len(module.fact(self.name, _find)) else "every node and constant is used"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        dead: _Dead = module.fact(self.name, _find)
        for node in reversed(dead.nodes):
            ir.erase(node)
        for value in dead.outputs:
            _drop_output(value)
        for value in dead.initializers:
            assert value.graph is not None
            assert value.name is not None
            del value.graph.initializers[value.name]
        for key in dead.functions:
            del module.model.functions[key]
        for domain in dead.imports:
            del module.model.opset_imports[domain]
        return len(dead)


def _find(module: ir.Module) -> _Dead:
    dead = _Dead()
    live = live_values(module.graph, module.graph.outputs)
    _collect(module, module.graph, live, dead)
    functions = _used_functions(module, dead.nodes)
    dead.functions = [key for key in module.model.functions if key not in functions]
    for key in functions:
        body = module.model.functions[key].graph
        _collect(module, body, live_values(body, body.outputs), dead)
    used = {node.domain for node in _staying(module, dead.nodes)} | {domain for domain, _, _ in functions}
    for key in functions:
        used |= {node.domain for node in module.model.functions[key].all_nodes()}
    dead.imports = [domain for domain in module.model.opset_imports if domain and domain not in used]
    return dead


def _collect(module: ir.Module, graph: ir.Graph, live: set[ir.Value], dead: _Dead) -> None:
    dead.initializers += (v for v in graph.initializers.values() if v not in live and not v.is_graph_input())
    for node in graph:
        if node.outputs and live.isdisjoint(node.outputs):
            dead.nodes.append(node)
            continue
        dead.outputs += (v for v in node.outputs if v.name and v not in live and _is_optional(module, v))
        for nested in ir.subgraphs_of(node):
            _collect(module, nested, live, dead)


def _is_optional(module: ir.Module, value: ir.Value) -> bool:
    """Return whether a node may leave out this output."""
    node, index = value.producer(), value.index()
    assert node is not None
    assert index is not None
    if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0) != 0:
        return False  # its schema demands all three outputs
    schema = ir.schema_of(node.op_type, node.domain, module.opset(node.domain))
    if schema is None or not schema.outputs:
        return False
    declared = schema.outputs[min(index, len(schema.outputs) - 1)]
    return bool(declared.option == type(declared.option).Optional)


def _drop_output(value: ir.Value) -> None:
    """Give an unused optional output the name of an absent one, and drop absent outputs at the end."""
    node = value.producer()
    assert node is not None
    value.name = ""
    value.metadata_props.clear()
    count = len(node.outputs)
    while count > 1 and not node.outputs[count - 1].name:
        count -= 1
    node.resize_outputs(count)


def _used_functions(module: ir.Module, dead: list[ir.Node]) -> set[tuple[str, str, str]]:
    """Return the functions that a node which stays calls, directly or through other functions."""
    functions = module.model.functions
    found: set[tuple[str, str, str]] = set()
    stack = [node.op_identifier() for node in _staying(module, dead)]
    while stack:
        key = stack.pop()
        if key in functions and key not in found:
            found.add(key)
            stack += (node.op_identifier() for node in functions[key].all_nodes())
    return found


def _staying(module: ir.Module, dead: list[ir.Node]) -> Iterator[ir.Node]:
    gone = set(dead)
    stack = [module.graph]
    while stack:
        for node in stack.pop():
            if node not in gone:
                yield node
                stack += ir.subgraphs_of(node)
