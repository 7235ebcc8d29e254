"""Drop an initial state of zeros, which is what a recurrent operator starts with when none is given.

LSTM(x, w, r, b, lengths, 0, 0, p)   ⇒   LSTM(x, w, r, b, lengths, , , p)

So do GRU and RNN. PyTorch and Keras make the state from the batch size of x: Shape, Concat, ConstantOfShape
or Expand, and a Slice for each layer. All of that goes too. -0.0 counts as zero: the results are equal.

A state of another size than x and r ask for stays, so that the model goes on failing. Where a size is not
known, the model without the state also takes the x that the size of the state shut out.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.analysis.zeros import is_zero
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule

_STATES = slice(5, 7)
"""The inputs initial_h and initial_c."""


def guard(m: Match) -> str | None:
    """Keep out unless a state is zero whatever is fed, and may have the size that it needs."""
    if all(value is None for value in m.root.inputs[_STATES]):
        return ""
    if any(_is_useless(value, m) for value in m.root.inputs[_STATES]):
        return None
    return "the initial state may not be zero"


def replace(m: Match, new: Builder) -> Sequence[ir.Value]:
    """Repeat the node without what is zero."""
    root = m.root
    inputs = list(root.inputs)
    inputs[_STATES] = [None if _is_useless(value, m) else value for value in inputs[_STATES]]
    new.op(root.op_type, *inputs, attributes=root.attributes, outputs=len(root.outputs))
    return new.nodes[-1].outputs


def _is_useless(state: ir.Value | None, m: Match) -> bool:
    return state is not None and _fits(state, m) and is_zero(state)


def _fits(state: ir.Value, m: Match) -> bool:
    """Whether a state may be [directions, batch, hidden], or [batch, directions, hidden] in layout 1."""
    x, r = m["x"].shape, m["r"].shape
    if state.shape is None or x is None or r is None:
        return True
    if not len(state.shape) == len(x) == len(r) == 3:
        return False
    needed = [x[0], r[0], r[2]] if m.root.attributes.get_int("layout", 0) else [r[0], x[1], r[2]]
    return all(
        has == needs
        for has, needs in zip(state.shape, needed, strict=True)
        if isinstance(has, int) and isinstance(needs, int)
    )


RULE = Rule(
    "eliminate_zero_state",
    op(
        ("LSTM", "GRU", "RNN"),
        *(var(name) for name in ("x", "w", "r")),
        *(maybe(var(name)) for name in ("b", "lengths", "h", "c", "p")),
    ),
    replace,
    guard,
)
