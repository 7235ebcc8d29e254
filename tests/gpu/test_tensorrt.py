from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import fuseonnx
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.provider_options import TensorrtOptions
from fuseonnx.runtime.providers import Backend, as_backend, optimization_profiles
from fuseonnx.runtime.session import open_session, run
from fuseonnx.runtime.sizes import InputSpec
from tests.gpu import models

pytestmark = pytest.mark.gpu
Save = Callable[[onnx.ModelProto], Path]
TENSORRT = TensorrtOptions.provider
TF32 = 5e-3
"""Of an output's largest magnitude: TensorRT rounds operands to 10 bits of mantissa where it likes."""


def images(batch: int) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(5).standard_normal((batch, 3, 32, 32)).astype(np.float32)}


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float = TF32) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


def test_runs_on_tensorrt_and_answers_as_the_cpu_does(tensorrt: Backend, save: Save) -> None:
    path = save(models.cnn(batch=2))
    session = open_session(path, tensorrt)
    assert set(assignment_of(session).counts) == {TENSORRT}
    assert_near(run(session, images(2))[0], run(open_session(path), images(2))[0])


def test_one_engine_serves_a_range_of_shapes(tensorrt: Backend, save: Save, tmp_path: Path) -> None:
    spec = InputSpec("image", np.dtype(np.float32), ("batch", 3, 32, 32), {})
    profiles = optimization_profiles([spec], {"batch": 1}, {"batch": 4}, {"batch": 8})
    options = TensorrtOptions.parse(profiles)
    cached = replace(options, trt_engine_cache_enable=True, trt_engine_cache_path=str(tmp_path / "engines"))
    path = save(models.cnn())
    session = open_session(path, as_backend(cached))
    reference = open_session(path)
    for batch in (1, 3, 8):
        assert_near(run(session, images(batch))[0], run(reference, images(batch))[0])
    assert len(list((tmp_path / "engines").glob("*.engine"))) == 1


def test_the_timing_cache_is_written(tensorrt: Backend, save: Save, tmp_path: Path) -> None:
    options = TensorrtOptions(trt_timing_cache_enable=True, trt_timing_cache_path=str(tmp_path / "times"))
    session = open_session(save(models.cnn(batch=1)), as_backend(options))
    run(session, images(1))
    assert list((tmp_path / "times").iterdir())


def test_the_engine_is_written_as_a_model(tensorrt: Backend, save: Save, tmp_path: Path) -> None:
    context = tmp_path / "context.onnx"
    options = TensorrtOptions(
        trt_dump_ep_context_model=True, trt_ep_context_file_path=str(context), trt_ep_context_embed_mode=1
    )
    path = save(models.cnn(batch=1))
    open_session(path, as_backend(options))
    assert [node.op_type for node in onnx.load(context).graph.node] == ["EPContext"]
    assert_near(run(open_session(context, tensorrt), images(1))[0], run(open_session(path), images(1))[0])


def test_half_precision(tensorrt: Backend, save: Save) -> None:
    path = save(models.cnn(batch=1))
    session = open_session(path, as_backend(TensorrtOptions(trt_fp16_enable=True)))
    assert_near(run(session, images(1))[0], run(open_session(path), images(1))[0], tolerance=2e-2)


def test_what_tensorrt_refuses_runs_on_cuda(tensorrt: Backend, save: Save) -> None:
    excluded = as_backend(TensorrtOptions(trt_op_types_to_exclude="MatMul"))
    assignment = assignment_of(open_session(save(models.cnn(batch=1)), excluded))
    assert assignment.counts["CUDAExecutionProvider"] == {"MatMul": 1}
    assert assignment.fallen == ()


def test_an_optimized_model_answers_as_its_original_does(
    tensorrt: Backend, save: Save, tmp_path: Path
) -> None:
    path, artifact = save(models.cnn(batch=2)), tmp_path / "artifact.onnx"
    fuseonnx.optimize(path, artifact)
    found = run(open_session(artifact, tensorrt), images(2))[0]
    assert_near(found, run(open_session(path), images(2))[0])
