"""Decide an If one of whose branches gives a rank with which the model cannot run.

y = If(c, rank 2, rank 3) ─ Unsqueeze ─ LSTM, which takes rank 3     ⇒     y = If(true, rank 2, rank 3)
z = If(c, Squeeze(x, axis), Identity(x))                                   z = If(true, Squeeze(x, axis), ...)

All Ifs on c in that graph are decided, because a run in which c is false fails at the consumer. It still
does: some If on c = Equal(size of that axis of x, 1) has to hold this Squeeze, which refuses what c refuses.
So PyTorch exports `squeeze(dim)` of a dim that varies.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import branches_of, decide, ifs_in, ifs_on, producer

_NAME = "eliminate_impossible_branch"
_SEQUENCE_INPUTS = (0, 5, 6)


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each If whose condition is not known."""
    names = Names(model)
    for node in ifs_in(model):
        condition, graph = node.inputs[0], node.graph
        if graph is None or condition is None or is_const(condition) or not _only_true_runs(node):
            continue
        if not any(_fails_unless(condition, branches_of(each)[0]) for each in ifs_on(condition, graph)):
            continue
        for each in list(ifs_on(condition, graph)):
            at = each.outputs[0].name or ""
            if journal.admits(_NAME, at):
                decide(each, taken=True, names=names)
                journal.record(_NAME, at)


def _only_true_runs(node: ir.Node) -> bool:
    """Whether the result of the second branch, and not that of the first, has a rank that nothing can use."""
    first, second = branches_of(node)
    for index, output in enumerate(node.outputs):
        ranks = rank(first.outputs[index]), rank(second.outputs[index])
        if None in ranks or ranks[0] == ranks[1]:
            continue
        needed = _needed_ranks(output, node.graph)
        if ranks[0] in needed and len(needed) == 1:
            return True
    return False


def _needed_ranks(value: ir.Value, graph: ir.Graph | None) -> set[int]:
    """Return the ranks that the consumers in the same graph insist on."""
    needed = set()
    for use in value.uses():
        node = use.node
        if node.graph is not graph or node.domain:
            continue
        if node.op_type in ("LSTM", "GRU", "RNN") and use.idx in _SEQUENCE_INPUTS:
            needed.add(3)
        elif node.op_type == "Conv" and use.idx == 0:
            needed.update(axes for axes in (rank(node.inputs[1]),) if axes is not None)
        elif node.op_type in ("Unsqueeze", "Squeeze") and use.idx == 0:
            added = len(_axes(node)) * (1 if node.op_type == "Unsqueeze" else -1)
            if added:
                needed.update(wanted - added for wanted in _needed_ranks(node.outputs[0], graph))
    return needed


def _fails_unless(condition: ir.Value, branch: ir.Graph) -> bool:
    """Whether the branch squeezes the very axis of which the condition says that its size is 1."""
    squeezes = (node for node in branch if node.op_type == "Squeeze" and not node.domain)
    return any(_tests(condition, node.inputs[0], axis) for node in squeezes for axis in _axes(node))


def _tests(condition: ir.Value, x: ir.Value | None, axis: int) -> bool:
    """Whether the condition says that this axis of x has size 1."""
    compare = producer(condition, "Equal")
    if compare is None or x is None:
        return False
    for size, one in (compare.inputs, compare.inputs[::-1]):
        asked = _asked(size) if _numbers(one) == [1] else None
        if asked is not None and asked[0] is x:
            axes = rank(x)
            return asked[1] == axis or (axes is not None and (asked[1] - axis) % axes == 0)
    return False


def _asked(size: ir.Value | None) -> tuple[ir.Value | None, int] | None:
    """Return x and the axis if a value is Gather(Shape(x), axis) or Shape(x, start=axis, end=axis + 1)."""
    gather = producer(size, "Gather")
    shape = producer(size if gather is None else gather.inputs[0], "Shape")
    if shape is None:
        return None
    if gather is None:
        start = shape.attributes.get_int("start", 0)
        return (shape.inputs[0], start) if shape.attributes.get_int("end", None) == start + 1 else None
    indices = _numbers(gather.inputs[1])
    return (shape.inputs[0], indices[0]) if len(indices) == 1 and not shape.attributes else None


def _axes(node: ir.Node) -> list[int]:
    """Return the axes of Squeeze or Unsqueeze, an input or before opset 13 an attribute; empty if unknown."""
    if len(node.inputs) > 1:
        return _numbers(node.inputs[1])
    return list(node.attributes.get_ints("axes", ()))


def _numbers(value: ir.Value | None) -> list[int]:
    """Return the elements of a short list of constants, else nothing."""
    if value is None or not is_const(value) or constant_tensor(value).size > 8:
        return []
    return array_of(value).reshape(-1).tolist()


RULE = GraphPass(_NAME, run)
