"""Take out of a Loop or Scan what each trip hands on unchanged.

Loop(x, w, body: s, w ↦ MatMul(s, w), w)   ⇒   Loop(x, body: s ↦ MatMul(s, w))

The body reads the outer value itself, and so does what read the value after the last trip, which without any
trip is the same. So weights that a Loop carries, as in those of TensorFlow, are seen to be constant in its
body: what is computed of them alone is folded, and onnxruntime packs them.

Keeps out of optional values, which a trip may be handed as what they hold.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, batch 1): Keras ConvLSTM2D takes 0.74 of the time, GRU 0.95,
SimpleRNN 1.02; with what other rewrites then see, 0.71, 0.71 and 0.55.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import graphs_in, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import stand_in
from fuseonnx.passes._loops import (
    Repetition,
    State,
    identity_of,
    repetitions_in,
    source_of,
    without_states,
)

_NAME = "eliminate_invariant_state"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each Loop and Scan, the inner ones first: what they hand on then shows in those around them."""
    names = Names(model)
    for top in top_graphs(model):
        for repetition in repetitions_in(top):
            _clean(repetition, journal, names)


def _clean(repetition: Repetition, journal: Journal, names: Names) -> None:
    """Take out states until none is left to go: one may be handed on as another."""
    dropped: set[int] = set()
    changed = True
    while changed:
        changed = False
        for index, state in enumerate(repetition.states):
            at = state.final.name or state.formal.name or ""
            if index not in dropped and _is_invariant(repetition, index) and journal.admits(_NAME, at):
                _bypass(repetition, state, names)
                dropped.add(index)
                journal.record(_NAME, at)
                changed = True
    if dropped:
        without_states(repetition, dropped)


def _is_invariant(repetition: Repetition, index: int) -> bool:
    """Whether each trip leaves a state as it began; its result may have been replaced by now."""
    initial, formal, _ = repetition.states[index]
    if initial is None or isinstance(formal.type, ir.OptionalType):
        return False
    return source_of(repetition.result(index)) in (initial, formal)


def _bypass(repetition: Repetition, state: State, names: Names) -> None:
    """Let the readers of a state, in the body and after it, read the value with which it begins."""
    node, initial = repetition.node, state.initial
    assert initial is not None and node.graph is not None
    for graph in graphs_in(repetition.body):
        for index, output in enumerate(graph.outputs):
            if output is state.formal:
                passed = identity_of(output, names)
                graph.outputs[index] = passed.outputs[0]
                graph.append(passed)
    for user, index in state.formal.uses():
        user.replace_input_with(index, initial)
    if state.final.is_graph_output():
        passed = identity_of(initial, names)
        node.graph.insert_before(node, passed)
        stand_in(passed.outputs[0], state.final)
    else:
        state.final.replace_all_uses_with(initial)


RULE = GraphPass(_NAME, run)
