"""Patterns, the Rewriter, the kinds of pass, the engine, pipelines and the manager."""

from .base import Match, ModulePass, Pass, PassContext, PatternPass, Site, SitePass
from .bodies import Signature
from .engine import run_pass
from .log import Log, Refusal
from .pattern import any_of, const, op, ops, var
from .rewriter import ORIGIN, Rewriter

__all__ = [
    "ORIGIN",
    "Log",
    "Match",
    "ModulePass",
    "Pass",
    "PassContext",
    "PatternPass",
    "Refusal",
    "Rewriter",
    "Signature",
    "Site",
    "SitePass",
    "any_of",
    "const",
    "op",
    "ops",
    "run_pass",
    "var",
]
