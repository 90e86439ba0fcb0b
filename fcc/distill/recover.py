"""Recovery by distillation: the compressed model learns what the original answers, and keeps it where it helps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from fcc import ir
from fcc.data.dataset import Data, split
from fcc.driver import Driver
from fcc.errors import FccError
from fcc.recipe import outputs_of
from fcc.refit import compute_weights

from .call import NoForm
from .program import Program, tensors
from .train import Batch, History, Settings, energies, fine_tune
from .weights import Weight, weights_of

PARTS = (0.7, 0.15, 0.15)  # of the calibration data: trained on, stopped by, judged by
MOST_BYTES = 1 << 29  # of feeds and answers that are held in memory
AGREES = 0.02  # relative error up to which torch computes what onnxruntime does


@dataclass(frozen=True)
class Distilled:
    """What came of it: relative errors of the worst output on the part that nothing here was fitted to."""

    kept: bool
    why: str
    before: float = 0.0
    after: float = 0.0
    epochs: int = 0
    best: int = 0
    weights: int = 0
    parameters: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"distillation: {self.why}"

    def row(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def distill(driver: Driver, original: ir.Module, module: ir.Module, fit: Data, settings: Settings) -> Distilled:
    """Fine-tune the weights of a compressed module in place; they stay as they were where that does not help.

    The error before and after is that of the emitted module in onnxruntime, state going round, on the last part of the
    data. Without an operator in torch, or a weight to train, nothing is done and ``why`` says so.
    """
    start = time.perf_counter()
    compute_weights(module)
    try:
        with _threads(driver.options.threads):
            return _distilled(driver, original, module, fit, settings, start)
    except NoForm as missing:
        return Distilled(False, f"not done, no form in torch for {missing}")


def _distilled(
    driver: Driver, original: ir.Module, module: ir.Module, fit: Data, settings: Settings, start: float
) -> Distilled:
    program = Program(module)
    weights = weights_of(program)
    if not weights:
        return Distilled(False, "not done, no weight of a layer is float32, float64 or dequantized")
    parts = split(fit, PARTS)
    if parts[0] is fit:
        return Distilled(False, f"not done, it takes at least {len(PARTS)} samples")
    trained, stopped, judged = parts
    kept = {w.value: w.value.const_value for w in weights}
    reference = list(outputs_of(driver, original, judged))
    before = _error(driver, module, judged, reference)
    held = list(_batches(driver, original, stopped, settings.batch))
    reason = _disagrees(driver, module, program, held[0])
    if reason:
        return Distilled(False, reason)
    batches = list(_batches(driver, original, trained, settings.batch))
    if not energies(batches):
        return Distilled(False, "not done, no output is a float other than zero")
    tell = driver.progress
    history = fine_tune(
        program,
        weights,
        batches,
        held,
        settings,
        (lambda n, of: tell("distill", n, of)) if tell else lambda n, of: None,
    )
    _write(module, weights)
    after = _error(driver, module, judged, reference) if history.best else before
    better = after < before
    if not better:
        for value, tensor in kept.items():
            value.const_value = tensor
        module.touch()
    return _told(better, before, after, history, weights, time.perf_counter() - start)


def _told(
    better: bool, before: float, after: float, history: History, weights: list[Weight], seconds: float
) -> Distilled:
    epochs, count = len(history.errors) - 1, sum(w.parameter.numel() for w in weights)
    said = "kept" if better else "not better on samples it was not fitted to: the weights stay"
    why = f"error {before:.3g} -> {after:.3g} after {history.best} of {epochs} epochs, {seconds:.1f} s, {said}"
    return Distilled(better, why, before, after, epochs, history.best, len(weights), count, round(seconds, 3))


def _write(module: ir.Module, weights: list[Weight]) -> None:
    for weight in weights:
        old = weight.value.const_value
        assert old is not None
        weight.value.const_value = ir.tensor(weight.array(old.numpy()), name=weight.value.name)
    module.touch()


def _error(driver: Driver, module: ir.Module, data: Data, reference: list[Any]) -> float:
    from fcc.parity.compare import measure

    try:
        meters, _ = measure(zip(reference, outputs_of(driver, module, data), strict=True))
    except FccError:
        return float("inf")
    return max((m.row(0.0).rel for m in meters), default=0.0)


def _disagrees(driver: Driver, module: ir.Module, program: Program, batch: Batch) -> str:
    """Return why torch does not compute what the runtime does, if so."""
    feeds = {name: t.numpy() for name, t in batch.feeds.items()}
    (expected,) = outputs_of(driver, module, [feeds])
    with torch.no_grad():
        found = program(batch.feeds)
    from fcc.parity.compare import measure

    meters, _ = measure([(expected, {name: t.numpy() for name, t in found.items()})])
    rel = max((m.row(0.0).rel for m in meters), default=0.0)
    return "" if rel <= AGREES else f"not done, torch differs from onnxruntime by {rel:.2g}"


def _batches(driver: Driver, original: ir.Module, data: Data, size: int) -> Iterator[Batch]:
    """Yield feeds, joined where the model takes any number of samples, with the answers of the original to them."""
    from fcc.compiled import Runnable
    from fcc.runtime import open_session

    o, left = driver.options, MOST_BYTES
    with Runnable(driver.emit(original)) as model:
        session = open_session(model, threads=o.threads, custom_ops=o.custom_ops)
    joined = _joined(data, size) if not data.state and _free(original) else ((f, 1) for f in data if not data.state)
    pairs = ((f, session.run(f), n) for f, n in joined) if not data.state else ((*p, 1) for p in data.run(session.run))
    for feeds, answers, count in pairs:
        left -= sum(a.nbytes for a in (*feeds.values(), *answers.values()))
        yield Batch(tensors(feeds), tensors(answers), count)
        if left < 0:
            return


def _free(module: ir.Module) -> bool:
    """Return whether all inputs and outputs begin with the same open dimension."""
    first = {(ir.dims_of(v) or (0,))[0] if ir.dims_of(v) else 0 for v in (*module.graph.inputs, *module.graph.outputs)}
    return len(first) == 1 and all(isinstance(d, ir.Dim) for d in first)


def _joined(data: Data, size: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield feeds of the same sizes in a row as one of at most ``size`` samples, and how many samples it holds."""
    waiting: list[Mapping[str, Any]] = []
    for feeds in data:
        if waiting and (len(waiting) >= size or _sizes(feeds) != _sizes(waiting[0])):
            yield _one(waiting)
            waiting = []
        waiting.append(feeds)
    if waiting:
        yield _one(waiting)


def _sizes(feeds: Mapping[str, Any]) -> list[tuple[int, ...]]:
    return [np.shape(a) for a in feeds.values()]


def _one(feeds: list[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    return {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}, len(feeds)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads, and compute in the same order every time."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
