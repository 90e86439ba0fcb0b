"""How single nodes are raised over one schema version: attributes that became inputs, and kin. Data at the end.

Source of every rule: the ONNX operator changelog, entries of the two versions.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fcc import ir

from .adapt_legacy import LEGACY
from .adapt_resize import keep_upsample, raise_resize, raise_upsample, refuse_resize, rename_upsample
from .adapt_scan import raise_scan, refuse_scan
from .site import Facts, attribute, constant, insert_before, set_attribute, set_inputs, take
from .step import Step, keep


def to_inputs(node: ir.Node, facts: Facts, *, names: tuple[str, ...], scalar: bool = False) -> None:
    """Op<names=ints>(x) -> Op(x, ints...); absent attributes are left out. Ints become int64 [n] (or scalars)."""
    values = [take(node, name) for name in names]
    first = [node.inputs[0]]
    rest = [None if v in (None, (), []) else constant(node, v if scalar else np.reshape(v, -1)) for v in values]
    set_inputs(node, first + rest)


def raise_clip(node: ir.Node, facts: Facts) -> None:
    """Clip<min, max>(x) -> Clip(x, min, max) in the element type of x."""
    dtype = facts.dtype(node.inputs[0])
    bounds = [take(node, "min"), take(node, "max")]
    set_inputs(node, [node.inputs[0], *(None if b is None else _scalar(node, b, dtype) for b in bounds)])


def raise_pad(node: ir.Node, facts: Facts) -> None:
    """Pad<pads, value>(x) -> Pad(x, pads, value)."""
    pads, value = take(node, "pads"), take(node, "value", 0.0)
    inputs = [node.inputs[0], constant(node, pads)]
    if value != 0.0 or np.signbit(value):
        inputs.append(_scalar(node, value, facts.dtype(inputs[0])))
    set_inputs(node, inputs)


def _scalar(node: ir.Node, number: float, dtype: ir.DataType | None) -> ir.Value:
    assert dtype is not None
    kind = dtype.numpy()
    if kind == np.float16 and np.isfinite(number):
        number = float(np.clip(number, np.finfo(np.float16).min, np.finfo(np.float16).max))
    return constant(node, number, kind)


def _untyped(node: ir.Node, facts: Facts) -> str | None:
    return None if facts.dtype(node.inputs[0]) is not None else "the element type of its input is not known"


def _pad_untyped(node: ir.Node, facts: Facts) -> str | None:
    return _untyped(node, facts) if attribute(node, "value", 0.0) else None


def raise_dropout(node: ir.Node, facts: Facts) -> None:
    """Dropout<ratio>(x) -> Dropout(x, ratio): still the identity, since training_mode stays false."""
    ratio = take(node, "ratio")
    if ratio is not None:
        set_inputs(node, [node.inputs[0], constant(node, ratio, np.float32)])


def _mask_used(node: ir.Node, facts: Facts) -> str | None:
    return "its mask is used" if any(ir.is_used(v) for v in node.outputs[1:]) else None


def raise_softmax(node: ir.Node, facts: Facts) -> None:
    """Softmax<axis=k>(x) over x flattened to 2-D -> Reshape(Softmax(Flatten<k>(x)), Shape(x)), or as is when k is last.

    Equal without a detour when k is the last axis, or all axes after it have size 1.
    """
    x, axis, rank = node.inputs[0], attribute(node, "axis", 1), facts.rank(node.inputs[0])
    assert x is not None
    if rank is not None:
        axis = axis + rank if axis < 0 else axis
        if x.shape is not None and all(d == 1 for d in list(x.shape)[axis + 1 :]):
            set_attribute(node, "axis", axis)
            return
    shape = insert_before(node, "Shape", [x])
    flat = insert_before(node, "Flatten", [x], axis=axis)
    soft = insert_before(node, node.op_type, [flat], axis=1)
    set_inputs(node, [soft, shape])
    node.attributes.clear()
    node.op_type = "Reshape"


def raise_batchnorm_9(node: ir.Node, facts: Facts) -> None:
    """BatchNormalization<spatial=1> -> BatchNormalization."""
    take(node, "spatial")


def _not_spatial(node: ir.Node, facts: Facts) -> str | None:
    return None if attribute(node, "spatial", 1) == 1 else "spatial=0 has no newer form"


def raise_batchnorm_14(node: ir.Node, facts: Facts) -> None:
    """Drop the unused statistics outputs; training_mode stays 0."""
    node.resize_outputs(1)


def _statistics_used(node: ir.Node, facts: Facts) -> str | None:
    return "its training outputs are used" if any(ir.is_used(v) for v in node.outputs[1:]) else None


def rename(node: ir.Node, facts: Facts, *, op_type: str) -> None:
    """Scatter -> ScatterElements."""
    node.op_type = op_type


def _no_integers(node: ir.Node, facts: Facts) -> str | None:
    dtype = facts.dtype(node.inputs[0])
    if dtype is None:
        return "the element type of its input is not known"
    return "integers are not accepted any more" if dtype.is_integer() else None


def raise_split_18(node: ir.Node, facts: Facts) -> None:
    """Split without sizes must say how many outputs it has."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        set_attribute(node, "num_outputs", len(node.outputs))


def pin_roi_mode(node: ir.Node, facts: Facts) -> None:
    """RoiAlign: the default became half_pixel, the older versions mean output_half_pixel."""
    set_attribute(node, "coordinate_transformation_mode", "output_half_pixel")


def raise_grid_sample(node: ir.Node, facts: Facts) -> None:
    """GridSample: bilinear -> linear, bicubic -> cubic."""
    mode = attribute(node, "mode", "bilinear")
    set_attribute(node, "mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def raise_dft(node: ir.Node, facts: Facts) -> None:
    """DFT<axis>(x, length) -> DFT(x, length, axis)."""
    axis = take(node, "axis", 1)
    length = node.inputs[1] if len(node.inputs) > 1 else None
    set_inputs(node, [node.inputs[0], length, constant(node, axis)])


def _group_scale(node: ir.Node, facts: Facts) -> str | None:
    return "scale and bias are per group before opset 21, per channel after"


_AXES = partial(to_inputs, names=("axes",))
_REDUCE = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"

_MODERN: dict[str, tuple[Step, ...]] = {
    "BatchNormalization": (Step(9, raise_batchnorm_9, _not_spatial), Step(14, raise_batchnorm_14, _statistics_used)),
    "Clip": (Step(11, raise_clip, _untyped),),
    "DFT": (Step(20, raise_dft),),
    "Dropout": (Step(10, keep, _mask_used), Step(12, raise_dropout, _mask_used)),
    "Erf": (Step(13, keep, _no_integers),),
    "GridSample": (Step(20, raise_grid_sample),),
    "GroupNormalization": (Step(21, keep, _group_scale),),
    "Hardmax": (Step(13, raise_softmax),),
    "LogSoftmax": (Step(13, raise_softmax),),
    "Pad": (Step(11, raise_pad, _pad_untyped),),
    "ReduceSum": (Step(13, _AXES),),
    "Resize": (Step(11, raise_resize, refuse_resize),),
    "RoiAlign": (Step(16, pin_roi_mode),),
    "Scan": (Step(9, raise_scan, refuse_scan),),
    "Scatter": (Step(11, partial(rename, op_type="ScatterElements")),),
    "Slice": (Step(10, partial(to_inputs, names=("starts", "ends", "axes"))),),
    "Softmax": (Step(13, raise_softmax),),
    "Split": (Step(13, partial(to_inputs, names=("split",))), Step(18, raise_split_18)),
    "Squeeze": (Step(13, _AXES),),
    "TopK": (Step(10, partial(to_inputs, names=("k",))),),
    "Unsqueeze": (Step(13, _AXES),),
    "Upsample": (Step(9, raise_upsample), Step(10, rename_upsample, keep_upsample)),
    **{name: (Step(18, _AXES),) for name in _REDUCE.split()},
}

ADAPTERS = {name: (*LEGACY.get(name, ()), *_MODERN.get(name, ())) for name in sorted({*LEGACY, *_MODERN})}
