"""The rewrites, one a file, and the only place that orders them."""

from __future__ import annotations

from fuseonnx.core.rule import Stage, Step
from fuseonnx.passes import (
    deduplicate_initializers,
    eliminate_common_subexpressions,
    eliminate_dropout,
    eliminate_identity,
    eliminate_noop_arithmetic,
    eliminate_noop_cast,
    eliminate_noop_concat,
    eliminate_noop_pad,
    eliminate_noop_reshape,
    eliminate_noop_slice,
    eliminate_noop_transpose,
    eliminate_repeated_op,
    fold_affine_into_conv,
    fold_affine_into_conv_transpose,
    fold_affine_into_gemm,
    fold_affine_into_matmul,
    fold_batchnorm_into_conv,
    fold_batchnorm_into_conv_transpose,
    fold_batchnorm_into_gemm,
    fold_batchnorm_into_matmul,
    fold_constants,
    fold_reshape_target,
    fold_static_dims,
    fold_static_shape,
    fuse_matmul_add,
    inline_constant_if,
    lift_constants,
    merge_unsqueeze_into_reduce,
    remove_dead_nodes,
    remove_unused_initializers,
    swap_negated_if,
)

STAGES: tuple[Stage, ...] = (
    Stage(
        "simplify",
        (
            remove_dead_nodes.RULE,
            lift_constants.RULE,
            inline_constant_if.RULE,
            fold_static_shape.RULE,
            fold_static_dims.RULE,
            fold_reshape_target.RULE,
            fold_constants.RULE,
            eliminate_identity.RULE,
            eliminate_dropout.RULE,
            eliminate_noop_arithmetic.RULE,
            eliminate_noop_cast.RULE,
            eliminate_noop_concat.RULE,
            eliminate_noop_pad.RULE,
            eliminate_noop_reshape.RULE,
            eliminate_noop_slice.RULE,
            eliminate_noop_transpose.RULE,
            eliminate_repeated_op.RULE,
            merge_unsqueeze_into_reduce.RULE,
            swap_negated_if.RULE,
            eliminate_common_subexpressions.RULE,
            deduplicate_initializers.RULE,
            remove_unused_initializers.RULE,
        ),
    ),
    Stage(
        "fuse operators",
        (),
    ),
    Stage(
        "move",
        (),
    ),
    Stage(
        "fold into weights",
        (
            fold_batchnorm_into_conv.RULE,
            fold_batchnorm_into_conv_transpose.RULE,
            fold_batchnorm_into_gemm.RULE,
            fold_batchnorm_into_matmul.RULE,
            fold_affine_into_conv.RULE,
            fold_affine_into_conv_transpose.RULE,
            fold_affine_into_gemm.RULE,
            fold_affine_into_matmul.RULE,
        ),
    ),
    Stage(
        "merge branches",
        (),
    ),
    Stage(
        "finish",
        (fuse_matmul_add.RULE,),
    ),
)


def all_steps() -> dict[str, Step]:
    """Return every rewrite by its name, in the order in which they run."""
    return {step.name: step for stage in STAGES for step in stage.steps}
