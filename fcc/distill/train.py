"""Fine-tuning by distillation: Adam with a falling rate, early stopping on samples that are not trained on.

Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531); Kingma & Ba 2014 (arXiv 1412.6980).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .call import Tensor
from .program import Program
from .weights import Weight

_WARM = 0.1  # of all steps: the rate rises, since the first ones make weights worse that were fitted in closed form
_LOWER = 0.3  # the rate, where epochs are not better than the best one: it begins again from there
_LEAST = 0.005  # of the rate: lower ones change nothing
_LAST = 0.02  # of the rate, at the end


@dataclass(frozen=True)
class Settings:
    """``rate`` is the step of Adam relative to the root mean square of each weight; ``batch`` counts samples.

    After ``patience`` epochs that are not better than the best one, training goes on from there at a lower rate.
    """

    epochs: int = 24
    rate: float = 0.01
    batch: int = 32
    patience: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Feeds and what the original model answers, as tensors; ``size`` counts its samples."""

    feeds: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    size: int = 1


@dataclass
class History:
    """Error on the samples to stop by, at the start and after every epoch; ``best`` is the epoch that was kept."""

    errors: list[float] = field(default_factory=list)
    best: int = 0


def energies(batches: Sequence[Batch]) -> dict[str, float]:
    """Return the sum of squares of every float output that is not zero, over all batches."""
    found: dict[str, float] = {}
    for batch in batches:
        for name, y in batch.targets.items():
            if y.dtype.is_floating_point and y.numel():
                found[name] = found.get(name, 0.0) + float((y.double() ** 2).sum())
    return {name: e for name, e in found.items() if e > 0}


def fine_tune(
    program: Program,
    weights: Sequence[Weight],
    fit: Sequence[Batch],
    held: Sequence[Batch],
    settings: Settings,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> History:
    """Fit the weights to the targets and leave them as they were best on ``held``; deterministic by the seed."""
    history, rng = History([_error(program, weights, held)]), np.random.default_rng(settings.seed)
    best = [w.parameter.detach().clone() for w in weights]
    scale, samples, sizes = energies(fit), sum(b.size for b in fit), [_rms(w.parameter) for w in weights]
    adam, rate, since, total = _adam(weights), settings.rate, 0, settings.epochs
    for epoch in range(1, settings.epochs + 1):
        groups = list(_groups(fit, rng.permutation(len(fit)), settings.batch))
        for k, part in enumerate(groups):
            share = rate * _schedule((epoch - 1 - since + k / len(groups)) / total)
            for group, size in zip(adam.param_groups, sizes, strict=True):
                group["lr"] = share * size
            _step(program, weights, part, scale, samples, adam)
        history.errors.append(_error(program, weights, held))
        tell(epoch, settings.epochs)
        if history.errors[-1] < history.errors[history.best]:
            history.best, best = epoch, [w.parameter.detach().clone() for w in weights]
        elif epoch - max(history.best, since) >= settings.patience:
            _put(weights, best)
            adam, rate, since, total = _adam(weights), _LOWER * rate, epoch, settings.epochs - epoch
            if rate < _LEAST * settings.rate:
                break
    _put(weights, best)
    return history


def _step(
    program: Program,
    weights: Sequence[Weight],
    part: Sequence[Batch],
    scale: Mapping[str, float],
    samples: int,
    adam: Any,
) -> None:
    """Make one step by the gradients of some batches."""
    adam.zero_grad()
    share = samples / sum(b.size for b in part)
    for batch in part:
        (share * _loss(program, weights, batch, scale)).backward()
    adam.step()


def _adam(weights: Sequence[Weight]) -> Any:
    return torch.optim.Adam([{"params": [w.parameter]} for w in weights])


def _put(weights: Sequence[Weight], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.parameter.copy_(value)


def _schedule(done: float) -> float:
    if done < _WARM:
        return max(done, 1e-3) / _WARM
    return _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * (done - _WARM) / (1 - _WARM)))


def _rms(parameter: Tensor) -> float:
    return max(float(parameter.detach().square().mean().sqrt()), 1e-4)


def _groups(batches: Sequence[Batch], order: Sequence[int] | np.ndarray, size: int) -> Iterator[list[Batch]]:
    """Yield batches, some at a time, of at least ``size`` samples together but for the last."""
    part: list[Batch] = []
    for i in order:
        part.append(batches[int(i)])
        if sum(b.size for b in part) >= size:
            yield part
            part = []
    if part:
        yield part


def _loss(program: Program, weights: Sequence[Weight], batch: Batch, scale: Mapping[str, float]) -> Tensor:
    """Return the sum over outputs of their squared error, as a part of the squares of the output over all batches."""
    found = program(batch.feeds, {w.value: w.tensor() for w in weights})
    return sum(((found[k].double() - batch.targets[k].double()) ** 2).sum() / e for k, e in scale.items() if k in found)


def _error(program: Program, weights: Sequence[Weight], held: Sequence[Batch]) -> float:
    """Return the relative error of the worst output."""
    scale = energies(held)
    sums = dict.fromkeys(scale, 0.0)
    with torch.no_grad():
        used = {w.value: w.tensor() for w in weights}
        for batch in held:
            found = program(batch.feeds, used)
            for name in scale:
                sums[name] += float(((found[name].double() - batch.targets[name].double()) ** 2).sum())
    error = max((math.sqrt(s / scale[name]) for name, s in sums.items()), default=0.0)
    return error if math.isfinite(error) else math.inf
