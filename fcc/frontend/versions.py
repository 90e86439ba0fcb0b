"""Opset imports and the IR version: what is accepted, what is needed, what onnxruntime loads."""

from __future__ import annotations

from onnx import defs
from onnx.helper import VERSION_TABLE

from fcc import ir
from fcc.errors import LoadError

MEANT = (7, 26)  # the opsets that passes and kernel tables know; older and newer models are brought there
OLDEST, NEWEST = 1, min(28, defs.onnx_opset_version())
IR_LIMIT = 13  # the newest IR version that onnxruntime 1.31 loads
_IR_OF_OPSET = {row[2]: row[1] for row in reversed(VERSION_TABLE)}


def check_versions(model: ir.Model) -> None:
    """Merge the alias ``ai.onnx`` into the default domain, add the import when it is missing, check its range.

    A missing default import means the newest opset that passes know.

    Raises:
        LoadError: opset outside 1..28.
    """
    imports = model.opset_imports
    alias = imports.pop("ai.onnx", None)
    if alias is not None:
        imports[""] = max(alias, imports.get("", 0))
    if "" not in imports:
        imports[""] = MEANT[1]
    opset = imports[""]
    for domain, version in imports.items():
        if not isinstance(domain, str) or not 0 <= version < 1 << 31:
            raise LoadError(f"opset import {domain!r} has version {version}", "export the model again")
    if not OLDEST <= opset <= NEWEST:
        raise LoadError(
            f"the model has opset {opset}, fcc reads {OLDEST} to {NEWEST}",
            "export it again with an opset in that range, or convert it with onnx.version_converter",
        )


def settle_versions(model: ir.Model) -> None:
    """Drop opset imports of domains that no node, function or call uses; fit the IR version, in place."""
    used = {""} | {n.domain for n in model.graph.all_nodes()} | {f.domain for f in model.functions.values()}
    used.update(n.domain for f in model.functions.values() for n in f.all_nodes())
    for domain in [d for d in model.opset_imports if d not in used]:
        del model.opset_imports[domain]
    needed = max(4, _IR_OF_OPSET.get(model.opset_imports[""], 4), 8 if model.functions else 0)
    model.ir_version = min(max(model.ir_version or 0, needed), IR_LIMIT)
