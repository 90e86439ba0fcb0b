"""convert-winograd: convolutions of stride 1 by a Toom-Cook (Winograd) algorithm along one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._conv_layer import ConvLayer, conv_layer_of
from ._winograd import Tiling, refusal, tilings
from ._winograd_cost import MOST, RATES, direct, tiled, work
from ._winograd_emit import Emit

_FUSED = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
"""What onnxruntime fuses with a convolution in front of it."""


@dataclass(frozen=True)
class _Choice:
    """The cheapest tiling of a convolution with its estimate (of the time of the direct one), or why there is none."""

    tiling: Tiling | None
    reason: str | None = None
    ratio: float = 1.0
    share: float = 0.0


@dataclass(frozen=True)
class ConvertWinograd(SitePass):
    """Compute convolutions of stride 1 in tiles along one axis, by a Toom-Cook (Winograd) algorithm F(m, r).

    y = A^T ((G w) * (B d)) for each tile of m outputs, n = m + r - 1 inputs d, kernel of r elements:
    Conv(x, w, b) -> Squeeze(ConvTranspose(MatMul(Conv(w, G), Conv(Unsqueeze(x), B)), A)),  other axes of size 1
    Conv(x, w, b) -> ... Conv<group = n>(Reshape(Conv(Unsqueeze(x), B)), Reshape(Conv(w, G)), Pad(b)) ...

    n / (m r) of the multiplications: F(4, 3) half, F(6, 3) 4/9, F(4, 5) 2/5. Conv(w, G) is computed when the model is
    loaded: the file keeps weights of the size of w. A bias enters the product at the point 1 of the algorithm; for
    MatMul as one more ``column`` of the weights, (r - 1) O numbers more than it has, or as an Add (``lean``).

    Shapes: x [N, C, *spatial] float32, one group, constant w and b; r of 3 to 7, stride and dilation 1 and a known size
    along the axis; other axes as they are; N, or else one other size, may be a symbol. Memory: n / m times input and
    result (at most 4, mostly 1.5), n / r times the weights (at most 2.7).
    Numerics: error of a layer up to 3e-6 of its largest output (direct: 1e-6), see analysis/toom_cook.py; infinities
    and NaN spread over their tile. Where it pays is estimated, see ``RATES``, on targets whose direct convolutions have
    no such algorithm. ``min_gain``: the share of the estimated time of the model, every node by its multiply-adds or
    the bytes it moves, that all layers together must save; 0: whatever a layer saves; below 0: no estimates.
    Source: Winograd 1980; Lavin & Gray 2016 (arXiv 1509.09308).
    """

    name: ClassVar[str] = "convert-winograd"
    finishing: ClassVar[bool] = True
    measured: ClassVar[bool] = True
    min_gain: float = 0.25
    column: bool = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        nodes = [n for n in module.nodes() if n.op_type == "Conv" and not n.domain]
        choices = {n: self._choice(n, module, ctx) for n in nodes}
        share = self._share(choices, module, ctx)
        for node, found in choices.items():
            yield Site(node, module, ctx, _Choice(found.tiling, found.reason, found.ratio, share))

    def check(self, site: Site) -> str | None:
        found: _Choice = site.data
        if found.reason is not None or self.min_gain < 0:
            return found.reason
        if site.ctx.target.name not in RATES:
            return "the target has such algorithms of its own"
        if found.share < self.min_gain:
            what = f"{found.ratio:.2f} of the time here, and to save {found.share:.0%} of that of the model"
            return f"tiles are estimated to take {what}"
        return None

    def pays(self, site: Site) -> str | None:
        ratio = site.data.ratio
        return f"tiles are estimated to take {ratio:.2f} of the time" if ratio > MOST and self.min_gain >= 0 else None

    def context(self, site: Site) -> Sequence[ir.Node]:
        user = ir.sole_user(site.anchor.outputs[0])
        return [user] if user is not None and user.op_type in _FUSED and not user.domain else []

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        rw.replace(site.anchor.outputs[0], Emit(site.data.tiling, rw, self.column).run())
        rw.erase(site.anchor)

    def lean(self) -> ConvertWinograd:
        return replace(self, column=False)

    def candidates(self, layer: ConvLayer) -> list[Tiling]:
        """Return the tilings to choose from."""
        return tilings(layer)

    def _choice(self, node: ir.Node, module: ir.Module, ctx: PassContext) -> _Choice:
        layer = conv_layer_of(node)
        if isinstance(layer, str):
            return _Choice(None, layer)
        if module.opset() < 13:
            return _Choice(None, "Unsqueeze takes its axes as attributes (opset below 13)")
        found = self.candidates(layer)
        if not found:
            return _Choice(None, next(filter(None, (refusal(layer, i) for i in range(len(layer.kernel))))))
        rates = RATES.get(ctx.target.name, RATES["cpu"])
        best = min(found, key=lambda t: tiled(t, rates, ctx.shapes))
        return _Choice(best, None, tiled(best, rates, ctx.shapes) / max(direct(layer, ctx.shapes), 1.0))

    def _share(self, choices: dict[ir.Node, _Choice], module: ir.Module, ctx: PassContext) -> float:
        """Return the share of the estimated time of the model that all layers which are faster in tiles save."""
        rates = RATES.get(ctx.target.name)
        saved = sum(
            direct(c.tiling.layer, ctx.shapes) * (1 - c.ratio)
            for c in choices.values()
            if c.tiling is not None and c.ratio <= MOST
        )
        return saved / work(module, rates, ctx.shapes) if rates is not None and saved > 0 else 0.0
