"""Cost of nodes and modules: FLOPs, bytes moved, parameters. Symbols take the sizes given, else 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from .. import ir

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """FLOPs (a multiply-add counts 2), bytes read and written, parameters (elements of constants)."""

    flops: int = 0
    bytes: int = 0
    parameters: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.parameters + other.parameters)


def sizes(value: ir.Value | None, symbols: Mapping[str, int] | None = None) -> Shape | None:
    """Return the shape of a value with symbols bound (default 1), or None when the rank is unknown."""
    dims = ir.dims_of(value)
    return None if dims is None else tuple(_size(d, symbols or {}) for d in dims)


def _size(d: ir.Dim | int | None, symbols: Mapping[str, int]) -> int:
    if isinstance(d, ir.Dim):
        return max(0, sum(c * prod(symbols.get(s, 1) for s in m) for m, c in d.terms.items()))
    return 1 if d is None else d


def nbytes(dtype: ir.DataType, dims: Sequence[ir.Dim | int | None], symbols: Mapping[str, int] | None = None) -> int:
    """Return the bytes of a tensor with symbols bound (default 1); 0 for strings."""
    if dtype == ir.DataType.STRING:
        return 0
    return -(-prod(_size(d, symbols or {}) for d in dims) * dtype.bitwidth // 8)


def node_cost(node: ir.Node, symbols: Mapping[str, int] | None = None) -> Cost:
    """Return the cost of one node, nested graphs counted once."""
    inputs = [sizes(v, symbols) for v in node.inputs]
    outputs = [sizes(v, symbols) for v in node.outputs if v.name]
    nested = sum((node_cost(n, symbols) for g in ir.subgraphs_of(node) for n in g), Cost())
    rule = _FLOPS.get(node.op_type, _elementwise)
    moved = sum(_bytes(v, symbols) for v in [*node.inputs, *node.outputs] if v is not None)
    if node.op_type in _FREE:
        return nested
    out = outputs[0] if outputs and outputs[0] is not None else ()
    return Cost(int(rule(node, inputs, out)), moved) + nested


def computed_at_load(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that depend on constants only (dequantized weights): a runtime folds them when it loads."""
    found: set[ir.Node] = set()
    for node in graph:
        known = [v for v in node.inputs if v is not None]
        fixed = known and all(ir.Module.is_constant(v) or v.producer() in found for v in known)
        if fixed and not any(True for _ in ir.subgraphs_of(node)):
            found.add(node)
    return found


def module_cost(module: ir.Module, symbols: Mapping[str, int] | None = None) -> Cost:
    """Return the cost of one run; parameters are counted once however often they are used."""
    parameters = 0
    for graph in module.graphs():
        for value in graph.initializers.values():
            parameters += prod(sizes(value) or ())
    once = computed_at_load(module.graph)
    total = sum((node_cost(n, symbols) for n in module.graph if n not in once), Cost())
    return Cost(total.flops, total.bytes, parameters)


def _bytes(value: ir.Value, symbols: Mapping[str, int] | None) -> int:
    shape = sizes(value, symbols)
    return 0 if shape is None or value.dtype is None else nbytes(value.dtype, shape)


def _elementwise(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    return prod(out)


def _none(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    return 0


def _matmul(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    a = inputs[0] or (1,)
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0
    inner = (a[0] if transposed else a[-1]) if a else 1
    bias = prod(out) if node.op_type == "Gemm" and len(inputs) > 2 and inputs[2] is not None else 0
    return 2 * prod(out) * inner + bias


def _conv(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    kernel = inputs[1 if node.op_type != "QLinearConv" else 3] or ()
    bias = prod(out) if len(inputs) > 2 and inputs[2] is not None else 0
    return 2 * prod(out) * prod(kernel[1:]) + bias


def _conv_transpose(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    return 2 * prod(inputs[0] or ()) * prod((inputs[1] or ())[1:])


def _reduction(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    return prod(inputs[0] or ())


def _pool(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    return prod(out) * prod(map(int, node.attributes.get_ints("kernel_shape", ())))


def _recurrent(node: ir.Node, inputs: list[Shape | None], out: Shape) -> int:
    x, w, r = inputs[0] or (1, 1, 1), inputs[1] or (), inputs[2] or ()
    return 2 * prod(x[:2]) * (prod(w) + prod(r))


def _scaled(factor: int) -> Callable[[ir.Node, list[Shape | None], Shape], int]:
    return lambda node, inputs, out: factor * prod(out)


_FREE = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size", "Constant"})
_FLOPS: dict[str, Callable[[ir.Node, list[Shape | None], Shape], int]] = {
    "MatMul": _matmul,
    "Gemm": _matmul,
    "FusedMatMul": _matmul,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "Softmax": _scaled(5),
    "LogSoftmax": _scaled(5),
    "LayerNormalization": _scaled(8),
    "InstanceNormalization": _scaled(8),
    "BatchNormalization": _scaled(2),
    **{f"Reduce{k}": _reduction for k in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")},
    "GlobalAveragePool": _reduction,
    "GlobalMaxPool": _reduction,
    **{
        k: _none
        for k in ("Transpose", "Concat", "Split", "Slice", "Gather", "Expand", "Tile", "Pad", "Cast", "DepthToSpace")
    },
}
