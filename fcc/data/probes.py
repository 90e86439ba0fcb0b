"""Probes: generated feeds that fit the type, shape, range and meaning of every input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcc.analysis.liveness import Demand
from fcc.errors import DataError, FccError
from fcc.ir import Module

from .draw import Style, draw
from .meaning import Role, roles
from .sizes import Axes, Sizes, axes_of, base_sizes, bound_sizes, long_sizes, other_sizes
from .spec import Array, Feeds, Outputs, TensorSpec, inputs_of, is_float

Probe = dict[str, Array]
_SCALES = (1.0, 0.1, 4.0)  # standard normal, small, large; then again
_OVERRIDE_BYTES = 64 << 20
_MOST_BYTES = 4 << 30  # activations of a run on generated probes


@dataclass(frozen=True)
class _Maker:
    """Everything known before the first value is drawn."""

    module: Module
    specs: tuple[TensorSpec, ...]
    meanings: Mapping[str, Sequence[Role]]
    axes: Axes
    seed: int
    demand: Demand

    def probe(self, number: int, sizes: Sizes) -> Probe:
        """Return probe ``number``; the same seed, number and sizes give the same values."""
        style = Style(number, _SCALES[number % len(_SCALES)], sizes)
        feeds = {}
        for k, spec in enumerate(self.specs):
            if spec.optional:
                continue
            rng = np.random.default_rng([self.seed, number, k])
            feeds[spec.name] = draw(spec, self.axes.shape(spec, sizes), self.meanings[spec.name], style, rng)
        if number:
            feeds.update(self._overrides(number))
        return feeds

    def _overrides(self, number: int) -> Probe:
        """Return other values for overridable initializers: near the default for floats, the default else.

        By odd numbers a tenth of the spread is added; by even ones they shrink, and keep their signs: bounds act.
        """
        out: Probe = {}
        left = _OVERRIDE_BYTES
        for k, spec in enumerate(self.specs):
            value = self.module.graph.initializers.get(spec.name) if spec.optional else None
            if value is None or value.const_value is None or value.const_value.nbytes > left:
                continue
            default = np.asarray(value.const_value.numpy())
            left -= default.nbytes
            out[spec.name] = default
            if is_float(spec.dtype):
                noise = np.clip(np.random.default_rng([self.seed, number, k]).standard_normal(default.shape), -3, 3)
                out[spec.name] = _MOVED[number % 2](default.astype(np.float64), noise).astype(spec.dtype)
        return out


def _shrunk(default: Array, noise: Array) -> Array:
    return np.where(default == 0, 0.1 * noise, default * np.exp(-np.abs(noise)))


def _added(default: Array, noise: Array) -> Array:
    spread = float(np.std(default)) if default.size else 0.0
    return np.asarray(default + noise * (0.1 * spread or 0.1))


_MOVED: tuple[Callable[[Array, Array], Array], ...] = (_shrunk, _added)


def probes(
    module: Module,
    *,
    seed: int = 0,
    count: int = 3,
    opt_shapes: Mapping[str, Sequence[int | None]] | None = None,
    run: Callable[[Feeds], Outputs] | None = None,
) -> list[Probe]:
    """Return ``count`` feeds or more for a model.

    Integers that index a tensor stay within it, masks are 0/1 with a 1 in every row, lengths and shapes are valid,
    inputs compared with constants take one of these.  Floats are standard normal clipped at 3, then a tenth, then
    four times as large.  Open dims have one size per symbol: opt-shape or 1; with ``run`` the second probe has a
    batch of 2 and inner dims of 3, the third inner dims of 8, where the model runs so.

    ``run`` tries feeds on the source; with it, sizes that do not run are replaced by ones that do, and a branch that
    an integer input selects by comparison gets a probe of its own where one runs.

    Raises:
        DataError: an input that is no tensor, no sizes with which the model runs, or more than 4 GiB for a run.
    """
    maker = _maker(module, seed)
    bound = bound_sizes(maker.axes, opt_shapes)
    _require_small(maker, bound)
    base = base_sizes(module, maker.axes, bound, _trial(maker, run, 0))
    if base is None:
        open_dims = ", ".join(v for v in maker.axes.variables if v not in bound)
        raise DataError(f"no sizes found for {open_dims} with which the model runs", "give --opt-shape or --data")
    if run is None:
        return [maker.probe(k, base) for k in range(count)]
    sizes = (
        base,
        other_sizes(maker.axes, base, bound, _trial(maker, run, 1)) if count > 1 else base,
        long_sizes(maker.axes, base, bound, _trial(maker, run, 2)) if count > 2 else base,
    )
    made = [maker.probe(k, sizes[k % 3]) for k in range(count)]
    return made + (_other_branches(maker, made[0], run) if made else [])


def require_small(module: Module, opt_shapes: Mapping[str, Sequence[int | None]] | None = None) -> None:
    """Check that a run on probes takes no more than 4 GiB; a session that optimizes may take them when it is made.

    Raises:
        DataError: it would take more, or an input is no tensor.
    """
    maker = _maker(module, 0)
    _require_small(maker, bound_sizes(maker.axes, opt_shapes))


def _require_small(maker: _Maker, sizes: Sizes) -> None:
    needed = maker.demand.exceeds(_MOST_BYTES, sizes)
    if needed:
        raise DataError(
            f"a run would take {_gib(needed)} GiB, generated probes are given {_MOST_BYTES >> 30}",
            "give smaller sizes with --opt-shape, or --data",
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}" if size < 1 << 100 else "2^70 and more"


def _maker(module: Module, seed: int) -> _Maker:
    specs = tuple(inputs_of(module))
    for spec in specs:
        if spec.kind != "tensor" and not spec.optional:
            raise DataError(f"input {spec.name} is a {spec.kind}: no probe can be generated", "give --data")
    values = {v.name: v for v in module.graph.inputs}
    ranked = tuple(_ranked(module, s) for s in specs)
    meanings = {s.name: roles(module, values[s.name]) for s in specs if not s.optional}
    return _Maker(module, ranked, meanings, axes_of([s for s in ranked if not s.optional]), seed, Demand(module))


def _ranked(module: Module, spec: TensorSpec) -> TensorSpec:
    """Return the spec with open dims where even the rank is unknown: as many as its first Conv or Gemm asks, else 2."""
    if spec.dims is not None:
        return spec
    value = next(v for v in module.graph.inputs if v.name == spec.name)
    ranks = {"Gemm": 2, "LSTM": 3, "GRU": 3, "RNN": 3}
    for use in value.uses():
        weight = use.node.inputs[1] if len(use.node.inputs) > 1 else None
        if use.node.op_type in ("Conv", "ConvTranspose") and weight is not None and weight.shape is not None:
            return TensorSpec(spec.name, spec.dtype, (None,) * len(weight.shape))
        if use.node.op_type in ranks:
            return TensorSpec(spec.name, spec.dtype, (None,) * ranks[use.node.op_type])
    return TensorSpec(spec.name, spec.dtype, (None, None))


def _trial(maker: _Maker, run: Callable[[Feeds], Outputs] | None, number: int) -> Callable[[Sizes], bool]:
    def works(sizes: Sizes) -> bool:
        if run is None or maker.demand.exceeds(_MOST_BYTES, sizes):
            return run is None
        try:
            outputs = run(maker.probe(number, sizes))
        except FccError:
            return False
        return any(np.size(y) for y in outputs.values())

    return works


def _other_branches(maker: _Maker, first: Probe, run: Callable[[Feeds], Outputs]) -> list[Probe]:
    """Return probes with a value outside the choices of each scalar integer input, if the model runs with one."""
    found = []
    for spec in maker.specs:
        choices = {c for r in maker.meanings.get(spec.name, ()) if r.kind == "choice" for c in r.choices}
        array = first.get(spec.name)
        if array is None or array.size != 1 or array.dtype.kind not in "iu" or not choices:
            continue
        top = int(max(choices))
        for value in dict.fromkeys((top // 2, min(top + 1, int(np.iinfo(array.dtype).max)))):
            probe = {**first, spec.name: np.full(array.shape, value, array.dtype)}
            if value not in choices and _runs(probe, run):
                found.append(probe)
                break
    return found


def _runs(probe: Probe, run: Callable[[Feeds], Outputs]) -> bool:
    try:
        run(probe)
    except FccError:
        return False
    return True
