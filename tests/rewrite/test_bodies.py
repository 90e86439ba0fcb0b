"""The Rewriter takes nested graphs apart: copies, nodes that move out, signatures that change."""

import numpy as np
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import parse, to_text
from fcc.rewrite import Rewriter, Signature

TEXT = """g (float[2] x, float[2] v, bool p) => (float[2] y) <int64 n = {2}, bool go = {1}, float[2] w = {1, 2}> {
    y = Loop(n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) <float[2] k = {3, 4}> {
        d = Identity(c) u = Mul(v, k)
        t = If(p) <then_branch = f () => (float[2] a) { a = Add(s, k) }, else_branch = e () => (float[2] o) { o = Mul(u, w) }>
    }> }"""


def start(text: str = TEXT) -> tuple[ir.Module, ir.Node, ir.Graph]:
    module = parse(text)
    shapes.infer(module)
    for i, node in enumerate(module.nodes()):
        node.name = f"n{i}"
    module.reindex()
    node = next(n for n in module.graph if any(True for _ in ir.subgraphs_of(n)))
    return module, node, next(iter(ir.subgraphs_of(node)))


def test_copies_have_names_of_their_own_and_share_constants() -> None:
    module, node, body = start()
    rw = Rewriter(module, node, "p")
    x = module.graph.inputs[0]
    first = rw.copy(body, {body.inputs[2]: x})
    second = rw.copy(body, {body.inputs[2]: first[1]})
    rw.replace(node.outputs[0], second[1])
    rw.erase(node)
    rw.commit()
    ir.verify(module)
    values = [v.name for g in module.graphs() for n in g for v in n.outputs]
    assert len(values) == len(set(values))
    names = [n.name for n in module.nodes()]
    assert len(names) == len(set(names))
    assert len(module.graph.initializers) == 2
    ifs = [n for n in module.graph if n.op_type == "If"]
    assert [len(list(ir.subgraphs_of(n))) for n in ifs] == [2, 2]
    assert ifs[1].outputs[0] is module.graph.outputs[0]


def test_an_abandoned_copy_leaves_no_use_behind() -> None:
    module, node, body = start()
    before, uses = to_text(module), {v: len(list(v.uses())) for v in module.graph.inputs}
    rw = Rewriter(module, node, "p")
    rw.copy(body, {body.inputs[2]: module.graph.inputs[0]})
    rw.abort()
    assert to_text(module) == before
    assert uses == {v: len(list(v.uses())) for v in module.graph.inputs}
    ir.verify(module)


def test_sizes_that_are_no_numbers_are_found_anew_in_every_copy() -> None:
    module, node, body = start(
        """g (float[N] x) => (float[M] y) <int64 n = {2}, bool go = {1}> {
        y = Loop(n, go, x) <body = b (int64 i, bool c, float[K] s) => (bool d, float[L] t) {
            d = Identity(c) t = Concat<axis = 0>(s, x) }> }"""
    )
    rw = Rewriter(module, node, "p")
    (_, first) = rw.copy(body, {body.inputs[2]: module.graph.inputs[0]})
    (_, second) = rw.copy(body, {body.inputs[2]: first})
    n = ir.Dim.symbol("N")
    assert ir.dims_of(first) == (2 * n,)
    assert ir.dims_of(second) == (3 * n,)
    rw.abort()


def test_nodes_move_out_with_their_constants() -> None:
    module, node, body = start()
    mul = next(n for n in body if n.op_type == "Mul")
    rw = Rewriter(module, node, "p")
    rw.hoist([mul])
    touched = rw.commit()
    ir.verify(module)
    assert mul in touched
    assert [n.op_type for n in module.graph] == ["Mul", "Loop"]
    assert set(module.graph.initializers) == {"n", "go", "w", "k"}
    assert not body.initializers


def test_nodes_move_out_with_the_constants_that_their_branches_use() -> None:
    module, node, body = start(
        """g (float[2] x, bool a) => (float[2] y) <int64 n = {2}, bool go = {1}> {
        y = Loop(n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) <float[2] k = {1, 2}> {
            d = Identity(c)
            h = If(a) <then_branch = p () => (float[2] u) { u = Mul(x, k) }, else_branch = r () => (float[2] z) { z = Add(x, k) }>
            t = Add(s, h) }> }"""
    )
    rw = Rewriter(module, node, "p")
    rw.hoist([n for n in body if n.op_type == "If"])
    rw.commit()
    ir.verify(module)
    assert [n.op_type for n in module.graph] == ["If", "Loop"]
    assert "k" in module.graph.initializers
    assert not body.initializers


def test_a_signature_that_keeps_some_and_stacks_more() -> None:
    module, node, body = start(
        """g (float[2] x, float[2] v) => (float[2] y, float[K,2] z) <int64 n = {2}, bool go = {1}> {
        q, y, z = Loop(n, go, v, x) <body = b (int64 i, bool c, float[2] r, float[2] s)
                => (bool d, float[2] o, float[2] t, float[2] e) {
            d = Identity(c) o = Neg(r) t = Exp(s) e = Abs(t) }> }"""
    )
    names = {v.name: v for n in body for v in n.outputs}
    rw = Rewriter(module, node, "p")
    added = rw.resign(node, Signature([0, 1, 3], [1, 2], [0, 1, 3], [0, 2, 3], [names["e"], body.inputs[3]]))
    assert [v.name for v in added] == ["e_1", "s_1"]
    rw.erase(node, next(n for n in body if n.op_type == "Neg"))
    rw.commit()
    ir.verify(module)
    (loop,) = module.graph
    assert [v.name for v in loop.outputs] == ["y", "z", "e_1", "s_1"]
    assert [v.name for v in module.graph.outputs] == ["y", "z"]
    new = next(iter(ir.subgraphs_of(loop)))
    assert new is body
    assert [v.name for v in new.inputs] == ["i", "c", "s"]
    assert [n.op_type for n in new] == ["Identity", "Exp", "Abs", "Identity", "Identity"]
    assert [v.name for v in new.outputs[:3]] == ["d", "t", "e"]
    assert new.outputs[3] is not names["e"]


def test_nodes_may_be_placed_in_a_nested_graph() -> None:
    module, node, body = start()
    rw = Rewriter(module, node, "p")
    rw.before(next(iter(body)))
    inner = rw.op("Neg", module.graph.inputs[1])
    rw.set_input(next(n for n in body if n.op_type == "Mul"), 0, inner)
    rw.commit()
    ir.verify(module)
    assert next(iter(body)).op_type == "Neg"
    assert len(list(module.graph)) == 1


def test_a_constant_of_a_nested_graph_of_a_copy_is_kept() -> None:
    module, node, body = start(TEXT.replace("a = Add(s, k)", "a = Add(s, w)").replace("u = Mul(v, k)", "u = Neg(v)"))
    rw = Rewriter(module, node, "p")
    outer = rw.const(np.array([5, 6], np.float32), "five")
    constant = next(v for v in body.initializers.values())
    branch = next(g for n in body for g in ir.subgraphs_of(n))
    add = next(iter(branch))
    add.replace_input_with(1, constant)
    rw.replace(node.outputs[0], rw.copy(body, {body.inputs[2]: outer})[1])
    rw.erase(node)
    rw.commit()
    ir.verify(module)
    assert {"k", "five", "w"} >= {v.name.split("_")[0] for v in module.graph.initializers.values() if v.name} - {
        "n",
        "go",
    }


@pytest.mark.parametrize("kind", ["GRAPH", "GRAPHS"])
def test_attributes_that_hold_graphs_are_copied(kind: str) -> None:
    module, node, body = start()
    attribute = node.attributes["body"]
    values: dict[ir.Value, ir.Value] = {}
    if kind == "GRAPHS":
        node.attributes["body"] = ir.Attr("body", ir.AttributeType.GRAPHS, (body,))
    copy = ir.copy_node(node, values, module.fresh)
    found = next(iter(ir.subgraphs_of(copy)))
    assert copy.attributes["body"].type is ir.AttributeType[kind]
    assert found is not body
    assert [n.op_type for n in found] == [n.op_type for n in body]
    assert {v.name for v in found.inputs}.isdisjoint(v.name for v in body.inputs)
    node.attributes["body"] = attribute
    ir.detach_nested(copy)
