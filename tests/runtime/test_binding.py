"""Runs to be timed give the answers of plain ones; what a GPU needs is tried on the CPU's memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.binding import Bound, call_of, is_bound, with_cuda_graph
from fuseonnx.runtime.providers import CPU, Backend, Provider, make_provider
from fuseonnx.runtime.session import open_session

Build = Callable[..., Path]


@pytest.fixture
def model(build: Build) -> Path:
    """y = x @ w + 1, and the indices of the positive ones, whose number depends on the values."""
    rng = np.random.default_rng(0)
    return build(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "one"], ["y"]),
            helper.make_node("Relu", ["y"], ["positive"]),
            helper.make_node("NonZero", ["positive"], ["indices"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5]),
            helper.make_tensor_value_info("indices", TensorProto.INT64, [2, "count"]),
        ],
        {"w": rng.normal(size=(4, 5)).astype(np.float32), "one": np.ones(1, np.float32)},
    )


def test_a_bound_run_gives_the_answers_of_a_plain_one(model: Path) -> None:
    feeds = {"x": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)}
    session = open_session(model)
    bound = Bound(session, feeds, "cpu")
    for _ in range(3):
        bound()
    for found, expected in zip(bound.outputs(), session.run(None, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_outputs_stay_where_they_are(model: Path) -> None:
    """A CUDA graph writes to the addresses that it was recorded with."""
    feeds = {"x": np.ones((3, 4), np.float32)}
    bound = Bound(open_session(model), feeds, "cpu")

    def addresses() -> list[int]:
        bound()
        return [value.data_ptr() for value in bound._binding.get_outputs()]

    assert addresses() == addresses()


def test_nothing_is_run_before_the_first_call(model: Path) -> None:
    Bound(open_session(model), {"x": np.ones((3, 9), np.float32)}, "cpu")


def test_what_the_device_cannot_hold_is_refused(build: Build) -> None:
    path = build(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1])],
    )
    with pytest.raises(BackendError, match="'x' cannot be put on the device"):
        Bound(open_session(path), {"x": np.array(["a"], object)}, "cpu")()


def test_on_the_cpu_a_call_is_a_plain_run(model: Path) -> None:
    session, feeds = open_session(model), {"x": np.ones((2, 4), np.float32)}
    found = call_of(session, feeds, CPU)()
    assert isinstance(found, list)
    np.testing.assert_array_equal(found[0], session.run(["y"], feeds)[0])


def test_bfloat16_runs_too(build: Build) -> None:
    path = build(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [2])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [2])],
    )
    feeds = {"x": np.array([1.5, -2.0], ml_dtypes.bfloat16)}
    found: Any = call_of(open_session(path), feeds, CPU)()
    np.testing.assert_array_equal(found[0], feeds["x"])


def test_a_model_that_fell_back_to_the_cpu_is_not_bound(model: Path) -> None:
    call = call_of(open_session(model), {"x": np.ones((2, 4), np.float32)}, Backend(make_provider("cuda")))
    assert not isinstance(call, Bound)


def test_cuda_graphs_are_an_option_of_the_provider() -> None:
    cuda = with_cuda_graph(make_provider("cuda", {"device_id": "1"}))
    assert dict(cuda.options) == {"device_id": "1", "enable_cuda_graph": "1"}
    assert with_cuda_graph(make_provider("tensorrt")).options["trt_cuda_graph_enable"] == "True"
    with pytest.raises(OptionError, match="CPUExecutionProvider has no CUDA graphs; give --provider cuda"):
        with_cuda_graph(CPU.provider)


def test_only_cuda_devices_are_bound() -> None:
    assert is_bound(Backend(make_provider("cuda")))
    assert is_bound(Backend(make_provider("tensorrt")))
    assert not is_bound(CPU)
    assert not is_bound(Backend(Provider("OpenVINOExecutionProvider")))
