"""Keep onnxruntime from merging a Pad into the MaxPool behind it, which changes the answers.

    x ─ Pad(p, 0) ─ MaxPool()   ⇒   x ─ Pad(p, 0) ─ MaxPool(auto_pad=VALID)

MaxPool leaves its own pads out, so that a zero that Pad put beside negative numbers is the maximum, and a pad
is not. Before 1.32, onnxruntime's default level merges them all the same, wherever nothing else
uses the Pad, but not if the pooling says `auto_pad`. VALID means no pads, and as many windows as fit:
⌈(n - k + 1) / s⌉ = ⌊(n - k) / s⌋ + 1.

It keeps out where the pooling has pads of its own, rounds its size up or is dilated.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._pads import PAD


def guard(m: Match) -> str | None:
    """Keep out unless the pooling takes whole windows, and no pads."""
    flags = m.root.attributes
    if m.node("pad").attributes.get_string("mode", "constant") != "constant":
        return "it does not pad with a constant"
    if flags.get_string("auto_pad", "NOTSET") != "NOTSET":
        return "onnxruntime lets it be"
    if any(flags.get_ints("pads", [0])):
        return "the pooling has pads of its own"
    if flags.get_int("ceil_mode", 0) or any(each != 1 for each in flags.get_ints("dilations", [1])):
        return "the pooling rounds its size up, or is dilated"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Say VALID instead of zero pads."""
    kept = {name: each for name, each in m.root.attributes.items() if name != "pads"}
    return new.op("MaxPool", m.node("pad").outputs[0], attributes={**kept, "auto_pad": "VALID"}, like=m.root)


RULE = Rule("keep_pad_before_max_pool", op("MaxPool", PAD), replace, guard)
