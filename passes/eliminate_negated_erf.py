"""Drop the sign in an error function that is subtracted: Erf is odd.

    c - Erf(-x)       ⇒   c + Erf(x)
    c - Erf(-x · r)   ⇒   c + Erf(x · r)
    c - Erf(x · -r)   ⇒   c + Erf(x · r)

So TensorFlow spells Gelu: x · 0.5 · Erfc(-x / √2), with Erfc(z) = 1 - Erf(z) (Abramowitz & Stegun, 7.1.2).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule

_SCALED = ("Mul", "Div")


def guard(m: Match) -> str | None:
    """Keep out where no sign is dropped."""
    if "negation" in m.captures.nodes:
        return None
    return None if bool(np.less(m.array("r"), 0).all()) else ""


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the error function of the other sign."""
    x = m["x"]
    if "scaled" in m.captures.nodes:
        r, scaled = m["r"], m.node("scaled")
        factor = r if "negation" in m.captures.nodes else new.const(np.negative(m.array("r")), r)
        x = new.op(scaled.op_type, x, factor, like=scaled)
    return new.op("Add", m["c"], new.op("Erf", x, like=m.node("erf")))


_NEGATION = op("Neg", var("x"), name="negation", shared=True)

RULE = Rule(
    "eliminate_negated_erf",
    op(
        "Sub",
        var("c"),
        op(
            "Erf",
            any_of(
                _NEGATION,
                op(_SCALED, _NEGATION, const("r"), name="scaled"),
                op(_SCALED, var("x"), const("r"), name="scaled"),
            ),
            name="erf",
        ),
    ),
    replace,
    guard,
)
