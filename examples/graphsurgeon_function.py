"""An existing GraphSurgeon script as a verified pass: fcc model.onnx --plugin examples/graphsurgeon_function.py"""

import onnx_graphsurgeon as gs


def double_negation(graph: gs.Graph) -> gs.Graph:
    """Remove Neg(Neg(x))."""
    for node in graph.nodes:
        if node.op == "Neg" and node.inputs[0].inputs and node.inputs[0].inputs[0].op == "Neg":
            source = node.inputs[0].inputs[0].inputs[0]
            for user in list(node.outputs[0].outputs):
                user.inputs = [source if t is node.outputs[0] else t for t in user.inputs]
    return graph.cleanup().toposort()


passes = [double_negation]
