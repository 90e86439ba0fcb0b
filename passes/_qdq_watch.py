"""What calibration has to keep for the options of insert-qdq, and what a layer takes from it."""

from __future__ import annotations

from math import prod
from typing import Any

from fcc import ir
from fcc.compress.calibrate import Watch, histogram_key
from fcc.compress.channels import Channels
from fcc.compress.histogram import Histogram
from fcc.compress.patches import Moments, Window

from ._conv_layer import paddings
from ._qdq_emit import Fit
from ._qdq_layers import Layer

# Moments are [group, K, K] in float64, one per fold: of a layer, and of all together.
MAX_INPUTS = 2304
MAX_MOMENTS = 1 << 26


def histograms(names: list[str], stats: Any) -> dict[str, Watch]:
    """Return what the ranges of tensors need; ``stats`` has their least and largest values."""
    found = {n: stats[n] for n in names if n in stats and stats[n].count and not stats[n].nonfinite}
    return {histogram_key(n): Watch(n, Histogram(s.min, s.max)) for n, s in found.items()}


def moments(layers: list[Layer]) -> dict[str, Watch]:
    """Return what GPTQ needs, for as many layers as memory allows."""
    found: dict[str, Watch] = {}
    left = MAX_MOMENTS
    for layer in layers:
        window = _window(layer)
        if isinstance(window, str) or not layer.rule.per_channel:
            continue
        inputs = prod(_dims(layer.weight)) // layer.channels
        size = (window.group if window is not None else 1) * inputs**2
        if inputs > MAX_INPUTS or size > left:
            continue
        left -= size
        found[moments_key(layer.raw)] = Watch(layer.x.name or "", Moments(window))
    return found


def means(layers: list[Layer]) -> dict[str, Watch]:
    """Return what the correction of biases needs."""
    return dict(channels(layer.x, channel_axis(layer.node)) for layer in layers if layer.rule.per_channel)


def fit_of(layer: Layer, stats: Any, *, per_channel: bool, gptq: bool, correct: bool) -> Fit:
    """Return what was watched of the inputs of a layer, as far as it is asked for."""
    found = stats.watched.get(moments_key(layer.raw)) if gptq else None
    seen = stats.watched.get(channels(layer.x, channel_axis(layer.node))[0]) if correct else None
    mean = None if seen is None else seen.mean()
    return Fit(per_channel, mean=mean) if found is None else Fit(per_channel, found.folds(), found.derived, mean)


def channel_axis(node: ir.Node) -> int:
    """Return the axis of its input along which a weight op has channels."""
    return 1 if node.op_type == "Conv" else -1


def channels(value: ir.Value, axis: int) -> tuple[str, Watch]:
    """Return the key and the accumulator for the channels of a tensor."""
    return f"channels {axis} of {value.name}", Watch(value.name or "", Channels(axis))


def moments_key(result: ir.Value) -> str:
    """Return the key under which the moments of the inputs of a layer are watched, by its result."""
    return f"moments of the inputs of {result.name}"


def _dims(value: ir.Value) -> tuple[int, ...]:
    return tuple(int(d) for d in ir.dims_of(value) or ())  # type: ignore[arg-type]  # constants have known dims


def _window(layer: Layer) -> Window | str | None:
    """Return how a Conv takes its patches, None for a matrix product, why not where paddings depend on the data."""
    if layer.node.op_type != "Conv":
        return None
    node, kernel = layer.node, _dims(layer.weight)[2:]
    one = (1,) * len(kernel)
    strides, dilations = (tuple(node.attributes.get_ints(k, ()) or one) for k in ("strides", "dilations"))
    pads = paddings(node, (ir.dims_of(layer.x) or ())[2:], kernel, strides, dilations)
    if pads is None or min(pads) < 0:
        return "the padding is not known"
    ends = tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    return Window(kernel, strides, dilations, ends, node.attributes.get_int("group", 1))
