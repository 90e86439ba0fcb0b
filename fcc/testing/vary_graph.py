"""Variations of the graph: who uses what, where a border runs, which operator with which attributes stands there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from fcc.runtime.protos import nodes

from .draft import Draft

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean"})
SIBLINGS: tuple[tuple[str, ...], ...] = (
    ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"),
    ("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Exp", "Sqrt", "Identity", "LeakyRelu", "Erf", "Softplus", "Reciprocal"),
    ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare", "ReduceL1"),
    ("MaxPool", "AveragePool"),
    ("Softmax", "LogSoftmax", "Hardmax"),
    ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"),
    ("Floor", "Ceil", "Round", "Sign"),
    ("ArgMax", "ArgMin"),
    ("And", "Or", "Xor"),
)
STRINGS: dict[str, tuple[str, ...]] = {
    "auto_pad": ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
    "mode": ("constant", "reflect", "edge", "wrap", "DCR", "CRD", "nearest", "linear", "cubic"),
    "approximate": ("none", "tanh"),
    "direction": ("forward", "reverse", "bidirectional", "LEFT", "RIGHT"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
}
BOOLEANS = frozenset(
    {"allowzero", "keepdims", "transA", "transB", "noop_with_empty_axes", "ceil_mode", "count_include_pad", "exclusive"}
)
OPSETS = (11, 13, 17, 18, 20, 21, 22, 23, 24)


def overridable(d: Draft) -> bool:
    """Make a constant a graph input too, which a caller can override."""
    inputs = {v.name for v in d.graph.input}
    t = d.pick([t for t in d.graph.initializer if t.name not in inputs])
    if t is None:
        return False
    d.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    return True


def computed(d: Draft) -> bool:
    """Make a constant a graph input, with nothing known but its shape."""
    inputs = {v.name for v in d.graph.input}
    t = d.pick([t for t in d.graph.initializer if t.name not in inputs])
    if t is None:
        return False
    d.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    d.graph.initializer.remove(t)
    d.loose = True
    return True


def shared(d: Draft) -> bool:
    """Give a constant another user, whose result is a graph output."""
    t = d.pick(list(d.graph.initializer))
    if t is None:
        return False
    d.output(d.node("Identity" if t.data_type == TensorProto.BOOL else "Abs", [t.name]))
    return True


def as_node(d: Draft) -> bool:
    """Hold a constant in a Constant node, or pass it through an Identity."""
    inputs = {v.name for v in d.graph.input}
    t = d.pick([t for t in d.graph.initializer if t.name not in inputs])
    if t is None:
        return False
    if d.rng.random() < 0.5:
        d.graph.node.insert(0, helper.make_node("Constant", [], [t.name], value=t))
        d.graph.initializer.remove(t)
    else:
        users = d.users(t.name)
        made = d.node("Identity", [t.name], at=0)
        for n, i in users:
            n.input[i] = made
    return True


def escape(d: Draft) -> bool:
    """Make an interior value a graph output."""
    name = d.pick(d.interior())
    if name is None:
        return False
    d.output(name)
    return True


def used(d: Draft) -> bool:
    """Give an interior value one more user, whose result is a graph output; the user may be in a branch."""
    name = d.pick(d.interior())
    if name is None:
        return False
    d.output(d.node("Identity", [name]))
    return True


def alias(d: Draft) -> bool:
    """Let an operand be another value of the graph."""
    place = d.pick([(k, i) for k, n in enumerate(d.graph.node) for i, v in enumerate(n.input) if v])
    if place is None:
        return False
    k, i = place
    before = [v.name for v in (*d.graph.input, *d.graph.initializer)]
    before += [o for n in d.graph.node[:k] for o in n.output if o]
    d.graph.node[k].input[i] = d.pick(before) or ""
    d.loose = True
    return True


def swap(d: Draft) -> bool:
    """Turn the operands of an operator over; for one that does not commute, another computation."""
    n = d.pick([n for n in nodes(d.model) if len(n.input) > 1])
    if n is None:
        return False
    i, j = (0, 1) if n.op_type in COMMUTATIVE or len(n.input) == 2 else (d.rng.randrange(len(n.input)), 0)
    n.input[i], n.input[j] = n.input[j], n.input[i]
    d.loose = d.loose or n.op_type not in COMMUTATIVE
    return True


def operator(d: Draft) -> bool:
    """Replace an operator by another one that takes the same operands."""
    places = [(n, row) for n in nodes(d.model) for row in SIBLINGS if n.op_type in row]
    place = d.pick(places)
    if place is None:
        return False
    n, row = place
    n.op_type = d.pick(row) or n.op_type
    d.loose = True
    return True


def inserted(d: Draft) -> bool:
    """Put an elementwise operator between two others."""
    place = d.pick([(k, i) for k, n in enumerate(d.graph.node) for i, v in enumerate(n.input) if v])
    if place is None:
        return False
    k, i = place
    node = d.graph.node[k]
    op = d.pick(("Identity", "Neg", "Abs", "Relu", "Sigmoid", "Transpose", "Shape")) or "Identity"
    made = d.node(op, [node.input[i]], at=k)
    d.graph.node[k + 1].input[i] = made
    d.loose = True
    return True


def absent(d: Draft) -> bool:
    """Leave out an optional operand; onnxruntime and onnx's inference trust that the others are there."""
    places = [(n, i) for n in nodes(d.model) for i in range(1, len(n.input)) if _is_optional(n, i, d)]
    place = d.pick(places)
    if place is None:
        return False
    n, i = place
    if i == len(n.input) - 1:
        del n.input[i]
    else:
        n.input[i] = ""
    d.loose = True
    return True


def opset(d: Draft) -> bool:
    """Declare another opset of the default domain, or convert to it where the form differs."""
    version = d.pick(OPSETS)
    entry = next((o for o in d.model.opset_import if o.domain == ""), None)
    if entry is None or version is None or version == entry.version:
        return False
    if d.rng.random() < 0.4:
        try:
            d.model = onnx.version_converter.convert_version(d.model, version)
        except Exception:
            return False
    else:
        entry.version = version
    return True


def attribute(d: Draft) -> bool:
    """Change, drop or add an attribute within its type."""
    n = d.pick([n for n in nodes(d.model) if not any(a.type == AttributeProto.GRAPH for a in n.attribute)])
    if n is None:
        return False
    d.loose = True
    if n.attribute and d.rng.random() < 0.7:
        a = n.attribute[d.rng.randrange(len(n.attribute))]
        if d.rng.random() < 0.2:
            n.attribute.remove(a)
            return True
        return _perturb(a, d)
    return _added(n, d)


def _perturb(a: AttributeProto, d: Draft) -> bool:
    if a.name in BOOLEANS:
        a.i = d.pick((0, 1)) or 0
    elif a.type == AttributeProto.INT:
        a.i = d.pick((0, 1, -1, 2, a.i + 1, a.i - 1, -a.i)) or 0
    elif a.type == AttributeProto.FLOAT:
        a.f = d.pick((0.0, 1.0, 2.0, -1.0, a.f * 2, -a.f, 1e-5, 0.3)) or 0.0
    elif a.type == AttributeProto.INTS and a.ints:
        k, how = d.rng.randrange(len(a.ints)), d.rng.random()
        if how < 0.3:
            values = list(a.ints)
            d.rng.shuffle(values)
            a.ints[:] = values
        else:
            a.ints[k] = d.pick((0, 1, -1, 2, a.ints[k] + 1, a.ints[k] - 1, a.ints[k] - len(a.ints), -a.ints[k])) or 0
    elif a.type == AttributeProto.STRING and a.name in STRINGS:
        a.s = (d.pick(STRINGS[a.name]) or "").encode()
    else:
        return False
    return True


def _schema(n: NodeProto, d: Draft) -> Any:
    version = next((o.version for o in d.model.opset_import if o.domain == n.domain), 1)
    try:
        return onnx.defs.get_schema(n.op_type, version, n.domain)
    except onnx.defs.SchemaError:
        return None


def _is_optional(n: NodeProto, i: int, d: Draft) -> bool:
    schema = _schema(n, d)
    if schema is None or i >= len(schema.inputs):
        return False
    return bool(schema.inputs[i].option == onnx.defs.OpSchema.FormalParameterOption.Optional)


def _added(n: NodeProto, d: Draft) -> bool:
    schema = _schema(n, d)
    if schema is None:
        return False
    have = {a.name for a in n.attribute}
    name = d.pick([k for k in sorted(schema.attributes) if k not in have])
    if name is None:
        return False
    kind = schema.attributes[name].type
    if name in BOOLEANS:
        n.attribute.append(helper.make_attribute(name, d.pick((0, 1)) or 0))
    elif kind == onnx.defs.OpSchema.AttrType.INT:
        n.attribute.append(helper.make_attribute(name, d.pick((0, 1, -1, 2)) or 0))
    elif kind == onnx.defs.OpSchema.AttrType.FLOAT:
        n.attribute.append(helper.make_attribute(name, d.pick((0.0, 0.5, -1.0, 2.0)) or 0.0))
    elif kind == onnx.defs.OpSchema.AttrType.INTS:
        length = d.pick((1, 2, 4)) or 1
        n.attribute.append(helper.make_attribute(name, [d.pick((0, 1, 1, 2, -1)) or 0 for _ in range(length)]))
    elif kind == onnx.defs.OpSchema.AttrType.STRING and name in STRINGS:
        n.attribute.append(helper.make_attribute(name, d.pick(STRINGS[name]) or ""))
    else:
        return False
    return True


def branch(d: Draft) -> bool:
    """Move the nodes from some point on into both branches of an If; what they read becomes captured."""
    cut = d.pick((0, 0, d.rng.randrange(len(d.graph.node)))) if d.graph.node else None
    if cut is None:
        return False
    inside = list(d.graph.node[cut:])
    made = {o for n in inside for o in n.output}
    if any(o.name not in made for o in d.graph.output):
        return False
    flag, results = d.fresh("flag"), [o.name for o in d.graph.output]
    then = _body("then", inside, results, d, "t_")
    other = _body("else", inside, results, d, "e_")
    del d.graph.node[cut:]
    d.graph.input.append(helper.make_tensor_value_info(flag, TensorProto.BOOL, []))
    d.graph.node.append(helper.make_node("If", [flag], results, then_branch=then, else_branch=other))
    if d.rng.random() < 0.5:
        _move_constants(d, then, "t_")
    d.loose = True
    return True


def loop(d: Draft) -> bool:
    """Run all nodes in the body of a Loop, which stacks the outputs of two rounds."""
    inside, results = list(d.graph.node), [o.name for o in d.graph.output]
    made = {o for n in inside for o in n.output}
    if not inside or any(r not in made for r in results):
        return False
    trips, keep = d.fresh("trips"), d.fresh("keep")
    body = _body("body", inside, results, d, "b_")
    body.input.append(helper.make_tensor_value_info("b_i", TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info("b_go", TensorProto.BOOL, []))
    body.node.append(helper.make_node("Identity", ["b_go"], ["b_going"]))
    body.output.insert(0, helper.make_tensor_value_info("b_going", TensorProto.BOOL, []))
    del d.graph.node[:]
    d.graph.initializer.append(helper.make_tensor(trips, TensorProto.INT64, [], [2]))
    d.graph.initializer.append(helper.make_tensor(keep, TensorProto.BOOL, [], [True]))
    d.graph.node.append(helper.make_node("Loop", [trips, keep], results, body=body))
    d.loose = True
    return True


def _body(name: str, inside: Sequence[NodeProto], results: Sequence[str], d: Draft, prefix: str) -> GraphProto:
    """Return a graph of copies of nodes, with names of its own."""
    own = {o: prefix + o for n in inside for o in n.output if o}
    copies = []
    for n in inside:
        copy = NodeProto.FromString(n.SerializeToString())
        copy.name = prefix + n.name if n.name else ""
        copy.input[:] = [own.get(v, v) for v in n.input]
        copy.output[:] = [own.get(v, v) for v in n.output]
        for a in copy.attribute:
            if a.type == AttributeProto.GRAPH:
                _rename(a.g, own, prefix)
        copies.append(copy)
    types = {o.name: o.type for o in d.graph.output}
    outputs = [ValueInfoProto(name=own[r], type=types[r]) for r in results]
    return GraphProto(name=name, node=copies, output=outputs)


def _rename(g: GraphProto, outer: dict[str, str], prefix: str) -> None:
    own = {v: prefix + v for n in g.node for v in n.output if v}
    own |= {v.name: prefix + v.name for v in (*g.input, *g.initializer)}
    names = {**outer, **own}
    for n in g.node:
        n.input[:] = [names.get(v, v) for v in n.input]
        n.output[:] = [names.get(v, v) for v in n.output]
        for a in n.attribute:
            if a.type == AttributeProto.GRAPH:
                _rename(a.g, names, prefix)
    for v in (*g.input, *g.output, *g.value_info, *g.initializer):
        v.name = names.get(v.name, v.name)


def _move_constants(d: Draft, body: GraphProto, prefix: str) -> None:
    """Let a branch hold copies of the constants that it reads."""
    for t in list(d.graph.initializer):
        if any(t.name in n.input for n in body.node):
            copy = TensorProto.FromString(t.SerializeToString())
            copy.name = prefix + t.name
            body.initializer.append(copy)
            for n in body.node:
                n.input[:] = [copy.name if v == t.name else v for v in n.input]
