"""Loop and Scan seen alike: what they carry, what they read and stack by the trip, and how often they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .. import ir

LOOPS = ("Loop", "Scan")


@dataclass(frozen=True)
class Carried:
    """A value handed from trip to trip: ``init`` enters the first, ``inner`` is it in a trip, ``given`` the next one.

    ``result`` is the last one; ``index`` counts the carried values.
    """

    index: int
    init: ir.Value
    inner: ir.Value
    given: ir.Value
    result: ir.Value


@dataclass(frozen=True)
class Element:
    """A scan input: in trip k ``inner`` is element k of ``source`` along ``axis``, from the end if reverse."""

    source: ir.Value
    inner: ir.Value
    axis: int
    reverse: bool


@dataclass(frozen=True)
class Stacked:
    """A scan output: ``result`` stacks along ``axis`` what every trip gives, the last one first if reverse."""

    given: ir.Value
    result: ir.Value
    axis: int
    reverse: bool


@dataclass(frozen=True)
class Looped:
    """A Loop or Scan: ``counter`` and ``condition`` are inputs of a Loop's body, ``goes_on`` its first output."""

    node: ir.Node
    body: ir.Graph
    carried: tuple[Carried, ...]
    elements: tuple[Element, ...]
    stacked: tuple[Stacked, ...]
    counter: ir.Value | None = None
    condition: ir.Value | None = None
    goes_on: ir.Value | None = None


def control_flow(module: ir.Module, *types: str) -> Iterator[ir.Node]:
    """Yield the nodes of these types (of the default domain) that hold graphs; at once where no graph is nested."""
    if sum(1 for _ in module.graphs()) > 1:
        yield from (n for n in module.nodes() if n.op_type in types and n.domain == "")


def used_loops(module: ir.Module, *, again: bool = False) -> Iterator[ir.Node]:
    """Yield loops that give something used, the inner ones first; ``again``: over again while the module changes."""
    version = -1
    while version != module.version:
        version = module.version
        for node in reversed(list(control_flow(module, *LOOPS))):
            if node.graph is not None and any(ir.is_used(v) for v in node.outputs):
                yield node
        if not again:
            return


def looped(node: ir.Node) -> Looped | str:
    """Return the view of a Loop or Scan node, or why it has none."""
    body = node.attributes["body"].as_graph()
    decides = 1 if node.op_type == "Loop" else 0
    if len(body.inputs) != len(node.inputs) or len(body.outputs) != decides + len(node.outputs):
        return "its body has another number of inputs or outputs than it"
    found = _loop(node, body) if decides else _scan(node, body)
    if not isinstance(found, str) and any(map(_is_misdeclared, found.carried)):
        return "its body takes a value of another rank than it is given"
    return found


def _is_misdeclared(state: Carried) -> bool:
    before, inner = ir.dims_of(state.init), ir.dims_of(state.inner)
    return before is not None and inner is not None and len(before) != len(inner)


def _loop(node: ir.Node, body: ir.Graph) -> Looped | str:
    inner, given = list(body.inputs), list(body.outputs)
    if None in node.inputs[2:]:
        return "it carries what is absent"
    carried = _carried(node.inputs[2:], inner[2:], given[1:], node.outputs)
    stacked = _stacked(given[1 + len(carried) :], node.outputs[len(carried) :], (), ())
    return Looped(node, body, carried, (), stacked, inner[0], inner[1], given[0])


def _scan(node: ir.Node, body: ir.Graph) -> Looped | str:
    attributes = node.attributes
    split = len(node.inputs) - attributes.get_int("num_scan_inputs", 0)
    inner, given = list(body.inputs), list(body.outputs)
    if split < 0 or None in node.inputs:
        return "it carries what is absent"
    axes, reverse = attributes.get_ints("scan_input_axes", ()), attributes.get_ints("scan_input_directions", ())
    elements = tuple(
        Element(source, value, _at(axes, i), _at(reverse, i) == 1)
        for i, (source, value) in enumerate(zip(node.inputs[split:], inner[split:], strict=True))
        if source is not None
    )
    carried = _carried(node.inputs[:split], inner, given, node.outputs)
    axes, reverse = attributes.get_ints("scan_output_axes", ()), attributes.get_ints("scan_output_directions", ())
    stacked = _stacked(given[len(carried) :], node.outputs[len(carried) :], axes, reverse)
    return Looped(node, body, carried, elements, stacked)


def _carried(
    inits: Sequence[ir.Value | None], inner: Sequence[ir.Value], given: Sequence[ir.Value], results: Sequence[ir.Value]
) -> tuple[Carried, ...]:
    found = zip(inits, inner, given, results, strict=False)
    return tuple(Carried(i, a, b, c, d) for i, (a, b, c, d) in enumerate(found) if a is not None)


def _stacked(
    given: Sequence[ir.Value], results: Sequence[ir.Value], axes: Sequence[int], reverse: Sequence[int]
) -> tuple[Stacked, ...]:
    found = enumerate(zip(given, results, strict=False))
    return tuple(Stacked(g, r, _at(axes, i), _at(reverse, i) == 1) for i, (g, r) in found)


def _at(values: Sequence[int], i: int) -> int:
    return values[i] if i < len(values) else 0


def plain(value: ir.Value, body: ir.Graph) -> ir.Value:
    """Return the value that an Identity of a body, which gives a value of an outer graph or an input, stands for."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.domain == "" and node.graph is body:
        assert node.inputs[0] is not None
        value = node.inputs[0]
        node = value.producer()
    return value
