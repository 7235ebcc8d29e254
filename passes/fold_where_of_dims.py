"""Let a Concat of dims hold the numbers that a Where with a constant condition puts in their place.

Where([false, true], [1, 1], Concat(n, [-1]))   ⇒   Concat(n, [1])

So PyTorch spells the target of an Expand: -1 keeps a dim, and becomes 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.symbolic import elements_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import Var, const, op
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless the Where chooses a number for each constant piece, and every other piece is kept."""
    return "it does not choose between constants alone" if _pieces(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Concatenate what is chosen."""
    concat, pieces = m.node("concat"), _pieces(m)
    assert pieces is not None
    inputs = [
        piece if isinstance(piece, ir.Value) else new.const(np.array(piece, dtype=np.int64))
        for piece in pieces
    ]
    return new.op("Concat", *inputs, attributes=concat.attributes, like=concat)


def _pieces(m: Match) -> list[ir.Value | list[int]] | None:
    """Return the pieces of the new Concat: values of the old one, or numbers."""
    chosen, result = elements_of(m.root.outputs[0]), m.root.outputs[0]
    if chosen is None or result.dtype != ir.DataType.INT64:
        return None
    pieces: list[ir.Value | list[int]] = []
    for value in m.node("concat").inputs:
        old = elements_of(value)
        if value is None or old is None:
            return None
        new, chosen = chosen[: len(old)], chosen[len(old) :]
        numbers = [each for each in new if isinstance(each, int)]
        if new == old and not is_const(value):
            pieces.append(value)
        elif len(numbers) != len(new):
            return None
        elif pieces and isinstance(pieces[-1], list):
            pieces[-1].extend(numbers)
        else:
            pieces.append(numbers)
    return None if chosen else pieces


RULE = Rule(
    "fold_where_of_dims",
    op("Where", const("condition"), const("ones"), op("Concat", each=Var(""), name="concat")),
    replace,
    guard,
)
