"""Draft: a model while variations change it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from fcc.runtime.protos import declared, dims, graphs, inferred, nodes

T = TypeVar("T")
Array = np.ndarray[Any, Any]


class Draft:
    """A copy of a model, a source of choices, and the sizes that symbols and unknown shapes had before."""

    def __init__(self, model: ModelProto, rng: random.Random) -> None:
        self.model = ModelProto.FromString(model.SerializeToString())
        self.rng = rng
        self.sizes: dict[str, int] = {}
        self.ranks: dict[str, list[int]] = {}
        self.loose = False

    @property
    def graph(self) -> GraphProto:
        """The main graph."""
        return self.model.graph

    def pick(self, things: Sequence[T]) -> T | None:
        """Return one of some things, None of none."""
        return things[self.rng.randrange(len(things))] if things else None

    def fresh(self, base: str) -> str:
        """Return a name that nothing has."""
        used = {v.name for v in declared(self.model)} | {t.name for t in self.graph.initializer}
        used |= {o for n in nodes(self.model) for o in (*n.output, n.name)}
        return next(n for n in (f"{base}{k}" for k in range(10**6)) if n not in used)

    def constants(self, kinds: str = "fiub?") -> list[TensorProto]:
        """Return the initializers of every graph whose numpy kind is among some."""
        found = [t for g in graphs(self.graph) for t in g.initializer]
        return [t for t in found if _kind(t.data_type) in kinds]

    def inputs(self) -> list[ValueInfoProto]:
        """Return the graph inputs that are tensors."""
        return [v for v in self.graph.input if v.type.HasField("tensor_type")]

    def interior(self) -> list[str]:
        """Return the values of the main graph that nodes make and that are no outputs."""
        outputs = {o.name for o in self.graph.output}
        return [o for n in self.graph.node for o in n.output if o and o not in outputs]

    def put(self, tensor: TensorProto, array: Array) -> None:
        """Replace the contents of a constant."""
        tensor.CopyFrom(numpy_helper.from_array(np.array(array, order="C"), tensor.name))

    def node(self, op: str, inputs: Sequence[str], at: int | None = None, **attributes: Any) -> str:
        """Add a node to the main graph (at the end when ``at`` is None) and return its output."""
        made = helper.make_node(op, list(inputs), [self.fresh("extra")], **attributes)
        at = len(self.graph.node) if at is None else at
        self.graph.node.insert(at, made)
        return str(made.output[0])

    def output(self, name: str) -> None:
        """Make a value a graph output; its type is found when the draft is finished."""
        self.graph.output.append(ValueInfoProto(name=name))

    def users(self, name: str) -> list[tuple[NodeProto, int]]:
        """Return the uses of a value by nodes of any graph."""
        return [(n, i) for n in nodes(self.model) for i, v in enumerate(n.input) if v == name]

    def finish(self) -> ModelProto:
        """Return the model with its outputs declared.

        Raises:
            Exception: the model cannot be typed: it is not valid.
        """
        if self.loose:
            loosen(self.model)
        if self.loose or any(not o.HasField("type") for o in self.graph.output):
            complete(self.model)
        return self.model


def _kind(data_type: int) -> str:
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    return "f" if dtype.name == "bfloat16" else {"b": "?"}.get(dtype.kind, dtype.kind)


def loosen(model: ModelProto) -> None:
    """Forget the shapes of outputs and values, which a change of sizes may have made wrong."""
    del model.graph.value_info[:]
    for g in graphs(model.graph):
        if g is not model.graph:
            del g.value_info[:]
            for v in g.output:
                v.type.tensor_type.ClearField("shape")
    outputs = [o.name for o in model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(ValueInfoProto(name=n) for n in outputs)


def complete(model: ModelProto) -> None:
    """Declare the outputs that have no type as inference finds them; onnxruntime's where onnx's finds nothing."""
    typed = inferred(model).graph
    known = {v.name: v for v in (*typed.value_info, *typed.output, *typed.input)}
    missing = []
    for o in model.graph.output:
        found = known.get(o.name)
        if found is not None and found.type.WhichOneof("value"):
            o.CopyFrom(found)
            _drop_invented(o, model)
        else:
            missing.append(o)
    if missing:
        from fcc.runtime import open_session

        specs = {s.name: s for s in open_session(model.SerializeToString(), optimize=False).outputs}
        for o in missing:
            spec = specs[o.name]
            o.CopyFrom(helper.make_tensor_value_info(o.name, helper.np_dtype_to_tensor_dtype(spec.dtype), spec.dims))


def _drop_invented(info: ValueInfoProto, model: ModelProto) -> None:
    """Leave out symbols that inference made up."""
    own = {d for v in model.graph.input for d in dims(v) if isinstance(d, str)}
    for d in info.type.tensor_type.shape.dim:
        if d.dim_param and d.dim_param not in own:
            d.Clear()
