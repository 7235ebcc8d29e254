"""Put the condition of an If in place of a test that finds out which of its branches was taken.

y = If(c, rank 2, rank 3)                          y = If(c, rank 2, rank 3)
z = If(Equal(Size(Shape(y)), 2), a, b)       ⇒     z = If(c, a, b)

So PyTorch exports `squeeze(dim)` of a dim that varies, with a question for the rank after it. If the second
branch is the one that passes the test, the branches of the second If change places.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import branches_of, ifs_in, is_if, producer, swap

_NAME = "eliminate_rank_test"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each If whose condition compares a rank with a number."""
    for node in ifs_in(model):
        at = node.outputs[0].name or ""
        answer = _answer(node.inputs[0])
        if answer is None or not journal.admits(_NAME, at):
            continue
        condition, same = answer
        node.replace_input_with(0, condition)
        if not same:
            swap(node)
        journal.record(_NAME, at)


def _answer(test: ir.Value | None) -> tuple[ir.Value, bool] | None:
    """Return the condition of which `test` is a copy (True) or the contrary (False)."""
    tested = _tested(test)
    choice = tested[0].producer() if tested is not None else None
    if tested is None or choice is None or not is_if(choice) or choice.inputs[0] is None:
        return None
    value, number = tested
    ranks = [rank(branch.outputs[choice.outputs.index(value)]) for branch in branches_of(choice)]
    if None in ranks or (ranks[0] == number) == (ranks[1] == number):
        return None
    return choice.inputs[0], ranks[0] == number


def _tested(test: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Return y and the number if `test` is Equal(Size(Shape(y)), number)."""
    compare = producer(test, "Equal")
    if compare is None:
        return None
    for size, number in (compare.inputs, compare.inputs[::-1]):
        if number is not None and is_const(number) and constant_tensor(number).size == 1:
            shape = producer(_operand(size, "Size"), "Shape")
            if shape is not None and not shape.attributes and shape.inputs[0] is not None:
                return shape.inputs[0], int(array_of(number).item())
    return None


def _operand(value: ir.Value | None, op_type: str) -> ir.Value | None:
    node = producer(value, op_type)
    return None if node is None else node.inputs[0]


RULE = GraphPass(_NAME, run)
