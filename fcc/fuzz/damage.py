"""Files that are almost models: each kind of damage changes one thing of a real model, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from fcc.runtime.protos import graphs

Damage = Callable[[ModelProto, random.Random], None]
SIZES = (0, 1, 2, 3, -1, 7, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
NAMES = ("", "a/b", "../up", "new\nline", "\x1b[31m", "x" * 3000, "ä", " ")
OPS = ("Nothing", "", "Relu", "Add", "If", "Loop", "Constant", "Reshape", "Concat", "relu")


def _graph(model: ModelProto, rng: random.Random) -> GraphProto:
    return rng.choice(list(graphs(model.graph)))


def _node(model: ModelProto, rng: random.Random) -> NodeProto:
    return rng.choice(_graph(model, rng).node)


def _values(graph: GraphProto) -> list[str]:
    return [
        *(o for n in graph.node for o in n.output if o),
        *(v.name for v in (*graph.input, *graph.output)),
        *(t.name for t in graph.initializer),
    ]


# -- references ------------------------------------------------------------------------------------------------------
def dangling(model: ModelProto, rng: random.Random) -> None:
    """A node reads what nothing makes."""
    node = _node(model, rng)
    node.input[rng.randrange(len(node.input))] = "nothing_makes_this"


def rewired(model: ModelProto, rng: random.Random) -> None:
    """A node reads another value of the graph, perhaps its own or a later one: a cycle."""
    graph = _graph(model, rng)
    node = rng.choice(graph.node)
    node.input[rng.randrange(len(node.input))] = rng.choice(_values(graph))


def cycle(model: ModelProto, rng: random.Random) -> None:
    """A node reads what it makes."""
    node = _node(model, rng)
    node.input[rng.randrange(len(node.input))] = node.output[0]


def twice(model: ModelProto, rng: random.Random) -> None:
    """A name is made twice."""
    graph = _graph(model, rng)
    node = rng.choice(graph.node)
    node.output[rng.randrange(len(node.output))] = rng.choice(_values(graph))


def repeated(model: ModelProto, rng: random.Random) -> None:
    """A node, initializer, input or output stands twice."""
    graph = _graph(model, rng)
    field = rng.choice([f for f in (graph.node, graph.initializer, graph.input, graph.output) if len(f)])
    field.append(rng.choice(field))


def absent(model: ModelProto, rng: random.Random) -> None:
    """A node, initializer, input, output, or operand is gone."""
    graph = _graph(model, rng)
    fields = (graph.node, graph.initializer, graph.input, graph.output, rng.choice(graph.node).input)
    field = rng.choice([f for f in fields if len(f)])
    del field[rng.randrange(len(field))]


def shuffled(model: ModelProto, rng: random.Random) -> None:
    """The nodes are in another order."""
    graph = _graph(model, rng)
    nodes = [NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    rng.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def named(model: ModelProto, rng: random.Random) -> None:
    """A name becomes odd, everywhere or at one place."""
    graph = _graph(model, rng)
    old, new = rng.choice(_values(graph)), rng.choice(NAMES)
    for g in graphs(model.graph) if rng.random() < 0.6 else (graph,):
        for n in g.node:
            n.input[:] = [new if v == old else v for v in n.input]
            n.output[:] = [new if v == old else v for v in n.output]
        for v in (*g.input, *g.output, *g.initializer, *g.value_info):
            v.name = new if v.name == old else v.name


# -- types and sizes -------------------------------------------------------------------------------------------------
def typed(model: ModelProto, rng: random.Random) -> None:
    """A declared element type is another one, or none."""
    graph = _graph(model, rng)
    v = rng.choice([*graph.input, *graph.output, *graph.value_info])
    v.type.tensor_type.elem_type = rng.choice([0, 1, 7, 8, 9, 10, 11, 16, 23, 99])


def sized(model: ModelProto, rng: random.Random) -> None:
    """A declared size is another one, huge, negative, or gone."""
    graph = _graph(model, rng)
    v = rng.choice([*graph.input, *graph.output, *graph.value_info])
    shape = v.type.tensor_type.shape
    if shape.dim and rng.random() < 0.8:
        shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(SIZES)
    elif rng.random() < 0.5:
        v.type.tensor_type.ClearField("shape")
    else:
        shape.dim.add().dim_param = "k"


def tensor_sized(model: ModelProto, rng: random.Random) -> None:
    """The dims of an initializer do not fit its bytes."""
    t = rng.choice(_graph(model, rng).initializer)
    if t.dims and rng.random() < 0.8:
        t.dims[rng.randrange(len(t.dims))] = rng.choice(SIZES)
    else:
        t.dims.append(rng.choice(SIZES))


def tensor_typed(model: ModelProto, rng: random.Random) -> None:
    """The element type of an initializer is another one."""
    rng.choice(_graph(model, rng).initializer).data_type = rng.choice([0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 22, 77])


def tensor_bytes(model: ModelProto, rng: random.Random) -> None:
    """The bytes of an initializer are cut, longer, or other ones."""
    t = rng.choice(_graph(model, rng).initializer)
    data = bytearray(t.raw_data) or bytearray(b"abc")
    kind = rng.randrange(3)
    if kind == 0:
        data = data[: rng.randrange(len(data))]
    elif kind == 1:
        data += bytes(rng.randrange(1, 9))
    else:
        for _ in range(4):
            data[rng.randrange(len(data))] = rng.randrange(256)
    t.raw_data = bytes(data)


def external(model: ModelProto, rng: random.Random) -> None:
    """An initializer lies in a file that does not exist, or must not be read."""
    t = rng.choice(_graph(model, rng).initializer)
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    places = ("missing.bin", "/etc/passwd", "../../etc/passwd", "", ".", "/dev/zero")
    t.external_data.add(key="location", value=rng.choice(places))
    if rng.random() < 0.5:
        t.external_data.add(key="offset", value=rng.choice(["-1", "x", str(2**62), "0"]))


# -- operators -------------------------------------------------------------------------------------------------------
def operator(model: ModelProto, rng: random.Random) -> None:
    """A node is another operator, or of another domain."""
    node = _node(model, rng)
    if rng.random() < 0.7:
        node.op_type = rng.choice(OPS)
    else:
        node.domain = rng.choice(["com.microsoft", "ai.onnx.ml", "nobody", "ai.onnx"])


def attribute(model: ModelProto, rng: random.Random) -> None:
    """An attribute is gone, twice there, of another type, or holds another number."""
    with_some = [n for g in graphs(model.graph) for n in g.node if n.attribute]
    node = rng.choice(with_some)
    k = rng.randrange(len(node.attribute))
    a, kind = node.attribute[k], rng.randrange(5)
    if kind == 0:
        del node.attribute[k]
    elif kind == 1:
        node.attribute.append(a)
    elif kind == 2:
        a.type = rng.choice([0, *AttributeProto.AttributeType.values()])
    elif kind == 3 and a.type == AttributeProto.INTS and a.ints:
        a.ints[rng.randrange(len(a.ints))] = rng.choice(SIZES)
    elif a.type == AttributeProto.INT:
        a.i = rng.choice(SIZES)
    else:
        node.attribute[k].CopyFrom(helper.make_attribute(a.name or "axis", rng.choice([1, 0.5, "s", [1, 2]])))


def added(model: ModelProto, rng: random.Random) -> None:
    """A node has an attribute that its operator does not know, or an operand or result too many."""
    node = _node(model, rng)
    kind = rng.randrange(3)
    if kind == 0:
        node.attribute.append(helper.make_attribute(rng.choice(["axis", "unknown", "to", "perm"]), rng.choice([0, 9])))
    elif kind == 1:
        node.input.append(rng.choice(_values(model.graph)))
    else:
        node.output.append("one_too_many")


def versions(model: ModelProto, rng: random.Random) -> None:
    """Opset or IR version is another one, twice there, or gone."""
    kind = rng.randrange(4)
    if kind == 0:
        model.ir_version = rng.choice([0, 1, 3, 4, 8, 13, 99, -1])
    elif kind == 1:
        model.opset_import[0].version = rng.choice([0, 1, 6, 7, 9, 13, 21, 26, 27, 999, -5])
    elif kind == 2:
        model.opset_import.add().CopyFrom(rng.choice(model.opset_import))
        model.opset_import[-1].version += 1
    else:
        del model.opset_import[:]


def function(model: ModelProto, rng: random.Random) -> None:
    """A function shadows an operator, or calls itself."""
    name = rng.choice(["Relu", "Add", "Mine"])
    body = [helper.make_node(rng.choice([name, "Identity"]), ["a"], ["b"], domain=rng.choice(["", "own"]))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, ["a"], ["b"], body, opsets))
    model.opset_import.add().CopyFrom(opsets[1])
    node = _node(model, rng)
    node.op_type, node.domain = name, "own"


DAMAGES: Mapping[str, Damage] = {
    f.__name__: f
    for f in (
        *(dangling, rewired, cycle, twice, repeated, absent, shuffled, named, typed, sized, tensor_sized),
        *(tensor_typed, tensor_bytes, external, operator, attribute, added, versions, function),
    )
}


# -- bytes -----------------------------------------------------------------------------------------------------------
def broken(data: bytes, rng: random.Random) -> bytes:
    """Return a file with bytes flipped, cut, inserted, or copied from elsewhere in it."""
    made, kind = bytearray(data), rng.randrange(4)
    at = rng.randrange(len(made))
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del made[at:]
    elif kind == 2:
        made[at:at] = rng.randbytes(rng.randint(1, 40))
    else:
        length = rng.randint(1, 200)
        start = rng.randrange(len(made))
        made[at : at + length] = made[start : start + length]
    return bytes(made)


def damaged(model: bytes, seed: int) -> tuple[str, bytes]:
    """Return what was done to a serialized model, and the file: one kind of damage, now and then two."""
    rng = random.Random(seed)
    if rng.random() < 0.15:
        return "bytes", broken(model, rng)
    names: Sequence[str] = list(DAMAGES)
    proto = ModelProto.FromString(model)
    done = []
    for name in rng.sample(names, rng.choice((1, 1, 1, 2))):
        try:
            DAMAGES[name](proto, rng)
        except (IndexError, ValueError, TypeError):  # nothing of that kind is there, or protobuf refuses it
            continue
        done.append(name)
    try:
        return "+".join(done) or "nothing", bytes(proto.SerializeToString())
    except Exception:
        return "nothing", model


def declared_only(model: onnx.ModelProto) -> bool:
    """Return whether no initializer lies outside the file."""
    return all(t.data_location != TensorProto.EXTERNAL for g in graphs(model.graph) for t in g.initializer)
