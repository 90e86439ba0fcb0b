"""eliminate-loop-values: what a Loop or Scan carries for nothing leaves its signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fcc import ir
from fcc.analysis.loops import Carried, Looped, looped, plain, used_loops
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._live import live_values
from ._loop_signature import signature


@dataclass(frozen=True)
class _Kept:
    """What of a signature stays, as indices: carried values, scan inputs, scan outputs; and the values it needs."""

    carried: tuple[int, ...]
    elements: tuple[int, ...]
    stacked: tuple[int, ...]
    invariant: tuple[Carried, ...]
    live: frozenset[ir.Value]

    @property
    def outputs(self) -> int:
        return len(self.carried) + len(self.stacked)


class EliminateLoopValues(SitePass):
    """Take values out of a Loop or Scan that stay the same, or that nothing behind it depends on.

    Loop(n, c, x, w) {x, w -> f(x, w), w} -> Loop(n, c, x) {x -> f(x, w)}, w being captured; its result is w
    Loop(n, c, x, v) {x, v -> f(x), g(v)} -> Loop(n, c, x) {x -> f(x)} where the last v is not used

    A carried value stays the same when every trip hands it on, or hands on the value it starts as. Values that only
    decide over themselves go together, with the nodes that compute them; scan outputs that are not used likewise, and
    scan inputs but one. Shapes: any; where a shape is declared in the body, the captured value must fit it.
    Numerics: exact, without any trip too. Source: ONNX Loop-25, Scan-25.
    """

    name: ClassVar[str] = "eliminate-loop-values"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in used_loops(module):
            yield Site(node, module, ctx, looped(node))

    def check(self, site: Site) -> str | None:
        loop = site.data
        if isinstance(loop, str):
            return loop
        kept = _kept(loop)
        if kept.outputs == len(site.anchor.outputs) and len(kept.elements) == len(loop.elements):
            return "everything it carries changes and is used"
        clash = next((c for c in kept.invariant if not _fits(c.init, c.inner)), None)
        return None if clash is None else f"{clash.inner.name!r} is declared with another shape than it starts with"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        loop, kept = site.data, _kept(site.data)
        for c in kept.invariant:
            for old in (c.inner, c.result):
                if ir.is_used(old):
                    rw.replace(old, c.init)
        if kept.outputs:
            kept_in = signature(loop, kept.carried, kept.elements, kept.stacked)
            rw.resign(site.anchor, kept_in, **_attributes(loop, kept))
            dead = [n for n in loop.body if n.outputs and kept.live.isdisjoint(n.outputs)]
            rw.erase(*reversed(dead))
        rw.erase(site.anchor)


def _kept(loop: Looped) -> _Kept:
    same = tuple(c for c in loop.carried if plain(c.given, loop.body) in (c.inner, c.init))
    changing = [c for c in loop.carried if c not in same]
    stacked = [i for i, s in enumerate(loop.stacked) if ir.is_used(s.result)]
    roots = [loop.stacked[i].given for i in stacked] + ([loop.goes_on] if loop.goes_on is not None else [])
    kept = [c for c in changing if ir.is_used(c.result)]
    while True:
        live = live_values(loop.body, [*roots, *(c.given for c in kept)])
        more = [c for c in changing if c not in kept and c.inner in live]
        if not more:
            break
        kept += more
    elements = [i for i, e in enumerate(loop.elements) if e.inner in live]
    elements = elements or [*range(len(loop.elements))][:1]  # the length of a sequence is the number of trips
    carried = tuple(sorted(c.index for c in kept))
    return _Kept(carried, tuple(elements), tuple(stacked), same, frozenset(live))


def _fits(value: ir.Value, declared: ir.Value) -> bool:
    a, b = ir.dims_of(value), ir.dims_of(declared)
    if a is None or b is None:
        return True
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and not any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in pairs)


def _attributes(loop: Looped, kept: _Kept) -> dict[str, Any]:
    if loop.goes_on is not None:
        return {}
    attributes = loop.node.attributes
    lists = {
        "scan_input_axes": kept.elements,
        "scan_input_directions": kept.elements,
        "scan_output_axes": kept.stacked,
        "scan_output_directions": kept.stacked,
    }
    found = {k: _picked(attributes.get_ints(k, ()), at) for k, at in lists.items() if k in attributes}
    return {"num_scan_inputs": len(kept.elements), **found}


def _picked(values: Sequence[int], at: Iterable[int]) -> list[int] | None:
    return [values[i] for i in at] or None
