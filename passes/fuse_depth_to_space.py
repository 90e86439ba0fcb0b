"""fuse-depth-to-space: Reshape, Transpose, Reshape -> DepthToSpace or SpaceToDepth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._permutations import permutation
from ._views import full_dims


@dataclass(frozen=True)
class _Form:
    """One spelling: which axes of the six hold the block, which are joined to give each axis of the result."""

    kind: str
    mode: str | None
    perm: tuple[int, ...]
    blocks: tuple[int, int]


FORMS = (
    _Form("DepthToSpace", "DCR", (0, 3, 4, 1, 5, 2), (1, 2)),
    _Form("DepthToSpace", "CRD", (0, 1, 4, 2, 5, 3), (2, 3)),
    _Form("SpaceToDepth", None, (0, 3, 5, 1, 2, 4), (3, 5)),
)


class FuseDepthToSpace(PatternPass):
    """Recover pixel shuffle, and its inverse, from the reshapes that exporters write.

    Reshape(Transpose(Reshape(x, [N, r, r, C, H, W]), [0, 3, 4, 1, 5, 2]), [N, C, H r, W r]) -> DepthToSpace(x, r)
    with [N, C, r, r, H, W] and [0, 1, 4, 2, 5, 3]: mode CRD (torch's pixel_shuffle);
    with [N, C, H, r, W, r] and [0, 3, 5, 1, 2, 4]: SpaceToDepth(x, r)

    Shapes: x of rank 4, sizes known, at least as symbols. Types: floats (what targets have kernels for).
    Numerics: exact.
    Source: ONNX DepthToSpace-13, SpaceToDepth-13; Shi et al. 2016 (sub-pixel convolution).
    """

    name: ClassVar[str] = "fuse-depth-to-space"
    pattern = op.Reshape(
        op.Transpose(op.Reshape(var("x"), var("six"), name="first"), name="transpose"), var("four"), name="last"
    )

    def check(self, m: Match) -> str | None:
        found = _form(m)
        return found if isinstance(found, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        form = _form(m)
        assert not isinstance(form, str)
        dims = ir.known_dims(m.nodes["first"].outputs[0])
        made: ir.Value = rw.op(form.kind, m["x"], blocksize=dims[form.blocks[0]], mode=form.mode)
        return made


def _form(m: Match) -> _Form | str:
    source, six = full_dims(m["x"]), full_dims(m.nodes["first"].outputs[0])
    result, perm = full_dims(m.root.outputs[0]), permutation(m.nodes["transpose"])
    if source is None or six is None or result is None:
        return "a size is not known"
    if (len(source), len(six), len(result)) != (4, 6, 4):
        return "it does not lay out 4 axes as 6 and back"
    if m["x"].dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return "the type has no kernel everywhere"
    form = next((f for f in FORMS if f.perm == perm), None)
    if form is None:
        return "the axes move in another order"
    rows, columns = (six[b] for b in form.blocks)
    if not isinstance(rows, int) or rows != columns or rows < 1:
        return "the block is no square of known size"
    return form if source == _depth(form, six) and result == _joined(form, six) else "other axes are joined"


def _depth(form: _Form, six: tuple[ir.Dim | int, ...]) -> tuple[ir.Dim | int, ...]:
    """Return the shape that the first Reshape must start from."""
    if form.kind == "SpaceToDepth":
        return six[0], six[1], six[2] * six[3], six[4] * six[5]
    return six[0], six[1] * six[2] * six[3], six[4], six[5]


def _joined(form: _Form, six: tuple[ir.Dim | int, ...]) -> tuple[ir.Dim | int, ...]:
    """Return the shape that the last Reshape must give."""
    moved = [six[a] for a in form.perm]
    if form.kind == "SpaceToDepth":
        return moved[0], moved[1] * moved[2] * moved[3], moved[4], moved[5]
    return moved[0], moved[1], moved[2] * moved[3], moved[4] * moved[5]
