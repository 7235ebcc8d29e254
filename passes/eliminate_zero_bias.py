"""Drop a bias of zeros.

Conv(x, w, 0)   ⇒   Conv(x, w)

So do ConvTranspose, Gemm from opset 11 on, LayerNormalization, LSTM, GRU and RNN. Where the result is −0.0,
adding +0.0 gives +0.0 and the two are equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule

_MAX_ELEMENTS = 1 << 16
"""Larger constants are not read from disk."""
_STATE = tuple(maybe(var(name)) for name in ("lengths", "h", "c", "p"))


def guard(m: Match) -> str | None:
    """Keep out unless the operator can do without, and all elements are 0."""
    if m.root.op_type == "Gemm" and m.opset < 11:
        return ""
    if constant_tensor(m["bias"]).size > _MAX_ELEMENTS or m.array("bias").any():
        return ""
    return None


def replace(m: Match, new: Builder) -> Sequence[ir.Value]:
    """Repeat the node without its bias."""
    root = m.root
    inputs = [None if value is m["bias"] and index > 1 else value for index, value in enumerate(root.inputs)]
    new.op(root.op_type, *inputs, attributes=root.attributes, outputs=len(root.outputs))
    return new.nodes[-1].outputs


RULE = Rule(
    "eliminate_zero_bias",
    any_of(
        op(("Conv", "ConvTranspose", "Gemm", "LayerNormalization"), var("x"), var("w"), const("bias")),
        op(("LSTM", "GRU", "RNN"), var("x"), var("w"), var("r"), const("bias"), *_STATE),
    ),
    replace,
    guard,
)
