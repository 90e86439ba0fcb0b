"""Constants on their way to float16: whether they fit, what is clipped, what is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcc import ir

from .fp16_types import FP16, Format

MASKING = frozenset({"Add", "Mul", "Where", "Pad", "Sub"})
_BOUNDING = frozenset({"Clip", "Max", "Min"})
_LAZY = 1 << 20


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    underflows: int


@dataclass
class Constants:
    """Ranges of constants, each read once, and the float16 copies made of them."""

    form: Format = FP16
    ranges: dict[ir.Value, _Range] = field(default_factory=dict)
    made: dict[tuple[ir.Value, bool], ir.Value] = field(default_factory=dict)

    def fit(self, node: ir.Node, indices: tuple[int, ...]) -> bool:
        """Return whether the constant operands of a node fit float16, masks and bounds after clipping."""
        if node.op_type == "ConstantOfShape":
            filled = node.attributes.get("value")
            return filled is None or _clippable(
                "Where", *_extremes(np.asarray(filled.as_tensor().numpy())), self.form.largest
            )
        return all(self._fits(node.op_type, node.inputs[i]) for i in indices)

    def _fits(self, op_type: str, value: ir.Value | None) -> bool:
        if value is None or not ir.Module.is_constant(value):
            return True
        found = self._range(value)
        return _clippable(op_type, found.low, found.high, self.form.largest)

    def _range(self, value: ir.Value) -> _Range:
        if value not in self.ranges:
            assert value.const_value is not None
            array = np.asarray(value.const_value.numpy())
            with np.errstate(over="ignore", under="ignore"):
                lost = int(np.count_nonzero((array != 0) & (array.astype(self.form.dtype.numpy()) == 0)))
            self.ranges[value] = _Range(*_extremes(array), lost)
        return self.ranges[value]

    def underflows(self) -> int:
        """Return how many elements of the converted constants became 0."""
        return sum(self._range(value).underflows for value, _ in {k: None for k in self.made})

    def half(self, module: ir.Module, value: ir.Value, op_type: str) -> ir.Value:
        """Return the float16 copy of a constant, rounded once, clipped where the op allows it; shared by its users."""
        masking = op_type in MASKING
        key = (value, masking)
        if key not in self.made:
            tensor = value.const_value
            assert tensor is not None
            self.made[key] = self._copy(module, value, tensor, masking)
        return self.made[key]

    def _copy(self, module: ir.Module, value: ir.Value, tensor: Any, masking: bool) -> ir.Value:
        name = module.fresh(f"{value.name}/{self.form.short}")
        shape = ir.Shape([int(d) for d in tensor.shape])
        if tensor.nbytes > _LAZY:
            half: Any = ir.LazyTensor(
                lambda: ir.tensor(to_half(tensor.numpy(), masking, self.form)), self.form.dtype, shape, name=name
            )
        else:
            half = ir.tensor(to_half(tensor.numpy(), masking, self.form), name=name)
        made = ir.Value(name=name, type=ir.TensorType(self.form.dtype), shape=shape, const_value=half)
        owner = value.graph
        assert owner is not None
        owner.initializers.add(made)
        return made


def to_half(array: Any, masking: bool = True, form: Format = FP16) -> np.ndarray[Any, Any]:
    """Return an array in 16 bits: finite values are clipped to the range (masks to half of it), infinities stay.

    A mask must stay finite when a score is added to it: half the range, whose exponential is still exactly 0.
    """
    largest = form.largest
    wide = np.asarray(array, np.float32)
    low = -largest / 2 if masking else -largest
    out_of_range = np.isfinite(wide) & (np.abs(wide) > largest)
    clipped = np.where(out_of_range, np.where(wide < 0, np.float32(low), np.float32(largest)), wide)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(clipped.astype(form.dtype.numpy())).reshape(np.shape(array))


def _extremes(array: np.ndarray[Any, Any]) -> tuple[float, float]:
    finite = array[np.isfinite(array)]
    return (0.0, 0.0) if finite.size == 0 else (float(finite.min()), float(finite.max()))


def _clippable(op_type: str, low: float, high: float, largest: float) -> bool:
    if op_type in _BOUNDING:
        return True
    return high <= largest and (low >= -largest or op_type in MASKING)
