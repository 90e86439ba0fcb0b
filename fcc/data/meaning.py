"""What the values of a model's inputs mean, read from the nodes they reach: indices, masks, lengths, choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcc.ir import Dim, Module, Node, Value, dims_of, subgraphs_of

from .spec import Array

Bound = int | Dim | None
_MOST_CHOICES = 4096


@dataclass(frozen=True)
class Role:
    """One meaning: ``kind``, with ``low <= value < high`` (range, index) or ``choices``.

    Kinds: range, index, choice, mask, flag, positive, unit, length, reshape, zero, one, large.
    """

    kind: str
    low: int = 0
    high: Bound = None
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Site:
    """A use of a value: operand ``index`` of ``node``, reached with ``offset`` added since the input."""

    node: Node
    index: int
    offset: int = 0


# Operands whose elements appear unchanged among the elements of the output.
_THROUGH: dict[str, frozenset[int]] = {
    **dict.fromkeys(
        ["Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Flatten", "Slice"],
        frozenset({0}),
    ),
    **dict.fromkeys(["Tile", "Split", "Gather", "GatherElements", "GatherND", "Pad", "Trilu"], frozenset({0})),
    "Concat": frozenset(range(64)),
    "Where": frozenset({1, 2}),
}
_SHAPE_ONLY = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Flatten"})
_DATA_LIKE = _SHAPE_ONLY - {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Flatten"} | {"DequantizeLinear"}


def roles(module: Module, value: Value) -> list[Role]:
    """Return what the nodes that read an input make of it, in graph order.  O(uses reached)."""
    found: list[Role] = []
    for site in _sites(module, value):
        rule = _RULES.get((_domain(site.node), site.node.op_type, site.index))
        role = rule(module, site) if rule is not None else None
        if role is not None:
            found.append(_shift(role, site.offset))
    return found


def _sites(module: Module, start: Value) -> Iterator[Site]:
    stack: list[tuple[Value, int]] = [(start, 0)]
    seen: set[tuple[Value, int]] = set()
    while stack:
        value, offset = stack.pop()
        if (value, offset) in seen or len(seen) > 2000:
            continue
        seen.add((value, offset))
        for use in value.uses():
            yield Site(use.node, use.idx, offset)
            stack.extend(_onward(module, use.node, use.idx, offset))


def _onward(module: Module, node: Node, index: int, offset: int) -> list[tuple[Value, int]]:
    """Return the values that hold the operand's elements next, with the integer added to them so far."""
    function = module.model.functions.get(node.op_identifier())
    if function is not None:
        return [(function.inputs[index], offset)] if index < len(function.inputs) else []
    if node.op_type in ("Loop", "Scan"):
        bodies = [g for g in subgraphs_of(node) if index < len(g.inputs)]
        return [(g.inputs[index], offset) for g in bodies if node.op_type == "Scan" or index >= 2]
    if _domain(node) == "" and index in _THROUGH.get(node.op_type, ()):
        return [(v, offset) for v in node.outputs]
    if node.op_type in ("Add", "Sub") and len(node.inputs) == 2 and not (node.op_type == "Sub" and index == 1):
        step = _scalar(node.inputs[1 - index])
        if step is not None:
            return [(node.outputs[0], offset + (step if node.op_type == "Add" else -step))]
    return []


def _shift(role: Role, offset: int) -> Role:
    if not offset:
        return role
    if role.kind in ("index", "range"):
        high = role.high - offset if role.high is not None else None
        return replace(role, low=max(role.low - offset, 0), high=high)
    return replace(role, choices=tuple(c - offset for c in role.choices))


def constant_array(value: Value | None) -> Array | None:
    """Return the elements of a constant, also behind Constant nodes and ops that keep them; its shape may differ."""
    for _ in range(16):
        if value is None:
            return None
        if value.is_initializer() and not value.is_graph_input() and value.const_value is not None:
            return np.asarray(value.const_value.numpy())
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Constant":
            return _constant_node(node)
        if node.op_type not in _SHAPE_ONLY:
            return None
        value = node.inputs[0]
    return None


def _constant_node(node: Node) -> Array | None:
    readers: dict[str, Callable[[Any], Any]] = {
        "value": lambda a: a.as_tensor().numpy(),
        "value_int": lambda a: np.int64(a.as_int()),
        "value_ints": lambda a: np.array(a.as_ints(), np.int64),
        "value_float": lambda a: np.float32(a.as_float()),
        "value_floats": lambda a: np.array(a.as_floats(), np.float32),
    }
    for name, attribute in node.attributes.items():
        if name in readers and not attribute.is_ref():
            return np.asarray(readers[name](attribute))
    return None


def _scalar(value: Value | None) -> int | None:
    array = constant_array(value)
    return int(array.item()) if array is not None and array.size == 1 and array.dtype.kind in "iu" else None


def _domain(node: Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _dims(value: Value | None) -> tuple[Bound, ...] | None:
    """Return the dims of a tensor, also of a constant behind a Cast, an Identity or a DequantizeLinear."""
    for _ in range(8):
        if value is None:
            return None
        if value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        dims = dims_of(value)
        node = value.producer()
        if node is not None and node.op_type == "Constant":
            array = _constant_node(node)
            return None if array is None else tuple(array.shape)
        if dims is not None or node is None or node.op_type not in _DATA_LIKE:
            return dims
        value = node.inputs[0]
    return None


def _int(node: Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else attribute.as_int()


def _operand(site: Site, index: int) -> Value | None:
    return site.node.inputs[index] if index < len(site.node.inputs) else None


Rule = Callable[[Module, Site], Role | None]


def _fixed(role: Role) -> Rule:
    return lambda module, site: role


def _index_along(operand: int, axis: int | None = None, *, kind: str = "index", extra: int = 0) -> Rule:
    """Return a rule: values index an axis (its attribute ``axis`` unless given) of another operand."""

    def rule(module: Module, site: Site) -> Role:
        dims = _dims(_operand(site, operand))
        at = _int(site.node, "axis", 0 if kind == "index" else -1) if axis is None else axis
        size = dims[at] if dims is not None and -len(dims) <= at < len(dims) else 1
        return Role(kind, 0 if kind == "index" else 1, None if size is None else size + extra)

    return rule


def _index_nd(module: Module, site: Site) -> Role:
    dims, indices = _dims(_operand(site, 0)), _dims(_operand(site, 1))
    skip = _int(site.node, "batch_dims", 0)
    width = indices[-1] if indices else None
    if dims is None or not isinstance(width, int):
        return Role("index", 0, 1)
    return Role("index", 0, min((d if isinstance(d, int) else 1 for d in dims[skip : skip + width]), default=1))


def _one_hot(module: Module, site: Site) -> Role:
    return Role("index", 0, _scalar(_operand(site, 1)) or 1)


def _equal(module: Module, site: Site) -> Role | None:
    array = constant_array(_operand(site, 1 - site.index))
    if array is None or array.size > _MOST_CHOICES:
        return None
    return Role("choice", choices=tuple(np.unique(array).tolist()))


def _one_minus(module: Module, site: Site) -> Role | None:
    array = constant_array(_operand(site, 0))
    return Role("mask") if array is not None and array.size == 1 and float(array.item()) == 1 else None


def _weighted(module: Module, site: Site) -> Role | None:
    """Return mask for an operand multiplied with something computed (a constant factor says nothing)."""
    return None if constant_array(_operand(site, 1 - site.index)) is not None else Role("mask?")


def _cast(module: Module, site: Site) -> Role | None:
    boolean = 9
    return Role("mask") if _int(site.node, "to", 0) == boolean else None


def _labels(module: Module, site: Site) -> Role | None:
    for name in ("keys_strings", "keys_int64s", "cats_strings", "cats_int64s", "classlabels_strings"):
        attribute = site.node.attributes.get(name)
        if attribute is not None:
            return Role("choice", choices=tuple(attribute.value))
    return None


def _pow(module: Module, site: Site) -> Role | None:
    array = constant_array(_operand(site, 1))
    return None if array is not None and bool(np.all(array == np.round(array))) else Role("positive")


_ONE, _ZERO, _POSITIVE, _UNIT = (_fixed(Role(k)) for k in ("one", "zero", "positive", "unit"))
_MASK, _FLAG = _fixed(Role("mask")), _fixed(Role("flag"))
_MS, _ML = "com.microsoft", "ai.onnx.ml"

_RULES: dict[tuple[str, str, int], Rule] = {
    ("", "Gather", 1): _index_along(0),
    ("", "GatherElements", 1): _index_along(0),
    ("", "ScatterElements", 1): _index_along(0),
    ("", "Scatter", 1): _index_along(0),
    ("", "GatherND", 1): _index_nd,
    ("", "ScatterND", 1): _index_nd,
    ("", "OneHot", 0): _one_hot,
    ("", "OneHot", 1): _fixed(Role("range", 1, 9)),
    ("", "RoiAlign", 2): _index_along(0, 0),
    ("", "TensorScatter", 2): _ZERO,
    (_MS, "EmbedLayerNormalization", 0): _index_along(2, 0),
    (_MS, "EmbedLayerNormalization", 1): _index_along(4, 0),
    (_MS, "EmbedLayerNormalization", 7): _MASK,
    (_MS, "EmbedLayerNormalization", 8): _index_along(3, 0),
    (_MS, "GatherBlockQuantized", 1): _index_along(0),
    (_MS, "Attention", 3): _MASK,
    (_MS, "MultiHeadAttention", 4): _MASK,
    (_MS, "GroupQueryAttention", 5): _ZERO,
    (_MS, "GroupQueryAttention", 6): _ONE,
    (_ML, "ArrayFeatureExtractor", 1): _index_along(0, -1),
    (_ML, "LabelEncoder", 0): _labels,
    (_ML, "CategoryMapper", 0): _labels,
    (_ML, "OneHotEncoder", 0): _labels,
    ("", "Equal", 0): _equal,
    ("", "Equal", 1): _equal,
    ("", "Cast", 0): _cast,
    ("", "Where", 0): _MASK,
    ("", "Compress", 1): _MASK,
    ("", "Sub", 1): _one_minus,
    ("", "Mul", 0): _weighted,
    ("", "Mul", 1): _weighted,
    ("", "If", 0): _FLAG,
    ("", "Loop", 0): _fixed(Role("range", 1, 5)),
    ("", "Loop", 1): _fixed(Role("one")),
    ("", "Dropout", 1): _fixed(Role("zero")),
    ("", "Dropout", 2): _fixed(Role("zero")),
    ("", "RNN", 4): _index_along(0, 0, kind="length", extra=1),
    ("", "LSTM", 4): _index_along(0, 0, kind="length", extra=1),
    ("", "GRU", 4): _index_along(0, 0, kind="length", extra=1),
    ("", "ReverseSequence", 1): _index_along(0, 0, kind="length", extra=1),
    ("", "TopK", 1): _index_along(0, kind="length", extra=1),
    ("", "NonMaxSuppression", 2): _fixed(Role("range", 1, 9)),
    ("", "NonMaxSuppression", 3): _fixed(Role("unit")),
    ("", "Range", 0): _ZERO,
    ("", "Range", 1): _fixed(Role("range", 1, 9)),
    ("", "Range", 2): _ONE,
    ("", "Reshape", 1): _fixed(Role("reshape")),
    ("", "Expand", 1): _ONE,
    ("", "Tile", 1): _fixed(Role("range", 1, 4)),
    ("", "ConstantOfShape", 0): _fixed(Role("range", 1, 4)),
    ("", "Resize", 1): _POSITIVE,
    ("", "Resize", 2): _ONE,
    ("", "Upsample", 1): _ONE,
    ("", "Slice", 1): _ZERO,
    ("", "Slice", 2): _fixed(Role("large")),
    ("", "Slice", 4): _ONE,
    ("", "Pad", 1): _ZERO,
    ("", "CumSum", 1): _ZERO,
    ("", "Trilu", 1): _ZERO,
    ("", "Squeeze", 1): _ZERO,
    ("", "Unsqueeze", 1): _ZERO,
    ("", "SequenceAt", 1): _ZERO,
    ("", "BitShift", 1): _fixed(Role("range", 0, 8)),
    ("", "Div", 1): _fixed(Role("nonzero")),
    ("", "Mod", 1): _fixed(Role("nonzero")),
    ("", "BatchNormalization", 4): _POSITIVE,
    ("", "QuantizeLinear", 1): _POSITIVE,
    ("", "DequantizeLinear", 1): _POSITIVE,
    ("", "Sqrt", 0): _POSITIVE,
    ("", "Log", 0): _POSITIVE,
    ("", "Pow", 0): _pow,
    ("", "Acos", 0): _UNIT,
    ("", "Asin", 0): _UNIT,
    ("", "Atanh", 0): _UNIT,
    ("", "Acosh", 0): _fixed(Role("positive")),
    ("", "GridSample", 1): _UNIT,
}
