"""Raising the opset of the default domain: to 13 for all, so that passes meet one form of an op; further on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fcc import ir
from fcc.errors import LoadError

from .adapters import ADAPTERS
from .compatible import incompatibility, versions_between
from .constants import lift_constants
from .names import name_everything
from .schema import describe
from .site import Facts
from .step import Step
from .versions import MEANT, settle_versions

GOAL = 13
HIGHEST = 23  # above 21, onnxruntime's CUDA provider has fewer kernels: the caller asks the target


def upgrade_opset(module: ir.Module) -> None:
    """Raise the model to opset 13 when it is below and every node allows it; otherwise note which one does not.

    Below opset 7, where operators mean other things, it is raised to 7 at least.

    Raises:
        LoadError: a node of opset 1 to 6 has no form at opset 7.
    """
    opset = module.opset()
    if opset >= GOAL:
        return
    kept = upgrade_nodes(module.nodes, dict(module.model.opset_imports), GOAL)
    goal = opset if kept else GOAL
    if kept and opset < MEANT[0]:
        goal = MEANT[0]
        why = upgrade_nodes(module.nodes, dict(module.model.opset_imports), goal)
        if why:
            raise LoadError(f"the model has opset {opset}, and {why}", "export it again with opset 13 or above")
    if goal != opset:
        module.model.opset_imports[""] = goal
        module.reindex()  # new values have names that onnx_ir chose per graph
    if kept:
        module.notes.append(f"opset {goal} is kept: {kept}")


def raise_to(module: ir.Module, version: int) -> str | None:
    """Raise a normalized module to opset ``version`` (at most 23) in place; return why not when a node refuses.

    Every node then means the same by the schema of the new opset; nothing is changed when one has no such form. The IR
    version rises to what the opset needs. A module at ``version`` or above is left alone.
    """
    opset = module.opset()
    if opset >= version:
        return None
    if version > HIGHEST:
        return f"opset {version} is above {HIGHEST}"
    if module.model.functions:
        return "the model has functions of its own that are not inlined"
    kept = upgrade_nodes(module.nodes, dict(module.model.opset_imports), version)
    if kept is not None:
        return kept
    module.model.opset_imports[""] = version
    module.reindex()  # new values have names that onnx_ir chose per graph
    lift_constants(module)
    name_everything(module)
    settle_versions(module.model)
    module.touch()
    return None


def upgrade_nodes(nodes: Callable[[], Iterable[ir.Node]], opsets: dict[str, int], goal: int) -> str | None:
    """Raise the default-domain nodes to opset ``goal`` in place; return why not, and change nothing, if one refuses."""
    facts = Facts(nodes, opsets)
    plans: list[tuple[ir.Node, list[Step]]] = []
    for node in nodes():
        if node.domain == "":
            steps, refused = _plan(node, opsets[""], goal, facts)
            if refused:
                return f"{describe(node)} {refused}"
            if steps and any(a.is_ref() for a in node.attributes.values()):
                return f"{describe(node)} takes an attribute from the caller of its function"
            if steps:
                plans.append((node, steps))
    for node, steps in reversed(plans):  # nested nodes before the ones that hold them
        for step in steps:
            step.adapt(node, facts)
    return None


def _plan(node: ir.Node, opset: int, goal: int, facts: Facts) -> tuple[list[Step], str | None]:
    """Return the steps that raise a node; an op renamed on the way (Upsample) goes on as the new one."""
    steps: list[Step] = []
    op_type = node.op_type
    for version in range(opset + 1, goal + 1):
        if version not in versions_between(op_type, version - 1, version):
            continue
        step = next((s for s in ADAPTERS.get(op_type, ()) if s.since == version), None)
        if step is None:
            why = incompatibility(op_type, version)
            if why:
                return [], f"cannot become {op_type}-{version}: version {version} {why}"
            continue
        why = step.refuse(node, facts)
        if why:
            return [], f"cannot become {op_type}-{version}: {why}"
        steps.append(step)
        op_type = _SUCCESSOR.get((op_type, version), op_type)
    return steps, None


_SUCCESSOR = {("Upsample", 10): "Resize", ("Scatter", 11): "ScatterElements"}
