"""Scan 8 (batched) -> Scan 9: an outer Scan over the batch around an inner one over the sequence."""

from __future__ import annotations

from fcc import ir

from .site import Facts, attribute, set_attribute, set_inputs, take


def refuse_scan(node: ir.Node, facts: Facts) -> str | None:
    """Sequence lengths have no newer form."""
    return "sequence_lens has no newer form" if node.inputs and node.inputs[0] is not None else None


def raise_scan(node: ir.Node, facts: Facts) -> None:
    """Scan-8(lens absent, states [B, ...], xs [B, T, ...]) -> Scan-9 over B of Scan-9(state, x) over T.

    The outer Scan has no state: states and sequences are its scan inputs, final states and stacked outputs its scan
    outputs, each with the batch in front, which is what Scan-8 returns.
    Source: ONNX Scan-8 and Scan-9.
    """
    sequences = attribute(node, "num_scan_inputs")
    directions = list(take(node, "directions", ()))
    inner_body = take(node, "body")
    inputs = list(node.inputs[1:])
    parameters = [_row(v, 1) for v in inputs]
    inner = ir.Node("", "Scan", parameters, num_outputs=len(node.outputs), metadata_props=dict(node.metadata_props))
    inner.attributes["body"] = ir.Attr("body", ir.AttributeType.GRAPH, inner_body)
    set_attribute(inner, "num_scan_inputs", sequences)
    if directions:
        set_attribute(inner, "scan_input_directions", directions)
    for new, old in zip(inner.outputs, node.outputs, strict=True):
        new.type = old.type
    body = ir.Graph(parameters, list(inner.outputs), nodes=[inner], name=f"{inner_body.name or 'scan'}_batch")
    set_inputs(node, inputs)
    node.attributes["body"] = ir.Attr("body", ir.AttributeType.GRAPH, body)
    set_attribute(node, "num_scan_inputs", len(inputs))


def _row(value: ir.Value | None, dropped: int) -> ir.Value:
    assert value is not None
    shape = None if value.shape is None else ir.Shape(list(value.shape)[dropped:])
    return ir.Value(name=None, type=value.type, shape=shape)
