"""Opset 1 to 6 -> 7: explicit broadcasting, training flags, memory hints, and kin. Data at the end.

Source of every rule: the ONNX operator changelog, entries of the two versions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fcc import ir

from .site import Facts, array_of, attribute, constant, insert_before, set_attribute, set_inputs, take
from .step import Adapter, Step, keep


def drop(node: ir.Node, facts: Facts, *, names: tuple[str, ...]) -> None:
    """Op<names=...>(x) -> Op(x): attributes that say nothing about values."""
    for name in names:
        take(node, name)


def default(node: ir.Node, facts: Facts, *, values: dict[str, Any]) -> None:
    """Write down the default that the older version has, since the newer one has another or none."""
    for name, value in values.items():
        if name not in node.attributes:
            set_attribute(node, name, value)


def raise_broadcast(node: ir.Node, facts: Facts) -> None:
    """Add<broadcast=1, axis=k>(a, b) -> Add(a, Reshape(b, [0, .., 1, ..])): b aligned with the axes of a from k on.

    Without an axis, b is aligned with the last axes, as numpy does.
    """
    axis, enabled = take(node, "axis"), take(node, "broadcast", 0)
    if axis is not None and enabled:
        set_inputs(node, [node.inputs[0], _aligned(node, facts, axis)])


def _aligned(node: ir.Node, facts: Facts, axis: int) -> ir.Value | None:
    """Return input 1 with as many axes of size 1 at its end as align its first one with ``axis`` of input 0."""
    a, b = facts.rank(node.inputs[0]), facts.rank(node.inputs[1])
    assert a is not None
    assert b is not None
    tail = a - (axis % max(a, 1)) - b
    if tail <= 0:
        return node.inputs[1]
    return insert_before(node, "Reshape", [node.inputs[1], constant(node, [0] * b + [1] * tail)])


def _ranks_unknown(node: ir.Node, facts: Facts) -> str | None:
    if attribute(node, "axis") is None or not attribute(node, "broadcast", 0):
        return None
    known = all(facts.rank(v) is not None for v in node.inputs)
    return None if known else "the ranks of its inputs are not known"


def raise_prelu(node: ir.Node, facts: Facts) -> None:
    """PRelu(x [N, C, *spatial], slope [C]) -> PRelu(x, Reshape(slope, [C, 1, ..])); one slope serves all."""
    if not _single(node.inputs[1]):
        set_inputs(node, [node.inputs[0], _aligned(node, facts, 1)])


def _slope(node: ir.Node, facts: Facts) -> str | None:
    if _single(node.inputs[1]):
        return None
    x, slope = (facts.rank(v) for v in node.inputs)
    if x is None or slope is None:
        return "the ranks of its inputs are not known"
    return None if slope == 1 and x >= 2 else "its slope is neither one number nor one per channel"


def _single(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and all(d == 1 for d in value.shape)


def _trains(node: ir.Node, facts: Facts) -> str | None:
    return None if attribute(node, "is_test", 0) else "is_test=0: it trains"


def raise_cast(node: ir.Node, facts: Facts) -> None:
    """Cast<to="FLOAT"> -> Cast<to=1>."""
    set_attribute(node, "to", int(ir.DataType[take(node, "to").upper()]))


def _no_type(node: ir.Node, facts: Facts) -> str | None:
    name = attribute(node, "to")
    return None if name.upper() in ir.DataType.__members__ else f"{name!r} names no element type"


def raise_pad(node: ir.Node, facts: Facts) -> None:
    """Pad<paddings> -> Pad<pads>."""
    set_attribute(node, "pads", take(node, "paddings"))


def raise_reshape(node: ir.Node, facts: Facts) -> None:
    """Reshape<shape>(x) -> Reshape(x, shape)."""
    take(node, "consumed_inputs")
    set_inputs(node, [node.inputs[0], constant(node, take(node, "shape"))])


def _no_shape(node: ir.Node, facts: Facts) -> str | None:
    return None if attribute(node, "shape") is not None else "it has no shape"


def raise_split(node: ir.Node, facts: Facts) -> None:
    """Split(x, sizes) -> Split<split=sizes, axis=0>(x)."""
    default(node, facts, values={"axis": 0})
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        sizes = array_of(node.inputs[1])
        assert sizes is not None
        set_attribute(node, "split", [int(n) for n in sizes])
    set_inputs(node, [node.inputs[0]])


def _sizes_unknown(node: ir.Node, facts: Facts) -> str | None:
    given = len(node.inputs) > 1 and node.inputs[1] is not None
    return "its sizes are not constant" if given and array_of(node.inputs[1]) is None else None


def raise_upsample(node: ir.Node, facts: Facts) -> None:
    """Upsample<height_scale, width_scale> -> Upsample<scales=[1, 1, height, width]>."""
    set_attribute(node, "scales", [1.0, 1.0, take(node, "height_scale"), take(node, "width_scale")])


def raise_power(node: ir.Node, facts: Facts) -> None:
    """LpPool<p=2.0> -> LpPool<p=2>."""
    set_attribute(node, "p", int(take(node, "p", 2.0)))


def _broken_power(node: ir.Node, facts: Facts) -> str | None:
    p = attribute(node, "p", 2.0)
    if node.op_type == "LpPool" and attribute(node, "kernel_shape") is None:
        return "it has no kernel_shape"
    return None if p % 1 == 0 else f"p={p} is no whole number"


def _moved_repeats(node: ir.Node, facts: Facts) -> str | None:
    return "it repeats along one axis, given as an input"


def _both(first: Adapter, second: Adapter) -> Adapter:
    def adapt(node: ir.Node, facts: Facts) -> None:
        first(node, facts)
        second(node, facts)

    return adapt


_HINT: Adapter = partial(drop, names=("consumed_inputs",))  # which input's memory may be reused
_UNARY = "Abs Ceil Clip Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log Max Mean Min Neg"
_UNARY += " Reciprocal Relu Sigmoid Sqrt Sum Tanh"
_COMPARED = "And Equal Greater Less Or Pow Xor"
_TEST = partial(drop, names=("is_test",))
_SEQUENCE = Step(7, partial(drop, names=("output_sequence",)))  # whether output 0 is wanted; its use says so too
_SELU = {"alpha": 1.673200011253357, "gamma": 1.0506999492645264}

LEGACY: dict[str, tuple[Step, ...]] = {
    **{name: (Step(6, _HINT),) for name in _UNARY.split()},
    **{name: (Step(6, _HINT), Step(7, raise_broadcast, _ranks_unknown)) for name in ("Add", "Div", "Mul", "Sub")},
    **{name: (Step(7, raise_broadcast, _ranks_unknown),) for name in _COMPARED.split()},
    "BatchNormalization": (Step(6, _HINT), Step(7, _TEST, _trains)),
    "Cast": (Step(6, raise_cast, _no_type),),
    "Concat": (Step(4, partial(default, values={"axis": 1})),),
    "Dropout": (Step(6, _HINT), Step(7, _TEST, _trains)),
    "GRU": (Step(3, partial(default, values={"direction": "forward"})), _SEQUENCE),
    "Gemm": (Step(7, partial(drop, names=("broadcast",))),),
    "GlobalLpPool": (Step(2, raise_power, _broken_power),),
    "LSTM": (_SEQUENCE,),
    "LpPool": (Step(2, raise_power, _broken_power),),
    "PRelu": (Step(6, _HINT), Step(7, raise_prelu, _slope)),
    "Pad": (Step(2, raise_pad),),
    "RNN": (_SEQUENCE,),
    "Reshape": (Step(5, raise_reshape, _no_shape),),
    "Selu": (Step(6, _both(_HINT, partial(default, values=_SELU))),),
    "Split": (Step(2, raise_split, _sizes_unknown),),
    "Tile": (Step(6, keep, _moved_repeats),),
    "Upsample": (Step(7, raise_upsample),),
}
