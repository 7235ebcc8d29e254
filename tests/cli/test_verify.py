"""`fuseonnx verify`, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from fuseonnx.cli.verify import verify

Run = Callable[..., Result]
CLASSES = 10


@pytest.fixture
def run() -> Run:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(verify)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def classifier(path: Path, scale: float = 1.0, rows: int | str = "n") -> Path:
    """Gemm, Tanh, Gemm on [rows, 6]; `scale` changes one column of the second weight."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(6, 8)), "v": rng.normal(size=(8, CLASSES))}
    weights["v"][:, 4] *= scale
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["hidden"], "first"),
        helper.make_node("Tanh", ["hidden"], ["bent"], "bend"),
        helper.make_node("Gemm", ["bent", "v"], ["scores"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """The classifier, and one that is wrong for one class."""
    return classifier(tmp_path / "a.onnx"), classifier(tmp_path / "b.onnx", scale=2.0)


def labelled(a: Path, b: Path) -> tuple[dict[str, Any], float, float]:
    """Return inputs with labels, of which the first model has 3 of 4 right, and both accuracies."""
    x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
    guesses = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        .run(None, {"x": x})[0]
        .argmax(1)
        for path in (a, b)
    ]
    labels = np.where(np.arange(40) % 4, guesses[0], (guesses[0] + 1) % CLASSES)
    before, after = (float(np.mean(guess == labels)) for guess in guesses)
    assert before == 0.75 != after
    return {"x": x, "label": labels}, before, after


def test_the_same_answers_exit_with_0(run: Run, models: tuple[Path, Path]) -> None:
    result = run(models[0], models[0])
    assert result.exit_code == 0, result.output
    assert "the same answers on" in result.stdout and "ok" in result.stdout
    for column in ("max", "mean", "relative", "ulp", "cosine", "SNR dB", "noise", "x noise"):
        assert column in result.stdout


def test_other_answers_exit_with_1_and_are_located(run: Run, models: tuple[Path, Path]) -> None:
    result = run(*models, "--bisect")
    assert result.exit_code == 1, result.output
    assert "OTHER ANSWERS: scores: differs by" in result.stdout
    assert "Gemm 'second'" in result.stdout
    assert any(line.split()[-1] == "bent" for line in result.stdout.splitlines() if "last tensor" in line)
    assert "fuseonnx did not make it from this original" in result.stdout


def test_json_is_all_that_is_printed(run: Run, models: tuple[Path, Path]) -> None:
    result = run(*models, "--bisect", "--json")
    assert result.exit_code == 1
    read = json.loads(result.stdout)
    assert read["verification"]["status"] == "failed"
    assert read["divergence"]["first"]["tensor"] == "scores"
    assert (
        json.loads(run(models[0], models[0], "--json").stdout)["verification"]["outputs"][0]["snr_db"]
        == "inf"
    )


def test_accuracy_before_and_after(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    sample, before, after = labelled(*models)
    np.savez(tmp_path / "samples.npz", **sample)
    result = run(*models, "--inputs", tmp_path / "samples.npz")
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("top-1")]
    assert row[1:3] == [f"{before:.2%}", f"{after:.2%}"]
    np.savez(tmp_path / "bare.npz", x=sample["x"])
    np.save(tmp_path / "labels.npy", sample["label"])
    named = ("--labels", tmp_path / "labels.npy", "--labels-output", "scores")
    again = json.loads(run(*models, "--inputs", tmp_path / "bare.npz", *named, "--json").stdout)
    assert (again["accuracy"]["top1_before"], again["accuracy"]["top1_after"]) == (before, after)


def test_a_model_of_fixed_batch_takes_many_rows(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    sample, before, _ = labelled(*models)
    np.savez(tmp_path / "samples.npz", **sample)
    fixed = classifier(tmp_path / "fixed.onnx", rows=2)
    result = run(fixed, fixed, "--inputs", tmp_path / "samples.npz", "--json")
    assert json.loads(result.stdout)["accuracy"]["top1_before"] == before


def test_inputs_come_from_a_function_of_the_working_folder(
    run: Run, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, before, after = labelled(*models)
    np.savez(tmp_path / "samples.npz", **sample)
    (tmp_path / "verify_cli_data.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    import verify_cli_more\n"
        "    for start in range(0, 40, 8):\n"
        "        rows = slice(start, start + 8)\n"
        "        yield {'x': verify_cli_more.DATA['x'][rows]}, verify_cli_more.DATA['label'][rows]\n"
        "def broken():\n"
        "    yield {'x': 1 / 0}\n"
    )
    (tmp_path / "verify_cli_more.py").write_text("import numpy as np\nDATA = np.load('samples.npz')\n")
    monkeypatch.chdir(tmp_path)
    read = json.loads(run(*models, "--inputs-from", "verify_cli_data:samples", "--json").stdout)
    assert (read["accuracy"]["top1_before"], read["accuracy"]["top1_after"]) == (before, after)
    for name, message in (
        ("verify_cli_data:broken", "verify_cli_data:broken: ZeroDivisionError: division by zero"),
        ("verify_cli_data:nothing", "has no attribute 'nothing'"),
        ("verify_cli_data:np", "is a module; name a function that yields samples"),
        ("verify_cli_none:f", "no module 'verify_cli_none'"),
        ("verify_cli_data", "write package.module:function"),
    ):
        result = run(*models, "--inputs-from", name)
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert len(result.stderr.splitlines()) == 1


def test_what_cannot_be_compared_exits_with_2(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_text("no model")
    for arguments, message in (
        ((models[0], tmp_path / "none.onnx"), "none.onnx: cannot be read"),
        ((tmp_path / "bad.onnx", models[0]), "bad.onnx: not an ONNX model"),
        ((*models, "--inputs", "x.npz", "--inputs-from", "a:b"), "give --inputs or --inputs-from, not both"),
        ((*models, "--inputs", tmp_path / "none.npz"), "none.npz: not a readable .npz file"),
        ((*models, "--input-shape", "z=1,6"), "no input is named 'z'"),
        ((*models, "--provider-option", "nonsense"), "write key=value"),
        ((*models, "--opset", "17"), "is ONNX already"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_other_names_differ_only_with_strict(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    model = onnx.load(models[0])
    model.graph.node[-1].output[0] = model.graph.output[0].name = "logits"
    onnx.save(model, tmp_path / "renamed.onnx")
    result = run(models[0], tmp_path / "renamed.onnx")
    assert result.exit_code == 0 and "note: output 'scores' is called 'logits'" in result.stdout
    result = run(models[0], tmp_path / "renamed.onnx", "--strict")
    assert result.exit_code == 1 and "outputs are logits: tensor(float) instead of" in result.stdout
