"""What measures and compares models opens them with the placement that they carry, on two real providers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from fuseonnx.benchmark_tables import benchmark_sections
from fuseonnx.benchmarking import bench
from fuseonnx.comparing import verify
from fuseonnx.errors import BackendError
from fuseonnx.placement.annotate import LAYER_ANNOTATION, SETTINGS_KEY
from fuseonnx.placing import load_session, place
from fuseonnx.profiling import profile
from fuseonnx.runtime import benchmark
from fuseonnx.runtime.assignment import assignment_of
from tests.placement.conftest import SecondProvider

NOTE = "runs with the placement that it carries, which was made for CUDA"
CPU = "CPUExecutionProvider"
NODES = "g (float[2, 3] x) => (float[2, 3] z) { [r] a = Relu (x) [s] b = Sum (a, a) [n] z = Neg (b) }"


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own has no plugin."""
    monkeypatch.setattr(benchmark, "measure_memory", lambda *_: None)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The second provider has no kernel for Sum."""
    onnx.save(
        parser.parse_model('<ir_version: 10, opset_import: ["" : 17]>\n' + NODES), tmp_path / "plain.onnx"
    )
    return tmp_path / "plain.onnx"


@pytest.fixture
def placed(plain: Path) -> Path:
    place(plain, plain.with_name("placed.onnx"), rules=["Relu=cuda", "Sum=cpu", "Neg=cpu"])
    return plain.with_name("placed.onnx")


def test_bench(plain: Path, placed: Path, second_provider: SecondProvider) -> None:
    with pytest.raises(BackendError, match=r"plain\.onnx: 1 of 3 nodes cannot run .*: Sum;"):
        bench(plain, provider=second_provider.name, seconds=0.01)
    found = bench([placed, placed], provider=second_provider.name, seconds=0.01)
    expected = f"3 nodes: 1 on WebGpu, 2 on CPU; {NOTE}"
    assert [entrant.assignment for entrant in found.models] == [expected] * 2
    assert any(expected in row for section in benchmark_sections(found) for row in section.rows)
    found = bench([plain, placed], provider=second_provider.name, allow_fallback=True, seconds=0.01)
    assert [entrant.assignment for entrant in found.models] == [
        "3 nodes: 2 on WebGpu, 1 on CPU; fallen back to the CPU: Sum",
        expected,
    ]


def test_verify(plain: Path, placed: Path, second_provider: SecondProvider) -> None:
    found = verify(plain, placed, provider=second_provider.name)
    assert found.verification.status == "passed"
    assert found.assignment == f"3 nodes: 1 on WebGpu, 2 on CPU; {NOTE}"


def test_profile(placed: Path, second_provider: SecondProvider) -> None:
    found = profile(placed, provider=second_provider.name, runs=1)
    assert NOTE in found.notes
    provider_of = {node.op: node.provider for node in found.nodes}
    assert (provider_of["Relu"], provider_of["Sum"], provider_of["Neg"]) == (second_provider.name, CPU, CPU)


def test_the_cpu_alone_needs_no_placement(placed: Path) -> None:
    assert bench(placed, seconds=0.01).models[0].assignment == "3 nodes: 3 on CPU"
    assert not any("placement" in note for note in profile(placed, runs=1).notes)


def test_load_session_refuses_what_falls_back(placed: Path, second_provider: SecondProvider) -> None:
    model = onnx.load(placed)
    for node in model.graph.node:
        if node.op_type == "Sum":
            node.metadata_props[0].value = "G"
            assert node.metadata_props[0].key == LAYER_ANNOTATION
    onnx.save(model, placed)
    with pytest.raises(BackendError, match=r"placed\.onnx: 1 of 3 nodes cannot run .*: Sum;"):
        load_session(placed, second_provider.name)
    session = load_session(placed, second_provider.name, allow_fallback=True)
    assert assignment_of(session).summary().startswith("3 nodes: 1 on WebGpu, 2 on CPU; fallen back")
    x = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], -2 * np.maximum(x, 0), rtol=1e-6)


@pytest.mark.parametrize("allow_fallback", [False, True])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [("gpu(=G;CPUExecutionProvider(=C)", r"Missing '\)'"), (f"gpu(=G);{' ' * 9000}", "8192")],
)
def test_settings_that_onnxruntime_does_not_take(
    placed: Path, second_provider: SecondProvider, settings: str, reason: str, allow_fallback: bool
) -> None:
    model = onnx.load(placed)
    for entry in model.metadata_props:
        if entry.key == SETTINGS_KEY:
            entry.value = settings
    onnx.save(model, placed)
    cure = r"; write it anew with 'fuseonnx place'$"
    with pytest.raises(BackendError, match=rf"placed\.onnx: the placement .* is refused: .*{reason}.*{cure}"):
        bench(placed, provider=second_provider.name, allow_fallback=allow_fallback, seconds=0.01)
    place(placed, placed.with_name("again.onnx"), rules=["Sum=cpu"])
    assert bench(placed.with_name("again.onnx"), provider=second_provider.name, seconds=0.01).models


def test_a_provider_that_is_not_there_is_no_fault_of_the_placement(placed: Path) -> None:
    with pytest.raises(BackendError, match=r"placed\.onnx: onnxruntime knows no NoSuchExecutionProvider"):
        bench(placed, provider="NoSuchExecutionProvider", seconds=0.01)
    found = bench(placed, provider="NoSuchExecutionProvider", allow_fallback=True, seconds=0.01)
    assert "all on the CPU instead of NoSuchExecutionProvider" in found.models[0].assignment
