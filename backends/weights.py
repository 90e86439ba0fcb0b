"""Initializers of a model on their way into a file: one tensor is in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import TensorProto
from onnx_ir import serde

from fcc import ir
from fcc.errors import VerifyError

from . import wire

MIN_EXTERNAL = 1024


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a data file: name of the file, first byte, number of bytes."""

    location: str
    offset: int
    length: int


@dataclass(frozen=True)
class Weight:
    """An initializer to be written: its name in the graph and its tensor, perhaps lazy or in another file."""

    name: str
    tensor: Any

    @property
    def nbytes(self) -> int:
        """The bytes of its data, 0 for strings."""
        return 0 if self._is_text else int(self.tensor.nbytes)

    @property
    def may_be_external(self) -> bool:
        """Whether it is large enough, and of a type, to lie in a data file."""
        return not self._is_text and self.nbytes >= MIN_EXTERNAL

    @property
    def _is_text(self) -> bool:
        return bool(self.tensor.dtype == ir.DataType.STRING)

    @property
    def _as_it_is(self) -> bool:
        """Whether the source's own encoding is kept: strings, and typed fields (often shorter than raw bytes)."""
        original = self._original
        return self._is_text or (original is not None and not original.HasField("raw_data"))

    @property
    def _original(self) -> Any:
        found = None if isinstance(self.tensor, ir.LazyTensor) else getattr(self.tensor, "raw", None)
        return found if isinstance(found, TensorProto) and not found.external_data else None

    def payload(self) -> bytes:
        """Return its data as little-endian bytes; a lazy tensor is computed, a mapped one read.

        Raises:
            VerifyError: a lazy tensor has another dtype or shape than it promised.
        """
        data = bytes(self.tensor.tobytes())
        if len(data) != self.nbytes:
            raise VerifyError(f"constant {self.name!r} was promised with {self.nbytes} bytes and has {len(data)}")
        return data

    def proto(self, place: Place | None = None, *, data: bool = True) -> TensorProto:
        """Return it as a TensorProto, with its data, a reference to a data file, or neither."""
        if place is None and self._as_it_is:
            kept = serde.serialize_tensor(self.tensor)
            kept.name = self.name
            return kept
        out = TensorProto(name=self.name, data_type=self.tensor.dtype.value, dims=[int(d) for d in self.tensor.shape])
        if self.tensor.doc_string:
            out.doc_string = self.tensor.doc_string
        for key, text in self.tensor.metadata_props.items():
            out.metadata_props.add(key=key, value=text)
        if place is not None:
            out.data_location = TensorProto.EXTERNAL
            for key, value in (("location", place.location), ("offset", place.offset), ("length", place.length)):
                out.external_data.add(key=key, value=str(value))
        elif data:
            out.raw_data = self.payload()
        return out

    def parts(self, place: Place | None = None) -> tuple[bytes, bool, int]:
        """Return its message without data, whether ``payload`` follows as raw_data, and the whole length."""
        streamed = place is None and not self._as_it_is
        head = self.proto(place, data=False).SerializeToString(deterministic=True)
        if not streamed:
            return head, False, len(head)
        head += wire.header(wire.TENSOR_RAW, self.nbytes)
        return head, True, len(head) + self.nbytes
