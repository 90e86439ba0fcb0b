"""convert-mapped-loops: a Loop or Scan whose trips do not depend on each other -> its body on all elements at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis.loops import Looped, looped, plain, used_loops
from fcc.analysis.trips import Counters, trips
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._loop_items import is_outer, read_of
from ._mapped import Mapped
from ._recurrent import stacked, stacking_refusal
from ._sequence_items import Item, elements_first


class ConvertMappedLoops(SitePass):
    """Compute for all elements of a sequence at once what a loop computes for one after the other.

    Loop {give x[i] W + b} -> x W + b;  Scan alike, forwards or backwards, along any axis

    Every value that the loop gives is stacked and computed from elements of sequences by operators that also work with
    one axis more: element by element, products by a matrix, along axes, changes of shape. Carried are counters alone.
    Shapes: sequences with a known axis of steps, a number or the symbol that is the number of trips; no value of more
    than 2^24 elements. Numerics: the same operations (a product of more rows may add in another order).
    Source: vectorization of loops without carried dependence, Allen & Kennedy 1987; ONNX Loop-25, Scan-25.
    """

    name: ClassVar[str] = "convert-mapped-loops"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in used_loops(module):
            yield Site(node, module, ctx, looped(node))

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        if site.module.opset() < 13:
            return "before opset 13, Unsqueeze has no axes operand"
        found = _mapped(site.data)
        return found if isinstance(found, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        loop, found = site.data, _mapped(site.data)
        assert not isinstance(found, str)
        mapped, backwards = found
        values = mapped.write(
            rw, lambda item: elements_first(item, mapped.count, rw), lambda v: v if is_outer(v, loop) else rw.lift(v)
        )
        for s in loop.stacked:
            if ir.is_used(s.result):
                rw.replace(s.result, stacked(values[plain(s.given, loop.body)], s.axis, backwards != s.reverse, rw))
        rw.erase(site.anchor)


def _mapped(loop: Looped) -> tuple[Mapped, bool] | str:
    """Return what the body computes by element, and whether it goes backwards; or why it has no such form."""
    count, counters = trips(loop), Counters(loop)
    if count is None:
        return "how often it runs is not known"
    if any(ir.is_used(c.result) or counters.of(c.inner) is None for c in loop.carried):
        return "a trip depends on the one before"
    directions: set[bool] = set()

    def item(value: ir.Value) -> Item | None:
        read = read_of(loop, counters, count, value)
        if isinstance(read, str):
            return None
        directions.add(read.backwards)
        return read.item

    mapped = Mapped(loop.body, count, item, lambda v: is_outer(v, loop) or v in loop.body.initializers.values())
    for s in loop.stacked:
        given = plain(s.given, loop.body)
        if not ir.is_used(s.result):
            continue
        reason = "it gives the same in every trip" if mapped.given(given) else mapped.refusal(given)
        reason = reason or stacking_refusal(given, s.axis)
        if reason is not None:
            return reason
    return (mapped, directions.pop()) if len(directions) == 1 else "it reads sequences in both directions, or none"
