"""convert-fp16: float32 computation -> float16 with float32 islands; inputs and outputs keep their types."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.errors import TargetError
from fcc.rewrite import ORIGIN, ModulePass, PassContext

from .fp16_constants import Constants, to_half
from .fp16_labels import Labels, label
from .fp16_types import FLOAT, HALF, is_type_blind


@dataclass(frozen=True)
class ConvertFp16(ModulePass):
    """Compute in float16 wherever the target has kernels for it and values stay in its range.

    f(x: float32) -> Cast<float32>(f(Cast<float16>(x)))

    Float32 islands: ops without a float16 kernel, sums, powers and exponentials up to the op that brings their values
    back into range, constants beyond 65504, whatever holds a graph (If, Loop, Scan; its body stays float32), and
    cheap nodes between islands. One Cast per tensor and type, none after another. Weights are rounded once; masks
    beyond the range are clipped, infinities kept. Shapes: any.
    Source: targets.md 2.1, 3.1; Micikevicius et al. 2018.
    """

    name: ClassVar[str] = "convert-fp16"
    exact: ClassVar[bool] = False

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        require_fp16(ctx.target.name)
        used = any(v.dtype == FLOAT for node in module.graph for v in (*node.inputs, *node.outputs) if v is not None)
        return None if used else "nothing computes in float32"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        constants = Constants()
        labels = label(module, ctx.target, constants)
        if labels.half:
            _Conversion(module, labels, constants).run()
            ctx.log.notes.extend(_notes(labels, constants))
        return len(labels.half)


def require_fp16(target: str) -> None:
    """Refuse float16 where it cannot help.

    Raises:
        TargetError: the cpu target, whose kernels for float16 are missing or cast to float32.
    """
    if target == "cpu":
        raise TargetError(
            "--precision fp16 gains nothing on cpu: onnxruntime has no float16 MatMul, Gemm or Conv there and casts"
            " every tensor to float32 and back",
            "use --precision int8 with --calibration for cpu, or --target cuda or tensorrt for fp16",
            target=target,
        )


def fp16_pass() -> ConvertFp16:
    """Return the pass behind ``--precision fp16``."""
    return ConvertFp16()


def _notes(labels: Labels, constants: Constants) -> list[str]:
    kept = Counter(f"{n.op_type} ({reason})" for n, reason in labels.islands.items())
    total = len(labels.half) + len(labels.islands)
    notes = [f"float16: {len(labels.half)} of {total} float nodes"]
    if kept:
        notes.append("float32 islands: " + ", ".join(f"{n} {what}" for what, n in sorted(kept.items())))
    lost = constants.underflows()
    if lost:
        notes.append(f"float16: {lost} weights below 6e-8 became 0")
    return notes


class _Conversion:
    """One conversion of one module: retypes values, makes float16 constants, inserts shared casts."""

    def __init__(self, module: ir.Module, labels: Labels, constants: Constants) -> None:
        self.module, self.labels, self.constants = module, labels, constants
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.retyped: dict[ir.Value, None] = {}

    def run(self) -> None:
        nodes = list(self.module.graph)
        for node in nodes:
            if node in self.labels.half:
                self._retype(node)
        for node in nodes:
            if node in self.labels.half:
                self._feed(node)
        for value in list(self.retyped):
            self._restore_float_uses(value)
        for node in nodes:
            _bypass_equal_cast(node)
        for dead in reversed(list(self.module.graph)):
            if dead.op_type == "Cast" and ir.is_dead(dead):
                ir.erase(dead)
        for constant in [v for v in self.module.graph.initializers.values() if ir.Module.is_constant(v)]:
            if not ir.is_used(constant):
                del self.module.graph.initializers[constant.name or ""]

    def _retype(self, node: ir.Node) -> None:
        for i in self.labels.operands[node].outputs:
            value = node.outputs[i]
            value.type = ir.TensorType(HALF)
            self.retyped[value] = None
        if node.op_type == "Cast" and node.outputs[0] in self.retyped:
            ir.set_attributes(node, {"to": HALF.value})
        elif node.op_type == "ConstantOfShape":
            filled = node.attributes.get("value")
            array = [0.0] if filled is None else filled.as_tensor().numpy()
            ir.set_attributes(node, {"value": ir.Attr("value", ir.AttributeType.TENSOR, ir.tensor(to_half(array)))})

    def _feed(self, node: ir.Node) -> None:
        for i in self.labels.operands[node].inputs:
            value = node.inputs[i]
            if value is None or value in self.retyped:
                continue
            if ir.Module.is_constant(value):
                node.replace_input_with(i, self.constants.half(self.module, value, node.op_type))
            else:
                node.replace_input_with(i, self._cast(value, HALF))

    def _restore_float_uses(self, value: ir.Value) -> None:
        """Give users that need float32 (islands, fixed operands, nested graphs, model outputs) a cast of the value."""
        for use in list(value.uses()):
            operands = self.labels.operands.get(use.node)
            if use.node in self.labels.half and operands is not None and use.idx in operands.inputs:
                continue
            if use.node.op_type == "Cast" and use.node.outputs[0] in self.casts.values():
                continue
            if is_type_blind(use.node):
                continue
            use.node.replace_input_with(use.idx, self._cast(value, FLOAT))
        if value.is_graph_output():
            self._move_output(value)

    def _move_output(self, value: ir.Value) -> None:
        cast = self._cast(value, FLOAT)
        outputs = self.module.graph.outputs
        for i, output in enumerate(outputs):
            if output is value:
                outputs[i] = cast
        name = value.name or ""
        value.name = self.module.fresh(f"{name}/fp16")
        cast.name = name
        cast.doc_string, value.doc_string = value.doc_string, None
        cast.metadata_props.update(value.metadata_props)

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return the one cast of ``value`` to ``dtype``, right behind what produces it."""
        key = (value, dtype)
        if key in self.casts:
            return self.casts[key]
        node = ir.Node(
            "",
            "Cast",
            [value],
            [ir.attribute("to", dtype.value)],
            num_outputs=1,
            name=self.module.fresh(f"{value.name}/Cast"),
        )
        made = node.outputs[0]
        made.name = self.module.fresh(f"{value.name}/{'fp16' if dtype == HALF else 'fp32'}")
        made.type, made.shape = ir.TensorType(dtype), value.shape
        node.metadata_props[ORIGIN] = f"{ConvertFp16.name}({value.name})"
        producer = value.producer()
        if producer is not None:
            self.module.graph.insert_after(producer, [node])
        else:
            self.module.graph.insert_before(next(iter(self.module.graph)), [node])
        self.casts[key] = made
        return made


def _bypass_equal_cast(node: ir.Node) -> None:
    """Let the users of a Cast to the type its input has use that input."""
    if node.op_type != "Cast" or node.domain or node.inputs[0] is None:
        return
    source, out = node.inputs[0], node.outputs[0]
    if source.dtype == node.attributes.get_int("to", 0) and not out.is_graph_output():
        out.replace_all_uses_with(source)
