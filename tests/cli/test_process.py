"""The command line as a process of its own: kills, interrupts, pipes, terminals, and what it imports."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

COMMAND = [sys.executable, "-m", "fuseonnx"]
PATIENCE = 120.0  # seconds until a process that hangs fails its test


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _drafts(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*") if path.is_dir()]


def _wait_for_draft(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _drafts(folder):
        assert process.poll() is None, f"ended before it wrote anything: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def big_model(tmp_path: Path, write_model: Any) -> Path:
    """A model of 5 MB whose verification takes a while."""
    path: Path = write_model(tmp_path / "model.onnx", blocks=8, channels=128)
    return path


def test_kill_leaves_the_old_output_and_the_input_whole(big_model: Path, snapshot: Any) -> None:
    output = big_model.with_name("model.opt.onnx")
    output.write_bytes(b"the result of an earlier run")
    before = snapshot(big_model.parent)
    process = _start("optimize", big_model)
    _wait_for_draft(process, big_model.parent)
    process.kill()
    process.communicate()
    after = snapshot(big_model.parent)
    assert {name: after[name] for name in before} == before
    assert _start("optimize", big_model, "--no-verify").wait(PATIENCE) == 0
    assert snapshot(big_model.parent).keys() == {"model.onnx", "model.opt.onnx"}
    onnx.checker.check_model(output)


@pytest.mark.parametrize("delay", [0.4, 0.8, 1.2, 1.6])
def test_kill_at_any_moment_leaves_no_part_of_a_file(delay: float, big_model: Path, snapshot: Any) -> None:
    before = snapshot(big_model.parent)
    process = _start("optimize", big_model)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert snapshot(big_model.parent)["model.onnx"] == before["model.onnx"]
    output = big_model.with_name("model.opt.onnx")
    if output.exists():
        onnx.checker.check_model(output)


def test_kill_in_place_leaves_the_model_whole(big_model: Path, snapshot: Any) -> None:
    before = snapshot(big_model.parent)
    process = _start("optimize", big_model, "--in-place")
    _wait_for_draft(process, big_model.parent)
    process.kill()
    process.communicate()
    assert snapshot(big_model.parent)["model.onnx"] == before["model.onnx"]


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("batch", [False, True], ids=["one model", "batch"])
def test_interrupt_is_one_line_and_leaves_nothing(batch: bool, big_model: Path, snapshot: Any) -> None:
    before = snapshot(big_model.parent)
    process = _start("optimize", big_model.parent if batch else big_model)
    _wait_for_draft(process, big_model.parent)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    # Python ends itself by the signal, for shells also 130, if it came while a string was being evaluated
    assert process.returncode in (130, -signal.SIGINT)
    # Python writes more above it if the signal came within a callback
    assert (stdout, stderr.splitlines()[-1]) == ("", "error: interrupted")
    assert snapshot(big_model.parent) == before


def test_pipe_has_no_colours_and_cuts_no_names(tmp_path: Path, write_model: Any) -> None:
    name = "/decoder/" + "/".join(f"layers.{i}" for i in range(15)) + "/output"
    model = write_model(tmp_path / "model.onnx", output=name)
    for command in ("optimize", "inspect"):
        shown = subprocess.run([*COMMAND, command, str(model)], capture_output=True, text=True, check=True)
        assert name in shown.stdout
        assert "\x1b" not in shown.stdout
        assert shown.stderr == ""


def test_terminal_of_80_columns_shows_whole_names(tmp_path: Path, write_model: Any) -> None:
    name = "/decoder/" + "/".join(f"layers.{i}" for i in range(15)) + "/output"
    model = write_model(tmp_path / "model.onnx", output=name)
    for command in ("optimize", "inspect"):
        lines = _on_terminal([*COMMAND, command, str(model)], columns=80)
        assert max(map(len, lines)) <= 80
        first_column = "".join(line.split()[0] for line in lines if line and not line.startswith(" "))
        assert name in first_column


@pytest.mark.parametrize("columns", [60, 80])
def test_narrow_terminal_shows_what_counts_of_a_comparison(
    columns: int, tmp_path: Path, write_model: Any
) -> None:
    model = str(write_model(tmp_path / "model.onnx"))
    lines = _on_terminal([*COMMAND, "verify", model, model], columns)
    assert max(map(len, lines)) <= columns
    head = next(number for number, line in enumerate(lines) if line.startswith("output "))
    assert {"max", "noise"} <= set(lines[head].split())
    (row,) = re.findall(r"^y .* ok$", lines[head + 1])
    assert len(re.findall(r"\b\d\.\de[+-]\d\d\b", row)) >= 2
    assert any(line.startswith("note: a wider terminal also shows: mean") for line in lines)


def _on_terminal(command: list[str], columns: int) -> list[str]:
    """Run a command with stdout on a terminal; return its lines without colour codes."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, columns))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(command, stdout=child, env={**environment, "TERM": "xterm"})
    os.close(child)
    written = b"".join(iter(_reader(parent), b""))  # what one read gives may end within a letter
    os.close(parent)
    assert process.wait(PATIENCE) == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).splitlines()


def _reader(descriptor: int) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            return b""

    return read


def test_reader_that_stops_early_is_no_error(tmp_path: Path, write_model: Any) -> None:
    process = _start("optimize", write_model(tmp_path / "model.onnx"), "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(PATIENCE)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["tables", "JSON"])
def test_a_reader_that_stops_early_is_no_difference(
    options: tuple[str, ...], tmp_path: Path, write_model: Any
) -> None:
    model = write_model(tmp_path / "model.onnx")
    process = _start("verify", model, model, *options)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_closed_stdout_is_no_error(options: str, tmp_path: Path, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx")
    command = shlex.join([*COMMAND, "profile", str(model), "--runs", "1"])
    closing = ["sh", "-c", f"{command} {options} >&-"]
    shown = subprocess.run(closing, capture_output=True, text=True, check=True)
    assert shown.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["optimize", "--help"], ["inspect", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fuseonnx", *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"numpy", "onnx", "onnx_ir", "onnxruntime", "rich.console", "torch", "tensorflow"}


def test_version() -> None:
    import fuseonnx

    shown = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"fuseonnx {fuseonnx.__version__}\n"
