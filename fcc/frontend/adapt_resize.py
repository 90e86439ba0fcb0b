"""Upsample 7 and 9, Resize 10 -> Resize 11 and later."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir

from .site import Facts, array_of, attribute, constant, set_attribute, set_inputs, take


def raise_upsample(node: ir.Node, facts: Facts) -> None:
    """Upsample<scales>(x) -> Upsample(x, scales)."""
    set_inputs(node, [node.inputs[0], constant(node, take(node, "scales"), np.float32)])


def rename_upsample(node: ir.Node, facts: Facts) -> None:
    """Upsample(x, scales) -> Resize(x, scales) of opset 10."""
    node.op_type = "Resize"


def keep_upsample(node: ir.Node, facts: Facts) -> str | None:
    """Upsample enlarges by definition; a constant that shrinks is refused."""
    scales = _scales(node)
    return "it shrinks its input" if scales is not None and (scales < 1).any() else None


def raise_resize(node: ir.Node, facts: Facts) -> None:
    """Resize(x, scales) -> Resize<asymmetric>(x, , scales); nearest rounds down to enlarge and up to shrink.

    Source: onnxruntime upsamplebase.h (rounding of opset < 11), ONNX Resize-11.
    """
    scales = _scales(node)
    set_inputs(node, [node.inputs[0], constant(node, [], np.float32), node.inputs[1]])
    set_attribute(node, "coordinate_transformation_mode", "asymmetric")
    if attribute(node, "mode", "nearest") == "nearest":
        set_attribute(node, "nearest_mode", "ceil" if scales is not None and (scales < 1).any() else "floor")


def refuse_resize(node: ir.Node, facts: Facts) -> str | None:
    """Nearest needs known scales that do not enlarge and shrink at once, since one rounding serves all axes."""
    if node.op_type != "Resize" or attribute(node, "mode", "nearest") != "nearest":
        return None
    scales = _scales(node)
    if scales is None:
        return "its scales are not constant, so its rounding is not known"
    return "it enlarges one axis and shrinks another" if (scales < 1).any() and (scales > 1).any() else None


def _scales(node: ir.Node) -> np.ndarray[Any, Any] | None:
    given = attribute(node, "scales")
    if given is not None:
        return np.array(given, np.float32)
    return array_of(node.inputs[1]) if len(node.inputs) > 1 else None
