"""The engine: finds sites, owns the conditions every rewrite shares, commits, and records."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .. import ir
from ..errors import FccError, PassError
from .base import Match, ModulePass, Pass, PassContext, PatternPass, Site, SitePass
from .fragment import question_of
from .pattern import Bindings, Op, Trace, match_root
from .rewriter import Rewriter

logger = logging.getLogger("fcc")


def run_pass(p: Pass, module: ir.Module, ctx: PassContext) -> int:
    """Run one pass to its own fixpoint and return the number of applications.

    Raises:
        PassError: the pass raised, under strict.
        PassError: a commit raised halfway; the application is in the log, and the module must not be used.
        RuntimeError: the pass does not come to an end.
    """
    if not ctx.log.admits(p.name, ""):
        return 0
    if p.needs_stats and ctx.stats is None:
        ctx.log.refuse(p.name, "", "needs calibration data and there is none")
        return 0
    for kind in type(p).__mro__:  # isinstance() of an abstract class asks all of its subclasses
        if kind in _RUNNERS:
            return _RUNNERS[kind](p, module, ctx)
    raise TypeError(f"{type(p).__name__} is no PatternPass, SitePass or ModulePass")


def site_name(node: ir.Node) -> str:
    """Return the name that identifies a site across replays: the first output of its node."""
    return next((v.name for v in node.outputs if v.name), node.name or node.op_type)


# -- patterns ------------------------------------------------------------------------------------------------------
def _run_pattern(p: PatternPass, module: ir.Module, ctx: PassContext) -> int:
    patterns = p.pattern if isinstance(p.pattern, tuple) else (p.pattern,)
    roots = {t for pattern in patterns for t in pattern.types}
    queue: deque[ir.Node] = deque(n for n in module.nodes() if n.op_type in roots)
    queued = {id(n) for n in queue}
    count, bound = 0, _bound(module)
    while queue:
        node = queue.popleft()
        queued.discard(id(node))
        if node.graph is None:
            continue
        attempts = (_attempt(p, pattern, node, module, ctx) for pattern in patterns)
        touched = next((t for t in attempts if t is not None), None)
        if touched is None:
            continue
        count = _counted(count, bound)
        for affected in _affected(touched):
            if affected.op_type in roots and id(affected) not in queued:
                queued.add(id(affected))
                queue.append(affected)
    return count


def _affected(touched: Iterable[ir.Node]) -> Iterator[ir.Node]:
    for node in touched:
        if node.graph is None:
            continue
        yield node
        for value in node.outputs:
            yield from (u.node for u in value.uses())


def _attempt(p: PatternPass, pattern: Op, node: ir.Node, module: ir.Module, ctx: PassContext) -> list[ir.Node] | None:
    if node.op_type not in pattern.types:
        return None
    trace = Trace()
    for bindings in match_root(pattern, node, trace):
        reason = _escapes(bindings, node, pattern)
        match = Match(node, bindings.values, bindings.nodes, bindings.matched[1:], module, ctx)
        try:
            reason = reason or p.check(match) or (None if _asks(p, node, ctx) else p.pays(match))
        except Exception as error:
            _failed(p, node, ctx, error)
            return None
        if reason is not None:
            trace.fail(len(bindings.matched) + 1, lambda reason=reason: reason)  # type: ignore[misc]
            continue
        if not ctx.log.admits(p.name, site_name(node)):
            return None
        return _apply_match(p, pattern, match, bindings)
    if trace.depth > 1 or p.name in ctx.log.explain:
        ctx.log.refuse(p.name, site_name(node), trace.reason, trace.depth)
    return None


def _escapes(bindings: Bindings, root: ir.Node, pattern: Op) -> str | None:
    matched = set(bindings.matched)
    for i, value in enumerate(root.outputs):
        if i != pattern.output and ir.is_used(value) and not pattern.shared:
            return f"output {i} of {root.op_type} {root.name!r} is used too"
    for node in bindings.matched[1:]:
        if id(node) in bindings.shared:
            continue
        for value in node.outputs:
            if value.is_graph_output():
                return f"{value.name!r} is a graph output"
            if any(u.node not in matched for u in value.uses()):
                return f"{value.name!r} has other users"
    return None


def _apply_match(p: PatternPass, pattern: Op, match: Match, bindings: Bindings) -> list[ir.Node] | None:
    node, module, ctx = match.root, match.module, match.ctx
    rw = Rewriter(module, node, p.name)
    site = site_name(node)
    try:
        result = p.rewrite(match, rw)
        outputs = [None] * pattern.output + [result] if isinstance(result, ir.Value) else list(result)
        for old, new in zip(node.outputs, outputs, strict=False):
            if new is not None:
                rw.replace(old, new)
        rw.erase(*bindings.matched)
        rw.stamp(bindings.matched)
        if reason := _dear(p, match, rw, site, ctx):
            rw.abort()
            ctx.log.refuse(p.name, site, reason, 1)
            return None
        touched = rw.commit()
    except Exception as error:
        _undo(p, rw, node, site, ctx, error)
        return None
    _record(p, site, bindings.matched, rw, touched, ctx)
    return touched


# -- sites ---------------------------------------------------------------------------------------------------------
def _run_sites(p: SitePass, module: ir.Module, ctx: PassContext) -> int:
    count, bound = 0, _bound(module)
    for site in p.sites(module, ctx):
        if site.anchor.graph is not None and _apply_site(p, site):
            count = _counted(count, bound)
    return count


def _apply_site(p: SitePass, site: Site) -> bool:
    node, ctx = site.anchor, site.ctx
    name = site_name(node)
    try:
        reason = p.check(site) or (None if _asks(p, node, ctx) else p.pays(site))
    except Exception as error:
        _failed(p, node, ctx, error)
        return False
    if reason is not None:
        ctx.log.refuse(p.name, name, reason, 1)
        return False
    if not ctx.log.admits(p.name, name):
        return False
    rw = Rewriter(site.module, node, p.name)
    try:
        p.rewrite(site, rw)
        rw.stamp([node])
        if reason := _dear(p, site, rw, name, ctx):
            rw.abort()
            ctx.log.refuse(p.name, name, reason, 1)
            return False
        touched = rw.commit()
    except Exception as error:
        _undo(p, rw, node, name, ctx, error)
        return False
    _record(p, name, [node], rw, touched, ctx)
    return True


# -- modules -------------------------------------------------------------------------------------------------------
def _run_module(p: ModulePass, module: ir.Module, ctx: PassContext) -> int:
    reason = p.check_module(module, ctx)
    if reason is not None:
        ctx.log.refuse(p.name, "", reason)
        return 0
    if not ctx.log.admits(p.name, ""):
        return 0
    count = p.run(module, ctx)
    if count:
        module.reindex()
        ctx.log.apply(p.name, "", (), ())
        ctx.log.touched.extend(module.nodes())
    return count


# -- shared --------------------------------------------------------------------------------------------------------
def _bound(module: ir.Module) -> int:
    return 100 + 10 * sum(1 for _ in module.nodes())


def _counted(count: int, bound: int) -> int:
    if count >= bound:
        raise RuntimeError(f"it does not come to an end: {count} applications in one run")
    return count + 1


def _asks(p: PatternPass | SitePass, node: ir.Node, ctx: PassContext) -> bool:
    """Return whether a record, rather than the pass, is asked whether the rewrite pays."""
    return p.measured and ctx.costs is not None and ctx.costs.asks(p.name, site_name(node))


def _dear(p: PatternPass | SitePass, at: Any, rw: Rewriter, site: str, ctx: PassContext) -> str | None:
    """Return why an uncommitted rewrite does not pay by what is recorded, or by the pass where nothing is."""
    if ctx.costs is None or not _asks(p, rw.anchor, ctx):
        return None
    found = ctx.costs.refusal(p.name, site, question_of(rw, p.context(at), ctx.shapes))
    return p.pays(at) if found is None else found or None


def _record(
    p: Pass, site: str, before: Sequence[ir.Node], rw: Rewriter, touched: list[ir.Node], ctx: PassContext
) -> None:
    rewrite = ctx.log.apply(p.name, site, before, (n for n in rw.made if n.graph is not None))
    rw.module.history.append(replace(rewrite, index=len(rw.module.history)))
    ctx.log.touched.extend(touched)


def _undo(p: Pass, rw: Rewriter, node: ir.Node, site: str, ctx: PassContext, error: Exception) -> None:
    """Forget a rewrite that raised; in the middle of its commit only a replay without this application can do that."""
    if not rw.changing:
        rw.abort()
        _failed(p, node, ctx, error)
        return
    ctx.log.apply(p.name, site, (node,), ())
    raise PassError(
        f"pass {p.name} failed at {site!r} while the graph was changed: {_reason(error)}",
        f"--disable {p.name} leaves it out",
        pass_name=p.name,
        node=node.name or "",
    ) from error


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, FccError) else f"{type(error).__name__}: {error}"


def _failed(p: Pass, node: ir.Node, ctx: PassContext, error: Exception) -> None:
    reason = _reason(error)
    logger.warning("pass %s failed at %s: %s", p.name, site_name(node), reason)
    if ctx.log.strict:
        raise PassError(
            f"pass {p.name} failed at node {node.name!r}: {reason}",
            f"--disable {p.name} leaves it out",
            pass_name=p.name,
            node=node.name or "",
        ) from error
    ctx.log.fail(p.name, site_name(node), reason)


_RUNNERS: dict[type, Callable[..., int]] = {
    PatternPass: _run_pattern,
    SitePass: _run_sites,
    ModulePass: _run_module,
}
