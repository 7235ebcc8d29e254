from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import BackendError
from fuseonnx.runtime import missing
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.providers import Backend, as_backend
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


REASONS = {
    "every wrong size": (
        ("y = Relu(x)", "float[2, 3] x", {"x": np.ones((4, 5), np.float32)}),
        "Got invalid dimensions for input: x for the following indices index: 0 Got: 4 Expected: 2"
        " index: 1 Got: 5 Expected: 3 Please fix either the inputs/outputs or the model.",
    ),
    "behind a path and a signature": (
        ("y = Reshape(x, s)", "float[n] x, int64[k] s", {"x": np.ones(4, np.float32), "s": np.array([3, 5])}),
        "running Reshape node. Name:'' Status Message: input_shape_size == requested_shape_size was false."
        " The input tensor cannot be reshaped to the requested shape. Input shape:{4}, requested shape:{3,5}",
    ),
    "behind a signature of several types": (
        ("y = Squeeze(x, s)", "float[n] x, int64[k] s", {"x": np.ones(4, np.float32), "s": np.array([0])}),
        "Message: input_shape[i] == 1 was false. Dimension of input 0 must be 1 instead of 4. shape={4}",
    ),
    "behind a file and a function": (
        ("y = MatMul(x, x)", "float[a, b] x", {"x": np.ones((2, 3), np.float32)}),
        "running MatMul node. Name:'' Status Message: MatMul dimension mismatch",
    ),
    "inside a branch": (
        (
            "y = If(b) <then_branch = t () => (o) { o = Reshape(x, s) },"
            " else_branch = e () => (p) { p = Neg(x) }>",
            "bool b, float[n] x, int64[k] s",
            {"b": np.array(True), "x": np.ones(3, np.float32), "s": np.array([5])},
        ),
        "running Reshape node. Name:'' Status Message: input_shape_size == requested_shape_size was false."
        " The input tensor cannot be reshaped to the requested shape. Input shape:{3}, requested shape:{5}",
    ),
}


@pytest.mark.parametrize(("failing", "reason"), REASONS.values(), ids=REASONS.keys())
def test_the_reason_of_a_failing_run_is_whole(
    failing: tuple[str, str, dict[str, np.ndarray]], reason: str, tmp_path: Path
) -> None:
    node, inputs, feeds = failing
    text = f'<ir_version: 10, opset_import: ["": 17]> g ({inputs}) => (y) {{ {node} }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    session = open_session(tmp_path / "m.onnx")
    with pytest.raises(BackendError) as error:
        run(session, feeds)
    assert str(error.value).endswith(reason)
    assert len(str(error.value)) <= 300
    assert "onnxruntime" not in str(error.value)


def test_a_long_reason_is_whole_up_to_where_it_is_cut(tmp_path: Path) -> None:
    """onnxruntime puts 190 letters about a place in its source before this one, a lambda's signature."""
    node = 'StringNormalizer <case_change_action = "UPPER", locale = "xx_NOWHERE"> (x)'
    text = f'<ir_version: 10, opset_import: ["": 17]> g (string[n] x) => (y) {{ y = {node} }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(BackendError) as error:
        open_session(tmp_path / "m.onnx")
    assert "initialization: Failed to construct locale with name:xx_NOWHERE" in str(error.value)
    assert str(error.value).endswith("configure locales")
    onnx.save(onnx.parser.parse_model(text.replace("xx_NOWHERE", 400 * "x")), tmp_path / "m.onnx")
    with pytest.raises(BackendError, match=r"xxx…$"):
        open_session(tmp_path / "m.onnx")


def test_without_onnxruntime_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'fuseonnx\[cpu\]'"):
        open_session(Path("model.onnx"))


NO_DEVICE = (
    "/src/cuda_call.cc:154 void CudaCall(ERRTYPE, int) [with ERRTYPE = cudaError]"
    " /src/cuda_call.cc:146 void CudaCall(ERRTYPE, int) CUDA failure 100: no CUDA-capable device"
    " ; GPU=-1 ; hostname=h ; expr=cudaSetDevice(0);\n"
)
"""How onnxruntime says it."""
NEG = helper.make_node("Neg", ["x"], ["y"], "neg")
CUDA = "CUDAExecutionProvider"


@pytest.fixture
def path(build: Build) -> Path:
    return build([NEG], [value("x", ["n"])], [value("y", ["n"])])


@dataclass
class FakeOnnxruntime:
    """An onnxruntime with a CUDA provider: how it fares is set here, and what it was asked is kept."""

    starts: bool = True
    failure: str = ""
    on_cpu: tuple[str, ...] = ()
    """Operators that the provider leaves to the CPU."""
    asked: list[Any] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch, loader: str = "") -> FakeOnnxruntime:
        import onnxruntime as ort

        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "TensorrtExecutionProvider"])
        monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublas.so"))
        monkeypatch.setattr("fuseonnx.runtime.missing._loader_message", lambda _library: loader)
        monkeypatch.setattr(ort, "InferenceSession", partial(self.open, ort.InferenceSession))
        return self

    def open(self, real: Any, model: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        self.asked.append(providers)
        assert enable_fallback == 0
        session = real(model, options, providers=["CPUExecutionProvider"])
        if providers[0][0] == "CPUExecutionProvider":
            return session
        if self.failure:
            raise RuntimeError(self.failure)
        names = [name for name, _ in providers] if self.starts else []
        session.get_providers = lambda: [*names, "CPUExecutionProvider"]
        if self.starts:
            parts = [
                SimpleNamespace(ep_name=self.place(node, names[0]), get_nodes=partial(list, [node]))
                for part in session.get_provider_graph_assignment_info()
                for node in part.get_nodes()
            ]
            session.get_provider_graph_assignment_info = lambda: parts
        return session

    def place(self, node: Any, provider: str) -> str:
        return "CPUExecutionProvider" if node.op_type in self.on_cpu else provider


def test_a_provider_that_runs_every_node(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = FakeOnnxruntime().install(monkeypatch)
    assignment = assignment_of(open_session(path, as_backend("cuda", {"use_tf32": "0"})))
    assert fake.asked == [[(CUDA, {"use_tf32": "0"})]]
    assert assignment.counts == {CUDA: {"Neg": 1}}
    assert (assignment.asked, assignment.missing) == (CUDA, "")
    assert capfd.readouterr() == ("", "")


def test_tensorrt_leaves_the_rest_to_cuda_on_the_same_device(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeOnnxruntime().install(monkeypatch)
    open_session(path, as_backend("tensorrt", {"device_id": "2", "trt_fp16_enable": "1"}))
    tensorrt = ("TensorrtExecutionProvider", {"device_id": "2", "trt_fp16_enable": "True"})
    assert fake.asked == [[tensorrt, (CUDA, {"device_id": "2"})]]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_wheel_without_the_provider_is_said_with_the_one_that_has_it(path: Path, provider: str) -> None:
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend(provider))
    one_line(error, str(path), "has no", "pip install 'fuseonnx[gpu]'", "not both be installed")


def test_two_wheels_over_each_other_are_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.31.1")
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend("cuda"))
    one_line(error, "both installed", "pip uninstall onnxruntime onnxruntime-gpu")


def test_a_provider_nobody_knows(path: Path) -> None:
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend("OpenVINExecutionProvider"))
    one_line(error, "did you mean OpenVINOExecutionProvider?")
    for name in ("HomemadeExecutionProvider", "ROCMExecutionProvider"):
        with pytest.raises(BackendError) as error:
            open_session(path, as_backend(name))
        one_line(error, name, "plugin library")
        assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("library", "cure"),
    [
        ("libcublasLt.so.13", "onnxruntime-gpu[cuda,cudnn]"),
        ("libcudart.so.13", "onnxruntime-gpu[cuda,cudnn]"),
        ("libnvinfer.so.10", "tensorrt-cu13==10"),
        ("libcuda.so.1", "NVIDIA driver"),
    ],
)
@pytest.mark.parametrize("outcome", [{"starts": False}, {"failure": "Please install TensorRT libraries"}])
def test_a_library_that_does_not_load_is_named_with_its_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch, library: str, cure: str, outcome: Any
) -> None:
    FakeOnnxruntime(**outcome).install(monkeypatch, f"{library}: cannot open shared object file")
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend("tensorrt"))
    one_line(error, str(path), f"TensorrtExecutionProvider cannot start ({library}: cannot open", cure)


def test_the_loader_itself_is_asked(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    original = missing._loader_message
    FakeOnnxruntime(starts=False).install(monkeypatch)
    monkeypatch.setattr(missing, "_loader_message", original)
    (tmp_path / "capi").mkdir()
    shared = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    (tmp_path / "capi" / shared.name).symlink_to(shared)
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    monkeypatch.setattr(ort, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(BackendError, match=r"cannot start \(.*libonnxruntime_providers_cuda\.so: "):
        open_session(path, as_backend("cuda"))


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (
            {"failure": "/src/info.cc:63 static F(int) [ONNXRuntimeError] : 1 : FAIL : no such option"},
            f"cannot load it on {CUDA}: no such option",
        ),
        ({"failure": NO_DEVICE}, f"cannot load it on {CUDA}: CUDA failure 100: no CUDA-capable device"),
        ({"starts": False}, "found no device to run on"),
    ],
)
def test_a_provider_without_a_device_quotes_onnxruntime_or_falls_back_where_allowed(
    path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any, reason: str
) -> None:
    FakeOnnxruntime(**outcome).install(monkeypatch)
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend("cuda"))
    one_line(error, str(path), CUDA, reason)
    assert str(error.value).count(str(path)) == 1
    assert not set(str(error.value).split()) & {"hostname=h", "[ONNXRuntimeError]", "CudaCall(ERRTYPE,"}
    session = open_session(path, as_backend("cuda", allow_fallback=True))
    assert run(session, {"x": np.ones(1, np.float32)})[0].tolist() == [-1]
    assignment = assignment_of(session)
    assert assignment.asked == CUDA
    assert reason in assignment.missing
    assert [node.name for node in assignment.fallen] == ["neg"]


def test_a_missing_wheel_falls_back_where_allowed(path: Path) -> None:
    assignment = assignment_of(open_session(path, as_backend("cuda", allow_fallback=True)))
    assert "pip install 'fuseonnx[gpu]'" in assignment.missing
    assert assignment.counts == {"CPUExecutionProvider": {"Neg": 1}}


def test_nodes_left_to_the_cpu_are_refused_unless_allowed(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [NEG, *(helper.make_node("NonZero", ["y"], [f"z{number}"]) for number in range(2))]
    outputs = [value(f"z{number}", None, TensorProto.INT64) for number in range(2)]
    path = build(nodes, [value("x", [2])], outputs)
    FakeOnnxruntime(on_cpu=("NonZero",)).install(monkeypatch)
    with pytest.raises(BackendError) as error:
        open_session(path, as_backend("cuda"))
    one_line(error, str(path), "2 of 3 nodes", CUDA, "NonZero (2)", "--allow-fallback")
    assignment = assignment_of(open_session(path, as_backend("cuda", allow_fallback=True)))
    assert assignment.counts == {CUDA: {"Neg": 1}, "CPUExecutionProvider": {"NonZero": 2}}


def test_a_fall_back_does_not_hide_a_broken_model(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(BackendError, match=r"junk\.onnx: onnxruntime cannot load it"):
        open_session(path, as_backend("cuda", allow_fallback=True))


def test_the_profile_and_the_optimized_graph_are_written(build: Build, tmp_path: Path) -> None:
    identity = helper.make_node("Identity", ["y"], ["z"], "copy")
    nodes = [NEG, identity, helper.make_node("Abs", ["z"], ["w"], "abs")]
    path = build(nodes, [value("x", [1])], [value("w", [1])])
    saved = tmp_path / "optimized.onnx"
    session = open_session(path, optimized=True, profile_to=tmp_path / "trace", save_optimized=saved)
    run(session, {"x": np.ones(1, np.float32)})
    profile = Path(session.end_profiling())
    assert profile.parent == tmp_path
    assert profile.name.startswith("trace")
    events = json.loads(profile.read_text())
    assert {event["args"]["op_name"] for event in events if event["cat"] == "Node"} == {"Neg", "Abs"}
    assert [node.name for node in onnx.load(saved).graph.node] == ["neg", "abs"]


@pytest.mark.parametrize(
    "body", ["loaded.append(True)", "loaded.append(True)\nraise OSError('libnvinfer.so.10')"]
)
def test_tensorrt_from_pip_is_loaded_even_if_it_is_broken(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    FakeOnnxruntime().install(monkeypatch)
    loaded: list[bool] = []
    monkeypatch.setattr("builtins.loaded", loaded, raising=False)
    (tmp_path / "tensorrt.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    open_session(path, as_backend("tensorrt"))
    sys.modules.pop("tensorrt", None)
    assert loaded == [True]
