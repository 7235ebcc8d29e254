"""Verification with rollback: exactly the wrong rewrite goes, by name, and every right one stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import fuseonnx
from fuseonnx import Builder, GraphPass, Match, Rule, const, op, var
from fuseonnx.core.journal import Journal
from fuseonnx.errors import RewriteError
from tests.helpers import ONNXRUNTIME, assert_same_answers, batch_norm_weights, make_model

LAYERS = 5


def _model() -> onnx.ModelProto:
    """Five times MatMul, Add, Identity, Relu, then a Conv with a BatchNormalization to fold."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 4, 1)).astype(np.float32)} | batch_norm_weights(4)
    nodes, before = [], "x"
    for layer in range(LAYERS):
        weights[f"m{layer}"] = rng.normal(size=(6, 6)).astype(np.float32)
        weights[f"b{layer}"] = rng.normal(size=6).astype(np.float32)
        steps = (
            ("MatMul", f"m{layer}", "p"),
            ("Add", f"b{layer}", "q"),
            ("Identity", "", "i"),
            ("Relu", "", "r"),
        )
        for op_type, weight, letter in steps:
            inputs = [before, weight] if weight else [before]
            nodes.append(helper.make_node(op_type, inputs, [f"{letter}{layer}"], f"{op_type}{layer}"))
            before = f"{letter}{layer}"
    nodes += [
        helper.make_node("Conv", [before, "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], "bn"),
    ]
    return make_model(nodes, {"x": ["batch", 4, 6]}, ["y"], weights)


def _at(name: str) -> fuseonnx.Rule:
    """Replace the Relu that makes `name` by Abs: wrong wherever a value is negative."""
    return Rule(
        f"wrong_at_{name}",
        op("Relu", var("x")),
        lambda m, new: new.op("Abs", m["x"]),
        lambda m: None if m.root.outputs[0].name == name else "",
    )


def _nudge(m: Match, new: Builder) -> ir.Value:
    weight = m.array("w").astype(np.float32)
    weight.flat[3] += 1e-2
    return new.op("MatMul", m["x"], new.const(weight, m["w"]))


NUDGE = Rule(
    "nudge_one_weight",
    op("MatMul", var("x"), const("w")),
    _nudge,
    lambda m: None if m["w"].name == "m2" else "",
)
RIGHT = {
    "eliminate_identity": LAYERS,
    "fold_batchnorm_into_conv": 1,
}


def _optimize(*extra: Rule | GraphPass) -> tuple[onnx.ModelProto, fuseonnx.Report]:
    model = _model()
    result = fuseonnx.optimize(model, extra_rules=extra)
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.verification.status == "passed"
    assert_same_answers(model, result.model, rtol=1e-4)
    fired = {use.name: use.fired for use in result.report.rules}
    assert RIGHT.items() <= fired.items()
    return result.model, result.report


def _ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_nothing_is_rolled_back_without_cause() -> None:
    _, report = _optimize()
    assert report.rolled_back == ()


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_one_wrong_application_is_rolled_back(layer: int) -> None:
    model, report = _optimize(_at(f"r{layer}"))
    assert [(each.rule, each.at) for each in report.rolled_back] == [(f"wrong_at_r{layer}", f"r{layer}")]
    assert report.rolled_back[0].reason
    assert "Abs" not in _ops(model)
    clean, _ = _optimize()
    assert _ops(model) == _ops(clean)
    assert f"wrong_at_r{layer}" not in {use.name for use in report.rules if use.fired}


def test_one_wrong_weight_is_rolled_back() -> None:
    _, report = _optimize(NUDGE)
    assert [(each.rule, each.at) for each in report.rolled_back] == [("nudge_one_weight", "p2")]


def test_two_wrong_rules_are_both_rolled_back() -> None:
    model, report = _optimize(_at("r1"), NUDGE)
    assert {(each.rule, each.at) for each in report.rolled_back} == {
        ("wrong_at_r1", "r1"),
        ("nudge_one_weight", "p2"),
    }
    assert "Abs" not in _ops(model)


def test_a_right_and_a_wrong_application_of_one_rule() -> None:
    """Abs of a value that is never negative is right: only the other application goes."""

    def guard(m: Match) -> str | None:
        return None if m.root.outputs[0].name in ("r1", "r3") else ""

    source = _model()
    relu = next(node for node in source.graph.node if node.output[0] == "i3")
    relu.op_type = "Relu"  # so that r3 reads what is never negative
    rule = Rule("to_abs", op("Relu", var("x")), lambda m, new: new.op("Abs", m["x"]), guard)
    result = fuseonnx.optimize(source, extra_rules=[rule])
    assert [(each.rule, each.at) for each in result.report.rolled_back] == [("to_abs", "r1")]
    assert isinstance(result.model, onnx.ModelProto)
    assert _ops(result.model).count("Abs") == 1
    assert_same_answers(source, result.model, rtol=1e-4)


def test_a_rule_that_is_wrong_again_and_again_is_denied_altogether() -> None:
    rule = Rule("always_wrong", op("Relu", var("x")), lambda m, new: new.op("Abs", m["x"]))
    model, report = _optimize(rule)
    assert [each.rule for each in report.rolled_back] == ["always_wrong"] * 3
    assert len({each.at for each in report.rolled_back}) == 3
    assert _ops(model).count("Relu") == LAYERS


def test_a_wrong_pass_is_rolled_back() -> None:
    def run(model: ir.Model, journal: Journal) -> None:
        for node in model.graph:
            at = node.outputs[0].name or ""
            if node.op_type == "Add" and at == "q1" and journal.admits("sub_pass", at):
                node.op_type = "Sub"
                journal.record("sub_pass", at)

    model, report = _optimize(GraphPass("sub_pass", run))
    assert [(each.rule, each.at) for each in report.rolled_back] == [("sub_pass", "q1")]
    assert "Sub" not in _ops(model)


def test_a_model_that_cannot_be_loaded_is_rolled_back() -> None:
    rule = Rule(
        "unloadable",
        op("Relu", var("x")),
        lambda m, new: new.op("NoSuchOperator", m["x"]),
        lambda m: None if m.root.outputs[0].name == "r3" else "",
    )
    model, report = _optimize(rule)
    assert [(each.rule, each.at) for each in report.rolled_back] == [("unloadable", "r3")]
    assert "NoSuchOperator" not in _ops(model)


def test_another_shape_or_type_of_an_output_is_rolled_back() -> None:
    rule = Rule(
        "sum_away",
        op("BatchNormalization", var("x"), const("g"), const("b"), const("m"), const("v"), name="bn"),
        lambda m, new: new.op("ReduceMax", m["x"], attributes={"axes": [0], "keepdims": 1}),
    )
    model = _model()
    result = fuseonnx.optimize(model, extra_rules=[rule])
    assert [each.rule for each in result.report.rolled_back] == ["sum_away"]


def test_the_rollback_leaves_no_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_model().SerializeToString())
    result = fuseonnx.optimize(path, extra_rules=[_at("r2")])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.opt.onnx"]
    properties = {each.key: each.value for each in onnx.load(path.with_suffix(".opt.onnx")).metadata_props}
    fired = {use.name: use.fired for use in result.report.rules if use.fired}
    assert json.loads(properties["fuseonnx.rules"]) == fired


def test_without_verification_nothing_is_rolled_back() -> None:
    result = fuseonnx.optimize(_model(), extra_rules=[_at("r2")], verify=False)
    assert isinstance(result.model, onnx.ModelProto)
    assert _ops(result.model).count("Abs") == 1
    assert result.report.verification.status == "skipped"


def test_a_rule_that_raises_is_named_with_the_model(tmp_path: Path) -> None:
    def fail(_match: Match, _new: Builder) -> ir.Value:
        raise ZeroDivisionError("division by zero")

    path = tmp_path / "model.onnx"
    path.write_bytes(_model().SerializeToString())
    with pytest.raises(RewriteError) as caught:
        fuseonnx.optimize(path, extra_rules=[Rule("clumsy", op("Relu", var("x")), fail)])
    assert str(caught.value).startswith(f"{path}: rule clumsy failed at 'r0' (ZeroDivisionError")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(RewriteError, match=r"^<ModelProto>: rule clumsy"):
        fuseonnx.optimize(_model(), extra_rules=[Rule("clumsy", op("Relu", var("x")), fail)])


def _pad_of_two_pools() -> onnx.ModelProto:
    """x ─ Pad ─ MaxPool, AveragePool: onnxruntime before 1.32 merges Pad and MaxPool once it is alone."""
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("AveragePool", ["p"], ["a"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Add", ["m", "a"], ["y"]),
    ]
    return make_model(nodes, {"x": ["batch", 2, 9, 9]}, ["y"], {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])})


def test_what_only_the_default_level_breaks_is_rolled_back() -> None:
    """From 1.32 on, it breaks this no more, and nothing needs to be rolled back."""
    report = fuseonnx.optimize(_pad_of_two_pools(), skip=["keep_pad_before_max_pool"]).report
    broken = ["fold_pad_into_average_pool"] if ONNXRUNTIME < (1, 32) else []
    assert [each.rule for each in report.rolled_back] == broken
    assert all("at onnxruntime's default level" in each.reason for each in report.rolled_back)


def test_the_default_level_is_right_with_all_rules() -> None:
    report = fuseonnx.optimize(_pad_of_two_pools()).report
    assert report.rolled_back == () and report.after.ops["Pad"] == 1
    assert {use.name for use in report.rules if use.fired} >= {
        "fold_pad_into_average_pool",
        "keep_pad_before_max_pool",
    }
