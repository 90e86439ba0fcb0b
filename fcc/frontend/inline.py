"""Model-local functions are inlined where that is legal."""

from __future__ import annotations

from fcc import ir


def inline_functions(module: ir.Module) -> None:
    """Inline."""
