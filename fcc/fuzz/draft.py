"""The draft of a random graph: typed values in scope, and the nodes made so far."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Dim = int | str
FLOATS = ("float32", "float32", "float32", "float64", "float16")


@dataclass(frozen=True)
class Tensor:
    """A value: ``raw`` when its numbers are those of an input or constant: rounding cannot flip a comparison."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    raw: bool = False
    constant: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float")


@dataclass
class Draft:
    """A graph in the making; every decision is drawn from ``rng``."""

    rng: random.Random
    opset: int
    dtype: str
    prefix: str = ""
    outer: Draft | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    overridable: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    declared: list[onnx.ValueInfoProto] = field(default_factory=list)
    wanted: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    # -- drawing -------------------------------------------------------------------------------------------------
    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.rng.randint(0, len(items) - 1)]

    def value(self, accept: Callable[[Tensor], bool] = lambda t: True) -> Tensor | None:
        """Return a value in scope, later ones more likely; None when none is accepted."""
        found = [t for t in self.scope() if accept(t)]
        if not found:
            return None
        return found[max(self.rng.randint(0, len(found) - 1), self.rng.randint(0, len(found) - 1))]

    def scope(self) -> list[Tensor]:
        """Return the values that a node may read, those of outer graphs first."""
        return [*(self.outer.scope() if self.outer else ()), *self.values]

    # -- making --------------------------------------------------------------------------------------------------
    def fresh(self, stem: str = "v") -> str:
        root = self
        while root.outer is not None:
            root = root.outer
        root.count += 1
        return f"{stem}{root.count}"

    def constant(self, array: Any, dtype: str | None = None, share: bool = True) -> Tensor:
        """Return a constant: an initializer (an equal one again, an outer, an overridable one) or a Constant node."""
        array = np.asarray(array, dtype or self.dtype)
        if share and self.chance(0.3):
            for name, other in self.initializers.items():
                if other.dtype == array.dtype and other.shape == array.shape and np.array_equal(other, array):
                    return Tensor(name, str(array.dtype), array.shape, True, True)
        if self.chance(0.25):
            name = self.fresh("k")
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
            return Tensor(name, str(array.dtype), array.shape, True, True)
        owner = self.outer if self.outer is not None and self.chance(0.5) else self
        name = self.fresh("w")
        owner.initializers[name] = array
        found = Tensor(name, str(array.dtype), array.shape, True, True)
        if owner.outer is None and array.dtype.kind == "f" and self.chance(0.04):
            owner.overridable.append(found)
        return found

    def weight(self, *shape: int, dtype: str = "") -> Tensor:
        """Return random weights, sometimes with zero, equal or constant slices."""
        seed = self.rng.randint(0, 2**31)
        array = np.random.default_rng(seed).standard_normal(shape) / max(1.0, np.sqrt(np.prod(shape[1:])))
        if array.ndim and array.size and self.chance(0.25):
            axis = self.rng.randint(0, array.ndim - 1)
            rows = np.moveaxis(array, axis, 0)
            rows[0] = self.pick([0, 0.5, rows[-1].copy(), -0.0])
        return self.constant(array, dtype or None)

    def node(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[Dim],
        dtype: str = "",
        raw: bool = False,
        **attributes: Any,
    ) -> Tensor:
        """Append a node with one output and return it."""
        found = Tensor(
            self.fresh(), dtype or (inputs[0].dtype if inputs and inputs[0] else self.dtype), tuple(shape), raw
        )
        names = [t.name if t is not None else "" for t in inputs]
        while names and not names[-1]:
            names.pop()
        self.nodes.append(helper.make_node(op, names, [found.name], **attributes))
        self.values.append(found)
        return found

    def info(self, t: Tensor) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(t.name, tensor_type(t.dtype), list(t.shape))

    def graph(self, name: str, outputs: Sequence[Tensor]) -> onnx.GraphProto:
        tensors = [numpy_helper.from_array(a, k) for k, a in self.initializers.items()]
        inputs = [*(self.info(t) for t in (*self.inputs, *self.overridable)), *self.declared]
        wanted = [*(self.info(t) for t in outputs), *self.wanted]
        return helper.make_graph(self.nodes, name, inputs, wanted, [*tensors, *self.tensors])


def tensor_type(dtype: str) -> int:
    """Return the ONNX code of a type by the name that a draft gives it."""
    special = {"bfloat16": onnx.TensorProto.BFLOAT16, "str": onnx.TensorProto.STRING}
    return special.get(dtype) or int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
