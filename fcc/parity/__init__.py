"""Parity: whether an emitted model still gives the answers of its source, on probes or on the user's data."""

from .compare import Parity, compare
from .intermediates import first_diverging, intermediates
from .judge import Judge, judge
from .meter import Row
from .metrics import METRICS, Metric, metric
from .models import Comparison, compare_models
from .verdict import Verdict

__all__ = [
    "METRICS",
    "Comparison",
    "Judge",
    "Metric",
    "Parity",
    "Row",
    "Verdict",
    "compare",
    "compare_models",
    "first_diverging",
    "intermediates",
    "judge",
    "metric",
]
