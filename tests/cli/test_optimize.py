"""`fuseonnx optimize`: where results go, what is printed, and batches."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from fuseonnx import stopwatch
from fuseonnx.cli import batch
from fuseonnx.cli.jobs import Job
from fuseonnx.report import Report, RolledBack

FOUR_BLOCKS_FUSED = {"Conv": 2, "Relu": 2}


def _ops(path: Path) -> dict[str, int]:
    ops: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        ops[node.op_type] = ops.get(node.op_type, 0) + 1
    return ops


def _answer(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": x})
    return np.asarray(answer)


def test_default_output_lies_beside_the_model_and_answers_alike(
    tmp_path: Path, run_cli: Any, write_model: Any, snapshot: Any
) -> None:
    model = write_model(tmp_path / "model.onnx")
    before = snapshot(tmp_path)
    result = run_cli("optimize", model)
    assert result.exit_code == 0, result.output
    after = snapshot(tmp_path)
    assert after.keys() == {"model.onnx", "model.opt.onnx"}
    assert after["model.onnx"] == before["model.onnx"]
    assert _ops(tmp_path / "model.opt.onnx") == FOUR_BLOCKS_FUSED
    x = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    expected = _answer(model, x)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(_answer(tmp_path / "model.opt.onnx", x), expected, rtol=1e-4, atol=1e-5)


def test_table_says_what_happened(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    result = run_cli("optimize", write_model(tmp_path / "model.onnx"))
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["nodes", "6", "4", "-33.3", "%"] in lines
    assert ["BatchNormalization", "2", "0"] in lines
    assert any(line[:2] == ["fold_batchnorm_into_conv", "2"] for line in lines)
    assert any(line[:1] == ["y"] and line[-1] == "ok" for line in lines)
    assert "verified on" in result.stdout
    assert result.stderr == ""


def test_output_file_and_output_folder(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    assert run_cli("optimize", model, "-o", tmp_path / "small.onnx").exit_code == 0
    assert run_cli("optimize", model, "-o", tmp_path / "out").exit_code == 0
    assert _ops(tmp_path / "small.onnx") == FOUR_BLOCKS_FUSED
    assert _ops(tmp_path / "out" / "model.opt.onnx") == FOUR_BLOCKS_FUSED


def test_in_place(tmp_path: Path, run_cli: Any, write_model: Any, snapshot: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    assert run_cli("optimize", model, "--in-place").exit_code == 0
    assert snapshot(tmp_path).keys() == {"model.onnx"}
    assert _ops(model) == FOUR_BLOCKS_FUSED


def test_output_onto_the_input_is_refused(
    tmp_path: Path, run_cli: Any, write_model: Any, snapshot: Any
) -> None:
    model = write_model(tmp_path / "model.onnx")
    before = snapshot(tmp_path)
    result = run_cli("optimize", model, "-o", model)
    assert result.exit_code == 2
    assert "model.onnx" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert snapshot(tmp_path) == before


def test_only_and_skip(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    both = ("--skip", "fold_batchnorm_into_conv", "--skip", "fold_batchnorm_over_distance")
    assert run_cli("optimize", model, *both).exit_code == 0
    assert _ops(tmp_path / "model.opt.onnx")["BatchNormalization"] == 2
    assert run_cli("optimize", model, "--only", "eliminate_identity").exit_code == 0
    assert _ops(tmp_path / "model.opt.onnx")["BatchNormalization"] == 2
    assert run_cli("optimize", model, "--only", "fold_batchnorm_into_conv").exit_code == 0
    assert _ops(tmp_path / "model.opt.onnx") == FOUR_BLOCKS_FUSED


def test_json_is_the_report_and_nothing_else(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    result = run_cli("optimize", model, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.keys() == {field.name for field in dataclasses.fields(Report)}
    assert report["source"] == str(model)
    assert report["output"] == str(tmp_path / "model.opt.onnx")
    assert (report["before"]["nodes"], report["after"]["nodes"]) == (6, 4)
    assert report["after"]["file_bytes"] == (tmp_path / "model.opt.onnx").stat().st_size
    assert report["verification"]["status"] == "passed"
    assert report["verification"]["outputs"][0]["name"] == "y"
    assert {"name": "fold_batchnorm_into_conv", "fired": 2, "declined": {}} in report["rules"]


@pytest.fixture
def kept_out(tmp_path: Path) -> Path:
    """A model with two Identities that are not needed and two that make graph outputs."""
    names = ("a", "b", "y", "z")
    infos = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "z")]
    nodes = [onnx.helper.make_node("Identity", ["x"], [name]) for name in names[:2]]
    nodes += [onnx.helper.make_node("Relu", [before], [f"r{before}"]) for before in "ab"]
    nodes += [onnx.helper.make_node("Identity", ["x"], [name]) for name in names[2:]]
    infos += [onnx.helper.make_tensor_value_info(f"r{name}", TensorProto.FLOAT, [2]) for name in "ab"]
    graph = onnx.helper.make_graph(nodes, "kept_out", infos[:1], infos[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_explain_says_why_each_rule_kept_out(kept_out: Path, run_cli: Any) -> None:
    only = ("--only", "eliminate_identity", "--no-verify")
    result = run_cli("optimize", kept_out, "--explain", *only)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    at = lines.index("rule fired kept out because")
    assert lines[at + 1] == "eliminate_identity 2 2 the result is a graph output"
    assert "because" not in run_cli("optimize", kept_out, *only).stdout
    report = json.loads(run_cli("optimize", kept_out, "--explain", "--json", *only).stdout)
    assert report["rules"] == [
        {"name": "eliminate_identity", "fired": 2, "declined": {"the result is a graph output": 2}}
    ]


def test_explain_of_several_models(models: Path, kept_out: Path, run_cli: Any) -> None:
    result = run_cli("optimize", models / "a.onnx", kept_out, "--explain")
    assert result.exit_code == 0
    assert result.stdout.count("because") == 2
    assert "the result is a graph output" in result.stdout


def test_no_verify(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    result = run_cli("optimize", write_model(tmp_path / "model.onnx"), "--no-verify", "--json")
    assert json.loads(result.stdout)["verification"]["status"] == "skipped"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A dozen MatMul of which one is left, so that no noise can make that one look slower."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.1, (100, 100)).astype(np.float32), f"w{i}") for i in range(12)
    ]
    values = ["x", *(f"v{i}" for i in range(1, 12)), "y"]
    nodes = [
        onnx.helper.make_node("MatMul", [values[i], f"w{i}"], [values[i + 1]], f"MatMul{i}")
        for i in range(12)
    ]
    infos = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [100, 100]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "slow", infos[:1], infos[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path / "slow.onnx")
    return tmp_path / "slow.onnx"


@pytest.mark.usefixtures("measuring")
def test_the_speed_is_measured_where_it_is_asked_for(slow: Path, run_cli: Any) -> None:
    result = run_cli("optimize", slow, "--threads", 1, "--json")
    speed = json.loads(result.stdout)["speed"]
    assert speed["verdict"] in {"faster", "slower", "no difference"}
    assert (speed["provider"], speed["threads"]) == ("CPUExecutionProvider", 1)
    (timing,) = speed["timings"]
    assert timing["inputs"] == "normal" and timing["rounds"] >= 6
    assert 0 < timing["low"] <= timing["ratio"] <= timing["high"]
    assert timing["nodes"] == "1 node: 1 on CPU"


def test_no_measure(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    result = run_cli("optimize", write_model(tmp_path / "model.onnx"), "--no-measure")
    assert "Speed: not measured: measuring was switched off" in result.stdout


def test_provider_options_come_from_the_target(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    result = run_cli("optimize", model, "--target", "cuda", "--provider-option", "no_such=1")
    assert result.exit_code == 2
    assert "CUDA" in result.stderr and "no_such" in result.stderr
    assert run_cli("optimize", model, "--target", "toaster").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_samples_are_run_besides_the_generated_inputs(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    runs = json.loads(run_cli("optimize", model, "--json").stdout)["verification"]["runs"]
    np.savez(tmp_path / "sample.npz", x=np.ones((1, 4, 8, 8), np.float32))
    result = run_cli("optimize", model, "--inputs", tmp_path / "sample.npz", "--json")
    assert json.loads(result.stdout)["verification"]["runs"] > runs


def test_external_data(tmp_path: Path, run_cli: Any, write_model: Any, snapshot: Any) -> None:
    model = write_model(tmp_path / "model.onnx", channels=16)
    assert run_cli("optimize", model, "--external-data").exit_code == 0
    assert snapshot(tmp_path).keys() == {"model.onnx", "model.opt.onnx", "model.opt.onnx.data"}
    assert _ops(tmp_path / "model.opt.onnx") == FOUR_BLOCKS_FUSED


def test_fix_shape_is_written_and_input_shape_is_not(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx", batch="N")

    def first_dim() -> int | str:
        (info,) = onnx.load(tmp_path / "model.opt.onnx").graph.input
        dim = info.type.tensor_type.shape.dim[0]
        return str(dim.dim_param) if dim.HasField("dim_param") else int(dim.dim_value)

    assert run_cli("optimize", model, "--input-shape", "x=3,4,8,8").exit_code == 0
    assert first_dim() == "N"
    assert run_cli("optimize", model, "--fix-shape", "x=3,4,8,8").exit_code == 0
    assert first_dim() == 3


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_strict_fails_on_a_rollback(
    options: list[str],
    code: int,
    tmp_path: Path,
    run_cli: Any,
    write_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fuseonnx import api

    real = api.optimize

    def with_rollback(*arguments: Any, **options: Any) -> api.Result:
        result = real(*arguments, **options)
        undone = (RolledBack("fold_wrongly", "conv0", "max difference 3.0 over the allowed 0.1"),)
        return dataclasses.replace(result, report=dataclasses.replace(result.report, rolled_back=undone))

    monkeypatch.setattr(api, "optimize", with_rollback)
    result = run_cli("optimize", write_model(tmp_path / "model.onnx"), *options)
    assert result.exit_code == code
    assert "ROLLED BACK" in result.stdout
    assert "fold_wrongly" in result.stdout


@pytest.fixture
def models(tmp_path: Path, write_model: Any) -> Path:
    """A folder with two models, a bad one, a result of an earlier run and an unfinished one."""
    folder = tmp_path / "models"
    write_model(folder / "a.onnx")
    write_model(folder / "deep" / "er" / "b.onnx")
    (folder / "deep" / "bad.onnx").write_bytes(b"not a model")
    (folder / "old.opt.onnx").write_bytes(b"the result of an earlier run")
    write_model(folder / ".a.opt.onnx.fuseonnx-1" / "a.opt2.onnx")
    (folder / "notes.txt").write_text("no model")
    return folder


def test_batch_survives_a_bad_model(models: Path, tmp_path: Path, run_cli: Any, snapshot: Any) -> None:
    before = snapshot(models)
    result = run_cli("optimize", models, "-o", tmp_path / "out", "--jobs", 2, "--no-measure")
    assert result.exit_code == 2
    assert snapshot(models) == before
    written = [name for name, kind in snapshot(tmp_path / "out").items() if kind != "folder"]
    assert written == ["a.opt.onnx", "deep/er/b.opt.onnx"]
    assert _ops(tmp_path / "out" / "deep" / "er" / "b.opt.onnx") == FOUR_BLOCKS_FUSED
    (error,) = result.stderr.splitlines()
    assert str(models / "deep" / "bad.onnx") in error
    first, second = result.stdout.splitlines()
    assert first.startswith(str(models / "a.onnx"))
    assert second.startswith(str(models / "deep" / "er" / "b.onnx"))
    assert "6 -> 4 nodes" in first


def test_the_models_of_a_batch_are_measured(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    """Whatever the races say of models that are as fast as before; this process cannot switch them off."""
    models = [write_model(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    result = run_cli("optimize", *models, "--jobs", 2, "--json")
    assert result.exit_code == 0, result.output
    for report in json.loads(result.stdout):
        assert report["speed"]["timings"] or report["speed"]["reason"] == "every rule was undone"


def test_batch_in_json(models: Path, run_cli: Any) -> None:
    result = run_cli("optimize", models, "--json", "--no-measure")
    assert result.exit_code == 2
    good, bad, other = json.loads(result.stdout)
    assert bad.keys() == {"source", "error"}
    assert bad["source"] == str(models / "deep" / "bad.onnx")
    assert [report["after"]["nodes"] for report in (good, other)] == [4, 4]
    assert (models / "deep" / "er" / "b.opt.onnx").is_file()


def test_second_run_over_a_folder_leaves_results_out(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    write_model(tmp_path / "a.onnx")
    for _ in range(2):
        assert run_cli("optimize", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.opt.onnx"]


def test_no_stage_of_a_batch_begins_after_an_end_that_was_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is interrupted ends its processes by a signal, which may come in an import's callback."""

    def optimize_one(_job: Job, _settings: Any, on_progress: Callable[[str], None]) -> None:
        on_progress("verify")
        with contextlib.suppress(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        on_progress("measure")
        pytest.fail("went on")

    monkeypatch.setattr(batch, "optimize_one", optimize_one)
    monkeypatch.setattr(batch, "_ends", [])
    monkeypatch.setattr(stopwatch, "lock_file", None)
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        batch._begin(tmp_path / "lock")
        with pytest.raises(SystemExit) as ended:
            batch._guarded(Job(tmp_path / "a.onnx", tmp_path / "a.opt.onnx"), None)  # type: ignore[arg-type]
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    assert ended.value.code == 130


def test_batch_survives_a_crash_of_its_process(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    models = [write_model(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    multiprocessing.set_executable("/bin/false")
    try:
        result = run_cli("optimize", *models)
    finally:
        multiprocessing.set_executable(sys.executable)
    assert result.exit_code == 2
    errors = result.stderr.splitlines()
    assert [model.name in error for model, error in zip(models, errors, strict=True)] == [True, True]
