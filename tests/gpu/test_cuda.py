from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import fuseonnx
from fuseonnx.errors import BackendError
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.binding import Bound, call_of, with_cuda_graph
from fuseonnx.runtime.provider_options import CudaOptions
from fuseonnx.runtime.providers import Backend, as_backend
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.verify import Verifier
from tests.gpu import models

pytestmark = pytest.mark.gpu
Save = Callable[[onnx.ModelProto], Path]
CUDA = CudaOptions.provider
MODELS = {"cnn": models.cnn(), "transformer": models.transformer(), "lstm": models.lstm()}
SHAPES = {"cnn": (2, 3, 32, 32), "transformer": (2, 7, 64), "lstm": (5, 2, 16)}
EVERY_MODEL = pytest.mark.parametrize("name", MODELS)


def feeds_of(name: str) -> Feeds:
    values = np.random.default_rng(7).standard_normal(SHAPES[name]).astype(np.float32)
    return {MODELS[name].graph.input[0].name: values}


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


@EVERY_MODEL
@pytest.mark.parametrize("optimized", [False, True])
def test_answers_as_the_cpu_does(name: str, optimized: bool, cuda: Backend, save: Save) -> None:
    path, feeds = save(MODELS[name]), feeds_of(name)
    [expected] = run(open_session(path), feeds)
    [found] = run(open_session(path, cuda, optimized=optimized), feeds)
    assert_near(found, expected)


@EVERY_MODEL
def test_every_node_is_assigned_and_none_falls_back(name: str, cuda: Backend, save: Save) -> None:
    assignment = assignment_of(open_session(save(MODELS[name]), cuda))
    assert len(assignment.nodes) == len(MODELS[name].graph.node)
    assert assignment.fallen == ()
    assert sum(assignment.counts[CUDA].values()) > len(assignment.nodes) // 2


def test_an_operator_without_a_kernel_is_refused_unless_allowed(cuda: Backend, save: Save) -> None:
    path = save(models.determinant())
    with pytest.raises(BackendError, match=r"1 of 2 nodes cannot run on CUDAExecutionProvider .*: Det;"):
        open_session(path, cuda)
    session = open_session(path, replace(cuda, allow_fallback=True))
    assert [node.op_type for node in assignment_of(session).fallen] == ["Det"]
    x = np.random.default_rng(3).standard_normal((4, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(run(session, {"x": x})[0], np.linalg.det(x) ** 2, rtol=1e-3, atol=1e-4)


def test_a_device_that_is_not_there_is_one_line(cuda: Backend, save: Save) -> None:
    with pytest.raises(BackendError, match=r"CUDAExecutionProvider") as error:
        open_session(save(MODELS["cnn"]), as_backend("cuda", {"device_id": "99"}))
    assert "\n" not in str(error.value)


def test_onnxruntime_knows_every_option(cuda: Backend, save: Save) -> None:
    options = CudaOptions(
        device_id=0,
        gpu_mem_limit=1 << 30,
        arena_extend_strategy="kSameAsRequested",
        cudnn_conv_algo_search="HEURISTIC",
        cudnn_conv_use_max_workspace=False,
        cudnn_conv1d_pad_to_nc1d=True,
        do_copy_in_default_stream=True,
        enable_cuda_graph=False,
        enable_cudnn=True,
        enable_skip_layer_norm_strict_mode=True,
        fuse_conv_bias=False,
        prefer_nhwc=False,
        sdpa_kernel=0,
        tunable_op_enable=False,
        tunable_op_tuning_enable=False,
        tunable_op_max_tuning_duration_ms=0,
        use_ep_level_unified_stream=False,
        use_tf32=False,
    )
    texts = options.as_texts()
    assert texts.keys() == {field.name for field in fields(CudaOptions)}
    session = open_session(save(MODELS["cnn"]), as_backend(options))
    taken = session.get_provider_options()[CUDA]
    assert {key: taken[key] for key in texts.keys() & taken.keys()} == {
        key: text for key, text in texts.items() if key in taken
    }


@EVERY_MODEL
def test_an_optimized_model_is_verified_with_nothing_rolled_back(
    name: str, cuda: Backend, save: Save, tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact.onnx"
    result = fuseonnx.optimize(save(MODELS[name]), artifact, provider=cuda.provider, measure=False)
    assert result.report.verification.status == "passed", result.report.verification.reason
    assert result.report.rolled_back == ()
    feeds = feeds_of(name)
    assert_near(run(open_session(artifact, cuda), feeds)[0], run(open_session(save(MODELS[name])), feeds)[0])


def test_an_artifact_is_measured_on_the_gpu(cuda: Backend, save: Save, tmp_path: Path) -> None:
    path, artifact = save(models.cnn(channels=64, size=64)), tmp_path / "artifact.onnx"
    speed = fuseonnx.optimize(path, artifact, provider="cuda", target="cuda").report.speed
    assert speed is not None
    assert speed.verdict != "slower"
    assert speed.provider == CUDA or speed.reason == "every rule was undone"


def test_a_wrong_weight_fails(cuda: Backend, save: Save, tmp_path: Path) -> None:
    wrong = models.cnn()
    weight = next(each for each in wrong.graph.initializer if each.name == "w1")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), "w1"))
    onnx.save(wrong, tmp_path / "wrong.onnx")
    verifier = Verifier(save(MODELS["cnn"]), graph_of=MODELS["cnn"], backend=cuda)
    assert verifier.compare(tmp_path / "wrong.onnx").status == "failed"


@EVERY_MODEL
def test_bound_inputs_and_outputs_give_the_same_answers(name: str, cuda: Backend, save: Save) -> None:
    path, feeds = save(MODELS[name]), feeds_of(name)
    session = open_session(path, cuda, optimized=True)
    call = call_of(session, feeds, cuda)
    assert isinstance(call, Bound)
    call()
    assert_near(call.outputs()[0], run(open_session(path), feeds)[0])


def test_a_cuda_graph_replays_the_same_answers(cuda: Backend, save: Save) -> None:
    path, feeds = save(models.cnn(batch=2)), feeds_of("cnn")
    backend = replace(cuda, provider=with_cuda_graph(cuda.provider))
    call = call_of(open_session(path, backend, optimized=True), feeds, backend)
    assert isinstance(call, Bound)
    expected = run(open_session(path), feeds)[0]
    for _ in range(3):
        call()
        assert_near(call.outputs()[0], expected)
