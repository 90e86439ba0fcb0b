"""insert-qdq: static int8, Conv(x, w) -> DQ(Q(Conv(DQ(Q(x)), DQ(w8))))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.compress.calibrate import CalibrationStats, Watch
from fcc.compress.histogram import METHODS
from fcc.compress.quantize import activation_params
from fcc.errors import PipelineError, did_you_mean
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.target import get_target
from fcc.target.qdq import QdqScheme

from . import _qdq_plan
from ._chosen import chosen
from ._qdq_between import BETWEEN, Task, between_refusal, guard_refusal, guarded, input_of, skip_refusal
from ._qdq_emit import Activation, absorbing, dequantized, emit, quantize, quantized_before
from ._qdq_layers import DIRECT, Layer
from ._qdq_operands import emit_operands
from ._qdq_watch import fit_of, histograms, means, moments


@dataclass(frozen=True)
class InsertQdq(SitePass):
    """Quantize the weight ops of a model to int8 where the target has integer kernels for them.

    Conv(x, w, b) -> Relu  ->  DQ(Q(Relu(Conv(DQ(Q(x)), DQ(w8), DQ(b32)))))

    Conv, Gemm and MatMul with constant weights, and MaxPool between two of them. Activations: per tensor, range of the
    calibration data, zero included. Weights: per output channel, symmetric; where kernels add product pairs in int16,
    scaled so that no pair saturates. Biases: int32 at the product of both scales. A Relu or Clip behind a layer is
    covered by the quantized range. The result of a Conv is always quantized (it stays a float kernel otherwise), that
    of a Gemm or MatMul only where an int8 layer reads it. MatMul + Add becomes a Gemm, and MatMulIntegerToFloat
    (com.microsoft) at rank 3 and above.

    tensorrt: only the operands of Conv, ConvTranspose, Gemm and MatMul, at zero point 0, and the skip operand of a sum
    behind a Conv; biases and results stay float. What a Concat joins has one scale. Layers stay float that tensor cores
    gain nothing by: one row or output channel, too few channels of a Conv.

    ``only`` and ``exclude`` name layers: output names, node names or op types, joined by ``+``. ``ranges``: minmax,
    percentile (99.999) or mse, of a histogram. ``gptq`` rounds weights so that the error of the outputs is least,
    ``correct`` takes the mean error of a layer into its bias; both use what ``watch`` asks calibration for.
    ``per_tensor`` names layers whose weight has one scale: less exact, and faster for a Gemm of few rows.
    Shapes: x of any rank the op takes, float32. Needs statistics of ``tensors(module)``, opset 13.
    Source: ONNX QuantizeLinear-13; Jacob et al. 2018 (arXiv 1712.05877); onnxruntime qdq_selectors.cc; TensorRT,
    Explicit Quantization, Q/DQ placement.
    """

    name: ClassVar[str] = "insert-qdq"
    exact: ClassVar[bool] = False
    needs_stats: ClassVar[bool] = True
    only: str = ""
    exclude: str = ""
    ranges: str = "minmax"
    gptq: bool = False
    correct: bool = False
    per_tensor: str = ""

    def __post_init__(self) -> None:
        if self.ranges not in METHODS:
            raise PipelineError(
                f"insert-qdq{{ranges}} has no value {self.ranges!r}", did_you_mean(self.ranges, METHODS)
            )

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the output names of the layers it would quantize: each may stand in ``only`` or ``exclude``."""
        scheme = ctx.target.qdq
        return (
            []
            if scheme is None
            else [x.node.outputs[0].name or "" for x in self._plan(module, scheme, ctx).layers.values()]
        )

    def watch(self, module: ir.Module, ctx: PassContext, seen: CalibrationStats) -> dict[str, Watch]:
        """Return the accumulators that the options need; ``seen`` has the ranges of ``tensors``."""
        scheme = ctx.target.qdq
        if scheme is None:
            return {}
        plan = self._plan(module, scheme, ctx)
        layers = list(plan.layers.values())
        found = {} if self.ranges == "minmax" else histograms(plan.tensors(), seen)
        return found | (moments(layers) if self.gptq else {}) | (means(layers) if self.correct else {})

    def tensors(self, module: ir.Module, ctx: PassContext | None = None) -> list[str]:
        """Return the names of the tensors whose statistics ``ctx.stats`` must hold."""
        scheme = (ctx.target if ctx is not None else get_target("cpu")).qdq
        return [] if scheme is None else self._plan(module, scheme, ctx).tensors()

    def _plan(self, module: ir.Module, scheme: QdqScheme, ctx: PassContext | None) -> _qdq_plan.Plan:
        return _qdq_plan.make(module, scheme, self._excluded, {} if ctx is None else ctx.shapes)

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the weight ops and what runs on int8 between them, in order; refused ones with their reason."""
        scheme = ctx.target.qdq
        if scheme is None:
            reason = ctx.target.int8_refusal[0]
            yield from (Site(n, module, ctx, reason) for n in list(module.nodes()) if n.op_type in ("Conv", "MatMul"))
            return
        plan = self._plan(module, scheme, ctx)
        plan.require(ctx.stats.range)
        outputs = {key: plan.quantizes_output(layer) for key, layer in plan.layers.items()}
        shared = plan.one_scale()
        for node, role in plan.roles():
            key = id(node)
            skip = plan.skips[key][1] if role == "skip" else None
            task = Task(scheme, plan.layers.get(key), outputs.get(key, False), BETWEEN.get(role), skip, shared)
            yield Site(node, module, ctx, plan.refused[key] if role == "refused" else task)

    def check(self, site: Site) -> str | None:
        """Return the reason of the plan, or that there is no int8 in front of a node that is no layer."""
        if isinstance(site.data, str):
            return site.data
        task: Task = site.data
        if task.skip is not None:
            return skip_refusal(site, task.skip, task)
        return guard_refusal(site, task) if task.between is None else between_refusal(site, task)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Quantize the operands, and the result where the plan says so."""
        task: Task = site.data
        if task.skip is not None:
            rw.set_input(site.anchor, task.skip, self._quantized_input(site, rw, task, task.skip).value)
            return
        if task.layer is None:
            x = dequantized(input_of(site), task.scheme.activation_dtype)
            assert x is not None
            assert task.between is not None
            task.between(site, rw, x)
            return
        layer, x = task.layer, self._quantized_input(site, rw, task)
        one = bool(self.per_tensor) and chosen(layer.node, self.per_tensor, "")
        fit = fit_of(layer, site.ctx.stats, per_channel=not one, gptq=self.gptq, correct=self.correct)
        write = emit_operands if task.scheme.float_operands else emit
        result = write(rw, layer, guarded(rw, layer.node, x, task.scheme), task.scheme, fit)
        if task.output:
            if layer.activation is not None:
                result = rw.like(layer.activation, result, *layer.activation.inputs[1:])
            low, high = site.ctx.stats.range(layer.out.name, self.ranges)
            relu = layer.activation is not None and layer.activation.op_type == "Relu"
            params = activation_params(low, high, task.scheme.activation_dtype, relu=relu, pow2=task.scheme.pow2)
            rw.replace(layer.out, quantize(rw, result, absorbing(params, layer.activation), layer.out.name).value)
            rw.erase(*([layer.activation] if layer.activation is not None else []))
        else:
            rw.replace(layer.raw, result)
        rw.erase(*reversed(layer.nodes))
        site.ctx.log.layers.append(_report(layer, x, task.output))

    def _quantized_input(self, site: Site, rw: Rewriter, task: Task, index: int = 0) -> Activation:
        x, scheme = input_of(site, index), task.scheme
        found = dequantized(x, scheme.activation_dtype)
        if found is not None:
            return found
        ranges = [site.ctx.stats.range(n, self.ranges) for n in task.shared.get(x.name or "", (x.name,))]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        how = {"symmetric": scheme.symmetric, "pow2": scheme.pow2}
        params = activation_params(low, high, scheme.activation_dtype, **how)
        return quantized_before(rw, x, params) or quantize(rw, x, params, x.name)

    def _excluded(self, node: ir.Node) -> bool:
        return not chosen(node, self.only, self.exclude)


def _report(layer: Layer, x: Activation, output: bool) -> dict[str, object]:
    result = "int8" if output else "float"
    op = layer.form if layer.form != DIRECT else "MatMul"
    wide = x.integers.dtype is not None and x.integers.dtype.itemsize > 1
    kind = f"16-bit {op}" if wide else f"int8 {op}"
    what = f"{kind}, {result} result, input scale {x.step:.3g}"
    return {"name": layer.out.name, "what": what}
