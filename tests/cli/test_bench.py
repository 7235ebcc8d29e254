"""`fuseonnx bench`."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner, Result

from fuseonnx.cli.bench import bench

WriteModel = Callable[..., Path]
RunBench = Callable[..., Result]
CheckError = Callable[[Result, str], None]


@pytest.fixture
def run_bench() -> RunBench:
    """`run_bench(path, "--json")` runs the command, for as short a time as it takes."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(bench)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--seconds", "0.1"])

    return run


def test_two_models(write_model: WriteModel, run_bench: RunBench, tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "a.onnx", blocks=1), write_model(tmp_path / "b.onnx", blocks=3)
    result = run_bench(one, other, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Compared with a.onnx, b.onnx: ")
    for text in (
        "p50 ms",
        "95 % interval",
        "x float32[1,4,8,8]",
        "peak memory",
        "default optimization level",
    ):
        assert text in result.output


def test_json(write_model: WriteModel, run_bench: RunBench, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", batch="n")
    result = run_bench(path, path, "--batch", "1,2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [point["batch"] for point in document["points"]] == [1, 2]
    assert document["points"][1]["inputs"] == {"x": "float32[2,4,8,8]"}
    assert document["points"][0]["latencies"][1]["ratio"]["rounds"] >= 7
    assert document["models"][0]["memory"]["peak"] > 0


def test_plot(write_model: WriteModel, run_bench: RunBench, tmp_path: Path) -> None:
    plot = tmp_path / "a.svg"
    result = run_bench(write_model(tmp_path / "a.onnx", batch="n"), "--batch", "1,2", "--plot", plot)
    assert result.exit_code == 0, result.output
    assert "Throughput" in plot.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "1,x"), "--batch '1,x': write sizes such as 1,2,4,8"),
        (("--batch", "0"), "--batch '0': write sizes such as 1,2,4,8"),
        (("--input-shape", "x"), "--input-shape 'x': write NAME=1,3,224,224"),
        (("--cuda-graph",), "CPUExecutionProvider has no CUDA graphs; give --provider cuda"),
        (("--provider", "gpu"), "'gpu' is no execution provider"),
        (("--plot", "a.gif"), "a.gif: a plot is a .png or .svg file"),
        (("--inputs", "no.npz"), "no.npz"),
    ],
)
def test_errors_are_one_line(
    write_model: WriteModel,
    run_bench: RunBench,
    check_error: CheckError,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    result = run_bench(write_model(tmp_path / "a.onnx"), *options)
    check_error(result, message)


def test_what_is_no_model(run_bench: RunBench, check_error: CheckError, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("no model")
    result = run_bench(tmp_path / "a.onnx")
    check_error(result, "a.onnx")


def test_a_plot_that_cannot_be_written_costs_no_results(
    write_model: WriteModel, run_bench: RunBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_figure: object, path: Path, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Figure, "savefig", full)
    result = run_bench(write_model(tmp_path / "a.onnx"), "--plot", tmp_path / "a.png", "--json")
    assert result.exit_code == 2
    cure = "cannot be written: No space left on device; name another file"
    assert result.stderr == f"error: {tmp_path / 'a.png'}: {cure}\n"
    assert json.loads(result.stdout)["models"][0]["name"] == "a.onnx"
