"""ONNX's backend interface over fcc: compile a model, run what was emitted with onnxruntime on the CPU.

    import fcc.onnx_backend
    rep = fcc.onnx_backend.prepare(model, level=2, target="cpu")
    outputs = rep.run([x])

``level`` (0..3) and ``target`` (cpu, cuda, tensorrt) are those of ``fcc.compile``, which takes every other keyword.
``onnx.backend.test.BackendTest(fcc.onnx_backend, __name__)`` drives ONNX's own suite through it, and
``backend(level=1)`` is a class with other defaults for the same use. ``level=None`` is plain onnxruntime: the model as
it is, what everything else is held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from onnx import (
    IR_VERSION,
    GraphProto,
    ModelProto,
    NodeProto,
    TypeProto,
    ValueInfoProto,
    checker,
    defs,
    helper,
    shape_inference,
)
from onnx.backend.base import Backend, BackendRep, namedtupledict

from .errors import LoadError
from .frontend.versions import NEWEST, OLDEST
from .runtime.session import Session, open_session

DEVICES = ("CPU",)


class Compiled(BackendRep):  # type: ignore[misc]
    """A model ready to run; ``compiled`` is the CompiledModel (None for plain onnxruntime)."""

    def __init__(self, session: Session, names: Sequence[str], compiled: Any = None) -> None:
        self.session = session
        self.names = tuple(names)
        self.compiled = compiled

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the outputs in declared order as a named tuple.

        ``inputs`` are arrays in declared order (one array alone is the first input), or a mapping by name; None leaves
        an input out where the model has a default for it.

        Raises:
            FccError: the inputs do not fit the model, or onnxruntime fails.
        """
        given = inputs if isinstance(inputs, Mapping | Sequence) else [inputs]
        feeds = dict(given) if isinstance(given, Mapping) else dict(zip(self.names, given, strict=False))
        defaults = {s.name for s in self.session.inputs if s.optional}
        found = self.session.run({k: v for k, v in feeds.items() if v is not None or k not in defaults})
        named: tuple[Any, ...] = namedtupledict("Outputs", list(found))(*found.values())
        return named


class FccBackend(Backend):  # type: ignore[misc]
    """The backend; ``defaults`` are keywords of ``fcc.compile`` that ``prepare`` uses where the caller says nothing."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether models run on this device here: the CPU, whatever target they are compiled for."""
        return device.split(":")[0] in DEVICES

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **options: Any) -> bool:
        """Return whether fcc reads the opset of this model, and it can run on this device."""
        opsets = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        return cls.supports_device(device) and all(OLDEST <= version <= NEWEST for version in opsets)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **options: Any) -> Compiled:
        """Compile a model and load it; ``level``, ``target`` and the keywords of ``fcc.compile``.

        Raises:
            FccError: it cannot be compiled, or onnxruntime does not load it.
            ValueError: another device.
        """
        if not cls.supports_device(device):
            raise ValueError(f"fcc.onnx_backend runs on {DEVICES}, not on {device}")
        options = {k: v for k, v in (dict(cls.defaults) | options).items() if k not in ("rtol", "atol")}
        level = options.pop("level", 2)
        names = inputs_of(model.graph)
        if level is None:
            return Compiled(open_session(model.SerializeToString()), names)
        from .api import compile

        compiled = compile(model, opt_level=level, **options)
        return Compiled(open_session(compiled.to_bytes()), names, compiled)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Any, ...]:
        """Compile one node as a model of its own and return its outputs.

        ``inputs`` are arrays in the node's order, or a mapping by name; ``outputs_info`` pairs of numpy dtype and
        shape, inferred when not given. ``opset_version`` is the opset of the node.

        Raises:
            FccError: as ``prepare``.
            onnx.checker.ValidationError: the node is not valid.
        """
        opset = int(options.pop("opset_version", defs.onnx_opset_version()))
        names = [n for n in dict.fromkeys(node.input) if n]
        given = inputs if isinstance(inputs, Mapping | Sequence) else [inputs]
        if not isinstance(given, Mapping):
            given = dict(zip(node.input if len(given) == len(node.input) else names, given, strict=True))
        feeds = {name: given[name] for name in names}
        return cls.prepare(node_model(node, feeds, outputs_info, opset), device, **options).run(feeds)


def inputs_of(graph: GraphProto) -> list[str]:
    """Return the inputs of a graph, those without a default first, in declared order."""
    defaults = {t.name for t in graph.initializer}
    return sorted((i.name for i in graph.input), key=lambda name: name in defaults)


def node_model(node: NodeProto, feeds: Mapping[str, Any], outputs_info: Any, opset: int) -> ModelProto:
    """Return a model of one node: its inputs typed as the feeds, its outputs as ``outputs_info`` or as inferred.

    Raises:
        LoadError: the type of an output cannot be inferred.
    """
    imports = [helper.make_opsetid(node.domain, opset)]
    context = checker.C.CheckerContext()
    context.ir_version = IR_VERSION
    context.opset_imports = {node.domain: opset}
    checker.check_node(node, context)
    types = {name: _type(value) for name, value in feeds.items()}
    wanted = [name for name in node.output if name]
    if outputs_info is not None:
        pairs = [(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape) for dtype, shape in outputs_info]
        found = dict(zip(wanted, (helper.make_tensor_type_proto(*pair) for pair in pairs), strict=True))
    else:
        schema = defs.get_schema(node.op_type, opset, node.domain)
        found = shape_inference.infer_node_outputs(schema, node, types, opset_imports=imports)
    untyped = [name for name in wanted if name not in found]
    if untyped:
        raise LoadError(f"the type of output {untyped[0]!r} of {node.op_type} cannot be inferred", "give outputs_info")
    values = [
        [ValueInfoProto(name=n, type=table[n]) for n in table] for table in (types, {n: found[n] for n in wanted})
    ]
    graph = helper.make_graph([node], node.op_type, values[0], values[1])
    return helper.make_model_gen_version(graph, opset_imports=imports)


def _type(value: Any) -> TypeProto:
    """Return the ONNX type of an array, or of a list of arrays."""
    if isinstance(value, list | tuple):
        return helper.make_sequence_type_proto(_type(value[0]))
    array = np.asarray(value)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def backend(**defaults: Any) -> type[FccBackend]:
    """Return a backend with other defaults, such as ``backend(level=1, target="cuda")``."""
    return type("FccBackend", (FccBackend,), {"defaults": defaults})


supports_device = FccBackend.supports_device
is_compatible = FccBackend.is_compatible
prepare = FccBackend.prepare
run_model = FccBackend.run_model
run_node = FccBackend.run_node
