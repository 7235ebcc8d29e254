"""Mixtures of experts, as Hugging Face models compute them: PyTorch's exporters have no translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir


def expert_translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of grouped_mm_fallback, for `custom_translation_table`.

    Such a model sorts its tokens by the expert that each is for, and multiplies each group of them with the
    weights of its expert. The operator is there only if `transformers` has been imported.
    """
    import torch

    operators = torch.ops.transformers
    if not hasattr(operators, "grouped_mm_fallback"):
        return {}
    return {operators.grouped_mm_fallback.default: _grouped_mm}


def _grouped_mm(rows: Any, weight: Any, ends: Any) -> Any:
    """Multiply rows [S, K] with weight [E, K, N]: those from ends[e - 1] to ends[e] with that of expert e."""
    from onnxscript import opset18

    op: Any = opset18
    bounds = op.Concat(op.Constant(value_ints=[0]), op.Cast(ends, to=ir.DataType.INT64), axis=0)
    groups = []
    for expert in range(weight.shape[0]):
        start, end = (op.Slice(bounds, [index], [index + 1], [0]) for index in (expert, expert + 1))
        groups.append(op.MatMul(op.Slice(rows, start, end, [0]), op.Gather(weight, expert, axis=0)))
    return op.Concat(*groups, axis=0)
