"""Benchmarks on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fuseonnx.benchmarking import bench
from fuseonnx.runtime.providers import Backend
from tests.gpu import models

pytestmark = pytest.mark.gpu
Save = Callable[[onnx.ModelProto], Path]


@pytest.mark.parametrize("graph", [False, True])
def test_a_model_raced_against_itself(cuda: Backend, save: Save, graph: bool) -> None:
    path = save(models.cnn())
    found = bench([path, path], provider=cuda.provider, batches=[1, 4], seconds=0.5, cuda_graph=graph)
    assert [point.batch for point in found.points] == [1, 4]
    assert found.provider_options["use_tf32"] == "0"
    assert ("enable_cuda_graph" in found.provider_options) == graph
    assert all("on CUDA" in entrant.assignment for entrant in found.models)
