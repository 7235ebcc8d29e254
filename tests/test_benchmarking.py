"""`bench`: the same inputs for all models, of sizes that make sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuseonnx.benchmark_tables import benchmark_heading, benchmark_sections
from fuseonnx.benchmarking import bench
from fuseonnx.errors import FuseOnnxError, OptionError
from fuseonnx.runtime import benchmark
from fuseonnx.runtime.memory import Memory

Save = Callable[..., Path]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is tested elsewhere, and takes a second."""
    monkeypatch.setattr(benchmark, "measure_memory", lambda *_: Memory(100, 200, 300))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """`save(name, {"x": (type, dims)}, op)` writes a model that sums what `op` makes of each input."""

    def write(name: str, inputs: Mapping[str, tuple[int, Sequence[int | str]]], op: str = "Abs") -> Path:
        nodes, totals = [], []
        for key in inputs:
            nodes.append(helper.make_node(op, [key], [f"{key}_"]))
            nodes.append(helper.make_node("Cast", [f"{key}_"], [f"{key}_float"], to=FLOAT))
            nodes.append(helper.make_node("ReduceSum", [f"{key}_float"], [f"{key}_sum"], keepdims=0))
            totals.append(f"{key}_sum")
        nodes.append(helper.make_node("Sum", totals, ["y"]))
        graph = helper.make_graph(
            nodes,
            "sums",
            [helper.make_tensor_value_info(key, *declared) for key, declared in inputs.items()],
            [helper.make_tensor_value_info("y", FLOAT, [])],
        )
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return write


def test_models_with_other_inputs_are_refused(save: Save) -> None:
    one, other = save("a.onnx", {"x": (FLOAT, [2])}), save("b.onnx", {"z": (FLOAT, [2])})
    with pytest.raises(
        OptionError, match=r"b\.onnx: its inputs are z: tensor\(float\), those of .*a\.onnx x:"
    ):
        bench([one, other], seconds=0.01)


def test_a_shape_that_the_second_model_refuses_names_it(save: Save) -> None:
    one, other = save("a.onnx", {"x": (FLOAT, ["n"])}), save("b.onnx", {"x": (FLOAT, [7])})
    with pytest.raises(FuseOnnxError, match=r"a\.onnx: no generated .*--input-shape.*b\.onnx"):
        bench([one, other], seconds=0.01, input_shapes={"x": [5]})


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ((FLOAT, ["n", 3, "h", "w"]), "float32[1,3,224,224]"),
        ((FLOAT, ["n", "h", "w", 3]), "float32[1,224,224,3]"),
        ((FLOAT, ["n", 3, 48, "w"]), "float32[1,3,48,320]"),
        ((INT64, ["n", "tokens"]), "int64[1,128]"),
        ((FLOAT, [2, 5]), "float32[2,5]"),
    ],
)
def test_dynamic_dimensions_get_usual_sizes(
    save: Save, declared: tuple[int, Sequence[int | str]], shape: str
) -> None:
    found = bench(save("a.onnx", {"x": declared}), seconds=0.01)
    assert found.points[0].inputs == {"x": shape}
    told = [note for note in found.notes if "is dynamic" in note]
    assert [shape in note for note in told] == ([True] if "n" in declared[1] else [])


def test_batch_sizes_follow_the_dynamic_axis(save: Save) -> None:
    path = save("a.onnx", {"x": (FLOAT, ["n", 3]), "mask": (INT64, ["n", 4]), "scale": (FLOAT, [1])})
    found = bench(path, batches=[1, 3], seconds=0.01)
    assert [point.batch for point in found.points] == [1, 3]
    assert found.points[1].inputs == {
        "x": "float32[3,3]",
        "mask": "int64[3,4]",
        "scale": "float32[1]",
    }


def test_batch_sizes_of_inputs_whose_shape_is_given(save: Save) -> None:
    path = save("a.onnx", {"x": (FLOAT, ["n", "length"])})
    found = bench(path, batches=[2], input_shapes={"x": [1, 5]}, seconds=0.01)
    assert found.points[0].inputs == {"x": "float32[2,5]"}


def test_a_fixed_batch_is_told_and_kept(save: Save) -> None:
    found = bench(save("a.onnx", {"x": (FLOAT, [2, 3])}), batches=[1, 8], seconds=0.01)
    assert [point.batch for point in found.points] == [2]
    assert any("no input of" in note and "dynamic axis 0" in note for note in found.notes)


def test_a_batch_that_a_model_refuses_is_left_out(save: Save) -> None:
    one, other = save("a.onnx", {"x": (FLOAT, ["n", 3])}), save("b.onnx", {"x": (FLOAT, [1, 3])})
    found = bench([one, other], batches=[1, 4], seconds=0.01)
    assert [point.batch for point in found.points] == [1]
    assert any(note.startswith("batch 4 is left out: ") and "b.onnx" in note for note in found.notes)


def test_samples_are_what_is_run(save: Save, tmp_path: Path) -> None:
    path = save("a.onnx", {"x": (FLOAT, ["n", 3])})
    np.savez(tmp_path / "x.npz", x=np.ones((6, 3), np.float32))
    found = bench(path, samples=tmp_path / "x.npz", seconds=0.01)
    assert found.points[0].inputs == {"x": "float32[6,3]"}
    assert found.points[0].batch == 6
    np.savez(tmp_path / "wide.npz", x=np.ones((6, 4), np.float32))
    with pytest.raises(FuseOnnxError, match=r"^wide\.npz: does not fit: .*a\.onnx: "):
        bench(path, samples=tmp_path / "wide.npz", seconds=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "more than 0"),
        ({"batches": [0]}, "more than 0"),
        ({"cuda_graph": True}, "no CUDA graphs"),
        ({"input_shapes": {"z": [1]}}, "no input is named 'z'"),
    ],
)
def test_options_that_make_no_sense(save: Save, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bench(save("a.onnx", {"x": (FLOAT, ["n"])}), **options)  # type: ignore[arg-type]


def test_no_model() -> None:
    with pytest.raises(OptionError, match="at least one"):
        bench([])


def test_models_of_the_same_name_are_told_apart(save: Save, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one, other = save("a.onnx", {"x": (FLOAT, [2])}), save("sub/a.onnx", {"x": (FLOAT, [2])})
    names = [entrant.name for entrant in bench([one, other, one], seconds=0.01).models]
    assert len(set(names)) == 3
    assert [entrant.name for entrant in bench([one, other], seconds=0.01).models] == [str(one), str(other)]


def test_tables(save: Save) -> None:
    one, other = save("a.onnx", {"x": (FLOAT, ["n", 3])}), save("b.onnx", {"x": (FLOAT, ["n", 3])})
    found = bench([one, other], batches=[1, 2], seconds=0.01, threads=1)
    sections = list(benchmark_sections(found))
    assert [section.title for section in sections] == [
        "Latency and throughput at batch 1: x float32[1,3]",
        "Latency and throughput at batch 2: x float32[2,3]",
        "Loading and memory",
        "Conditions",
    ]
    for section in sections:
        assert all(len(row) == len(section.columns) == len(section.align) for row in section.rows)
    assert [row[0] for row in sections[0].rows] == ["a.onnx", "b.onnx"]
    assert [row[-1] for row in sections[2].rows] == ["200 bytes"] * 2
    assert ("threads", "1") in sections[3].rows
    assert benchmark_heading(found).startswith("Compared with a.onnx, b.onnx: ")


def test_one_model_has_nothing_to_be_compared_with(save: Save) -> None:
    found = bench(save("a.onnx", {"x": (FLOAT, [3])}), seconds=0.01)
    assert all("ratio" not in section.columns for section in benchmark_sections(found))
    assert benchmark_heading(found).endswith(" ms a run")


def test_a_batch_size_that_is_given_twice_is_run_once(save: Save) -> None:
    found = bench(save("a.onnx", {"x": (FLOAT, ["n", 2])}), batches=[4, 1, 4], seconds=0.01)
    assert [point.batch for point in found.points] == [4, 1]
