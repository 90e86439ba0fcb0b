"""Which change for which layer: the choice under an error budget, and what may be said of the result."""

from .certify import agreement_bound, mean_bound
from .reasons import reasons
from .solver import Option, solve

__all__ = ["Option", "agreement_bound", "mean_bound", "reasons", "solve"]
