"""TensorRT optimization profiles: smallest, usual and largest shapes of the dynamic inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fcc import ir
from fcc.errors import OptionError, did_you_mean

from .facts import dynamic_inputs

Sizes = Mapping[str, "int | Sequence[int]"]


def profile(module: ir.Module, low: Sizes, usual: Sizes, high: Sizes) -> dict[str, str]:
    """Return trt_profile_{min,opt,max}_shapes, "name:1x3x224x224,...", for all dynamic inputs; {} when there are none.

    A size not given is that of ``usual``, else 1. An input of unknown rank has no profile: {} then.

    Raises:
        OptionError: a name is neither an input nor a symbol, a shape does not fit, or min <= opt <= max fails.
    """
    values = dynamic_inputs(module)
    for sizes in (low, usual, high):
        _check_names(module, sizes)
    if not values or any(v.shape is None for v in values):
        return {}
    rows = {v.name or "": [_shape(v, s) for s in (low or usual, usual, high or usual)] for v in values}
    for name, (least, middle, most) in rows.items():
        if not all(a <= b <= c for a, b, c in zip(least, middle, most, strict=True)):
            shown = f"min {_text(least)}, opt {_text(middle)}, max {_text(most)}"
            raise OptionError(
                f"the shapes of input {name!r} are not in order: {shown}",
                "give --min-shape <= --opt-shape <= --max-shape",
            )
    return {
        f"trt_profile_{key}_shapes": ",".join(f"{name}:{_text(shapes[i])}" for name, shapes in rows.items())
        for i, key in enumerate(("min", "opt", "max"))
    }


def _shape(value: ir.Value, sizes: Sizes) -> list[int]:
    dims = ir.dims_of(value) or ()
    given = sizes.get(value.name or "")
    if isinstance(given, Sequence):
        fits = len(given) == len(dims) and all(
            not isinstance(d, int) or d == g for d, g in zip(dims, given, strict=True)
        )
        if not fits:
            raise OptionError(f"shape {_text(given)} does not fit input {value.name!r}, declared {value.shape}")
        return [int(g) for g in given]
    return [_size(d, sizes) for d in dims]


def _size(dim: ir.Dim | int | None, sizes: Sizes) -> int:
    if isinstance(dim, int):
        return dim
    found = sizes.get(str(dim), 1)
    return found if isinstance(found, int) else 1


def _check_names(module: ir.Module, sizes: Sizes) -> None:
    inputs = {v.name or "" for v in module.graph.inputs}
    symbols = {str(d) for v in module.graph.inputs for d in ir.dims_of(v) or () if isinstance(d, ir.Dim)}
    for name in sizes:
        if name not in inputs | symbols:
            raise OptionError(f"no input or symbol is named {name!r}", did_you_mean(name, inputs | symbols))


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
