"""Whatever is wrong: exit code 2, one line that names the file, the input untouched, nothing written."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

Maker = Callable[[Path], Path]


def _relu(path: Path, opset: int = 17) -> Path:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(model.SerializeToString())
    return path


def _bytes(content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "bad.onnx"
        path.write_bytes(content)
        return path

    return make


def _truncated(folder: Path) -> Path:
    path = _with_weight(folder, location=None)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _missing(folder: Path) -> Path:
    return folder / "missing.onnx"


def _empty_folder(folder: Path) -> Path:
    path = folder / "models"
    path.mkdir()
    (path / "earlier.opt.onnx").write_bytes(b"a result is not a model to optimize")
    return path


def _with_weight(folder: Path, location: str | None) -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2000], bytes(8000), raw=True)
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2000]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:], [weight])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _missing_data(folder: Path) -> Path:
    return _with_weight(folder, "weights.bin")


def _escaping_data(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(8000))
    inner = folder / "inner"
    inner.mkdir()
    return _with_weight(inner, "../weights.bin")


def _cyclic(folder: Path) -> Path:
    path = _relu(folder / "bad.onnx")
    model = onnx.load(path)
    model.graph.node[0].input[0] = "b"
    model.graph.node.extend([helper.make_node("Relu", ["y"], ["b"])])
    onnx.save(model, path)
    return path


def _unknown_opset(folder: Path) -> Path:
    return _relu(folder / "bad.onnx", opset=9999)


BAD_INPUTS: dict[str, Maker] = {
    "random bytes": _bytes(bytes((7 * i * i + 13 * i) % 256 for i in range(5000))),
    "text": _bytes(b"# A model\nThis is a text file, not a model.\n"),
    "empty": _bytes(b""),
    "truncated": _truncated,
    "missing file": _missing,
    "folder without models": _empty_folder,
    "missing external data": _missing_data,
    "external data outside the folder": _escaping_data,
    "cyclic graph": _cyclic,
    "unknown opset": _unknown_opset,
}


@pytest.mark.parametrize("make", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
@pytest.mark.parametrize("command", ["optimize", "inspect"])
def test_bad_input(
    command: str, make: Maker, tmp_path: Path, run_cli: Any, check_error: Any, snapshot: Any
) -> None:
    path = make(tmp_path)
    before = snapshot(tmp_path)
    check_error(run_cli(command, path), path.name)
    assert snapshot(tmp_path) == before


def test_debug_shows_the_traceback(tmp_path: Path, run_cli: Any) -> None:
    result = run_cli("optimize", tmp_path / "missing.onnx", "--debug")
    assert result.exit_code != 0
    assert type(result.exception).__name__ == "ModelLoadError"


@pytest.mark.parametrize(
    "place", ["nowhere/out.onnx", "file/out.onnx"], ids=["missing folder", "not writable"]
)
def test_bad_output_folder(
    place: str, tmp_path: Path, run_cli: Any, check_error: Any, write_model: Any, snapshot: Any
) -> None:
    model = write_model(tmp_path / "model.onnx")
    (tmp_path / "file").write_bytes(b"nothing can be created below a file")
    before = snapshot(tmp_path)
    check_error(run_cli("optimize", model, "-o", tmp_path / place), "out.onnx")
    assert snapshot(tmp_path) == before


def test_disk_full(
    tmp_path: Path,
    run_cli: Any,
    check_error: Any,
    write_model: Any,
    snapshot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = write_model(tmp_path / "model.onnx")
    before = snapshot(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run_cli("optimize", model)
    check_error(result, "model.opt.onnx")
    assert os.strerror(errno.ENOSPC) in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_output_where_nothing_can_be_created(
    tmp_path: Path, run_cli: Any, check_error: Any, write_model: Any
) -> None:
    model = write_model(tmp_path / "model.onnx")
    check_error(run_cli("optimize", model, "-o", "/proc/out.onnx"), "/proc/out.onnx")


def test_unexpected_error_is_one_line_too(
    tmp_path: Path, run_cli: Any, write_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model.onnx")

    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("fuseonnx.api.optimize", broken)
    result = run_cli("optimize", model)
    assert result.exit_code == 2
    reason = "unexpected ZeroDivisionError: first line second line; run with --debug and report it"
    assert result.stderr == f"error: {model}: {reason}\n"


CONTRADICTIONS: dict[str, tuple[list[str], str]] = {
    "output and in place": (["a.onnx", "-o", "b.onnx", "--in-place"], "--in-place"),
    "one output file for two models": (["a.onnx", "b.onnx", "-o", "c.onnx"], "c.onnx"),
    "one existing output file for two models": (["a.onnx", "b.onnx", "-o", "file"], "file"),
    "same result twice": (["a.onnx", "sub/a.onnx", "-o", "out"], "a.opt.onnx"),
    "unknown rule in only": (["a.onnx", "--only", "no_such_rule"], "no_such_rule"),
    "unknown rule in skip": (["a.onnx", "--skip", "no_such_rule"], "no_such_rule"),
    "unknown input": (["a.onnx", "--input-shape", "zzz=1,2"], "zzz"),
    "unknown frozen input": (["a.onnx", "--fix-shape", "zzz=1,2"], "zzz"),
    "no shape": (["a.onnx", "--input-shape", "x"], "--input-shape 'x'"),
    "no numbers": (["a.onnx", "--fix-shape", "x=1,a"], "--fix-shape 'x=1,a'"),
    "negative dim": (["a.onnx", "--fix-shape", "x=-1,4"], "--fix-shape 'x=-1,4'"),
    "input twice": (["a.onnx", "--input-shape", "x=1", "--input-shape", "x=2"], "twice"),
    "missing samples": (["a.onnx", "--inputs", "none.npz"], "none.npz"),
}


@pytest.mark.parametrize(("arguments", "named"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_bad_options(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    run_cli: Any,
    check_error: Any,
    write_model: Any,
    snapshot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.onnx", "b.onnx", "sub/a.onnx", "file"):
        write_model(tmp_path / name)
    before = snapshot(tmp_path)
    check_error(run_cli("optimize", *arguments), named)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("arguments", [["optimize", "--no-such-option"], ["no-such-command"], ["explain"]])
def test_usage_errors_exit_with_2(arguments: list[str], run_cli: Any) -> None:
    result = run_cli(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output
