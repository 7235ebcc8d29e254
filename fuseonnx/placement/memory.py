"""Operands that GPU kernels of onnxruntime keep in CPU memory: shapes, axes, counts, conditions.

Source: the kernel registrations of onnxruntime's CUDA provider (`InputMemoryType`, `OutputMemoryType`); the
WebGPU provider agrees where it has the operator.
"""

from __future__ import annotations

_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
_SECOND = (
    *("CumSum", "Expand", "Reshape", "SequenceAt", "SequenceErase", "Split", "Squeeze", "Tile", "TopK"),
    *("Trilu", "Unsqueeze", "Upsample", *_REDUCTIONS),
)
_INPUTS: dict[tuple[str, str], frozenset[int]] = {
    **{("", operator): frozenset({1}) for operator in _SECOND},
    ("", "Clip"): frozenset({1, 2}),
    ("", "ConstantOfShape"): frozenset({0}),
    ("", "Dropout"): frozenset({1, 2}),
    ("", "If"): frozenset({0}),
    ("", "Loop"): frozenset({0, 1}),
    ("", "NonMaxSuppression"): frozenset({2, 3, 4}),
    ("", "OneHot"): frozenset({1, 2}),
    ("", "Pad"): frozenset({1, 2, 3}),
    ("", "Range"): frozenset({0, 1, 2}),
    ("", "Resize"): frozenset({1, 2, 3}),
    ("", "SequenceInsert"): frozenset({2}),
    ("", "Slice"): frozenset({1, 2, 3, 4}),
    ("com.microsoft", "Attention"): frozenset({6}),
    ("com.microsoft", "DecoderMaskedMultiHeadAttention"): frozenset({7, 8}),
    ("com.microsoft", "DecoderMaskedSelfAttention"): frozenset({6, 7}),
    ("com.microsoft", "GroupQueryAttention"): frozenset({6}),
    ("com.microsoft", "MultiHeadAttention"): frozenset({8}),
    ("com.microsoft", "RelativePositionBias"): frozenset({1, 2}),
    ("com.microsoft", "SparseAttention"): frozenset({7}),
}
_OUTPUTS: dict[tuple[str, str], frozenset[int]] = {
    ("", operator): frozenset({0}) for operator in ("SequenceLength", "Shape", "Size")
}


def host_inputs(op_type: str, domain: str) -> frozenset[int]:
    """Return the positions of the inputs that a GPU kernel of an operator reads in CPU memory."""
    return _INPUTS.get((domain, op_type), frozenset())


def host_outputs(op_type: str, domain: str) -> frozenset[int]:
    """Return the positions of the outputs that a GPU kernel of an operator leaves in CPU memory."""
    return _OUTPUTS.get((domain, op_type), frozenset())
