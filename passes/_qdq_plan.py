"""Which layers of a module become int8, and which tensors between them stay int8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fcc import ir
from fcc.errors import CalibrationError
from fcc.target.qdq import QdqScheme

from ._qdq_layers import DIRECT, Layer, layer_of
from ._qdq_residual import skips
from ._qdq_tensor_cores import Symbols, unfit

# onnxruntime quantizes float weights of these itself, per tensor, where one DequantizeLinear with a scalar scale feeds
# them and a QuantizeLinear follows (WeightBiasQuantization).
TAKEN_OVER = frozenset({"Conv", "ConvTranspose", "Gemm"})
Ranges = Callable[[str], tuple[float, float]]


@dataclass
class Plan:
    """``layers`` and the reasons of ``refused`` ones, both by id of their weight op.

    ``skips`` are residual sums behind layers, by id: the sum, and the index of the operand to quantize.
    """

    module: ir.Module
    scheme: QdqScheme
    layers: dict[int, Layer] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    skips: dict[int, tuple[ir.Node, int]] = field(default_factory=dict)

    def roles(self) -> list[tuple[ir.Node, str]]:
        """Return what happens in order: layers, refused ones, pass-through nodes between int8 and int8, and guards.

        A guard is a float layer that reads int8 and whose weight the runtime would quantize its own way.
        """
        joined: set[int] = set()
        found: list[tuple[ir.Node, str]] = []
        for node in self.module.nodes():
            layer = self.layers.get(id(node))
            reads = bool(node.inputs) and id(node.inputs[0]) in joined
            if layer is not None:
                found.append((node, "layer"))
                if self.quantizes_output(layer):
                    joined.add(id(layer.out))
            elif reads and self._passes(node) and self.feeds(node.outputs[0]):
                found.append((node, "pass"))
                joined.add(id(node.outputs[0]))
            if id(node) in self.skips:
                found.append((node, "skip"))
            if id(node) in self.refused:
                found.append((node, "refused"))
            if layer is None and reads and node.op_type in TAKEN_OVER and ir.Module.is_constant(node.inputs[1]):
                found.append((node, "guard"))
        return found

    def quantizes_output(self, layer: Layer) -> bool:
        """Return whether the result is quantized: the kernel wants it, or an int8 layer reads it."""
        if layer.form == DIRECT or self.scheme.float_operands:
            return False
        return layer.rule.needs_output_q or self.feeds(layer.out) or self._meets_q(layer)

    def feeds(self, value: ir.Value) -> bool:
        """Return whether an int8 layer reads the value, pass-through nodes between."""
        for use in value.uses():
            layer = self.layers.get(id(use.node))
            if layer is not None and layer.x is value:
                return True
            if self._passes(use.node) and self.feeds(use.node.outputs[0]):
                return True
        return False

    def _meets_q(self, layer: Layer) -> bool:
        """Return whether one reader of several is an activation that the runtime drops in front of a QuantizeLinear.

        The QuantizeLinear then follows the layer beside other readers, and such a layer has no integer kernel.
        """
        users = {use.node for use in layer.out.uses() if use.node.op_type in layer.rule.absorbs}
        return any(self.feeds(user.outputs[0]) for user in users)

    def tensors(self) -> list[str]:
        """Return the names of the tensors whose ranges are needed, in order, once each."""
        names: dict[str, None] = {}
        for layer in self.layers.values():
            for value in self._ranged(layer):
                names[value.name or ""] = None
        for node, index in self.skips.values():
            names[_name(node.inputs[index])] = None
        return list(names)

    def one_scale(self) -> dict[str, list[str]]:
        """Return, for quantized tensors that must have one scale, all names that share it.

        Those are the result of an op that only moves integers (Concat) and its operands, where they are quantized.
        """
        quantized, shared = set(self.tensors()), dict[str, list[str]]()
        for node in self.module.graph if self.scheme.one_scale else ():
            if node.op_type not in self.scheme.one_scale or node.domain or _name(node.outputs[0]) not in quantized:
                continue
            names = {n: None for v in (*node.outputs, *node.inputs) if (n := _name(v)) in quantized}
            merged = list({m: None for n in names for m in shared.get(n, [n])})
            shared |= {m: merged for m in merged}
        return shared

    def require(self, ranges: Ranges) -> None:
        """Refuse the layers whose tensors have no usable range: inputs first, since they decide which results count."""
        for tensors in (lambda layer: [layer.x], self._ranged):
            for key, layer in list(self.layers.items()):
                try:
                    for value in tensors(layer):
                        ranges(value.name or "")
                except CalibrationError as error:
                    self.refused[key] = error.message
                    del self.layers[key]
        self.add_skips(ranges)

    def add_skips(self, ranges: Ranges | None = None) -> None:
        """Find the residual sums behind the layers; with ``ranges``, those whose operand has one."""
        kinds = self.scheme.residual_of
        results = {layer.out for layer in self.layers.values() if layer.node.op_type in kinds}
        self.skips = {}
        for node, index in skips(self.module, results) if results else ():
            try:
                if ranges is not None:
                    ranges(_name(node.inputs[index]))
                self.skips[id(node)] = (node, index)
            except CalibrationError as error:
                self.refused[id(node)] = error.message

    def _ranged(self, layer: Layer) -> list[ir.Value]:
        return [layer.x, layer.out] if self.quantizes_output(layer) else [layer.x]

    def _passes(self, node: ir.Node) -> bool:
        since = self.scheme.pass_through.get(node.op_type)
        usable = since is not None and node.domain == "" and self.module.opset() >= since
        return usable and not any(ir.is_used(v) for v in node.outputs[1:])


def make(module: ir.Module, scheme: QdqScheme, excluded: Callable[[ir.Node], bool], symbols: Symbols) -> Plan:
    """Return the plan of a module before its tensors were looked at; ``symbols`` are the sizes that count."""
    plan = Plan(module, scheme)
    for node in module.nodes():
        if node.op_type not in scheme.rules or node.domain != "":
            continue
        found = _candidate(module, scheme, node, excluded)
        reason = found if isinstance(found, str) else unfit(found, symbols) if scheme.tensor_cores else None
        if isinstance(found, Layer) and reason is None:
            plan.layers[id(node)] = found
        else:
            plan.refused[id(node)] = reason or ""
    plan.add_skips()
    return plan


def _name(value: ir.Value | None) -> str:
    return (value.name if value is not None else "") or ""


def _candidate(module: ir.Module, scheme: QdqScheme, node: ir.Node, excluded: Callable[[ir.Node], bool]) -> Layer | str:
    if module.opset() < scheme.opset:
        what = "per-channel" if scheme.opset == 13 else "16-bit"
        return f"opset {module.opset()} has no {what} DequantizeLinear ({scheme.opset} has)"
    if node.graph is not module.graph:
        return "it lies in a nested graph, which calibration does not see"
    if ir.Module.is_constant(node.inputs[0]):
        return "its input is a constant: the runtime computes it when it loads the model"
    return "excluded by option" if excluded(node) else layer_of(node, scheme)
