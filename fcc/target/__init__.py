"""Targets as data: what each onnxruntime provider has kernels for, accepts, and runs fast."""

from fcc.target.catalog import FACTS, get_target, isas, targets
from fcc.target.kernels import Support, since_version
from fcc.target.qdq import QdqRule, QdqScheme
from fcc.target.restrictions import NodeFacts
from fcc.target.spec import TargetSpec

__all__ = [
    "FACTS",
    "NodeFacts",
    "QdqRule",
    "QdqScheme",
    "Support",
    "TargetSpec",
    "get_target",
    "isas",
    "since_version",
    "targets",
]
