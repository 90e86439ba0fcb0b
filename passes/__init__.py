"""The passes: one rewrite per file. Pipelines are data: the texts that ``fcc passes`` prints and --passes reads."""

if __name__ != "fcc.passes":
    raise ImportError("this folder is the package fcc.passes: import it by that name")

from collections.abc import Iterable, Sequence

from fcc.errors import OptionError, did_you_mean
from fcc.rewrite import Pass
from fcc.rewrite.pipeline import Pipeline, parse

from .compose_linears import ComposeLinears
from .convert_batchnorm import ConvertBatchNorm
from .convert_conv1d import ConvertConv1d
from .convert_conv_to_gemm import ConvertConvToGemm
from .convert_diagonal_linears import ConvertDiagonalLinears
from .convert_einsum import ConvertEinsum
from .convert_gather import ConvertGather
from .convert_global_pool import ConvertGlobalPool
from .convert_last_states import ConvertLastStates
from .convert_mapped_loops import ConvertMappedLoops
from .convert_masks import ConvertMasks
from .convert_opset import ConvertOpset
from .convert_powers import ConvertPowers
from .convert_qdq import ConvertQdq
from .convert_relu_qdq import ConvertReluQdq
from .convert_reshape import ConvertReshape
from .convert_residual_adds import ConvertResidualAdds
from .convert_sequence_states import ConvertSequenceStates
from .convert_sequences import ConvertSequences
from .convert_shape_operands import ConvertShapeOperands
from .convert_split import ConvertSplit
from .convert_transpose import ConvertTranspose
from .convert_weights import ConvertWeights
from .convert_winograd import ConvertWinograd
from .eliminate_affine_gather import EliminateAffineGather
from .eliminate_dead_code import EliminateDeadCode
from .eliminate_dead_neurons import EliminateDeadNeurons
from .eliminate_expand import EliminateExpand
from .eliminate_full_lengths import EliminateFullLengths
from .eliminate_gemm_reshapes import EliminateGemmReshapes
from .eliminate_identity import EliminateIdentity
from .eliminate_idle_clamps import EliminateIdleClamps
from .eliminate_impossible_branches import EliminateImpossibleBranches
from .eliminate_loop_values import EliminateLoopValues
from .eliminate_negations import EliminateNegations
from .eliminate_no_ops import EliminateNoOps
from .eliminate_zero_states import EliminateZeroStates
from .eliminate_zero_taps import EliminateZeroTaps
from .factorize_linear import FactorizeLinear
from .fold_affine import FoldAffine
from .fold_affine_forward import FoldAffineForward
from .fold_batchnorm import FoldBatchNorm
from .fold_batchnorm_forward import FoldBatchNormForward
from .fold_concat_constants import FoldConcatConstants
from .fold_constants import FoldConstants
from .fold_norm import FoldNorm
from .fold_one_hot import FoldOneHot
from .fold_pad import FoldPad
from .fold_shapes import FoldShapes
from .fold_space_to_depth import FoldSpaceToDepth
from .fold_table import FoldTable
from .fold_zero_products import FoldZeroProducts
from .fuse_activations import FuseActivations
from .fuse_attention import FuseAttention
from .fuse_depth_to_space import FuseDepthToSpace
from .fuse_gelu import FuseGelu
from .fuse_im2col import FuseIm2col
from .fuse_instance_norm import FuseInstanceNorm
from .fuse_layer_norm import FuseLayerNorm
from .fuse_matmul_add import FuseMatMulAdd
from .fuse_recurrent import FuseRecurrent
from .fuse_rms_norm import FuseRmsNorm
from .fuse_rotary import FuseRotary
from .fuse_softmax import FuseSoftmax
from .fuse_unrolled_recurrent import FuseUnrolledRecurrent
from .hoist_invariants import HoistInvariants
from .inline_equal_branches import InlineEqualBranches
from .inline_if import InlineConstantIfs
from .insert_dynamic_quantization import InsertDynamicQuantization
from .insert_qdq import InsertQdq
from .merge_bidirectional import MergeBidirectional
from .merge_chains import MergeChains
from .merge_clamps import MergeClamps
from .merge_common_subexpressions import MergeCommonSubexpressions
from .merge_concats import MergeConcats
from .merge_constants import MergeConstants
from .merge_duplicate_initializers import MergeDuplicateInitializers
from .merge_logic import MergeLogic
from .merge_mapped_elements import MergeMappedElements
from .merge_parallel_linears import MergeParallelLinears
from .merge_pools import MergePools
from .merge_reductions import MergeReductions
from .merge_slices import MergeSlices, MergeSlicesToSplit
from .merge_transposes import MergeTransposes
from .prune_channels import PruneChannels
from .quantize_embeddings import QuantizeEmbeddings
from .quantize_recurrent import QuantizeRecurrent
from .quantize_weights import QuantizeWeights
from .sink_expand import SinkExpand
from .sink_reshape import SinkReshape
from .sink_scale import SinkScale
from .sink_transpose import SinkTranspose
from .smooth_activations import SmoothActivations
from .squeeze_conv import SqueezeConv
from .unroll_loops import UnrollLoops

ALL_PASSES: tuple[type[Pass], ...] = (
    InlineConstantIfs,
    InlineEqualBranches,
    UnrollLoops,
    EliminateLoopValues,
    HoistInvariants,
    ConvertSequenceStates,
    FuseRecurrent,
    FuseUnrolledRecurrent,
    MergeBidirectional,
    ConvertLastStates,
    ConvertMappedLoops,
    MergeMappedElements,
    EliminateIdentity,
    EliminateNoOps,
    FoldConstants,
    FoldShapes,
    ConvertShapeOperands,
    ConvertSequences,
    EliminateExpand,
    EliminateZeroStates,
    EliminateFullLengths,
    MergeChains,
    MergeDuplicateInitializers,
    MergeCommonSubexpressions,
    EliminateDeadCode,
    EliminateIdleClamps,
    EliminateDeadNeurons,
    FoldBatchNorm,
    FoldBatchNormForward,
    FoldAffine,
    FoldAffineForward,
    FoldPad,
    FuseMatMulAdd,
    ConvertBatchNorm,
    EliminateImpossibleBranches,
    ConvertOpset,
    ConvertEinsum,
    FoldZeroProducts,
    EliminateAffineGather,
    FuseLayerNorm,
    FuseRmsNorm,
    FuseInstanceNorm,
    FuseSoftmax,
    FuseGelu,
    FuseActivations,
    FoldNorm,
    FoldOneHot,
    FoldTable,
    SinkTranspose,
    SinkReshape,
    ConvertTranspose,
    ConvertReshape,
    MergeTransposes,
    MergeSlices,
    MergeSlicesToSplit,
    MergeConcats,
    SqueezeConv,
    ComposeLinears,
    FuseRotary,
    FuseAttention,
    SinkScale,
    EliminateGemmReshapes,
    MergeParallelLinears,
    ConvertMasks,
    ConvertResidualAdds,
    ConvertConvToGemm,
    ConvertConv1d,
    FuseDepthToSpace,
    FoldSpaceToDepth,
    FuseIm2col,
    MergeReductions,
    MergeConstants,
    MergeClamps,
    MergeLogic,
    EliminateNegations,
    ConvertPowers,
    ConvertGather,
    ConvertSplit,
    MergePools,
    EliminateZeroTaps,
    ConvertDiagonalLinears,
    FoldConcatConstants,
    SinkExpand,
    FactorizeLinear,
    ConvertWinograd,
    ConvertGlobalPool,
    PruneChannels,
    InsertQdq,
    SmoothActivations,
    QuantizeWeights,
    InsertDynamicQuantization,
    QuantizeRecurrent,
    QuantizeEmbeddings,
    ConvertWeights,
    ConvertQdq,
    ConvertReluQdq,
)

BY_NAME: dict[str, type[Pass]] = {p.name: p for p in ALL_PASSES}

_CLEAN = (
    "inline-constant-ifs,inline-equal-branches,unroll-loops{max_trips=1},convert-sequence-states,"
    "eliminate-loop-values,hoist-invariants,fold-shapes,fold-constants,eliminate-identity,eliminate-no-ops,merge-chains,"
    "convert-shape-operands,convert-sequences,eliminate-expand,eliminate-zero-states,eliminate-full-lengths,"
    "merge-duplicate-initializers,merge-common-subexpressions,eliminate-dead-code"
)
# What a loop over the steps of a recurrent layer is, or steps in a row; what other short loops compute.
_STEPS = (
    "fuse-recurrent,fuse-unrolled-recurrent,merge-bidirectional,convert-last-states,"
    "convert-mapped-loops,merge-mapped-elements,unroll-loops"
)
_LINEAR = (
    "eliminate-dead-neurons,eliminate-affine-gather,fold-batchnorm,fold-batchnorm-forward,fold-affine,"
    "fold-affine-forward,fold-pad,"
    "fuse-matmul-add,convert-transpose,"
    "eliminate-zero-taps,convert-diagonal-linears,fold-concat-constants,sink-expand"
)
# Elementwise algebra; behind the recovery of operators, which knows their spelling in primitives better.
_ALGEBRA = (
    "fuse-activations,merge-constants,merge-clamps,merge-logic,eliminate-negations,convert-powers,convert-split,"
    "merge-pools"
)

# What exporters write in primitives, as the operator it means; exact look-ups of finite domains.
_RECOVER = (
    "convert-einsum,fold-zero-products,fuse-layer-norm,fuse-rms-norm,fuse-instance-norm,fuse-softmax,fuse-gelu,"
    "fuse-activations,fold-one-hot,fold-norm,fold-table,convert-masks,eliminate-affine-gather,fuse-rotary,fuse-attention,sink-scale"
)
_MOVES = (
    "convert-gather,convert-reshape,merge-slices,merge-concats,merge-slices-to-split,sink-transpose,convert-transpose,"
    "sink-reshape,merge-reductions,fuse-im2col,fold-space-to-depth,fuse-depth-to-space,convert-conv-to-gemm,"
    "eliminate-gemm-reshapes,squeeze-conv,merge-transposes"
)

PIPELINES: dict[int, str] = {
    0: "",
    1: f"fixpoint({_CLEAN})",
    2: (
        # what a later phase makes may be work for an earlier one; a compile of the result must find nothing to do
        f"fixpoint(fixpoint({_CLEAN}),eliminate-impossible-branches,"
        f"fixpoint({_STEPS},convert-opset,{_RECOVER},{_MOVES},{_CLEAN}),"
        "eliminate-idle-clamps,"
        f"fixpoint({_ALGEBRA},{_LINEAR},convert-qdq,merge-parallel-linears,compose-linears,{_CLEAN})),"
        f"convert-residual-adds,convert-conv1d,fixpoint({_CLEAN}),factorize-linear,"
        f"convert-winograd,fixpoint(sink-reshape,convert-global-pool,{_CLEAN})"
    ),
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
