"""Peak memory: of the model, whatever the process holds that asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import BackendError
from fuseonnx.runtime.memory import Memory, measure_memory, peak_bytes
from fuseonnx.runtime.providers import CPU

MB = 1 << 20
Build = Callable[..., Path]

pytestmark = pytest.mark.skipif(
    peak_bytes() is None, reason="the system does not tell how much memory is used"
)


def _product(build: Build, rows: int) -> Path:
    weight = np.ones((rows, 1024), np.float32)
    return build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1024])],
        {"w": weight},
        name=f"product{rows}",
    )


def _measured(build: Build, rows: int) -> Memory:
    found = measure_memory(_product(build, rows), CPU, {"x": np.ones((1, rows), np.float32)})
    assert found is not None
    return found


def test_memory_grows_with_the_weights(build: Build) -> None:
    small, large = _measured(build, 4), _measured(build, 16 * 1024)
    assert large.added - small.added > 60 * MB
    assert small.idle < small.loaded <= small.peak


def test_what_this_process_holds_does_not_count(build: Build) -> None:
    held = np.ones(400 * MB, np.uint8)
    assert _measured(build, 4).peak < held.nbytes


def test_a_model_that_does_not_run_is_named_in_one_line(build: Build) -> None:
    with pytest.raises(BackendError, match=r"product4\.onnx: .*failed: .*BackendError") as raised:
        measure_memory(_product(build, 4), CPU, {"x": np.ones((1, 5), np.float32)})
    assert "\n" not in str(raised.value)
