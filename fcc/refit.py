"""Lossy passes over layers in topological order, each fitted to what the original model wrote (anchored)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import ir, passes
from .analysis.projection import OPS, Projection
from .compiled import Runnable
from .driver import Driver
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

MEMORY = 1 << 29  # bytes of the second moments that one run over the data gathers


def low_rank(
    options: Mapping[str, float], driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any
) -> None:
    """Factorize the layers of a module, wave after wave: layers of a wave do not read each other.

    Without data (``fit`` None) by their weights alone.
    """
    given: dict[str, Any] = {k: int(v) if k == "rank" else v for k, v in options.items()}
    make: Any = passes.BY_NAME["factorize-linear"]
    layers = [] if fit is None else make(**given).layers(module)
    fitted = {view.node for view in layers}
    rest = "+".join(n.outputs[0].name or "" for n in module.nodes() if n.op_type in OPS and n not in fitted)
    with Reference(driver, module, fit) as reference:
        for wave in waves(module, layers):
            stats = reference.moments(module, [request_of(view) for view in wave])
            names = "+".join(view.node.outputs[0].name or "" for view in wave)
            manager.run(Pipeline((make(**given, only=names),)), module, replace(ctx, stats=stats))
    if rest:
        manager.run(Pipeline((make(**given, only=rest),)), module, ctx)


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
        yield from _within_memory(found[level])


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    yield from (v for v in node.inputs if v is not None)
    for graph in ir.subgraphs_of(node):
        for inner in graph:
            yield from _reads(inner)


def _within_memory(layers: Sequence[Projection]) -> Iterator[list[Projection]]:
    wave: list[Projection] = []
    left = MEMORY
    for view in layers:
        m, n = view.sizes
        size = 8 * view.groups * (m * m + m * n + 4 * n * n)
        if wave and size > left:
            yield wave
            wave, left = [], MEMORY
        wave.append(view)
        left -= size
    if wave:
        yield wave


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
    """The model before anything lossy, to compare with: a context manager, since large weights lie in a file."""

    def __init__(self, driver: Driver, module: ir.Module, fit: Any) -> None:
        self.driver = driver
        self.fit = fit
        self._runnable = Runnable(driver.emit(module)) if fit is not None else None
        self._model: Any = None
        self._names: frozenset[str] = frozenset()

    def __enter__(self) -> Reference:
        from .runtime.inspect import read_proto, tensor_names

        if self._runnable is not None:
            self._model = self._runnable.__enter__()
            proto = read_proto(self._model)
            self._names = frozenset(tensor_names(proto)) | {i.name for i in proto.graph.input}
        return self

    def __exit__(self, *error: object) -> None:
        if self._runnable is not None:
            self._runnable.__exit__(*error)

    def moments(self, module: ir.Module, requests: Sequence[Any]) -> Mapping[str, Any]:
        """Return the moments asked for, by key, over the calibration data."""
        from .runtime.paired import accumulate

        driver, o = self.driver, self.driver.options
        tell = driver.progress
        asked = [r if r.y in self._names else replace(r, own=True) for r in requests]
        with driver.phase("calibrate"), Runnable(driver.emit(module)) as model:
            return accumulate(
                self._model,
                model,
                asked,
                self.fit,
                threads=o.threads,
                custom_ops=o.custom_ops,
                progress=(lambda n: tell("calibrate", n, 0)) if tell is not None else None,
                executor=o.executor,
            )
