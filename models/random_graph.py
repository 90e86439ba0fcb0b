"""random_graph(): valid models drawn at random, small, with everything that makes rewrites hard."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
    count: int = 0

    # -- drawing -------------------------------------------------------------------------------------------------
    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.rng.randint(0, len(items) - 1)]

    def value(self, accept: Callable[[Tensor], bool] = lambda t: True) -> Tensor | None:
        """Return a value in scope, later ones more likely; None when none is accepted."""
        scope = (self.outer.values if self.outer else []) + self.values
        found = [t for t in scope if accept(t)]
        if not found:
            return None
        return found[max(self.rng.randint(0, len(found) - 1), self.rng.randint(0, len(found) - 1))]

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

    def weight(self, *shape: int) -> Tensor:
        """Return random weights, sometimes with zero, equal or constant slices."""
        seed = self.rng.randint(0, 2**31)
        array = np.random.default_rng(seed).standard_normal(shape) / max(1.0, np.sqrt(np.prod(shape[1:])))
        if array.ndim and array.size and self.chance(0.25):
            axis = self.rng.randint(0, array.ndim - 1)
            rows = np.moveaxis(array, axis, 0)
            rows[0] = self.pick([0, 0.5, rows[-1].copy(), -0.0])
        return self.constant(array)

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
        return helper.make_tensor_value_info(t.name, helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), list(t.shape))

    def graph(self, name: str, outputs: Sequence[Tensor]) -> onnx.GraphProto:
        tensors = [numpy_helper.from_array(a, k) for k, a in self.initializers.items()]
        inputs = [self.info(t) for t in (*self.inputs, *self.overridable)]
        return helper.make_graph(self.nodes, name, inputs, [self.info(t) for t in outputs], tensors)


def random_graph(rng: random.Random, steps: int = 14) -> onnx.ModelProto:
    """Return a model of about ``steps`` operators; symbols N and M stand for sizes that the caller chooses."""
    from .random_layers import LAYERS
    from .random_ops import STEPS

    draft = Draft(rng, opset=17 if rng.random() < 0.4 else 21, dtype=FLOATS[rng.randint(0, len(FLOATS) - 1)])
    for i in range(rng.randint(1, 2)):
        found = Tensor(f"x{i}", draft.dtype, _shape(draft), True)
        draft.inputs.append(found)
        draft.values.append(found)
    if draft.chance(0.3):
        draft.inputs.append(Tensor("flag", "bool", (), True))
        draft.values.append(draft.inputs[-1])
    if draft.chance(0.2):
        draft.inputs.append(Tensor("ids", "int64", ("N",), True))
        draft.values.append(draft.inputs[-1])
    for _ in range(rng.randint(1, steps)):
        for _ in range(3):
            before = len(draft.nodes)
            draft.pick(STEPS + LAYERS)(draft)
            if len(draft.nodes) > before:
                break
        if draft.chance(0.1):
            duplicate(draft)
    made = [t for t in draft.values if t not in draft.inputs] or [
        draft.node("Identity", [draft.inputs[0]], draft.inputs[0].shape)
    ]
    last = made[-rng.randint(1, 2) :]
    outputs = list(dict.fromkeys([*last, *(t for t in made if draft.chance(0.1))]))
    model = helper.make_model(
        draft.graph("random", outputs), opset_imports=[helper.make_opsetid("", draft.opset)], ir_version=8
    )
    return model


def _shape(draft: Draft) -> tuple[Dim, ...]:
    first: Dim = draft.pick(["N", "N", 2])
    rest = [draft.pick([1, 2, 3, 4, 4, 6]) for _ in range(draft.pick([0, 1, 1, 2, 3, 3]))]
    if rest and draft.chance(0.1):
        rest[-1] = 0
    if len(rest) > 1 and draft.chance(0.25):
        return (first, *rest[:-1], "M")
    return (first, *rest)


def duplicate(draft: Draft) -> None:
    """Compute something again."""
    known = {t.name: t for t in draft.values}
    twins = [n for n in draft.nodes if len(n.output) == 1 and n.output[0] in known]
    if twins:
        twin = draft.pick(twins)
        old = known[twin.output[0]]
        made = onnx.NodeProto()
        made.CopyFrom(twin)
        made.output[0] = draft.fresh()
        if any(a.type == onnx.AttributeProto.GRAPH for a in made.attribute):
            return
        draft.nodes.append(made)
        draft.values.append(Tensor(made.output[0], old.dtype, old.shape, old.raw))


def random_feeds(model: onnx.ModelProto, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Return inputs for sizes of the symbols; integers are 0 or 1, floats hold zeros and negative numbers too."""
    rng = np.random.default_rng(seed)
    initialized = {t.name for t in model.graph.initializer}
    feeds = {}
    for v in model.graph.input:
        if v.name in initialized:
            continue
        kind = v.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if kind.elem_type == TensorProto.BOOL or dtype.kind in "iu":
            feeds[v.name] = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
        else:
            array = np.asarray(rng.standard_normal(shape))
            feeds[v.name] = np.where(rng.random(shape) < 0.1, 0, array).astype(dtype)
    return feeds
