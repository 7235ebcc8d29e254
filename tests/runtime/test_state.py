"""State among inputs and outputs: found by name, and followed over some steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from fuseonnx.runtime.state import STEPS, state_pairs
from fuseonnx.runtime.verify import Verifier

Build = Callable[..., Path]


def value(name: str, dims: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def graph(inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
    dims = ["n", 4]
    return helper.make_graph([], "g", [value(n, dims) for n in inputs], [value(n, dims) for n in outputs])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("h", "hn"),
        ("h_0", "h_n"),
        ("c0", "cn"),
        ("state", "stateN"),
        ("state", "new_state"),
        ("cache_in", "cache_out"),
        ("cache", "cache_next"),
        ("initial_h", "Y_h"),
        ("past_0", "present_0"),
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.11.decoder.value", "present.11.decoder.value"),
        ("past_key_self_3", "present_key_self_3"),
    ],
)
def test_names_that_say_before_and_after(before: str, after: str) -> None:
    assert state_pairs(graph(["x", before], ["y", after])) == {before: after}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["x", "mask"], ["y", "scores"]),
        (["input", "mask"], ["output", "scores"]),
        (["x", "past_0"], ["y", "present_1"]),
        (["image_in"], ["image_out"]),  # nothing else goes in or out: a filter, not a state
        (["h", "h_in", "x"], ["y", "hn"]),
        (["x", "ids"], ["y", "idsx"]),
    ],
)
def test_names_that_do_not(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    assert state_pairs(graph(inputs, outputs)) == {}


def test_another_type_rank_or_size_is_no_state() -> None:
    for dims in (["n", 5], ["n", 4, 1]):
        other = graph(["x", "h"], ["y"])
        other.output.append(value("hn", dims))
        assert state_pairs(other) == {}
    other = graph(["x", "h"], ["y"])
    other.output.append(helper.make_tensor_value_info("hn", TensorProto.INT64, ["n", 4]))
    assert state_pairs(other) == {}


def lstm(build: Build, name: str = "lstm", forget: float = 0.0) -> Path:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(1, 16, 3)).astype(np.float32),
        "r": rng.normal(size=(1, 16, 4)).astype(np.float32),
        "b": rng.normal(size=(1, 32)).astype(np.float32),
    }
    weights["b"][0, 8:12] += np.float32(forget)
    inputs = ["x", "w", "r", "b", "", "h", "c"]
    node = helper.make_node("LSTM", inputs, ["y", "hn", "cn"], hidden_size=4)
    state = [1, 1, 4]
    return build(
        [node],
        [value("x", [5, 1, 3]), value("h", state), value("c", state)],
        [value("y", [5, 1, 1, 4]), value("hn", state), value("cn", state)],
        weights,
        name=name,
    )


def rolled(path: Path) -> list[Any]:
    runs = Verifier(path, graph_of=onnx.load(path)).runs
    first = runs[0]
    rollout = [known for known in runs if known.label.startswith("rollout")]
    assert [known.label for known in rollout] == [f"rollout step {step}" for step in range(2, STEPS + 1)]
    return [first, *rollout]


def answers(path: Path, feeds: Any) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, feeds), strict=True))


def test_an_lstm_is_fed_its_own_state(build: Build) -> None:
    path = lstm(build)
    steps = rolled(path)
    for before, step in pairwise(steps):
        expected = answers(path, before.feeds)
        assert np.array_equal(step.feeds["h"], expected["hn"])
        assert np.array_equal(step.feeds["c"], expected["cn"])
        assert not np.array_equal(step.feeds["x"], before.feeds["x"])


def test_the_state_is_told_and_a_wrong_lstm_found(build: Build) -> None:
    path = lstm(build)
    verifier = Verifier(path, graph_of=onnx.load(path))
    outcome = verifier.compare(path)
    assert outcome.status == "passed"
    assert "state: h <- hn, c <- cn; compared over 4 steps" in outcome.notes
    assert verifier.compare(lstm(build, "damaged", 0.01)).status == "failed"


def test_a_cache_and_its_mask_grow(build: Build) -> None:
    nodes = [
        helper.make_node("Concat", ["past_key_values.0.key", "x"], ["present.0.key"], axis=2),
        helper.make_node("Unsqueeze", ["attention_mask", "axes"], ["mask"]),
        helper.make_node("Mul", ["present.0.key", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis"], ["y"]),
    ]
    inputs = [
        value("x", [1, 2, "new", 8]),
        value("attention_mask", [1, "past + new"]),
        value("past_key_values.0.key", [1, 2, "past", 8]),
    ]
    outputs = [value("y", None), value("present.0.key", [1, 2, "all", 8])]
    path = build(nodes, inputs, outputs, {"axes": np.array([1, 3]), "axis": np.array([2])})
    steps = rolled(path)
    new, past = (steps[0].feeds[name].shape[2] for name in ("x", "past_key_values.0.key"))
    for number, step in enumerate(steps):
        assert step.feeds["past_key_values.0.key"].shape[2] == past + number * new
        assert step.feeds["attention_mask"].shape[1] == past + (number + 1) * new
    expected = answers(path, steps[0].feeds)["present.0.key"]
    assert np.array_equal(steps[1].feeds["past_key_values.0.key"], expected)


def test_a_rollout_that_cannot_go_on_says_so(build: Build) -> None:
    """The cache grows, its mask of four does not."""
    nodes = [
        helper.make_node("Concat", ["cache", "x"], ["new_cache"], axis=1),
        helper.make_node("Mul", ["new_cache", "mask"], ["y"]),
    ]
    inputs = [value("x", [1, 1]), value("mask", [1, 4]), value("cache", [1, "past"])]
    path = build(nodes, inputs, [value("y", None), value("new_cache", [1, "all"])])
    shapes = {"cache": (1, 3)}
    outcome = Verifier(path, graph_of=onnx.load(path), shapes=shapes).compare(path)
    assert outcome.status == "passed"
    assert any(note.startswith("the rollout ended before step 2: ") for note in outcome.notes)
