"""Random valid models come out of `optimize` with the same answers, deterministic and at rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.fuzzing.compare import Discard, judge
from tests.helpers import all_nodes, make_model
from tests.random_graphs import IR_VERSION, Case, random_case

CHUNKS, CHUNK = 20, 100
SEED = 20_000


@pytest.mark.parametrize("first", range(SEED, SEED + CHUNKS * CHUNK, CHUNK))
def test_answers_do_not_change(first: int) -> None:
    discarded, wrong = 0, []
    for seed in range(first, first + CHUNK):
        case = random_case(seed)
        try:
            verdict = judge(case.model, case.runs)
        except Discard:
            discarded += 1
        else:
            if verdict:
                wrong.append(f"seed {seed}: {verdict}")
    assert not wrong, "\n".join(wrong)
    assert discarded <= CHUNK // 10


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [random_case(seed) for seed in range(SEED, SEED + CHUNKS * CHUNK)]


def test_a_seed_is_one_model() -> None:
    first, second = random_case(SEED), random_case(SEED)
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert all(
        np.array_equal(first.runs[1][name], second.runs[1][name], equal_nan=True) for name in first.runs[1]
    )


def test_every_opset_and_float_type_occurs(cases: list[Case]) -> None:
    assert {case.model.opset_import[0].version for case in cases} == set(IR_VERSION)
    types = {info.type.tensor_type.elem_type for case in cases for info in case.model.graph.input}
    assert types >= {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT64,
        TensorProto.INT32,
        TensorProto.BOOL,
    }
    ranks = {len(info.type.tensor_type.shape.dim) for case in cases for info in case.model.graph.output}
    assert ranks == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("bodies", [False, True])
def test_operators_occur_in_the_main_graph_and_in_bodies(cases: list[Case], bodies: bool) -> None:
    found = {node.op_type for case in cases for node in _nodes(case.model, bodies=bodies)}
    everywhere = (
        "Add Sub Mul Div Relu Sigmoid Clip Identity Reshape Transpose Slice Constant ReduceMean Where Not"
    )
    linear = "Conv ConvTranspose BatchNormalization MatMul Gemm MaxPool AveragePool Softmax Pad Split"
    spelled = "Erf Softplus Tanh ReduceMax Sqrt Pow Min Max Einsum ArgMax ArgMin"
    shapes = "Concat Dropout Squeeze Unsqueeze Flatten Expand Gather Shape Range ConstantOfShape Cast Equal"
    assert found >= set(f"{everywhere} {linear} {shapes} {spelled} If Loop Scan".split())
    assert bodies or found >= {"GroupNormalization", "LSTM", "GRU", "RNN"}


def _nodes(model: onnx.ModelProto, *, bodies: bool) -> Iterator[onnx.NodeProto]:
    if not bodies:
        yield from model.graph.node
    for node in model.graph.node if bodies else ():
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


def test_functions_overridable_and_shared_weights_occur(cases: list[Case]) -> None:
    assert sum(bool(case.model.functions) for case in cases) > 30
    assert sum(set(case.runs[0]) != set(case.runs[1]) for case in cases) > 100
    shared = 0
    for case in cases:
        reads = [name for node in case.model.graph.node for name in node.input if "weight" in name]
        shared += len(reads) > len(set(reads))
    assert shared > 50
    symbolic = sum(
        any(dim.dim_param for info in case.model.graph.input for dim in info.type.tensor_type.shape.dim)
        for case in cases
    )
    assert symbolic > 500


def test_outputs_lie_in_the_middle_too(cases: list[Case]) -> None:
    middle = 0
    for case in cases:
        reads = {name for node in case.model.graph.node for name in node.input}
        middle += any(info.name in reads for info in case.model.graph.output)
    assert middle > 250


def test_the_judge_sees_a_wrong_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["batch", 3]}, ["y"])
    wrong = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", 3]}, ["y"])
    runs = [{"x": np.array([[-1, 0, 1]], dtype=np.float32)}]
    assert judge(model, runs) is None
    monkeypatch.setattr("tests.fuzzing.compare._optimize", lambda _model: (wrong, {}))
    assert "values differ: y by 1" in str(judge(model, runs))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1 + 1e-7, False), (1 + 1e-3, True), (np.nan, True), (np.inf, True)]
)
def test_the_judge_tells_rounding_from_error(
    monkeypatch: pytest.MonkeyPatch, factor: float, verdict: bool
) -> None:
    def scaled(value: float) -> onnx.ModelProto:
        weights = {"c": np.array(value, dtype=np.float32)}
        return make_model([helper.make_node("Mul", ["x", "c"], ["y"])], {"x": ["batch", 3]}, ["y"], weights)

    monkeypatch.setattr("tests.fuzzing.compare._optimize", lambda _model: (scaled(3 * factor), {}))
    found = judge(scaled(3), [{"x": np.array([[-1, 2, 1]], dtype=np.float32)}])
    assert bool(found) is verdict
