"""The protobuf wire format, as far as it takes to measure a model file and to write one tensor at a time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_VALUE_INFO = 1, 5, 13
NODE_ATTRIBUTE, NODE_METADATA, ENTRY_KEY, VALUE_NAME, TENSOR_RAW = 5, 9, 1, 1, 9
ATTRIBUTE_GRAPHS = frozenset({6, 11})
PREFIX = b"fcc."
# A node without any of these holds neither own metadata nor a graph (field 4 of a node is its op type).
_MARKS = (PREFIX, b"\x22\x02If", b"\x22\x04Loop", b"\x22\x04Scan", b"\x22\x0bSequenceMap")

Buffer = bytes | mmap.mmap


class Field(NamedTuple):
    """One field of a message: its number, where its tag starts, and where its payload lies."""

    number: int
    tag: int
    start: int
    stop: int


def varint(value: int) -> bytes:
    """Return the base-128 encoding of a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header(number: int, size: int) -> bytes:
    """Return the tag and length that precede a length-delimited field of ``size`` bytes."""
    return varint(number << 3 | 2) + varint(size)


def fields(data: Buffer, start: int, stop: int) -> Iterator[Field]:
    """Yield the fields of the message in ``data[start:stop]`` without reading their payloads.

    Raises:
        ValueError: the bytes are no message.
    """
    at = start
    while at < stop:
        tag = at
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 2:
            size, at = _read_varint(data, at)
        elif kind == 0:
            size = _read_varint(data, at)[1] - at
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {tag}")
        yield Field(key >> 3, tag, at, at + size)
        at += size


_FIXED = {1: 8, 5: 4}


def _read_varint(data: Buffer, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def overhead(data: Buffer) -> int:
    """Return how many bytes of a serialized model are ``fcc.*`` metadata and value_info, nested graphs included.

    What remains is the size that fcc never lets grow; it is measured alike for source and output. O(nodes).
    """
    total = 0
    for field in fields(data, 0, len(data)):
        if field.number == MODEL_METADATA:
            total += _own(data, field)
        elif field.number == MODEL_GRAPH:
            total += _overhead_in_graph(data, field)
    return total


def _overhead_in_graph(data: Buffer, graph: Field) -> int:
    total = 0
    for field in fields(data, graph.start, graph.stop):
        if field.number == GRAPH_VALUE_INFO:
            total += field.stop - field.tag
        elif field.number == GRAPH_NODE and any(data.find(mark, field.start, field.stop) >= 0 for mark in _MARKS):
            total += sum(_overhead_in_node(data, f) for f in fields(data, field.start, field.stop))
    return total


def _overhead_in_node(data: Buffer, field: Field) -> int:
    if field.number == NODE_METADATA:
        return _own(data, field)
    if field.number != NODE_ATTRIBUTE:
        return 0
    graphs = (f for f in fields(data, field.start, field.stop) if f.number in ATTRIBUTE_GRAPHS)
    return sum(_overhead_in_graph(data, graph) for graph in graphs)


def _own(data: Buffer, field: Field) -> int:
    """Return the bytes of a metadata entry when its key is one of fcc's, else 0."""
    for inner in fields(data, field.start, field.stop):
        if inner.number == ENTRY_KEY and data[inner.start : inner.start + len(PREFIX)] == PREFIX:
            return field.stop - field.tag
    return 0


def declared_values(data: Buffer) -> frozenset[str]:
    """Return the names that the value_info of the main graph declares."""
    names: set[str] = set()
    for graph in fields(data, 0, len(data)):
        if graph.number != MODEL_GRAPH:
            continue
        for info in fields(data, graph.start, graph.stop):
            if info.number == GRAPH_VALUE_INFO:
                names.update(
                    data[f.start : f.stop].decode("utf-8", "replace")
                    for f in fields(data, info.start, info.stop)
                    if f.number == VALUE_NAME
                )
    return frozenset(names)
