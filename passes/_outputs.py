"""What keeps a value from taking the place, and the name, of a graph output."""

from __future__ import annotations

from fcc import ir


def output_refusal(old: ir.Value, new: ir.Value) -> str | None:
    """Return why ``new`` cannot become the graph output that ``old`` is; None when it can, or ``old`` is none."""
    if not old.is_graph_output():
        return None
    producer = new.producer()
    if producer is None:
        return "a graph output may not be an input or a constant"
    if new.is_graph_output():
        return "the input is a graph output itself"
    if producer.graph is not old.graph:
        return "the input belongs to an outer graph"
    return None
