"""`fuseonnx place`: what it prints and writes, and what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import typer
from typer.testing import CliRunner, Result

from fuseonnx.cli.place import place
from tests.placement.detector import detector

WriteModel = Callable[..., Path]
CheckError = Callable[[Result, str], None]


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(place)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table(output: str, title: str) -> list[list[str]]:
    """Return the cells of the table under a title, the header left out."""
    lines = output.split(f"\n{title}\n")[1].split("\n\n", maxsplit=1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(detector(), tmp_path / "detector.onnx")
    return tmp_path / "detector.onnx"


def test_tables(model: Path) -> None:
    result = run(model)
    assert result.exit_code == 0, result.output
    heading = f"{model}: 23 nodes on the GPU, 16 on the CPU, 1 copy of 11.5 kB a run"
    assert result.stdout.splitlines()[0].strip() == heading
    summary = {row[0]: row[1:] for row in table(result.stdout, "Placement")}
    assert summary["nodes on the GPU"] == ["39", "23"]
    assert summary["copies a run (Memcpy nodes)"] == ["0", "1"]
    assert summary["bytes of inputs and outputs that cross"] == ["196.6 kB", "196.6 kB"]
    reasons = {row[0]: row[1:] for row in table(result.stdout, "Why not on the GPU")}
    waits = "data-dependent: the CPU waits for the size"
    assert reasons[waits] == ["1", "NonMaxSuppression"]
    assert table(result.stdout, "Copies") == [["predictions", "GPU block 0 -> CPU block 1", "11.5 kB"]]
    assert [row[:3] for row in table(result.stdout, "Blocks")] == [["0", "GPU", "23"], ["1", "CPU", "16"]]
    assert "nothing is written: -o OUT.onnx" in result.stdout
    assert [path.name for path in model.parent.iterdir()] == ["detector.onnx"]


def test_output_is_written(model: Path) -> None:
    out = model.with_name("out.onnx")
    result = run(model, "-o", out, "--standard")
    assert result.exit_code == 0, result.output
    assert f"fuseonnx.load_session('{out}')" in result.stdout
    assert "the IR version is raised from 10 to 11" in result.stdout
    assert onnx.load(out).configuration[0].name == "fuseonnx"


def test_inspect_names_the_devices(model: Path, run_cli: Callable[..., Result]) -> None:
    run(model, "-o", model.with_name("out.onnx"))
    shown = run_cli("inspect", model.with_name("out.onnx"))
    assert "23 on gpu, 16 on CPUExecutionProvider" in shown.stdout
    assert json.loads(run_cli("inspect", model, "--json").stdout)["devices"] == {}


def test_json_and_nothing_else(model: Path) -> None:
    read = json.loads(run(model, "--json", "--pin", "NonMaxSuppression=cpu", "--pin", "Exp=cuda").stdout)
    device_of = {node["op_type"]: node["device"] for node in read["nodes"]}
    assert (device_of["NonMaxSuppression"], device_of["Exp"]) == ("cpu", "gpu")
    assert read["settings"] == "gpu(=G);CPUExecutionProvider(=C)"
    assert sum(read["placed"]["nodes"].values()) == len(read["nodes"])
    assert read["placed"]["copied_bytes"] == sum(hop["nbytes"] for hop in read["placed"]["hops"])


def test_top_limits_copies_and_blocks(model: Path) -> None:
    rules = ("--pin", "Exp=cpu", "--pin", "name:/head0.conv/*=cpu", "--pin", "name:/predictions/*=cuda")
    result = run(model, *rules, "--top", 1)
    assert "The 1 first of 4 blocks" in result.stdout
    assert len(table(result.stdout, "The 1 first of 4 blocks")) == 1
    none = run(model, *rules, "--top", 0)
    assert "first of" not in none.stdout
    assert "largest of" not in none.stdout


def test_plot(model: Path, tmp_path: Path) -> None:
    assert run(model, "--plot", tmp_path / "a.svg").exit_code == 0
    assert "<!-- 1 copy, 11.5 kB -->" in (tmp_path / "a.svg").read_text()


def test_input_shape(tmp_path: Path, write_model: WriteModel) -> None:
    path = write_model(tmp_path / "m.onnx", batch="N")
    read = json.loads(run(path, "--json", "--input-shape", "x=5,4,8,8", "--pin", "*=cuda").stdout)
    assert read["placed"]["fed_bytes"] == 2 * 5 * 4 * 8 * 8 * 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.onnx"], "missing.onnx: cannot be read"),
        (["m.onnx", "-o", "m.onnx"], "m.onnx: would overwrite the model"),
        (["m.onnx", "--pin", "Relu"], "--pin 'Relu': write OPERATOR=DEVICE"),
        (["m.onnx", "--pin", "Relu=tpu"], "no device is called 'tpu'"),
        (["m.onnx", "--pin", "Gemm=cpu"], "matches no node"),
        (["m.onnx", "--provider", "cpu"], "give the provider on the other one"),
        (["m.onnx", "--plot", "a.pdf"], "a.pdf: a plot is a .png or .svg file"),
        (["m.onnx", "--input-shape", "x=1,2"], "has rank 2, the model has 4"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    write_model: WriteModel,
    check_error: CheckError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    result = run(*arguments)
    check_error(result, reason)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
