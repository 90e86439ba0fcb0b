"""Measured choices: the table of what rewrites cost on real kernels, and what is asked of it. See docs/tuning.md."""

from .costs import Choice, Recorded, recorded
from .table import Row, Table, shipped, user_table

__all__ = ["Choice", "Recorded", "Row", "Table", "recorded", "shipped", "user_table"]
