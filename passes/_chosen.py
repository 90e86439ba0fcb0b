"""Which layers an option means: output names, node names or op types, joined by ``+``."""

from __future__ import annotations

from fcc import ir


def chosen(node: ir.Node, only: str, exclude: str) -> bool:
    """Return whether a node is among those named in ``only`` ("" names all), and not in ``exclude``."""
    names = {node.op_type, node.name, *(v.name for v in node.outputs)}
    return (not only or bool(names & _names(only))) and not names & _names(exclude)


def _names(text: str) -> set[str]:
    return set(text.split("+")) - {""}
