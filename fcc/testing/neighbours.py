"""Every graph one step away from a seed: an operator is foreign, a value escapes, something is not known any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fcc import ir

FOREIGN = "fcc.foreign"
OPSETS = (10, 12, 14, 16, 17, 19, 22, 23)
Step = Callable[[ir.Module, int], bool]


def neighbours(module: ir.Module) -> Iterator[tuple[str, ir.Module]]:
    """Yield each neighbour of a module with what was done and to what: all but the last step change no result.

    A step takes the k-th value or node of all graphs and returns whether it changed anything.
    """
    count = max(len(_values(module)), sum(1 for _ in module.nodes()), len(module.graph.initializers), len(OPSETS))
    for k in range(count):
        for step in STEPS:
            copy = module.clone()
            if step(copy, k):
                yield f"{step.__name__}{k}", copy


def foreign(module: ir.Module) -> int:
    """Return how many operators are foreign."""
    return sum(n.domain == FOREIGN for n in module.nodes())


def _values(module: ir.Module) -> list[ir.Value]:
    """Return inputs and computed values of all graphs."""
    found = [v for g in module.graphs() for v in g.inputs]
    return found + [v for n in module.nodes() for v in n.outputs if v.name]


def _value(module: ir.Module, k: int) -> ir.Value | None:
    values = _values(module)
    return values[k] if k < len(values) else None


def no_shape(module: ir.Module, k: int) -> bool:
    """Nothing is known of the shape of a value."""
    value = _value(module, k)
    if value is None or value.shape is None:
        return False
    value.shape = None
    return True


def no_sizes(module: ir.Module, k: int) -> bool:
    """Of the shape of a value, the rank is known."""
    value = _value(module, k)
    dims = ir.dims_of(value)
    if value is None or not dims or set(dims) == {None}:
        return False
    value.shape = ir.to_shape([None] * len(dims))
    return True


def no_type(module: ir.Module, k: int) -> bool:
    """The element type of a computed value is not known."""
    value = _value(module, k)
    if value is None or value.type is None or value.producer() is None or value.is_graph_output():
        return False
    value.type = None
    return True


def escapes(module: ir.Module, k: int) -> bool:
    """A computed value is an output of its graph, as long as that is not nested."""
    value = _value(module, k)
    if value is None or value.producer() is None or value.is_graph_output() or value.graph is not module.graph:
        return False
    module.graph.outputs.append(value)
    return True


def is_foreign(module: ir.Module, k: int) -> bool:
    """An operator is of another domain, of which nothing is known but the types and shapes of its results."""
    node = next((n for i, n in enumerate(module.nodes()) if i == k), None)
    if node is None or list(ir.subgraphs_of(node)):
        return False
    node.domain = FOREIGN
    return True


def overridable(module: ir.Module, k: int) -> bool:
    """A constant is what a caller may override."""
    constants = list(module.graph.initializers.values())
    if k >= len(constants) or constants[k] in module.graph.inputs:
        return False
    module.graph.inputs.append(constants[k])
    return True


def older(module: ir.Module, k: int) -> bool:
    """The model is of another opset, whose operators it need not have: passes look at the number."""
    if k >= len(OPSETS) or module.opset() == OPSETS[k]:
        return False
    module.model.opset_imports[""] = OPSETS[k]
    return True


STEPS: tuple[Step, ...] = (no_shape, no_sizes, no_type, escapes, is_foreign, overridable, older)
