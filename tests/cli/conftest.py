"""Models written to disk, and the command line run on them."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from fuseonnx.cli import app

WriteModel = Callable[..., Path]
RunCli = Callable[..., Result]
CheckError = Callable[[Result, str], None]
Snapshot = Callable[[Path], dict[str, str]]


def conv_model(blocks: int, channels: int, output: str = "y", batch: int | str = 1) -> onnx.ModelProto:
    """A chain of Conv 3x3 -> BatchNormalization (random statistics) -> Relu on [batch, channels, 8, 8]."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for block in range(blocks):
        last = block == blocks - 1
        shapes = {"w": (channels, channels, 3, 3), "s": (channels,), "b": (channels,), "m": (channels,)}
        arrays = {key: rng.normal(size=shape) / channels for key, shape in shapes.items()}
        arrays["v"] = rng.uniform(0.5, 2.0, size=channels)
        weights += [
            numpy_helper.from_array(array.astype(np.float32), f"{key}{block}")
            for key, array in arrays.items()
        ]
        scale = [f"{key}{block}" for key in "sbmv"]
        result = output if last else f"relu{block}"
        nodes += [
            helper.make_node("Conv", [value, f"w{block}"], [f"conv{block}"], f"Conv{block}", pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"conv{block}", *scale], [f"bn{block}"], f"Bn{block}"),
            helper.make_node("Relu", [f"bn{block}"], [result], f"Relu{block}"),
        ]
        value = result
    shape = [batch, channels, 8, 8]
    graph = helper.make_graph(
        nodes,
        "convs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def write_model() -> WriteModel:
    """`write_model(path, blocks=2, channels=4, output="y", batch=1)` saves a `conv_model` at `path`."""

    def write(
        path: Path, blocks: int = 2, channels: int = 4, output: str = "y", batch: int | str = 1
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(conv_model(blocks, channels, output, batch), path)
        return path

    return write


@pytest.fixture
def run_cli() -> RunCli:
    """`run_cli("optimize", path)` runs the command line in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def check_error() -> CheckError:
    """`check_error(result, text)` asserts that a command failed with one line on stderr that has the text."""

    def check(result: Result, text: str) -> None:
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert text in result.stderr
        assert "unexpected" not in result.stderr

    return check


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C is heard, here and in processes started here; a shell lets those in its background ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture
def snapshot() -> Snapshot:
    """`snapshot(folder)` returns every path below a folder with the SHA-256 of its bytes."""

    def take(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
            for path in sorted(folder.rglob("*"))
        }

    return take
