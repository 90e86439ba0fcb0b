"""Latency before and after a compile, measured in at most half a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fcc.errors import FccError
from fcc.report import LatencyRow

from .workload import Workload

if TYPE_CHECKING:
    from fcc.compiled import CompiledModel

LIMIT_S = 0.5
_LEAST_S = 0.1  # tiny models: enough pairs for a stable median
_PAIRS = 12
_LEAST_PAIRS = 7  # time_ratio runs a warm-up and five pairs at least; one to spare


def timed(compiled: CompiledModel, load: Workload) -> str:
    """Write the latency of source and output into the report; return why not, empty when it was measured.

    Both run interleaved on one sample, with default session options, on the provider of the workload.
    """
    from fcc.runtime import available

    origin = compiled.module.source
    if origin is None:
        return "the source cannot be run again"
    if not available():
        return "onnxruntime is not installed"
    if load.provider not in available():
        return f"no {load.provider} here"
    try:
        return _time(compiled, load)
    except FccError as error:
        return error.message


def _time(compiled: CompiledModel, load: Workload) -> str:
    from fcc.compiled import Runnable
    from fcc.runtime import time_ratio

    origin = compiled.module.source
    assert origin is not None
    load.require(compiled.module)
    with Runnable(compiled.emitted) as model:
        after = load.open(model)
    source = origin.load()
    before = load.open(source, origin.base_dir if isinstance(source, bytes) else None)
    feed = load.feed(compiled.module, after)
    start = time.perf_counter()
    before.run(feed)
    after.run(feed)
    pair = time.perf_counter() - start
    left = LIMIT_S - pair
    if pair * _LEAST_PAIRS > left:
        return f"a run takes about {pair / 2:.2g} s (fcc bench times it)"
    found = time_ratio(before, after, feed, budget_s=min(left, max(_LEAST_S, _PAIRS * pair)))
    compiled.report.latency = LatencyRow(load.provider, found.a_us, found.a_us * found.ratio, found.ratio, found.noise)
    return ""
