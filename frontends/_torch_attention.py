"""What PyTorch's attention gives where a mask hides everything, said to the dynamo exporter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir


def attention_translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of scaled_dot_product_attention, for `custom_translation_table`.

    PyTorch gives 0 to a position from which a mask of booleans or of -inf hides all others, as left padding
    under a causal mask does. The exporter's own translation gives it the mean of the values (it hides with the
    lowest finite number, and guards against NaN, which that never makes), or NaN where the mask is one of
    floats. Here such rows are set to 0 behind the attention, on [batch, heads, positions, size]; whether a row
    is hidden is computed once for all layers that share the mask, and attention without a mask is left alone.
    """
    import torch
    from onnxscript import opset18 as op
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **options: Any) -> Any:
        if attn_mask is None:
            return aten_scaled_dot_product_attention(query, key, value, None, *args, **options)
        zero = op.CastLike(0.0, query)
        if attn_mask.dtype == ir.DataType.BOOL:
            lowest = op.Constant(value=ir.tensor(query.dtype.min, dtype=query.dtype))
            attn_mask = op.Where(attn_mask, zero, lowest)
            hidden = op.Cast(op.ReduceMax(attn_mask, [-1]), to=ir.DataType.BOOL)
        else:
            hidden = op.IsInf(op.ReduceMax(attn_mask, [-1]))
        result = aten_scaled_dot_product_attention(query, key, value, attn_mask, *args, **options)
        return op.Where(hidden, zero, result)

    return {torch.ops.aten.scaled_dot_product_attention.default: attention}
