"""Lowering an opset that passes and kernel tables do not know yet, where every node means the same at the older one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnx import helper

from fcc import ir

from .adapters import ADAPTERS
from .compatible import changed_attribute
from .schema import describe
from .site import Facts, array_of, attribute
from .versions import MEANT


def lower_opset(module: ir.Module) -> None:
    """Lower a model above opset 26 to it when every node has the same meaning there; otherwise note which has not."""
    opset = module.opset()
    if opset > MEANT[1] and (kept := lower_to(module, MEANT[1])) is not None:
        module.notes.append(f"opset {opset} is kept: {kept}")


def lower_to(module: ir.Module, goal: int, *, change: bool = True) -> str | None:
    """Lower a model to an older opset in place, with ``change``; return why not when a node has another meaning there.

    A node has the same when its schema did not change, or when it uses nothing that the newer one added: element types,
    and attributes other than at their default, which are dropped.
    """
    opset = module.opset()
    kept = "the model has functions of its own that are not inlined" if module.model.functions else None
    facts = Facts(module.nodes, dict(module.model.opset_imports))
    surplus: list[tuple[ir.Node, str]] = []
    for node in module.nodes():
        if kept is None and node.domain == "":
            added, why = _excess(node, opset, goal, facts)
            surplus += [(node, name) for name in added]
            kept = f"{describe(node)} {why}" if why else None
    if kept is None and change:
        for node, name in surplus:
            del node.attributes[name]
        module.model.opset_imports[""] = goal
    return kept


def _excess(node: ir.Node, opset: int, goal: int, facts: Facts) -> tuple[list[str], str | None]:
    """Return the attributes to drop from a node at the older opset, and why it has no form there."""
    old, new = ir.schema_of(node.op_type, "", goal), ir.schema_of(node.op_type, "", opset)
    if new is None or (old is not None and old.since_version == new.since_version):
        return [], None
    if old is None or old.deprecated:
        return [], f"is new in opset {new.since_version}"
    added = [name for name in node.attributes if name not in old.attributes]
    for name in added:
        if name not in new.attributes or not _is_default(node, new.attributes[name]):
            return [], f"has no attribute {name} before opset {new.since_version}"
    step = next((s for s in ADAPTERS.get(node.op_type, ()) if goal < s.since <= new.since_version), None)
    if step is not None:
        return [], f"means something else before opset {step.since}"
    why = changed_attribute(old.attributes, new.attributes) or _REDEFINED.get(node.op_type, _same)(node, facts)
    return added, why or next(_new_types(node, old, facts), None)


def _is_default(node: ir.Node, formal: Any) -> bool:
    if not formal.default_value.name:
        return False
    value = helper.get_attribute_value(formal.default_value)
    return bool(attribute(node, formal.name) == (value.decode() if isinstance(value, bytes) else value))


def _new_types(node: ir.Node, old: Any, facts: Facts) -> Iterator[str]:
    """Yield what is wrong with the types of inputs and outputs for the older schema."""
    for values, formals in ((node.inputs, old.inputs), (node.outputs, old.outputs)):
        if len(values) > len(formals) and not (formals and formals[-1].option.name == "Variadic"):
            yield f"has at most {len(formals)} operands of a kind before opset {old.since_version + 1}"
            return
        for i, value in enumerate(values):
            if value is None or not value.name:
                continue
            facts.dtype(value)
            formal = formals[min(i, len(formals) - 1)]
            if value.type is None:
                yield f"has {value.name!r} of unknown type"
            elif _text(value.type) not in formal.types:
                yield f"takes no {_text(value.type)} as {formal.name} there"


def _text(type_: Any) -> str:
    if isinstance(type_, ir.TensorType):
        return f"tensor({type_.dtype.name.lower()})"
    wrapper = type(type_).__name__.removesuffix("Type").lower()
    return f"{'seq' if wrapper == 'sequence' else wrapper}({_text(type_.elem_type)})"


def _same(node: ir.Node, facts: Facts) -> str | None:
    return None


def _mod(node: ir.Node, facts: Facts) -> str | None:
    """Mod of floats is defined for fmod=1 only before opset 28."""
    dtype = facts.dtype(node.inputs[0])
    whole = dtype is not None and dtype.is_integer()
    return None if whole or attribute(node, "fmod", 0) else "divides floats with fmod=0"


def _bit_shift(node: ir.Node, facts: Facts) -> str | None:
    """BitShift by the width of the type or more is defined from opset 28 on only."""
    amounts, dtype = array_of(node.inputs[1]), facts.dtype(node.inputs[0])
    inside = amounts is not None and dtype is not None and bool((amounts < dtype.bitwidth).all())
    return None if inside else "may shift by the width of its type or more"


_REDEFINED: Mapping[str, Callable[[ir.Node, Facts], str | None]] = {"BitShift": _bit_shift, "Mod": _mod}
