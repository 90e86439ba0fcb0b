"""One operator to compute in torch: its inputs, attributes and opset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir

Tensor = Any  # of torch, which is imported only where it is used
Function = Callable[["Call"], Any]
Table = Mapping[str, Function]


class NoForm(Exception):
    """What is to be computed has no torch form here; the message names it."""


@dataclass(frozen=True)
class Call:
    """A node and the tensors it reads; an input that is left out, or not there, is None."""

    node: ir.Node
    inputs: tuple[Tensor, ...]
    opset: int

    def __getitem__(self, index: int) -> Tensor:
        return self.inputs[index] if index < len(self.inputs) else None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the plain value of an attribute; tensors and sequences become arrays and lists."""
        found = self.node.attributes.get(name)
        if found is None or found.is_ref():
            return default
        value: Any = found.value
        if isinstance(value, ir.TensorProtocol):
            return value.numpy()
        return list(value) if isinstance(value, list | tuple) else value

    def ints(self, index: int, attribute: str = "") -> list[int] | None:
        """Return a small integer input as a list, else the attribute of that name."""
        if self[index] is not None:
            return [int(i) for i in self[index].reshape(-1).tolist()]
        found = self.get(attribute) if attribute else None
        return None if found is None else [int(i) for i in np.atleast_1d(found)]

    @property
    def results(self) -> int:
        """How many outputs are named: trailing ones that are not are not computed."""
        named = [i for i, v in enumerate(self.node.outputs) if v.name]
        return named[-1] + 1 if named else 0

    def only(self, **allowed: Any) -> None:
        """Refuse other values of attributes than these; what is not given has the first of them.

        Raises:
            NoForm: an attribute has another value.
        """
        for name, values in allowed.items():
            if self.get(name, values[0]) not in values:
                raise NoForm(f"{self.node.op_type} with {name}={self.get(name)!r}")

    def without(self, **inputs: int) -> None:
        """Refuse inputs that are there.

        Raises:
            NoForm: one is.
        """
        for name, index in inputs.items():
            if self[index] is not None:
                raise NoForm(f"{self.node.op_type} with {name}")
