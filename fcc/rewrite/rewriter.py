"""The Rewriter: the only thing that changes a graph, in one commit, after a match and its check succeeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import ir
from ..analysis import shapes
from ..errors import VerifyError
from .bodies import Bodies, used_by

ORIGIN = "fcc.origin"


class Rewriter(Bodies):
    """Collect new nodes and replacements for one rewrite, then commit them all or none.

    New nodes are placed before ``anchor``, in its graph. ``op`` infers the types of what it makes, so that a rewrite
    may ask for dtypes and shapes of its own intermediate values.
    """

    def __init__(self, module: ir.Module, anchor: ir.Node, pass_name: str) -> None:
        super().__init__()
        assert anchor.graph is not None
        self.module = module
        self.anchor = anchor
        self.graph = anchor.graph
        self.pass_name = pass_name
        self._made: list[ir.Node] = []
        self._place: tuple[ir.Node, bool] = (anchor, False)
        self._places: dict[ir.Node, tuple[ir.Node, bool]] = {}
        self._constants: list[ir.Value] = []
        self._replaced: list[tuple[ir.Value, ir.Value]] = []
        self._inputs: list[tuple[ir.Node, int, ir.Value | None]] = []
        self._attributes: list[tuple[ir.Node, dict[str, ir.Attr | None]]] = []
        self._erased: list[ir.Node] = []
        self.changing = False

    # -- making ------------------------------------------------------------------------------------------------
    def before(self, place: ir.Node) -> None:
        """Place the nodes made from now on before ``place``, a node of the anchor's graph or of one nested in it."""
        self._place = (place, False)

    def after(self, place: ir.Node) -> None:
        """Place the nodes made from now on after ``place``, in the order made."""
        self._place = (place, True)

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | np.ndarray[Any, Any] | None,
        domain: str = "",
        outputs: int = 1,
        name: str = "",
        **attributes: Any,
    ) -> Any:
        """Return the output of a new node (a tuple when ``outputs`` > 1); arrays become constants, None is absent.

        Absent operands at the end are left out: onnxruntime's fusions die of a LayerNormalization with an empty bias.
        """
        values = [self.const(i) if isinstance(i, np.ndarray) else i for i in inputs]
        base = name or self.anchor.outputs[0].name or op_type
        node = ir.Node(
            domain,
            op_type,
            values,
            [ir.attribute(k, v) for k, v in attributes.items() if v is not None],
            num_outputs=outputs,
            name=self.module.fresh(base),
        )
        ir.trim(node, self.module.opset(domain))
        node.meta[ir.GENERATED] = self.anchor.meta.get(ir.GENERATED)
        for out in node.outputs:
            out.name = self.module.fresh(base)
        shapes.infer_node(self.module, node)
        self._made.append(node)
        self._places[node] = self._place
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def like(self, node: ir.Node, *inputs: ir.Value | np.ndarray[Any, Any] | None, **changed: Any) -> Any:
        """Return the output(s) of a copy of ``node`` with other inputs and some attributes changed (None drops one)."""
        attributes = {k: a for k, a in node.attributes.items() if k not in changed}
        made = self.op(
            node.op_type, *inputs, domain=node.domain, outputs=len(node.outputs), name="", **attributes, **changed
        )
        self._made[-1].doc_string = node.doc_string
        self._made[-1].metadata_props.update(node.metadata_props)
        return made

    def const(self, array: np.ndarray[Any, Any] | Any, name: str = "") -> ir.Value:
        """Return a new constant holding ``array`` (dtype kept)."""
        array = np.asarray(array)
        value = self._constant(ir.tensor(array), name)
        shapes.note(value, array)
        return value

    def lazy(self, compute: Callable[[], np.ndarray[Any, Any]], like: ir.Value, name: str = "") -> ir.Value:
        """Return a constant of the dtype and shape of ``like`` that is computed when it is read or saved.

        Reading it raises VerifyError when ``compute`` raises, or gives another dtype or shape.
        """
        assert like.dtype is not None
        assert like.shape is not None
        tensor = ir.LazyTensor(
            partial(_computed, compute, like.dtype, like.shape, self.pass_name), like.dtype, like.shape
        )
        return self._constant(tensor, name)

    def _constant(self, tensor: Any, name: str) -> ir.Value:
        value = ir.Value(
            name=self.module.fresh(name or f"{self.anchor.outputs[0].name}/c"),
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tuple(int(d) for d in tensor.shape)),
            const_value=tensor,
        )
        tensor.name = value.name
        self._constants.append(value)
        return value

    # -- changing ----------------------------------------------------------------------------------------------
    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let every user of ``old`` use ``new``; a new value takes the name of the old one."""
        self._replaced.append((old, new))

    def set_input(self, node: ir.Node, index: int, value: ir.Value | np.ndarray[Any, Any] | None) -> None:
        """Replace one input of a node that stays."""
        self._inputs.append((node, index, self.const(value) if isinstance(value, np.ndarray) else value))

    def set_attributes(self, node: ir.Node, **attributes: Any) -> None:
        """Set attributes of a node that stays (None removes one)."""
        self._attributes.append((node, {k: None if v is None else ir.attribute(k, v) for k, v in attributes.items()}))

    def erase(self, *nodes: ir.Node) -> None:
        """Remove nodes that are dead after the rewrite; a node that is still used then stays."""
        self._erased.extend(nodes)

    # -- ending ------------------------------------------------------------------------------------------------
    def abort(self) -> None:
        """Forget everything: detach the new nodes from the values they use."""
        for node in self._made:
            ir.detach_nested(node)
            for i in range(len(node.inputs)):
                node.replace_input_with(i, None)

    def commit(self) -> list[ir.Node]:
        """Apply the rewrite and return the nodes that are new or changed.

        Raises:
            VerifyError: a replacement has another element type or a contradicting shape. As long as ``changing`` is
            false, nothing was changed.
        """
        self._check()
        self.changing = True
        self._take_apart()
        used = {id(v) for n in self._made for v in used_by(n)} | {id(n) for _, n in self._replaced}
        used |= {id(v) for _, _, v in self._inputs}
        for value in self._constants:
            if id(value) in used:
                self.graph.initializers.add(value)
        self._insert()
        touched, stale = list(self._made), list(self._made)
        for node, index, given in self._inputs:
            before = node.inputs[index] if index < len(node.inputs) else None
            if index >= len(node.inputs):
                node.resize_inputs(index + 1)
            node.replace_input_with(index, given)
            if given is None:
                ir.trim(node, self.module.opset(node.domain))
            self._drop_constant(before)
            touched.append(node)
        for node, attributes in self._attributes:
            ir.set_attributes(node, attributes)
            touched.append(node)
        stale += touched[len(stale) :]
        for old, new in self._replaced:
            same = _equally_known(old, new)
            added, users = self._redirect(old, new)
            touched += added + users
            stale += added if same else added + users
        self._erase()
        self._infer(stale)
        self.module.touch()
        return [*touched, *self._hoisted]

    def _insert(self) -> None:
        last: dict[ir.Node, ir.Node] = {}
        for node in self._made:
            place, after = self._places.get(node, (self.anchor, False))
            graph = place.graph
            assert graph is not None
            if after:
                graph.insert_after(last.get(place, place), node)
                last[place] = node
            else:
                graph.insert_before(place, node)

    def _infer(self, stale: list[ir.Node]) -> None:
        """Infer what is new or reads something new, and on down while results are known better."""
        queue = dict.fromkeys(stale)
        while queue:
            node = next(iter(queue))
            del queue[node]
            if node.graph is None:
                continue
            before = [shapes.known(v) for v in node.outputs]
            shapes.infer_node(self.module, node)
            for value, old in zip(node.outputs, before, strict=True):
                if shapes.known(value) != old:
                    queue.update(dict.fromkeys(u.node for u in value.uses()))

    def _check(self) -> None:
        for node, index, _ in self._inputs:
            if index < 0 or node.graph is None:
                raise VerifyError(
                    f"{self.pass_name} would set input {index} of {node.name!r}, which has none or is gone"
                )
        made = set(self._made)
        for old, new in self._replaced:
            self._guard(old, new)
            if any(old in node.inputs for node in _ancestors(new, made)):
                raise VerifyError(f"{self.pass_name} would replace {old.name!r} by what is computed from it")

    def _guard(self, old: ir.Value, new: ir.Value) -> None:
        if None not in (old.dtype, new.dtype) and old.dtype != new.dtype:
            raise VerifyError(f"{self.pass_name} would change the type of {old.name!r} from {old.dtype} to {new.dtype}")
        if old.shape is None or new.shape is None:
            return
        a, b = ir.dims_of(old) or (), ir.dims_of(new) or ()
        clash = len(a) != len(b) or any(
            isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=True)
        )
        if clash:
            raise VerifyError(
                f"{self.pass_name} would change the shape of {old.name!r} from {old.shape} to {new.shape}"
            )

    def _redirect(self, old: ir.Value, new: ir.Value) -> tuple[list[ir.Node], list[ir.Node]]:
        """Move the users of ``old`` to ``new``; return the nodes that had to be added, and those that know more now."""
        origin = old.producer()
        users = [u.node for u in old.uses()]
        added: list[ir.Node] = []
        producer = new.producer()
        fresh = producer is not None and producer in self._made
        if old.is_graph_output() and not self._may_be_output(old, new):
            identity = ir.Node("", "Identity", [new], name=self.module.fresh(f"{old.name}/Identity"), num_outputs=1)
            assert old.graph is not None
            old.graph.insert_before(origin or self.anchor, identity)
            new, fresh, producer = identity.outputs[0], True, identity
            added.append(identity)
        if _share_shape(old, new, fresh):
            users += [u.node for u in new.uses()]
        if new.type is None:
            new.type = old.type
        takes_name = (fresh and not new.is_graph_output()) or old.is_graph_output()
        name = old.name
        for key, text in old.metadata_props.items():
            new.metadata_props.setdefault(key, text)
        new.doc_string = new.doc_string or old.doc_string
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if takes_name and name:
            old.name = self.module.fresh(f"{name}/replaced")
            new.name = name
        if producer is not None and origin is not None and producer is not origin:
            _inherit(producer, origin)
        return added, [u for u in users if u.graph is not None]

    @staticmethod
    def _may_be_output(old: ir.Value, new: ir.Value) -> bool:
        producer = new.producer()
        if producer is None or new.is_graph_output() or old.graph is None:
            return False
        at = producer.graph if producer.graph is not None else None
        return at is old.graph

    def _erase(self) -> None:
        queue = [*self._erased, *reversed(self._made)]
        while queue:
            node = queue.pop(0)
            if node.graph is None or not ir.is_dead(node):
                continue
            inputs = list(dict.fromkeys(used_by(node)))
            ir.erase(node)
            for value in inputs:
                self._drop_constant(value)
                producer = value.producer()
                if producer is not None and producer in self._made:
                    queue.append(producer)

    @staticmethod
    def _drop_constant(value: ir.Value | None) -> None:
        if value is not None and ir.Module.is_constant(value) and not ir.is_used(value):
            graph = value.graph
            if graph is not None and value.name and value.name in graph.initializers:
                del graph.initializers[value.name]

    def stamp(self, before: Sequence[ir.Node]) -> None:
        """Write on every new node which pass made it, and from which nodes."""
        names = ",".join(n.name or n.op_type for n in before)
        for node in self._made:
            earlier = node.metadata_props.get(ORIGIN)
            text = f"{self.pass_name}({names})"
            node.metadata_props[ORIGIN] = f"{earlier};{text}" if earlier else text

    @property
    def made(self) -> list[ir.Node]:
        """The nodes this rewrite made."""
        return self._made

    @property
    def changes(self) -> tuple[list[ir.Node], list[tuple[ir.Value, ir.Value]]]:
        """The nodes this rewrite removes where nothing else uses them, and (old, new) of what it replaces."""
        return self._erased, self._replaced


def _computed(compute: Callable[[], Any], dtype: ir.DataType, shape: ir.Shape, pass_name: str) -> Any:
    try:
        array = compute()
    except Exception as error:
        raise VerifyError(
            f"a constant of pass {pass_name} cannot be computed: {type(error).__name__}: {error}"
        ) from error
    if array.dtype != dtype.numpy() or tuple(array.shape) != shape.numpy():
        found = f"{array.dtype}{list(array.shape)}"
        raise VerifyError(f"a constant of pass {pass_name} is {found}, and was to be {dtype}{shape}")
    return ir.tensor(array)


def _equally_known(old: ir.Value, new: ir.Value) -> bool:
    """Return whether inference knows the same of both, so that their users stay as they are."""
    return not ir.Module.is_constant(old) and not ir.Module.is_constant(new) and shapes.known(old) == shapes.known(new)


def _ancestors(value: ir.Value, among: set[ir.Node]) -> set[ir.Node]:
    """Return the nodes among some that a value is computed by."""
    found: set[ir.Node] = set()
    stack = [value.producer()]
    while stack:
        node = stack.pop()
        if node is not None and node in among and node not in found:
            found.add(node)
            stack.extend(v.producer() for v in node.inputs if v is not None)
    return found


def _share_shape(old: ir.Value, new: ir.Value, fresh: bool) -> bool:
    """Let ``new`` know what was known of ``old``, and return whether that is news.

    Numbers first; a value that existed keeps its declared symbols.
    """
    before, after = ir.dims_of(old), ir.dims_of(new)
    if before is None or after is None or len(before) != len(after):
        new.shape = old.shape if after is None else new.shape
        return before is not None and after is None
    dims = tuple(
        d if _rank(d) > _rank(e) or (fresh and _rank(d) == _rank(e)) else e for d, e in zip(before, after, strict=True)
    )
    if dims != after:
        new.shape = ir.to_shape(dims)
    return dims != after


def _rank(dim: ir.Dim | int | None) -> int:
    """Unknown, named by inference ("value:axis"), declared, number."""
    return 3 if isinstance(dim, int) else 0 if dim is None else 1 if ":" in str(dim) else 2


def _inherit(node: ir.Node, origin: ir.Node) -> None:
    for key, text in origin.metadata_props.items():
        if key != ORIGIN:
            node.metadata_props.setdefault(key, text)
    node.doc_string = node.doc_string or origin.doc_string
