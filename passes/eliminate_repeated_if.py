"""Decide an If that stands in a branch of an If on the same condition.

If(c, then_branch=[If(c, a, b)], else_branch=d)   ⇒   If(c, then_branch=[If(true, a, b)], else_branch=d)

A constant If is then replaced by its branch.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import nodes_in
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import branches_of, decide, ifs_in, is_if

_NAME = "eliminate_repeated_if"


def run(model: ir.Model, journal: Journal) -> None:
    """Give each If inside a branch the condition that led there."""
    names = Names(model)
    for outer in ifs_in(model):
        for branch, taken in zip(branches_of(outer), (True, False), strict=True):
            for inner in nodes_in(branch):
                at = inner.outputs[0].name or "" if is_if(inner) else ""
                if is_if(inner) and inner.inputs[0] is outer.inputs[0] and journal.admits(_NAME, at):
                    decide(inner, taken=taken, names=names)
                    journal.record(_NAME, at)


RULE = GraphPass(_NAME, run)
