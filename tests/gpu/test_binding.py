"""I/O binding, CUDA graphs and benchmarks on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fuseonnx.benchmarking import bench
from fuseonnx.runtime.binding import Bound, call_of, with_cuda_graph
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.session import Feeds, open_session
from tests.gpu import models

pytestmark = pytest.mark.gpu
Save = Callable[[onnx.ModelProto], Path]


@pytest.mark.parametrize("graph", [False, True])
def test_a_bound_run_gives_the_answers_of_the_cpu(cuda: Backend, save: Save, graph: bool) -> None:
    path = save(models.cnn())
    feeds = {"image": np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)}
    provider = with_cuda_graph(cuda.provider) if graph else cuda.provider
    backend = Backend(provider)
    call = call_of(open_session(path, backend, optimized=True), feeds, backend)
    assert isinstance(call, Bound)
    for _ in range(3):
        call()
    assert [value.device_name() for value in call._binding.get_outputs()] == ["cuda"]
    (expected,) = _on_cpu(path, feeds)
    np.testing.assert_allclose(call.outputs()[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("graph", [False, True])
def test_a_model_raced_against_itself(cuda: Backend, save: Save, graph: bool) -> None:
    path = save(models.cnn())
    found = bench([path, path], provider=cuda.provider, batches=[1, 4], seconds=0.5, cuda_graph=graph)
    assert [point.batch for point in found.points] == [1, 4]
    assert found.provider_options["use_tf32"] == "0"
    assert ("enable_cuda_graph" in found.provider_options) == graph
    assert all("on CUDA" in entrant.assignment for entrant in found.models)


def _on_cpu(path: Path, feeds: Feeds) -> list[np.ndarray]:
    return list(open_session(path).run(None, feeds))
