"""What the clean-up passes leave of real exporters' shape arithmetic."""

import os
from collections import Counter
from pathlib import Path

import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_identity import EliminateIdentity
from fcc.passes.eliminate_no_ops import EliminateNoOps
from fcc.passes.fold_constants import FoldConstants
from fcc.passes.fold_shapes import FoldShapes
from fcc.passes.inline_if import InlineConstantIfs
from fcc.passes.merge_chains import MergeChains
from fcc.rewrite import Log, PassContext
from fcc.rewrite.manager import Manager
from fcc.rewrite.pipeline import Fixpoint, Pipeline
from fcc.target import get_target

ZOO = Path(os.environ.get("FCC_ZOO", "../shared")) / "models"
CLEAN = (InlineConstantIfs(), FoldShapes(), FoldConstants(), EliminateIdentity(), EliminateNoOps(), MergeChains())
SHAPE_OPS = {"Shape", "Size", "ConstantOfShape", "Range", "Expand", "Identity", "Dropout"}


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("magika_standard_v3_3", {}),
        ("mlp_bn_ts", {}),
        ("mobilenetv2_ts", {}),
        ("gpt2_dynamo", {}),
        ("vit_ts", {"Shape": 1, "Expand": 1}),  # the class token repeats per image
        ("bert_ts", {"Shape": 2, "Expand": 1, "Range": 1}),  # token types and mask rows repeat per text
        ("lstm_ts", {"Shape": 2, "ConstantOfShape": 2}),  # initial states per sequence
    ],
)
def test_what_is_left(name: str, left: dict[str, int]) -> None:
    file = ZOO / f"{name}.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}")
    module = read(str(file))
    shapes.infer(module)
    Manager().run(Pipeline((Fixpoint(CLEAN),)), module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    found = Counter(n.op_type for n in module.nodes() if n.op_type in SHAPE_OPS)
    assert found == Counter(left)
