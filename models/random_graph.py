"""random_graph(): valid models drawn at random, small, with everything that makes rewrites hard."""

from __future__ import annotations

import random

import numpy as np
import onnx
from onnx import TensorProto, helper

from .random_draft import FLOATS, Dim, Draft, Tensor
from .random_layers import LAYERS
from .random_moves import MOVES
from .random_ops import STEPS


def random_graph(rng: random.Random, steps: int = 14) -> onnx.ModelProto:
    """Return a model of about ``steps`` operators; symbols N and M stand for sizes that the caller chooses."""
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
            draft.pick(STEPS + MOVES + LAYERS)(draft)
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
