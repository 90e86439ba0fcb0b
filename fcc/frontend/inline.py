"""Model-local functions are inlined where that is legal; onnx_ir's inliner does the copying."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter

from fcc import ir
from fcc.errors import LoadError

from .outputs import insert_identity
from .scopes import too_many
from .upgrade import upgrade_nodes

Key = tuple[str, str, str]


def inline_functions(module: ir.Module, max_nodes: int) -> None:
    """Call(x) -> the body of the function, in graphs and functions, attributes and their defaults filled in.

    A function stays, with a note, when it means another opset than the model and cannot be raised to it, when a call
    hands it a graph, or when a function that stays calls it.

    Raises:
        LoadError: functions that call each other in a circle, a call that does not fit its function, or more than
            ``max_nodes`` nodes when all are inlined.
    """
    functions = module.model.functions
    if not functions:
        return
    from onnx_ir.passes.common import InlinePass

    _check_amount(module, max_nodes)
    _check_amount(module, max_nodes)
    calls = _calls(module)
    kept = {key: why for key, f in functions.items() if (why := _refusal(module, f, calls.get(key, [])))}
    _spread(module, kept)
    for key, function in functions.items():
        if key not in kept:
            _forget_symbols(function)
            _own_outputs(module, function)
            for call in calls.get(key, []):
                _fit_outputs(call, function)
    try:
        InlinePass(lambda f: f.identifier() not in kept)(module.model)
    except Exception as error:  # what the inliner cannot copy is not a valid call
        raise LoadError(
            f"a call does not fit its function: {_cause(error)}", "run onnx.checker on the model"
        ) from error
    _drop_unused(module)
    module.reindex()
    for key, why in ((k, w) for k, w in kept.items() if k in functions):
        module.notes.append(f"function {key[0]}.{key[1]} is not inlined: {why}")


def _check_amount(module: ir.Module, max_nodes: int) -> None:
    """Count the nodes as if every call were inlined: functions that each call the next twice double them every time.

    Raises:
        LoadError: more than ``max_nodes``, or functions that call each other in a circle.
    """
    functions = module.model.functions
    called = {key: Counter(n.op_identifier() for n in f.all_nodes()) for key, f in functions.items()}
    try:
        order = TopologicalSorter(
            {key: names.keys() & functions.keys() for key, names in called.items()}
        ).static_order()
        sizes: dict[Key, int] = {}
        for key in order:
            sizes[key] = sum(count * sizes.get(k, 1) for k, count in called[key].items())
    except CycleError as error:
        circle = " -> ".join(key[1] for key in error.args[1][:6])
        raise LoadError(f"functions call each other in a circle: {circle}", "export the model again") from None
    if sum(sizes.get(n.op_identifier(), 1) for n in module.nodes()) > max_nodes:
        raise too_many(max_nodes)


def _calls(module: ir.Module) -> dict[Key, list[ir.Node]]:
    found: dict[Key, list[ir.Node]] = {}
    functions = module.model.functions
    owners: list[ir.Graph | ir.Function] = [module.model.graph, *functions.values()]
    for owner in owners:
        for node in owner.all_nodes():
            if node.op_identifier() in functions:
                found.setdefault(node.op_identifier(), []).append(node)
    return found


def _refusal(module: ir.Module, function: ir.Function, calls: list[ir.Node]) -> str | None:
    imports = module.model.opset_imports
    for domain, version in function.opset_imports.items():
        if domain and imports.get(domain, version) != version:
            return f"it imports {domain} {version}, the model {imports[domain]}"
    if any(next(ir.subgraphs_of(call), None) is not None for call in calls):
        return "a call hands it a graph"
    own, opset = function.opset_imports.get("", module.opset()), module.opset()
    if own > opset:
        return f"it means opset {own}, the model {opset}"
    if own < opset:
        why = upgrade_nodes(function.all_nodes, dict(function.opset_imports), opset)
        if why:
            return f"it means opset {own}, and {why}"
        function.opset_imports[""] = opset
    return None


def _spread(module: ir.Module, kept: dict[Key, str]) -> None:
    """What a kept function calls stays as well: its opset is not the one that inlining assumes."""
    todo = list(kept)
    while todo:
        key = todo.pop()
        for node in module.model.functions[key].all_nodes():
            called = node.op_identifier()
            if called in module.model.functions and called not in kept:
                kept[called] = f"function {key[1]}, which is not inlined, calls it"
                todo.append(called)


def _drop_unused(module: ir.Module) -> None:
    functions = module.model.functions
    todo: list[ir.Graph | ir.Function] = [module.model.graph]
    reached: set[Key] = set()
    while todo:
        called = {n.op_identifier() for n in todo.pop().all_nodes()} & functions.keys()
        todo.extend(functions[key] for key in called - reached)
        reached |= called
    for key in functions.keys() - reached:
        del functions[key]


def _forget_symbols(function: ir.Function) -> None:
    """A symbol in a body means another size at every call, and nothing to the model."""
    for node in function.all_nodes():
        for value in node.outputs:
            if value.shape is not None and not all(isinstance(d, int) for d in value.shape):
                value.shape = ir.Shape([d if isinstance(d, int) else None for d in value.shape])


def _own_outputs(module: ir.Module, function: ir.Function) -> None:
    """The inliner renames what it returns: an input, or a value returned twice, needs an Identity of its own."""
    seen: set[ir.Value] = set()
    for i, value in enumerate(list(function.outputs)):
        if value in seen or value.producer() is None:
            insert_identity(module, function.graph, i, value)
        seen.add(value)


def _fit_outputs(call: ir.Node, function: ir.Function) -> None:
    if len(call.outputs) > len(function.outputs) or len(call.inputs) > len(function.inputs):
        raise LoadError(
            f"call {call.name!r} of function {function.name} has {len(call.inputs)} inputs and {len(call.outputs)} "
            f"outputs, the function {len(function.inputs)} and {len(function.outputs)}",
            "run onnx.checker on the model",
        )
    call.resize_outputs(len(function.outputs))


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
