"""Replace an If whose condition is constant by the branch that it takes.

If(true, then_branch, else_branch)   ⇒   the nodes of then_branch
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op
from fuseonnx.core.rule import Match, Rule


def replace(m: Match, new: Builder) -> list[ir.Value]:
    """Move the branch out of its body; a result that the branch only passes on goes through Identity."""
    taken = "then_branch" if m.array("condition").item() else "else_branch"
    branch = m.root.attributes[taken].as_graph()
    computed = {output for node in branch for output in node.outputs}
    results = list(branch.outputs)
    new.adopt(branch)
    return [value if value in computed else new.op("Identity", value) for value in results]


RULE = Rule("inline_constant_if", op("If", const("condition")), replace)
