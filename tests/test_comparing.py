"""`fuseonnx.verify`: two models, a framework's model, labels, and the rule that made an artifact wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import fuseonnx
from fuseonnx.comparing import Comparison, verify
from fuseonnx.comparison_tables import comparison_heading, comparison_sections
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.errors import BackendError, FuseOnnxError, ModelLoadError, OptionError
from fuseonnx.report import OutputDifference, Verification
from tests.helpers import make_model

LAYERS, WIDTH = 4, 8


def layers() -> onnx.ModelProto:
    """Four times Gemm, BatchNormalization (random statistics) and Relu: y [n, 8]."""
    rng = np.random.default_rng(0)
    nodes = []
    weights: dict[str, Any] = {}
    last = "x"
    for i in range(LAYERS):
        out = "y" if i == LAYERS - 1 else f"r{i}"
        weights |= {
            f"w{i}": rng.normal(0, 0.5, (WIDTH, WIDTH)),
            f"c{i}": rng.normal(0, 0.5, WIDTH),
            f"s{i}": rng.uniform(0.5, 2, WIDTH),
            f"h{i}": rng.normal(0, 0.5, WIDTH),
            f"m{i}": rng.normal(0, 0.5, WIDTH),
            f"v{i}": rng.uniform(0.5, 2, WIDTH),
        }
        statistics = [f"{key}{i}" for key in "shmv"]
        nodes += [
            helper.make_node("Gemm", [last, f"w{i}", f"c{i}"], [f"g{i}"], f"Gemm{i}"),
            helper.make_node("BatchNormalization", [f"g{i}", *statistics], [f"b{i}"], f"Norm{i}"),
            helper.make_node("Relu", [f"b{i}"], [out], f"Relu{i}"),
        ]
        last = out
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    return make_model(nodes, {"x": ["n", WIDTH]}, ["y"], arrays)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(layers(), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def answers(model: Any, x: np.ndarray) -> np.ndarray:
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def damaged(path: Path) -> Path:
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if each.name == "w2")
    array = numpy_helper.to_array(weight).copy()
    array[1] *= np.float32(1.3)
    weight.CopyFrom(numpy_helper.from_array(array, "w2"))
    onnx.save(model, path.with_name("b.onnx"))
    return path.with_name("b.onnx")


def test_an_artifact_gives_the_same_answers(path: Path) -> None:
    optimized = fuseonnx.optimize(path).path
    assert optimized is not None
    found = verify(path, optimized, bisect=True)
    assert found.same
    assert (found.original, found.candidate, found.against) == (str(path), str(optimized), "onnxruntime")
    assert (found.divergence, found.trace, found.accuracy) == (None, None, None)
    assert found.provider == "CPUExecutionProvider"
    (output,) = found.verification.outputs
    assert output.max_abs > 0 and output.snr_db is not None and output.snr_db > 100


def test_a_damage_is_located_and_written_as_json(path: Path) -> None:
    found = verify(path, damaged(path), bisect=True)
    assert not found.same
    assert found.divergence is not None and found.divergence.first is not None
    assert (found.divergence.first.tensor, found.divergence.last_agreeing) == ("g2", "r1")
    assert found.trace is not None and found.trace.rule == ""
    assert "did not make it from this original" in found.trace.reason
    read = json.loads(found.to_json())
    assert read["divergence"]["first"]["made_by"] == "Gemm 'Gemm2'"
    assert read["verification"]["status"] == "failed"
    same = json.loads(verify(path, path).to_json())
    assert same["verification"]["outputs"][0]["snr_db"] == "inf"


def test_models_in_memory_are_compared(path: Path) -> None:
    model = onnx.load(path)
    assert verify(model, path.read_bytes()).same
    assert not verify(model, onnx.load(damaged(path))).same


def test_other_names_are_noted_and_with_strict_a_difference(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "scores"
    found = verify(path, model)
    assert found.same and found.verification.notes == ("output 'y' is called 'scores'",)
    found = verify(path, model, strict=True)
    assert not found.same and found.verification.reason.startswith(
        "outputs are scores: tensor(float) instead"
    )


def _nudge(match: Match, new: Builder) -> Any:
    """Rewrite Gemm with a weight that is 1 % off."""
    weight = match.array("w").astype(np.float32) * np.float32(1.01)
    return new.op("Gemm", match["x"], new.const(weight, match["w"]), match["c"])


WRONG = Rule(
    "nudge",
    op("Gemm", var("x"), const("w"), const("c")),
    _nudge,
    lambda match: None if match["w"].name in {"w1", "w3"} else "",
)


def test_a_wrong_rule_is_named_with_the_first_place_where_it_fired(path: Path) -> None:
    wrong = fuseonnx.optimize(path, extra_rules=[WRONG], verify=False).path
    assert wrong is not None
    x = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
    assert np.abs(answers(path, x) - answers(wrong, x)).max() > 1e-4
    found = verify(path, wrong, bisect=True, extra_rules=[WRONG])
    assert found.trace is not None
    assert (found.trace.rule, found.trace.at, found.trace.reason) == ("nudge", "g1", "")
    assert found.divergence is not None and found.divergence.first is not None
    assert found.divergence.first.tensor == "b1"  # g1 went into it
    unknown = verify(path, wrong, bisect=True).trace
    assert unknown is not None and unknown.rule == ""
    assert unknown.reason == "nudge: not a rule known here; give it in extra_rules"


def test_an_artifact_that_was_changed_afterwards_is_no_rules_fault(path: Path) -> None:
    optimized = fuseonnx.optimize(path).path
    assert optimized is not None
    model = onnx.load(optimized)
    bias = model.graph.initializer[0]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    found = verify(path, model, bisect=True).trace
    assert found is not None and "made with other options, or changed" in found.reason
    properties = {entry.key: entry for entry in model.metadata_props}
    properties["fuseonnx.version"].value = "0.0.1"
    found = verify(path, model, bisect=True).trace
    assert found is not None and "fuseonnx 0.0.1 made it" in found.reason


def test_accuracy_is_counted_on_labelled_samples(path: Path, tmp_path: Path) -> None:
    other = damaged(path)
    x = np.random.default_rng(2).normal(size=(300, WIDTH)).astype(np.float32)
    before, after = answers(path, x), answers(other, x)
    labels = np.where(np.arange(300) % 3, before.argmax(1), 0)
    assert (before.argmax(1) == labels).sum() != (after.argmax(1) == labels).sum()
    expected = tuple(np.mean(scores.argmax(1) == labels) for scores in (before, after))
    np.savez(tmp_path / "x.npz", x=x, label=labels)
    np.save(tmp_path / "labels.npy", labels)
    ways: list[dict[str, Any]] = [
        {"samples": tmp_path / "x.npz"},
        {"samples": [{"x": x}], "labels": tmp_path / "labels.npy"},
        {"samples": iter([{"x": x[:100]}, {"x": x[100:]}]), "labels": labels.tolist()},
        {"samples": lambda: ({"x": x[i : i + 50], "labels": labels[i : i + 50]} for i in range(0, 300, 50))},
    ]
    for way in ways:
        accuracy = verify(path, other, **way).accuracy
        assert accuracy is not None and accuracy.rows == 300
        assert (accuracy.top1_before, accuracy.top1_after) == expected
        assert accuracy.agreement == np.mean(before.argmax(1) == after.argmax(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
        nn.init.normal_(self.layers[1].running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(self.layers[1].running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


def test_a_frameworks_model_answers_for_itself(tmp_path: Path) -> None:
    inputs = torch.ones(2, 6)
    artifact = fuseonnx.optimize(Net(), tmp_path / "net.onnx", inputs=inputs, batch="dynamic").path
    assert artifact is not None
    found = verify(Net(), artifact, inputs=inputs, batch="dynamic")
    assert found.same and found.against.startswith("PyTorch")
    wrong = Net()
    with torch.no_grad():
        wrong.layers[0].weight[0] *= 1.01  # type: ignore[operator, index]
    assert not verify(wrong, artifact, inputs=inputs, batch="dynamic").same


def test_what_cannot_be_compared_is_an_error_not_a_difference(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    unknown = onnx.load(path)
    unknown.graph.node[0].op_type = "NoSuchOperator"
    cases: list[tuple[Any, dict[str, Any], type[FuseOnnxError], str]] = [
        (tmp_path / "missing.onnx", {}, ModelLoadError, "missing.onnx: cannot be read"),
        (tmp_path / "text.onnx", {}, ModelLoadError, "text.onnx: not an ONNX model"),
        (unknown, {}, BackendError, "NoSuchOperator"),
        (path, {"labels": [1, 2]}, OptionError, "labels belong to samples"),
        (path, {"samples": []}, OptionError, "no samples"),
        (path, {"samples": {"x": [1]}}, OptionError, "give a list of them"),
        (path, {"provider": "quantum"}, OptionError, "'quantum' is no execution provider"),
    ]
    for candidate, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            verify(path, candidate, **options)


def test_a_fall_back_to_the_cpu_is_told(path: Path) -> None:
    found = verify(path, path, provider="NoSuchExecutionProvider", allow_fallback=True)
    assert found.same
    missing = f"{3 * LAYERS} nodes, all on the CPU instead of NoSuchExecutionProvider: "
    assert found.assignment.startswith(missing)
    assert missing in comparison_heading(found)
    assert comparison_heading(verify(path, path)).endswith("runs (CPU)")


def test_models_of_other_inputs_have_no_empty_table(path: Path) -> None:
    other = make_model([helper.make_node("Neg", ["ids"], ["y"])], {"ids": ["n", WIDTH], "z": [1]}, ["y"])
    found = verify(path, other)
    assert "inputs are ids: tensor(float), z: tensor(float) instead of x" in found.verification.reason
    assert list(comparison_sections(found)) == []


def test_sequences_and_huge_multiples_are_written_whole() -> None:
    output = OutputDifference("y", "seq(tensor(float))", 2.0, 1.0, 1.0, 1e-6, 8e-6, False, multiple=2e6)
    verification = Verification("failed", 1, (output,))
    found = Comparison("a", "b", "onnxruntime", "CPU", "", verification, None, None, None, {})
    (row,) = next(iter(comparison_sections(found))).rows
    assert row[1] == "seq(tensor(float))"
    assert "2.0e+06" in row
