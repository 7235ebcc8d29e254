"""The pipeline: order, fixpoints, and what is said when a step misbehaves."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import pytest
from onnx import helper

from fuseonnx import GraphPass, Rule, op, var
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import Stage, Step
from fuseonnx.errors import ModelLoadError, RewriteError
from tests.helpers import make_model


def _model(*ops: str) -> ir.Model:
    names = ["x", *(f"v{index}" for index in range(len(ops) - 1)), "y"]
    nodes = [
        helper.make_node(each, [before], [after])
        for each, before, after in zip(ops, names, names[1:], strict=False)
    ]
    return ir.from_proto(make_model(nodes, {"x": [3]}, ["y"]))


def _run(model: ir.Model, *stages: Sequence[Step], journal: Journal | None = None) -> Journal:
    journal = journal or Journal()
    named = [Stage(f"stage {index}", tuple(steps)) for index, steps in enumerate(stages)]
    pipeline.run(model, named, journal, analyse=lambda _model: False)
    return journal


def _becomes(old: str, new: str) -> Rule:
    return Rule(f"{old}_to_{new}", op(old, var("x")), lambda m, builder: builder.op(new, m["x"]))


def test_stages_run_in_order_and_then_again() -> None:
    """The second stage makes work for the first."""
    model = _model("Abs", "Neg")
    journal = _run(model, [_becomes("Relu", "Sigmoid")], [_becomes("Abs", "Relu")])
    assert [node.op_type for node in model.graph] == ["Sigmoid", "Neg"]
    assert [each.rule for each in journal.applied] == ["Abs_to_Relu", "Relu_to_Sigmoid"]


def test_passes_and_rules_mix_in_a_stage() -> None:
    def run(model: ir.Model, journal: Journal) -> None:
        for node in model.graph:
            if node.op_type == "Relu" and journal.admits("rename", node.outputs[0].name or ""):
                node.op_type = "Softplus"
                journal.record("rename", node.outputs[0].name or "")

    model = _model("Abs", "Softplus")
    _run(model, [GraphPass("rename", run), _becomes("Abs", "Relu"), _becomes("Softplus", "Tanh")])
    assert [node.op_type for node in model.graph] == ["Tanh", "Tanh"]


def test_analysis_that_learns_makes_steps_run_again() -> None:
    known: list[int] = []

    def analyse(_model: ir.Model) -> bool:
        known.append(len(known))
        return len(known) == 2

    rule = Rule(
        "patient",
        op("Abs", var("x")),
        lambda m, new: new.op("Relu", m["x"]),
        lambda _m: None if len(known) >= 2 else "not known yet",
    )
    model, journal = _model("Abs", "Neg"), Journal()
    stages = [Stage("only", (rule, _becomes("Neg", "Tanh")))]
    pipeline.run(model, stages, journal, analyse=analyse)
    assert [node.op_type for node in model.graph] == ["Relu", "Tanh"]
    assert journal.declined == {}


@pytest.mark.parametrize("apart", [False, True])
def test_steps_that_undo_each_other_are_named(apart: bool) -> None:
    rules = _becomes("Abs", "Relu"), _becomes("Relu", "Abs")
    stages = [[rules[0]], [rules[1]]] if apart else [rules]
    with pytest.raises(RewriteError, match=r"Abs_to_Relu.*Relu_to_Abs|Relu_to_Abs.*Abs_to_Relu"):
        _run(_model("Abs", "Neg"), *stages)


def test_passes_without_end_are_named() -> None:
    endless = [
        GraphPass(name, lambda _model, journal, name=name: journal.record(name, "y"))  # type: ignore[misc]
        for name in ("tick", "tock")
    ]
    with pytest.raises(RewriteError, match="tick, tock undo each other"):
        _run(_model("Abs"), endless)


def test_a_step_that_breaks_the_graph_is_named() -> None:
    def cut(model: ir.Model, journal: Journal) -> None:
        if journal.admits("cutter", "v0"):
            model.graph.remove(model.graph[0])
            journal.record("cutter", "v0")

    with pytest.raises(RewriteError, match="reads 'v0' before it is defined after cutter; use --skip"):
        _run(_model("Abs", "Neg"), [GraphPass("cutter", cut)])


def test_a_pass_that_raises_is_named() -> None:
    def fail(_model: ir.Model, _journal: Journal) -> None:
        raise IndexError("out of range")

    with pytest.raises(RewriteError, match=r"rule hasty failed .*IndexError: out of range.*--skip hasty"):
        _run(_model("Abs"), [GraphPass("hasty", fail)])


@pytest.mark.parametrize("error", [ModelLoadError("a.onnx: gone"), MemoryError()])
def test_errors_that_are_not_the_rules_pass_through(error: Exception) -> None:
    def fail(_model: ir.Model, _journal: Journal) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        _run(_model("Abs"), [GraphPass("innocent", fail)])
    assert caught.value is error
