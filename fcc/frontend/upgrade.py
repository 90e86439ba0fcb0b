"""Raising the opset."""

from __future__ import annotations

from fcc import ir


def upgrade_opset(module: ir.Module) -> None:
    """Upgrade."""
