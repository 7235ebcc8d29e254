"""Read the number of the trip, instead of a state that counts along.

Loop(m, 0, body: i, t ↦ t + 1, Gather(x, t))   ⇒   Loop(m, body: i ↦ Gather(x, i))

Keeps out of a count that is read after the last trip, and of one that does not begin with 0 or is no scalar.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, batch 1): Keras GRU over 50 steps takes 0.95 of the time,
SimpleRNN 0.86.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names
from fuseonnx.core.graph import graphs_in, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._loops import Repetition, State, counts_from, repetitions_in, without_states

_NAME = "eliminate_loop_counter"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each Loop."""
    names = Names(model)
    for top in top_graphs(model):
        for loop in repetitions_in(top):
            if loop.node.op_type == "Loop" and not rank(loop.body.inputs[0]):
                _clean(loop, journal, names)


def _clean(loop: Repetition, journal: Journal, names: Names) -> None:
    """Take out the states that count along."""
    dropped = []
    for index, state in enumerate(loop.states):
        at = state.final.name or state.formal.name or ""
        if counts_from(loop, index) == 0 and not _is_passed_out(state, loop) and journal.admits(_NAME, at):
            _read_trip(loop, state, names)
            dropped.append(index)
            journal.record(_NAME, at)
    if dropped:
        without_states(loop, dropped)


def _is_passed_out(state: State, loop: Repetition) -> bool:
    """Whether a count is known outside, or by the name that it has in the body."""
    outputs = {output for graph in graphs_in(loop.body) for output in graph.outputs}
    return bool(state.final.uses()) or state.final.is_graph_output() or state.formal in outputs


def _read_trip(loop: Repetition, state: State, names: Names) -> None:
    """Let the readers of a state read the number of the trip, converted unless they take either type."""
    trip = loop.body.inputs[0]
    for node, index in list(state.formal.uses()):
        if node.op_type == "Gather" and not node.domain and index == 1:
            node.replace_input_with(index, trip)
    if state.formal.uses() and state.initial is not None and state.initial.dtype is ir.DataType.INT32:
        cast = ir.Node("", "Cast", (trip,), [ir.AttrInt64("to", ir.DataType.INT32)])
        cast.name = names.fresh(f"{state.formal.name}/Cast")
        trip = cast.outputs[0]
        trip.name, trip.type, trip.shape = cast.name, state.formal.type, state.formal.shape
        loop.body.insert_before(loop.body[0], cast)
    for node, index in list(state.formal.uses()):
        node.replace_input_with(index, trip)


RULE = GraphPass(_NAME, run)
