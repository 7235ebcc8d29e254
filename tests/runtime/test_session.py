from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import BackendError
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.session import open_session, replay, run

Build = Callable[..., Path]
FLOAT = TensorProto.FLOAT


def value(name: str, dims: Any, dtype: Any = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def test_runs_a_model_and_returns_outputs_in_order(build: Build) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    path = build(nodes, [value("x", ["n"])], [value("z", ["n"]), value("y", ["n"])])
    z, y = run(open_session(path), {"x": np.array([-1, 2], np.float32)})
    assert z.tolist() == [1, 2]
    assert y.tolist() == [1, -2]


def test_optimized_chooses_the_level(build: Build) -> None:
    path = build([helper.make_node("Neg", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    levels = [
        open_session(path, optimized=on).get_session_options().graph_optimization_level
        for on in (False, True)
    ]
    assert [level.name for level in levels] == ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"]


def test_threads_reach_the_session(build: Build) -> None:
    path = build([helper.make_node("Neg", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    assert open_session(path, Backend(threads=1)).get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [(TensorProto.BFLOAT16, ml_dtypes.bfloat16), (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn)],
)
def test_types_unknown_to_numpy_go_in_and_out(build: Build, onnx_type: int, dtype: Any) -> None:
    path = build(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Cast", ["x"], ["z"], to=FLOAT)],
        [value("x", ["n"], onnx_type)],
        [value("y", ["n"], onnx_type), value("z", ["n"])],
    )
    x = np.array([1.5, -2.0, 448.0]).astype(dtype)
    y, z = run(open_session(path), {"x": x})
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()
    assert z.tolist() == x.astype(np.float32).tolist()


def test_a_seeded_generator_starts_again_in_each_replay(build: Build) -> None:
    node = helper.make_node("RandomNormal", [], ["y"], shape=[4], seed=3.0)
    path = build([node], [], [value("y", [4])])
    first, again = [[out[0].tolist() for out in replay(path, [{}, {}])] for _ in range(2)]
    assert first == again
    assert first[0] != first[1]


def one_line(error: pytest.ExceptionInfo[BackendError], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x0a"])
def test_a_file_that_is_no_model_is_one_line(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError) as error:
        open_session(path)
    one_line(error, "junk.onnx", "cannot load")
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(BackendError) as error:
        open_session(Path("nowhere.onnx"))
    one_line(error, "nowhere.onnx", "doesn't exist")


def test_an_unknown_operator_is_one_line(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    path = build([helper.make_node("NoSuchOp", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    with pytest.raises(BackendError) as error:
        open_session(path)
    one_line(error, str(path), "NoSuchOp")
    assert capfd.readouterr().err == ""


def test_a_failing_run_is_one_line_and_silent(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    path = build(
        [helper.make_node("MatMul", ["x", "x"], ["y"])], [value("x", ["a", "b"])], [value("y", None)]
    )
    session = open_session(path)
    with pytest.raises(BackendError) as error:
        run(session, {"x": np.ones((2, 3), np.float32)})
    one_line(error, "MatMul")
    assert "ONNXRuntimeError" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_without_onnxruntime_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'fuseonnx\[cpu\]'"):
        open_session(Path("model.onnx"))
