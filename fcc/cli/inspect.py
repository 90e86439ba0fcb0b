"""``fcc inspect MODEL``: what a model holds, as fcc reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import click

from fcc.errors import OptionError, did_you_mean
from fcc.options import TARGETS, parse_shapes

from .command import make, option
from .shared import MODEL, debug_option, opt_shape_option, target_option
from .style import columns, count, echo, heading, item, size

PARAMS: list[click.Parameter] = [
    MODEL,
    option("--text", is_flag=True, help="the graph as text instead"),
    target_option(default=None),
    option("--shape", multiple=True, metavar="X=SIZES", help="bind sizes: x=1x3x224x224 or batch=1"),
    opt_shape_option(),
    debug_option(),
]


def run(model: str, text: bool, target: str | None, shape: Any, opt_shapes: Any, debug: bool) -> None:
    """Show inputs, outputs, opset, parameters, FLOPs, peak memory and op types; with --target, what it lacks.

    With --target, also the convex partitions that its providers run, and what is copied between them.

    FLOPs and memory are at --opt-shape, open sizes 1. A multiply-add counts 2 FLOPs.
    """
    if target is not None and target not in TARGETS:
        raise OptionError(f"target has no value {target!r}", did_you_mean(target, TARGETS))
    from fcc.analysis import shapes
    from fcc.frontend import read

    sizes = parse_shapes(opt_shapes, "opt-shape")
    module = read(model, shapes=parse_shapes(shape))
    stopped = shapes.infer(module)
    if text:
        from fcc.ir.text import to_text

        echo(to_text(module))
        return
    for line in _lines(model, module, _symbols(module, sizes), stopped):
        echo(line)
    if target is not None:
        for line in (*_placed(module, target, _symbols(module, sizes)), *_lint(module, target)):
            echo(line)


def _symbols(module: Any, sizes: Any) -> dict[str, int]:
    from fcc.data.spec import inputs_of
    from fcc.data.usual import by_input
    from fcc.ir import Dim, dims_of

    shapes = by_input(inputs_of(module), sizes) or {}
    pairs = (
        (d, n) for v in module.graph.inputs for d, n in zip(dims_of(v) or (), shapes.get(v.name, ()), strict=False)
    )
    return {str(d): n for d, n in pairs if isinstance(d, Dim) and n is not None}


def _lines(model: str, module: Any, symbols: dict[str, int], stopped: Any) -> Iterator[str]:
    from fcc.analysis.cost import module_cost
    from fcc.analysis.liveness import peak_bytes
    from fcc.backends import size_of

    cost = module_cost(module, symbols)
    yield heading(model)
    opsets = ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in sorted(module.model.opset_imports.items()))
    yield item("opset", opsets)
    for label, specs in (("input", module.source.inputs), ("output", module.source.outputs)):
        for spec in specs:
            yield item(label, _spec(spec))
    yield ""
    rows = [
        ("nodes", count(sum(1 for _ in module.nodes()))),
        ("parameters", count(cost.parameters)),
        ("bytes", size(size_of(module.source))),
        ("FLOPs", count(cost.flops)),
        ("peak memory", size(peak_bytes(module.graph, symbols))),
    ]
    yield from columns(rows, "<>")
    yield ""
    yield from _op_types(module, symbols)
    for node, reason in stopped:
        yield item("note", f"shape inference stopped at {node.name or node.op_type}: {reason}")
    for note in module.notes:
        yield item("note", note)


def _spec(spec: Any) -> str:
    from fcc.data.spec import show_dims

    kind = spec.dtype.name.lower() if spec.dtype is not None else "sequence"
    return f"{spec.name} {kind}{show_dims(spec.dims)}" + (" (has a default)" if getattr(spec, "overridable", 0) else "")


def _op_types(module: Any, symbols: dict[str, int]) -> Iterator[str]:
    from fcc.analysis.cost import node_cost

    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for node in module.nodes():
        cost = node_cost(node, symbols)
        entry = found[f"{node.domain}::{node.op_type}" if node.domain else node.op_type]
        for i, n in enumerate((1, cost.flops, cost.bytes)):
            entry[i] += n
    total = sum(entry[1] for entry in found.values()) or 1
    rows = [("op", "nodes", "FLOPs", "", "bytes moved")]
    for name, (nodes, flops, moved) in sorted(found.items(), key=lambda x: (-x[1][1], -x[1][0])):
        rows.append((name, str(nodes), count(flops), f"{100 * flops / total:.1f} %", size(moved)))
    yield from columns(rows, "<>>>>")


def _placed(module: Any, target: str, symbols: dict[str, int]) -> Iterator[str]:
    """Show the convex partitions of the main graph by provider, what crosses their borders, and the nodes that cut."""
    from fcc.analysis.partition import borders, partition
    from fcc.backends.placement import placement_of
    from fcc.target import get_target

    placed = placement_of(module, module.graph, get_target(target))
    pieces = partition(module.graph, placed.labels())
    if len(pieces) < 2:
        return
    crossing = borders(pieces)
    yield ""
    yield heading(f"partitions for {target}: {len(pieces)}")
    rows = [("", "provider", "nodes", "tensors in", "out", "op types")]
    for i, piece in enumerate(pieces):
        kinds = sorted({n.op_type for n in piece.nodes})
        shown = ", ".join(kinds[:3]) + (", ..." if len(kinds) > 3 else "")
        inward, outward = (sum(hit) for hit in ([i in b.targets for b in crossing], [b.source == i for b in crossing]))
        rows.append((str(i), piece.label, str(len(piece.nodes)), str(inward), str(outward), shown))
    yield from columns(rows, "><>>><")
    for copy in placed.copies:
        yield item(
            "copy", f"{copy.value.name} to the {'host' if copy.to_host else 'device'}, {size(copy.bytes(symbols))}"
        )
    for node in placed.reasons:
        copies = placed.culprits().get(node, [])
        text = f"{node.name or node.op_type}: {placed.reasons[node]}"
        yield item("cut by", text + (f" ({len(copies)} copied)" if copies else ""), fg="yellow")


def _lint(module: Any, target: str) -> Iterator[str]:
    from fcc.backends import get_backend
    from fcc.target import get_target

    rows = get_backend(get_target(target)).lint(module)
    yield ""
    found = f"{len(rows)} finding{'s' if len(rows) > 1 else ''}" if rows else "nothing to say"
    yield heading(f"lint for {target}: {found}")
    for row in rows:
        yield item(row.severity, f"{row.node}: {row.reason}" if row.node else row.reason, fg="yellow")


command = make("inspect", run, PARAMS)
