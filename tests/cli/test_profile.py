"""`fuseonnx profile`: what it prints, in how much room, and what can go wrong."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import typer
from typer.testing import CliRunner, Result

from fuseonnx.cli.profile import profile
from fuseonnx.profile_tables import diff_sections, profile_sections
from fuseonnx.runtime.profile import GroupTime, NodeTime, OpChange, Profile, ProfileDiff

WriteModel = Callable[..., Path]
CheckError = Callable[[Result, str], None]

LONG = "efficientnet/block2a/expand_activation/mul_1/QuickGeluFusion"
NODES = (
    NodeTime(
        LONG, "QuickGelu", "CPUExecutionProvider", 1, 1.5, 0.6, ("float[1,96,112,112]",), ("float[1,96,9,9]",)
    ),
    NodeTime(
        "Gather_7", "Gather", "CPUExecutionProvider", 1, 0.5, 0.2, ("float[9]", "int64[]"), ("float[]",)
    ),
)
FOUND = Profile(
    model="m.onnx",
    onnxruntime="1.31.1",
    optimized=True,
    provider="CPUExecutionProvider",
    provider_options={},
    assignment="2 nodes: 2 on CPU",
    threads=1,
    inputs={"x": "float32[1,3,224,224]"},
    runs=20,
    warmup=3,
    ms=2.5,
    unprofiled_ms=2.25,
    kinds=(GroupTime("Conv, Gemm, MatMul", 0, 0, 0, 0), GroupTime("outside of operators", 0, 0, 0.5, 0.2)),
    ops=(GroupTime("QuickGelu", 1, 1, 1.5, 0.6), GroupTime("Gather", 1, 1, 0.5, 0.2)),
    nodes=NODES,
)


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(profile)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table(output: str, title: str) -> list[list[str]]:
    """Return the cells of the table under a title, the header left out."""
    lines = output.split(f"\n{title}")[1].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [line.split() for line in lines]


def test_tables_of_one_model(tmp_path: Path, write_model: WriteModel) -> None:
    model = write_model(tmp_path / "m.onnx", blocks=2)
    result = run(model, "--level", "off", "--runs", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{model}: ")
    assert {(row[0], row[1]) for row in table(result.stdout, "Operators")} == {
        ("Conv", "2"),
        ("BatchNormalization", "2"),
        ("Relu", "2"),
    }
    nodes = table(result.stdout, "Nodes")
    assert {row[-1] for row in nodes} == {
        f"{name}{block}" for name in ("Conv", "Bn", "Relu") for block in (0, 1)
    }
    spent = [float(row[0]) for row in nodes]
    assert spent == sorted(spent, reverse=True)
    assert "graph optimizations off" in result.stdout


def test_top_limits_the_nodes(tmp_path: Path, write_model: WriteModel) -> None:
    model = write_model(tmp_path / "m.onnx", blocks=2)
    options = ("--level", "off", "--runs", 1, "--top")
    assert len(table(run(model, *options, 4).stdout, "The 4 slowest of 6 nodes")) == 4
    assert "slowest" not in run(model, *options, 0).stdout


def test_json_and_nothing_else(tmp_path: Path, write_model: WriteModel) -> None:
    model = write_model(tmp_path / "m.onnx")
    read = json.loads(run(model, "--json", "--runs", 1, "--threads", 1).stdout)
    assert (read["model"], read["runs"], read["threads"]) == (str(model), 1, 1)


def test_trace_is_kept_where_it_is_asked_for(tmp_path: Path, write_model: WriteModel) -> None:
    model = write_model(tmp_path / "m.onnx")
    assert run(model, "--runs", 2, "-o", tmp_path / "t.json").exit_code == 0
    names = [event["name"] for event in json.loads((tmp_path / "t.json").read_text())]
    assert names.count("model_run") >= 2


def test_two_models(tmp_path: Path, write_model: WriteModel) -> None:
    before = write_model(tmp_path / "a.onnx", blocks=3)
    after = write_model(tmp_path / "b.onnx", blocks=1)
    result = run(before, after, "--level", "off", "--runs", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{before} -> {after}: ")
    changes = table(result.stdout, "Operators, the largest change first")
    assert {tuple(row[:4]) for row in changes} == {
        (op, "3", "->", "1") for op in ("Conv", "BatchNormalization", "Relu")
    }
    both = json.loads(run(before, after, "--json", "--level", "off", "--runs", 1).stdout)
    assert [len(both[side]["nodes"]) for side in ("before", "after")] == [9, 3]


def test_input_shape_is_taken(tmp_path: Path, write_model: WriteModel) -> None:
    model = write_model(tmp_path / "m.onnx", batch="N")
    read = json.loads(run(model, "--json", "--runs", 1, "--input-shape", "x=5,4,8,8").stdout)
    assert read["inputs"] == {"x": "float32[5,4,8,8]"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.onnx"], "missing.onnx: cannot be read"),
        (["m.onnx", "missing.onnx"], "missing.onnx: cannot be read"),
        (["m.onnx", "other.onnx"], "other.onnx: its inputs are z: tensor(float), those of m.onnx x"),
        (["m.onnx", "-o", "no/t.json"], "no/t.json: there is no folder no"),
        (["m.onnx", "-o", "m.onnx"], "m.onnx: is the model"),
        (["m.onnx", "--input-shape", "x=1,2"], "has rank 2, not 4"),
        (["m.onnx", "--input-shape", "x"], "write NAME=1,3,224,224"),
        (["m.onnx", "--inputs", "no.npz"], "no.npz: not a readable .npz file"),
        (["m.onnx", "--provider", "abacus"], "'abacus' is no execution provider"),
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
    other = onnx.load(tmp_path / "m.onnx")
    other.graph.input[0].name = other.graph.node[0].input[0] = "z"
    onnx.save(other, tmp_path / "other.onnx")
    result = run(*arguments)
    check_error(result, reason)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "other.onnx"}


def test_a_trace_that_cannot_be_written(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(draft: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    model = write_model(tmp_path / "m.onnx")
    monkeypatch.setattr(Path, "replace", full)
    result = run(model, "--runs", 1, "-o", tmp_path / "t.json")
    assert result.exit_code == 2
    cure = "cannot be written: No space left on device; name another file"
    assert result.stderr == f"error: {tmp_path / 't.json'}: {cure}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_node_table_fits_the_terminal(width: int) -> None:
    (nodes,) = [
        section for section in profile_sections(FOUND, top=9, width=width) if section.title == "Nodes"
    ]
    columns = zip(nodes.columns, *nodes.rows, strict=True)
    assert sum(max(map(len, column)) + 2 for column in columns) - 2 <= width
    assert nodes.rows[0][-1].lstrip("…") in LONG
    assert nodes.columns[-2] == ("shapes" if width == 120 else "output")


def test_nothing_is_cut_where_no_terminal_sets_a_width() -> None:
    (nodes,) = [section for section in profile_sections(FOUND, top=9) if section.title == "Nodes"]
    assert nodes.columns == ("ms", "share", "operator", "shapes", "node")
    assert nodes.rows == (
        ("1.500", "60.0%", "QuickGelu", "1x96x112x112 -> 1x96x9x9", LONG),
        ("0.500", "20.0%", "Gather", "9 int64 scalar -> scalar", "Gather_7"),
    )


def test_an_operator_that_only_one_model_has() -> None:
    changes = (OpChange("Mul", (2, 0), (0.5, 0.0)), OpChange("Relu", (0, 1), (0.0, 0.25)))
    diff = ProfileDiff(FOUND, FOUND, 1.0, (), changes)
    _, section, _ = diff_sections(diff)
    assert section.rows == (
        ("Mul", "2 -> 0", "0.500", "0.000", "-0.500", "0.00"),
        ("Relu", "0 -> 1", "0.000", "0.250", "+0.250", ""),
    )


def test_notes_that_only_one_model_has_name_it() -> None:
    before, after = (
        dataclasses.replace(FOUND, model=model, notes=("sizes are a guess", f"{factor} times as long"))
        for model, factor in (("a.onnx", 2), ("b.onnx", 3))
    )
    *_, conditions = diff_sections(ProfileDiff(before, after, 1.0, (), ()))
    assert conditions.notes == (
        "sizes are a guess",
        "a.onnx: 2 times as long",
        "b.onnx: 3 times as long",
    )
