"""convert-fp16: float32 computation -> float16 or bfloat16 with float32 islands; inputs and outputs keep types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.errors import PipelineError, TargetError, did_you_mean
from fcc.rewrite import ORIGIN, ModulePass, PassContext

from .fp16_constants import Constants, to_half
from .fp16_labels import Labels, label
from .fp16_ranges import Ranges, ranged
from .fp16_types import FLOAT, FORMATS, is_type_blind


@dataclass(frozen=True)
class ConvertFp16(ModulePass):
    """Compute in float16 wherever the target has kernels for it and values stay in its range.

    f(x: float32) -> Cast<float32>(f(Cast<float16>(x)))

    Float32 islands: ops without a float16 kernel, sums, powers and exponentials up to the op that brings their values
    back into range, constants beyond 65504, and cheap nodes between islands; with statistics of ``tensors(module)``
    also what reads or writes values that are too large or too small in the samples. One Cast per tensor, type and
    graph, none after another. Nested graphs are converted inside and keep the types of their border. Weights are
    rounded once; masks beyond the range are clipped, infinities kept. ``keep`` names op types that stay float32, as
    LSTM+Softmax.
    ``to``: fp16, or bf16, which has the range of float32 and 8 bits less of precision than it has of fp16's 11.
    Shapes: any.
    Source: targets.md 2.1, 3.1; Micikevicius et al. 2018.
    """

    name: ClassVar[str] = "convert-fp16"
    exact: ClassVar[bool] = False
    keep: str = ""
    to: str = "fp16"

    def __post_init__(self) -> None:
        if self.to not in FORMATS:
            raise PipelineError(f"{self.name}{{to}} has no value {self.to!r}", did_you_mean(self.to, FORMATS))

    def tensors(self, module: ir.Module) -> list[str]:
        """Return the names of the tensors whose statistics ``ctx.stats`` may hold."""
        return ranged(module)

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        require_fp16(ctx.target.name, self.to)
        used = any(v.dtype == FLOAT for node in module.graph for v in (*node.inputs, *node.outputs) if v is not None)
        return None if used else "nothing computes in float32"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        constants, done, keep = Constants(FORMATS[self.to]), [], frozenset(self.keep.split("+"))
        ranges = Ranges(ctx.stats if constants.form.narrow else None)
        for graph in reversed(list(module.graphs())):
            labels = label(module, graph, ctx.target, constants, keep, ranges)
            done.append(labels)
            if labels.half:
                _Conversion(module, graph, labels, constants).run()
        drop_unused(module)
        count = sum(len(labels.half) for labels in done)
        ctx.log.notes.extend(_notes(done, constants, ranges))
        return count


def require_fp16(target: str, precision: str = "fp16") -> None:
    """Refuse 16 bits where it cannot help.

    Raises:
        TargetError: the cpu target, whose kernels for float16 are missing or cast to float32.
    """
    if target == "cpu":
        raise TargetError(
            f"--precision {precision} gains nothing on cpu: onnxruntime has no {FORMATS[precision].name} MatMul, Gemm"
            " or Conv there and casts every tensor to float32 and back",
            "use --precision int8 with --calibration for cpu, or --target cuda or tensorrt for fp16",
            target=target,
        )


def fp16_pass(to: str = "fp16") -> ConvertFp16:
    """Return the pass behind ``--precision fp16`` and ``bf16``."""
    return ConvertFp16(to=to)


def _notes(done: Sequence[Labels], constants: Constants, ranges: Ranges) -> list[str]:
    kept: dict[str, Counter[str]] = {}
    for labels in done:
        for node, reason in labels.islands.items():
            kept.setdefault(reason, Counter())[node.op_type] += 1
    half, islands = sum(len(d.half) for d in done), sum(len(d.islands) for d in done)
    name = constants.form.name
    notes = [f"{name}: {half} of {half + islands} float nodes"]
    for reason, ops in sorted(kept.items()):
        listed = ", ".join(f"{n} {op}" for op, n in sorted(ops.items()))
        notes.append(f"float32, {reason}: {listed}{ranges.said(reason)}")
    lost = constants.underflows()
    if lost:
        notes.append(f"{name}: {lost} weights below 6e-8 became 0")
    return notes


def drop_unused(module: ir.Module) -> None:
    """Remove constants that nothing uses."""
    for graph in module.graphs():
        for constant in [v for v in graph.initializers.values() if ir.Module.is_constant(v) and not ir.is_used(v)]:
            del graph.initializers[constant.name or ""]


class _Conversion:
    """The conversion of one graph: retypes values, makes float16 constants, inserts shared casts."""

    def __init__(self, module: ir.Module, graph: ir.Graph, labels: Labels, constants: Constants) -> None:
        self.module, self.graph, self.labels, self.constants = module, graph, labels, constants
        self.half = constants.form.dtype
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.made: set[ir.Value] = set()
        self.retyped: dict[ir.Value, None] = {}

    def run(self) -> None:
        nodes = list(self.graph)
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
        for dead in reversed(list(self.graph)):
            if dead.op_type == "Cast" and ir.is_dead(dead):
                ir.erase(dead)

    def _retype(self, node: ir.Node) -> None:
        for i in self.labels.operands[node].outputs:
            value = node.outputs[i]
            value.type = ir.TensorType(self.half)
            self.retyped[value] = None
        if node.op_type == "Cast" and node.outputs[0] in self.retyped:
            ir.set_attributes(node, {"to": self.half.value})
        elif node.op_type == "ConstantOfShape":
            filled = node.attributes.get("value")
            array = [0.0] if filled is None else filled.as_tensor().numpy()
            ir.set_attributes(
                node,
                {
                    "value": ir.Attr(
                        "value", ir.AttributeType.TENSOR, ir.tensor(to_half(array, form=self.constants.form))
                    )
                },
            )

    def _feed(self, node: ir.Node) -> None:
        for i in self.labels.operands[node].inputs:
            value = node.inputs[i]
            if value is None or value in self.retyped:
                continue
            if ir.Module.is_constant(value):
                node.replace_input_with(i, self.constants.half(self.module, value, node.op_type))
            else:
                node.replace_input_with(i, self._cast(value, self.half))

    def _restore_float_uses(self, value: ir.Value) -> None:
        """Give users that need float32 (islands, fixed operands, nested graphs, model outputs) a cast of the value."""
        for use in list(value.uses()):
            operands = self.labels.operands.get(use.node)
            if use.node in self.labels.half and operands is not None and use.idx in operands.inputs:
                continue
            if is_type_blind(use.node) or use.node.outputs[0] in self.made:
                continue
            if _casts_to_half(use.node, self.half):
                use.node.outputs[0].replace_all_uses_with(value)
                ir.erase(use.node)
                continue
            use.node.replace_input_with(use.idx, self._cast(value, FLOAT))
        if value.is_graph_output():
            self._move_output(value)

    def _move_output(self, value: ir.Value) -> None:
        cast = self._cast(value, FLOAT)
        outputs = self.graph.outputs
        for i, output in enumerate(outputs):
            if output is value:
                outputs[i] = cast
        name = value.name or ""
        value.name = self.module.fresh(f"{name}/{self.constants.form.short}")
        cast.name = name
        cast.doc_string, value.doc_string = value.doc_string, None
        cast.metadata_props.update(value.metadata_props)

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return the one cast of ``value`` to ``dtype``, right behind what produces it."""
        key = (value, dtype)
        if key in self.casts:
            return self.casts[key]
        source = _original(value) if dtype == self.half else value
        node = ir.Node(
            "",
            "Cast",
            [source],
            [ir.attribute("to", dtype.value)],
            num_outputs=1,
            name=self.module.fresh(f"{value.name}/Cast"),
        )
        made = node.outputs[0]
        made.name = self.module.fresh(f"{value.name}/{self.constants.form.short if dtype == self.half else 'fp32'}")
        made.type, made.shape = ir.TensorType(dtype), value.shape
        node.metadata_props[ORIGIN] = f"{ConvertFp16.name}({value.name})"
        producer = value.producer()
        if producer is not None and producer.graph is self.graph:
            self.graph.insert_after(producer, [node])
        else:
            self.graph.insert_before(next(iter(self.graph)), [node])
        self.casts[key] = made
        self.made.add(made)
        return made


def _original(value: ir.Value) -> ir.Value:
    """Return what a value was cast from, when it is the cast of an integer or bool: the two casts are one then."""
    producer = value.producer()
    if producer is None or producer.op_type != "Cast" or producer.domain:
        return value
    source = producer.inputs[0]
    assert source is not None
    exact = source.dtype is not None and (source.dtype.is_integer() or source.dtype == ir.DataType.BOOL)
    return source if exact else value


def _casts_to_half(node: ir.Node, half: ir.DataType) -> bool:
    """Whether the node is a Cast to that type whose result may be replaced by its operand."""
    to_half_type = node.op_type == "Cast" and not node.domain and node.attributes.get_int("to", 0) == half.value
    return to_half_type and not node.outputs[0].is_graph_output()


def _bypass_equal_cast(node: ir.Node) -> None:
    """Let the users of a Cast to the type its input has use that input."""
    if node.op_type != "Cast" or node.domain or node.inputs[0] is None:
        return
    source, out = node.inputs[0], node.outputs[0]
    if source.dtype == node.attributes.get_int("to", 0) and not out.is_graph_output():
        out.replace_all_uses_with(source)
