"""External data: every reference is checked before use, and stays mapped from its file."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fcc import ir
from fcc.errors import LoadError


def attach(model: ir.Model, base_dir: str, path: str | None) -> int:
    """Bind external tensors that have no folder yet to ``base_dir`` and check all of them; return their bytes.

    A location must be relative and stay, links resolved, inside the folder of the model (or, when the model file is
    itself a link, of its target). Nothing is read.

    Raises:
        LoadError: missing, outside, or too short data, naming tensor and file.
    """
    total = 0
    roots = {os.path.realpath(base_dir)}
    if path is not None:
        roots.add(os.path.dirname(os.path.realpath(path)))
    sizes: dict[str, int] = {}
    for holder, tensor in _external_tensors(model):
        if not tensor.base_dir:
            file = _checked_path(tensor, base_dir, roots)
            tensor = _rebind(tensor, base_dir, file)
            holder.replace(tensor)
        _check_length(tensor, sizes)
        total += tensor.nbytes
    return total


def files_of(model: ir.Model) -> tuple[str, ...]:
    """Return the files that hold external data, links resolved, each once."""
    return tuple(dict.fromkeys(os.path.realpath(tensor.path) for _, tensor in _external_tensors(model)))


class _Holder:
    """The place that refers to a tensor: an initializer or an attribute."""

    def __init__(self, value: ir.Value | None, node: ir.Node | None = None, key: str = "") -> None:
        self._value, self._node, self._key = value, node, key

    def replace(self, tensor: ir.TensorProtocol) -> None:
        if self._value is not None:
            self._value.const_value = tensor
        elif self._node is not None:
            self._node.attributes[self._key] = ir.Attr(self._key, ir.AttributeType.TENSOR, tensor)


def _external_tensors(model: ir.Model) -> Iterator[tuple[_Holder, ir.ExternalTensor]]:
    graphs = [*model.graphs(), *(g for f in model.functions.values() for g in f.subgraphs())]
    for graph in graphs:
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield _Holder(value), value.const_value
    nodes = [*model.graph.all_nodes(), *(n for f in model.functions.values() for n in f.all_nodes())]
    for node in nodes:
        for key, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                yield _Holder(None, node, key), attribute.value


def _checked_path(tensor: ir.ExternalTensor, base_dir: str, roots: set[str]) -> str:
    location = os.fspath(tensor.location)
    what = f"external data {location!r} of tensor {tensor.name!r}"
    if not location:
        raise LoadError(f"tensor {tensor.name!r} is external but names no file", "export the model again")
    if os.path.isabs(location) or location[1:2] == ":" or ".." in location.replace("\\", "/").split("/"):
        raise LoadError(f"{what} is outside the folder of the model", "keep the data file beside the model")
    file = os.path.realpath(os.path.join(base_dir, location))
    if not any(os.path.commonpath([file, root]) == root for root in roots):
        raise LoadError(f"{what} links outside the folder of the model", "keep the data file beside the model")
    if not os.path.isfile(file):
        raise LoadError(f"{what} does not exist in {base_dir}", "put the data file beside the model")
    return file


def _rebind(tensor: ir.ExternalTensor, base_dir: str, file: str) -> ir.ExternalTensor:
    location, folder = os.fspath(tensor.location), base_dir
    inside = os.path.commonpath([file, os.path.realpath(base_dir)]) == os.path.realpath(base_dir)
    if not inside or os.stat(file).st_nlink > 1:  # onnx_ir refuses these below a base folder; they were checked here
        location, folder = file, ""
    out = ir.ExternalTensor(
        location,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
        base_dir=folder,
    )
    return out


def _check_length(tensor: ir.ExternalTensor, sizes: dict[str, int]) -> None:
    what = f"external data {os.fspath(tensor.location)!r} of tensor {tensor.name!r}"
    try:
        size = sizes.setdefault(tensor.path, -1)
        if size < 0:
            size = sizes[tensor.path] = os.stat(tensor.path).st_size
    except OSError as error:
        raise LoadError(f"{what} cannot be read: {error.strerror}", "put the data file beside the model") from None
    offset, length = tensor.offset or 0, tensor.length if tensor.length is not None else tensor.nbytes
    if length != tensor.nbytes:
        raise LoadError(f"{what} declares {length} bytes, its shape needs {tensor.nbytes}", "export the model again")
    if offset < 0 or offset + tensor.nbytes > size:
        raise LoadError(
            f"{what} is too short: bytes {offset} to {offset + tensor.nbytes} of a file of {size}",
            "copy or download the data file again",
        )
