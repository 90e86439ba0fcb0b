"""Compare the tensors inside two models that share names, to see where they part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fcc.data.dataset import Data
from fcc.data.spec import Feeds
from fcc.runtime import Session, Source, open_session, tap, tensor_names

from .compare import Parity, loop_over, measure, rows_of


def intermediates(
    source: Source,
    candidate: Source,
    feeds: Data | Iterable[Feeds],
    *,
    names: Sequence[str] | None = None,
    custom_ops: Sequence[str] = (),
    source_folder: str | None = None,
) -> Parity:
    """Compare the tensors of the main graphs that both models name, in the order of the source.

    Both run with optimizations off, so every name is a real tensor.  A Softmax output hides a broken logit; its input
    does not.  Tensors whose meaning a rewrite changed must have lost their names.

    Raises:
        LoadError, RunError: one of the models does not run.
    """
    there = set(tensor_names(candidate))
    common = [n for n in tensor_names(source) if n in there and (names is None or n in names)]
    loop = loop_over(feeds)
    sides = [_tapped(source, common, custom_ops, source_folder), _tapped(candidate, common, custom_ops, None)]
    meters, count = measure(zip(loop(sides[0].run), loop(sides[1].run), strict=True))
    order = {name: k for k, name in enumerate(common)}
    rows = rows_of(m for m in meters if m.name in order)
    return Parity(tuple(sorted(rows, key=lambda r: order[r.name])), count)


def first_diverging(parity: Parity) -> str | None:
    """Return the first tensor, in the order of the source, that is beyond its limit."""
    return next((r.name for r in parity.rows if not r.ok), None)


def _tapped(model: Source, names: Sequence[str], custom_ops: Sequence[str], folder: str | None) -> Session:
    where: Any = folder if isinstance(model, bytes) else Path(os.fspath(model)).resolve().parent
    return open_session(tap(model, names), optimize=False, custom_ops=custom_ops, folder=where)
