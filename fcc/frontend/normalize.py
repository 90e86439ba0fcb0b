"""normalize(): one form for every model, so that passes meet each thing once."""

from __future__ import annotations

from fcc import ir
from fcc.limits import MAX_NODES

from .constants import lift_constants
from .downgrade import lower_opset
from .inline import inline_functions
from .names import name_everything
from .order import sort_nodes
from .outputs import own_inputs, own_outputs
from .upgrade import upgrade_opset
from .versions import settle_versions


def normalize(module: ir.Module, max_nodes: int = MAX_NODES) -> None:
    """Bring a module into the one form all passes rely on, in place. Run once, right after import.

    Constant nodes -> initializers of their graph; functions inlined where legal; opset 13 to 26 where every node
    allows it, at least 7; nodes sorted; names present and unique over all graphs; an output of a graph is an own value
    of that graph (Identity otherwise); no trailing empty inputs; no type of a QuantizeLinear beside its zero point;
    only used opset imports; IR version at least 4.

    Raises:
        LoadError: the graph has a cycle, more than ``max_nodes`` nodes with its functions inlined, or a node of opset 1
            to 6 without a newer form.
    """
    own_inputs(module)
    own_outputs(module)
    sort_nodes(module)
    upgrade_opset(module)
    inline_functions(module, max_nodes)
    lift_constants(module)
    own_outputs(module)
    name_everything(module)
    trim_inputs(module)
    lower_opset(module)
    drop_repeated_types(module)
    settle_versions(module.model)
    module.touch()


def trim_inputs(module: ir.Module) -> None:
    """Drop omitted optional inputs at the end of a node: ``Clip(x, , )`` -> ``Clip(x)``.

    As many stay as the schema counts: a Loop without bound and condition has two all the same.
    """
    for node in module.nodes():
        ir.trim(node, module.opset(node.domain))


def drop_repeated_types(module: ir.Module) -> None:
    """QuantizeLinear<output_dtype = type of z>(x, s, z) -> QuantizeLinear(x, s, z).

    onnxruntime makes int8 uint8 on the CPU, at some nodes, and leaves the attribute, which then contradicts z.
    """
    for node in module.nodes():
        if node.op_type == "QuantizeLinear" and not node.domain and len(node.inputs) > 2:
            node.attributes.pop("output_dtype", None)
