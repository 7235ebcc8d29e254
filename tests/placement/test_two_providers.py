"""onnxruntime with two providers does what the annotations say, and copies what `copies_of` predicts."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fuseonnx.analysis import shapes
from fuseonnx.placement.copies import Copy, copies_of
from fuseonnx.placement.graph import read_graph
from tests.placement.conftest import SecondProvider
from tests.placement.random_dags import Dag, random_dag

CPU = "CPUExecutionProvider"
SETTINGS = f"gpu(=gpu);{CPU}(=cpu)"
SEEDS = range(240)


def predicted(dag: Dag) -> tuple[Copy, ...]:
    model = ir.from_proto(dag.model)
    shapes.annotate(model)
    input_shapes = {name: array.shape for name, array in dag.feeds.items()}
    return copies_of(read_graph(model, input_shapes, folds_constants=False), dag.devices)


def run_on_cpu(dag: Dag) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(dag.model.SerializeToString(), options, providers=[CPU])
    return list(session.run(None, dag.feeds))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_dag(seed: int, second_provider: SecondProvider) -> None:
    dag = random_dag(seed)
    onnx.checker.check_model(dag.model, full_check=True)
    opened = second_provider.open(dag.model, SETTINGS)

    provider_of = {"gpu": second_provider.name, "cpu": CPU}
    assert opened.providers == {name: provider_of[device] for name, device in dag.wanted.items()}

    copies = predicted(dag)
    assert opened.copies == {(copy.value, copy.target): 1 for copy in copies}
    assert [copy.nbytes for copy in copies] == [dag.nbytes[copy.value] for copy in copies]

    for found, expected in zip(opened.session.run(None, dag.feeds), run_on_cpu(dag), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max(initial=1))
