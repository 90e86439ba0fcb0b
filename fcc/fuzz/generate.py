"""random_graph(): valid models drawn at random, small, with everything that makes rewrites hard."""

from __future__ import annotations

import random

import onnx
from onnx import helper

from .borders import other_opset, outline, plain_outputs, sizes_unknown, zero_weight
from .control import CONTROL
from .draft import FLOATS, Dim, Draft, Tensor
from .kinds import KINDS
from .layers import LAYERS
from .moves import MOVES
from .ops import STEPS
from .splice import operator_sets, opset_of_a_pass, splice

OPSETS = (17, 21, 21, 21, 21, 21, 23, 24)
FAMILIES = (STEPS, STEPS, MOVES, LAYERS, KINDS, KINDS, CONTROL)


def random_graph(rng: random.Random, steps: int = 14) -> onnx.ModelProto:
    """Return a model of about ``steps`` operators; symbols stand for sizes that the caller chooses."""
    fragments = rng.choice((0, 0, 0, 1, 1, 2, 3))
    opset = (opset_of_a_pass(rng) if fragments else None) or rng.choice(OPSETS)
    draft = Draft(rng, opset=opset, dtype=FLOATS[rng.randint(0, len(FLOATS) - 1)])
    _inputs(draft)
    plan = [splice] * fragments + [None] * rng.randint(0 if fragments else 1, steps)
    rng.shuffle(plan)
    for step in plan:
        for _ in range(3):
            before = len(draft.nodes)
            (step or draft.pick(draft.pick(FAMILIES)))(draft)
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
        draft.graph("random", outputs), opset_imports=operator_sets(draft.opset), ir_version=rng.choice((8, 10))
    )
    return _finished(model, rng)


def _inputs(draft: Draft) -> None:
    found = [Tensor(f"x{i}", draft.dtype, _shape(draft), True) for i in range(draft.rng.randint(1, 2))]
    if draft.chance(0.3):
        found.append(Tensor("flag", "bool", (), True))
    if draft.chance(0.2):
        found.append(Tensor("ids", "int64", ("N",), True))
    if draft.chance(0.1):
        found.append(Tensor("small", draft.pick(["int32", "int8", "uint8"]), ("N", 4), True))
    draft.inputs.extend(found)
    draft.values.extend(found)


def _finished(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    if rng.random() < 0.1:
        plain_outputs(model, rng)
    if rng.random() < 0.2:
        sizes_unknown(model, rng)
    if rng.random() < 0.15:
        zero_weight(model, rng)
    if rng.random() < 0.15:
        outline(model, rng)
    return other_opset(model, rng) if rng.random() < 0.4 else model


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
        made.output[0], made.name = draft.fresh(), ""
        if any(a.type == onnx.AttributeProto.GRAPH for a in made.attribute):
            return
        draft.nodes.append(made)
        draft.values.append(Tensor(made.output[0], old.dtype, old.shape, old.raw))
