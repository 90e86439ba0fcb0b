"""Lossy passes over layers in topological order, each fitted to what the original model wrote (anchored)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import ir
from .analysis.projection import OPS, Projection
from .compiled import Runnable
from .driver import Driver
from .rewrite import PassContext
from .rewrite.engine import site_name
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

MEMORY = 1 << 29  # bytes of the second moments that one run over the data gathers


def low_rank(factorize: Any, reference: Reference, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
    """Run factorize-linear over the layers of a module, wave after wave: layers of a wave do not read each other.

    A reference without data leaves it to the weights alone.
    """
    layers = [] if reference.fit is None else factorize.layers(module)
    fitted = {view.node for view in layers}
    rest = [n for n in module.nodes() if n.op_type in OPS and n not in fitted and factorize.named(n)]
    for wave in waves(module, layers):
        stats = reference.moments(module, [request_of(view) for view in wave])
        _run(factorize, [view.node for view in wave], module, replace(ctx, stats=stats), manager)
    _run(factorize, rest, module, ctx, manager)


def prune(pruner: Any, reference: Reference, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
    """Run prune-channels over a module, pool after pool, each fitted to what is left of the ones before."""
    done = set[str]()
    compute_weights(module)
    while (pool := next((p for p in pruner.pools(module, ctx) if p.name not in done), None)) is not None:
        done.add(pool.name)
        stats = reference.moments(module, [reading_of(r) for r in pool.readings])
        _run(pruner, [pool.sources[0].layer.node], module, replace(ctx, stats=stats), manager)
    rest = [n for n in module.graph if n.op_type in OPS and n.outputs[0].name not in done and pruner.named(n)]
    _run(pruner, rest, module, replace(ctx, stats={}), manager)


def _run(p: Any, nodes: Sequence[ir.Node], module: ir.Module, ctx: PassContext, manager: Manager) -> None:
    """Run a pass at some nodes only."""
    names = "+".join(map(site_name, nodes))
    if names:
        manager.run(Pipeline((replace(p, only=names),)), module, ctx)


def compute_weights(module: ir.Module) -> None:
    """Compute the weights that earlier passes left to be computed at save: channels of those could not be cut."""
    for node in module.graph:
        for value in node.inputs if node.op_type in OPS else ():
            if value is not None and isinstance(value.const_value, ir.LazyTensor):
                value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)


def reading_of(reading: Any) -> Any:
    """Return what a layer that reads pruned channels asks to be gathered."""
    from .compress.rows import written
    from .runtime.paired import Request

    view = reading.view
    return Request(view.name, view.x.name or "", reading.rows, view.name, written(view), parts=2)


def waves(module: ir.Module, layers: Sequence[Projection]) -> Iterator[list[Projection]]:
    """Yield layers of the main graph in an order in which none reads, however far, a later one of its wave."""
    of = {id(view.node): view for view in layers}
    depth: dict[ir.Value, int] = {}
    found: dict[int, list[Projection]] = {}
    for node in module.graph:
        at = max((depth.get(v, 0) for v in _reads(node)), default=0)
        if id(node) in of:
            found.setdefault(at, []).append(of[id(node)])
            at += 1
        for value in node.outputs:
            depth[value] = at
    for level in sorted(found):
        yield from within_memory(found[level])


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    yield from (v for v in node.inputs if v is not None)
    for graph in ir.subgraphs_of(node):
        for inner in graph:
            yield from _reads(inner)


def within_memory(layers: Sequence[Projection]) -> Iterator[list[Projection]]:
    wave: list[Projection] = []
    left = MEMORY
    for view in layers:
        size = space(view)
        if wave and size > left:
            yield wave
            wave, left = [], MEMORY
        wave.append(view)
        left -= size
    if wave:
        yield wave


def space(view: Projection) -> int:
    """Return the bytes that the moments of a layer take."""
    m, n = view.sizes
    return 8 * view.groups * (m * m + m * n + 4 * n * n)


def request_of(view: Projection) -> Any:
    """Return what a layer that is factorized asks to be gathered."""
    from .compress.low_rank import FOLDS
    from .compress.rows import read, sides, written
    from .runtime.paired import Request

    found = sides(view)
    assert found is not None
    x, out = (view.x.name or "", read(view)), (view.name, written(view))
    (name, rows), (target, goal) = (x if side == "input" else out for side in found)
    return Request(view.name, name, rows, target, goal, FOLDS)


class Reference:
    """The model before anything lossy, and the calibration data: a context manager, since large weights lie in a file.

    Without data (``fit`` None) it is empty.
    """

    def __init__(self, driver: Driver, module: ir.Module, fit: Any) -> None:
        self.driver = driver
        self.fit = fit
        self._runnable = Runnable(driver.emit(module)) if fit is not None else None
        self._model: Any = None
        self._dims = _dims(module)

    def __enter__(self) -> Reference:
        if self._runnable is not None:
            self._model = self._runnable.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._runnable is not None:
            self._runnable.__exit__(*error)

    def moments(self, module: ir.Module, requests: Sequence[Any]) -> Mapping[str, Any]:
        """Return the moments asked for, by key, over the calibration data.

        Where the reference has no such tensor, or one with more channels (a layer that is pruned itself), the module as
        it is takes its place.
        """
        from .runtime.paired import accumulate

        driver, o = self.driver, self.driver.options
        tell, dims = driver.progress, _dims(module)

        def width(of: Mapping[str, tuple[Any, ...]], request: Any) -> Any:
            return of[request.y][request.target.axis] if of.get(request.y) else None

        asked = [r if width(self._dims, r) == width(dims, r) else replace(r, own=True) for r in requests]
        with driver.phase("calibrate"), Runnable(driver.emit(module)) as model:
            return accumulate(
                self._model,
                model,
                asked,
                self.fit,
                threads=o.threads,
                custom_ops=o.custom_ops,
                progress=(lambda n: tell("calibrate", n, self.fit.length or 0)) if tell is not None else None,
                executor=o.executor,
                cache=o.cache,
            )


def _dims(module: ir.Module) -> dict[str, tuple[Any, ...]]:
    values = [*module.graph.inputs, *(v for node in module.graph for v in node.outputs)]
    return {v.name: tuple(ir.dims_of(v) or ()) for v in values if v.name}
