"""quantize-embeddings: Gather(table, i) -> Cast(Gather(table8, i)) * Gather(scales, i)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import ORIGIN, PassContext, Rewriter, Site, SitePass

from ._chosen import chosen

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})


@dataclass(frozen=True)
class QuantizeEmbeddings(SitePass):
    """Store an embedding table in int8 with a scale per row; only the rows that are looked up become float again.

    Gather(T, i)  ->  Cast(Gather(T8, i)) * Gather(s, i),  s_r = max|T_r| / 127

    A table that something else reads too (a tied projection) stays. ``least``: elements from which a table is worth
    it; small ones lie in the cache. ``only`` and ``exclude`` name the results. Not on tensorrt, which takes int8 behind
    Q and DQ only.
    Shapes: T [rows, ...] constant, axis 0; any indices.
    Source: symmetric row-wise quantization of embeddings (Guan et al. 2019, arXiv 1911.02079).
    """

    name: ClassVar[str] = "quantize-embeddings"
    exact: ClassVar[bool] = False
    least: int = 1 << 20
    only: str = ""
    exclude: str = ""

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the names of the results that would be looked up in int8."""
        return [s.anchor.outputs[0].name or "" for s in self.sites(module, ctx) if self.check(s) is None]

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the first look-up in every constant table."""
        seen: set[int] = set()
        for node in [n for n in module.nodes() if n.op_type == "Gather" and n.domain == ""]:
            table = node.inputs[0]
            if table is not None and ir.Module.is_constant(table) and table.dtype in _FLOATS and id(table) not in seen:
                seen.add(id(table))
                yield Site(node, module, ctx, table)

    def check(self, site: Site) -> str | None:
        """Return why the table stays float."""
        table: ir.Value = site.data
        users = [u.node for u in table.uses()]
        if site.ctx.target.name == "tensorrt":
            return "tensorrt takes int8 behind Q and DQ only"
        if not all(chosen(n, self.only, self.exclude) for n in users):
            return "excluded by option"
        if any(f"{self.name}(" in n.metadata_props.get(ORIGIN, "") for n in users):
            return "it is a scale of what is stored so"
        plain = all(n.op_type == "Gather" and n.domain == "" and n.inputs[0] is table for n in users)
        if not plain or any(n.graph is not table.graph for n in users):
            return "something else reads the table too"
        dims: Any = ir.dims_of(table)
        if len(dims) < 2 or any(n.attributes.get_int("axis", 0) % len(dims) for n in users):
            return "it looks up no rows"
        array = np.asarray(ir.Module.constant(table))
        if array.size < max(self.least, 1):
            return f"a table of {array.size} elements is not worth it (from {self.least} it is)"
        return None if np.all(np.isfinite(array)) else "the table holds NaN or infinity"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Look up integers and scales, by every reader of the table."""
        table: ir.Value = site.data
        array = np.asarray(ir.Module.constant(table))
        wide = array.astype(np.float64)
        largest = np.abs(wide).max(axis=tuple(range(1, wide.ndim)), keepdims=True)
        scales = np.where(largest > 0, largest / 127, 1.0).astype(array.dtype)
        scales = np.maximum(scales, np.finfo(array.dtype).smallest_normal)
        integers = np.clip(np.rint(wide / scales.astype(np.float64)), -127, 127).astype(np.int8)
        values = rw.const(integers, f"{table.name}/int")
        steps = rw.const(scales, f"{table.name}/scale")
        for node in list(dict.fromkeys(u.node for u in table.uses())):
            rw.before(node)
            rows = rw.op("Cast", rw.like(node, values, node.inputs[1]), to=table.dtype)
            rw.replace(node.outputs[0], rw.op("Mul", rows, rw.like(node, steps, node.inputs[1])))
            rw.erase(node)
        site.ctx.log.layers.append(
            {"name": site.anchor.outputs[0].name, "what": f"int8 table of {' x '.join(map(str, array.shape))}"}
        )
