"""The passes: one rewrite per file. Pipelines are data: the texts that ``fcc passes`` prints and --passes reads."""

if __name__ != "fcc.passes":
    raise ImportError("this folder is the package fcc.passes: import it by that name")

from collections.abc import Iterable, Sequence

from fcc.errors import OptionError, did_you_mean
from fcc.rewrite import Pass
from fcc.rewrite.pipeline import Pipeline, parse

from .convert_batchnorm import ConvertBatchNorm
from .convert_sequences import ConvertSequences
from .convert_shape_operands import ConvertShapeOperands
from .eliminate_dead_code import EliminateDeadCode
from .eliminate_dead_neurons import EliminateDeadNeurons
from .eliminate_expand import EliminateExpand
from .eliminate_identity import EliminateIdentity
from .eliminate_no_ops import EliminateNoOps
from .eliminate_zero_states import EliminateZeroStates
from .factorize_linear import FactorizeLinear
from .fold_affine import FoldAffine
from .fold_affine_forward import FoldAffineForward
from .fold_batchnorm import FoldBatchNorm
from .fold_batchnorm_forward import FoldBatchNormForward
from .fold_constants import FoldConstants
from .fold_pad import FoldPad
from .fold_shapes import FoldShapes
from .fuse_matmul_add import FuseMatMulAdd
from .inline_if import InlineConstantIfs
from .insert_qdq import InsertQdq
from .merge_chains import MergeChains
from .merge_common_subexpressions import MergeCommonSubexpressions
from .merge_duplicate_initializers import MergeDuplicateInitializers

ALL_PASSES: tuple[type[Pass], ...] = (
    InlineConstantIfs,
    EliminateIdentity,
    EliminateNoOps,
    FoldConstants,
    FoldShapes,
    ConvertShapeOperands,
    ConvertSequences,
    EliminateExpand,
    EliminateZeroStates,
    MergeChains,
    MergeDuplicateInitializers,
    MergeCommonSubexpressions,
    EliminateDeadCode,
    EliminateDeadNeurons,
    FoldBatchNorm,
    FoldBatchNormForward,
    FoldAffine,
    FoldAffineForward,
    FoldPad,
    FuseMatMulAdd,
    ConvertBatchNorm,
    FactorizeLinear,
    InsertQdq,
)

BY_NAME: dict[str, type[Pass]] = {p.name: p for p in ALL_PASSES}

_CLEAN = (
    "inline-constant-ifs,fold-shapes,fold-constants,eliminate-identity,eliminate-no-ops,merge-chains,"
    "convert-shape-operands,convert-sequences,eliminate-expand,eliminate-zero-states,"
    "merge-duplicate-initializers,merge-common-subexpressions,eliminate-dead-code"
)
_LINEAR = (
    "eliminate-dead-neurons,fold-batchnorm,fold-batchnorm-forward,fold-affine,fold-affine-forward,fold-pad,"
    "fuse-matmul-add"
)

PIPELINES: dict[int, str] = {
    0: "",
    1: f"fixpoint({_CLEAN})",
    2: f"fixpoint({_CLEAN}),fixpoint({_LINEAR},{_CLEAN}),factorize-linear",
}
PIPELINES[3] = PIPELINES[2]


def pipeline(
    level: int, text: str | None = None, disable: Iterable[str] = (), plugins: Sequence[Pass] = ()
) -> Pipeline:
    """Return the pipeline of an O-level, or the one ``text`` writes; plugins run first unless ``text`` names them.

    Raises:
        PipelineError: ``text`` does not parse.
        OptionError: ``disable`` names no pass.
    """
    known: dict[str, type[Pass] | Pass] = {**BY_NAME, **{p.name: p for p in plugins}}
    for name in disable:
        if name not in known:
            raise OptionError(f"no pass is named {name!r}", did_you_mean(name, known))
    found = parse(PIPELINES[level] if text is None else text, known)
    if text is None:
        found = Pipeline((*plugins, *found.steps))
    return found.without(disable)
