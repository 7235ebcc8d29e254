"""Attention whose mask hides everything from a position: PyTorch gives 0 there, its exporters do not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from fuseonnx.analysis.bounds import ranges_of

_ATTENTION = "aten::scaled_dot_product_attention"
_CAST_LIKE, _AXES_ARE_INPUTS = 15, 18
"""Opsets that brought CastLike, and the axes of ReduceMax as an input."""
_VIEWS = ("Expand", "Identity", "Unsqueeze")


def attention_translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of scaled_dot_product_attention, for `custom_translation_table`.

    A mask of booleans or of -inf hides all from a position where texts are padded on the left, say, and the
    attention is causal. The exporter's own translation gives such a position the mean of the values (it hides
    with the lowest finite number, so that its guard against NaN never acts), or NaN where the mask is one of
    floats. Here 0 is put in its place behind the attention, on [batch, heads, positions, size]; which ones
    these are is computed once for all layers that share the mask. Without a mask there is nothing to do.
    """
    import torch
    from onnxscript import opset18
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    op: Any = opset18

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **options: Any) -> Any:
        result = aten_scaled_dot_product_attention(query, key, value, attn_mask, *args, **options)
        if attn_mask is None:
            return result
        zero = op.CastLike(0.0, query)
        if attn_mask.dtype == ir.DataType.BOOL:
            most = op.ReduceMax(op.Cast(attn_mask, to=ir.DataType.INT32), [-1])  # of bool since opset 20 only
            return op.Where(op.Cast(most, to=ir.DataType.BOOL), result, zero)
        return op.Where(op.IsInf(op.ReduceMax(attn_mask, [-1]), detect_positive=0), zero, result)

    return {torch.ops.aten.scaled_dot_product_attention.default: attention}


@contextlib.contextmanager
def attention_symbolic(opset: int) -> Iterator[None]:
    """Let the TorchScript exporter do the same for masks of floats; it does for those of booleans."""
    import torch
    from torch.onnx import symbolic_helper, symbolic_opset14

    def attention(g: Any, query: Any, key: Any, value: Any, attn_mask: Any, *rest: Any) -> Any:
        result = symbolic_opset14.scaled_dot_product_attention(g, query, key, value, attn_mask, *rest)
        if symbolic_helper._is_none(attn_mask) or attn_mask.type().scalarType() == "Bool":
            return result
        if opset < _AXES_ARE_INPUTS:
            most = g.op("ReduceMax", attn_mask, axes_i=[-1])
        else:
            most = g.op("ReduceMax", attn_mask, g.op("Constant", value_t=torch.tensor([-1])))
        zero = g.op("CastLike", g.op("Constant", value_t=torch.tensor(0.0)), query)
        return g.op("Where", g.op("IsInf", most, detect_positive_i=0), zero, result)

    register: Any = torch.onnx
    register.register_custom_op_symbolic(_ATTENTION, attention, _CAST_LIKE)
    try:
        yield
    finally:
        register.unregister_custom_op_symbolic(_ATTENTION, _CAST_LIKE)


def drop_idle_guards(model: ir.Model) -> None:
    """Take what is added above away again where the mask shows something to each position.

    That is so where a mask is finite numbers, or compares positions only and does not hide the own one.
    """
    graph = model.graph
    guards = {node: place for node in graph if (place := _guarded_input(node)) is not None}
    masks = {node: _reduced(node.inputs[0]) for node in guards}
    floats = [mask for mask in masks.values() if mask is not None and mask.dtype is ir.DataType.FLOAT]
    finite = ranges_of(floats, graph)
    for node, place in guards.items():
        mask, always, value = masks[node], _constant(node.inputs[0]), node.inputs[place]
        is_idle = mask is not None and (mask in finite or _shows_to_each(mask))
        is_idle = is_idle or (always is not None and bool((always == (place == 1)).all()))
        if is_idle and value is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], value)
            graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)


def _guarded_input(node: ir.Node) -> int | None:
    """Return which input the result y of an attention is, in Where(shown, y, 0) and Where(hidden, 0, y)."""
    if node.op_type != "Where" or node.outputs[0].is_graph_output():
        return None
    for place, other in ((1, 2), (2, 1)):
        product = _made_by(node.inputs[place], "MatMul")
        if product and _made_by(product.inputs[0], "Softmax", "Where") and _is_zero(node.inputs[other]):
            return place
    return None


def _reduced(condition: ir.Value | None) -> ir.Value | None:
    """Return the mask whose largest number along the last axis makes the condition of a guard."""
    test = _made_by(condition, "Cast", "IsInf")
    most = _made_by(test.inputs[0], "ReduceMax") if test else None
    if most is None:
        return None
    cast = _made_by(most.inputs[0], "Cast")
    return cast.inputs[0] if cast else most.inputs[0]


def _shows_to_each(mask: ir.Value) -> bool:
    """Whether a mask of booleans is True throughout, or compares the positions on two axes with themselves.

    No position is after itself, whichever of the axes stands for the query.
    """
    mask = _under_views(mask)
    below, constant = _made_by(mask, "LessOrEqual", "GreaterOrEqual"), _constant(mask)
    if below is None:
        return constant is not None and bool(constant.all())
    first, second = (_under_views(value) for value in below.inputs if value is not None)
    starts_at_zero = below.op_type == "GreaterOrEqual" and _counts(first) and _is_zero(second)
    return first is second or starts_at_zero


def _counts(value: ir.Value) -> bool:
    """Whether it is Range(0, size, 1)."""
    node = _made_by(value, "Range")
    return node is not None and _is_zero(node.inputs[0])


def _is_zero(value: ir.Value | None) -> bool:
    array = _constant(value)
    return array is not None and array.size == 1 and not array.any()


def _constant(value: ir.Value | None) -> Any:
    """Return the array that a value is, or None."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return tensor.numpy() if tensor is not None else None


def _under_views(value: ir.Value) -> ir.Value:
    while (node := _made_by(value, *_VIEWS)) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Return the node that makes a value, if it is one of some operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in operators and not node.domain else None
