from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.gpu_check import NO_GPU, Row, main, read_tests, table

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.gpu.test_cuda" name="test_it_runs[cnn]" time="1.25"/>
<testcase classname="tests.gpu.test_cuda" name="test_it_fails" time="0.1">
<failure message="assert 1 == 2&#10; + where 1">long | text</failure></testcase>
<testcase classname="tests.gpu.test_cuda" name="test_it_breaks" time="0.1">
<error message="KeyError: 'x'">trace</error></testcase>
<testcase classname="tests.gpu.test_tensorrt" name="test_it_skips" time="0.0">
<skipped type="pytest.skip" message="libnvinfer.so.10: not found">where</skipped></testcase>
</testsuite></testsuites>
"""


def test_a_junit_file_becomes_rows(tmp_path: Path) -> None:
    path = tmp_path / "tests.xml"
    path.write_text(JUNIT)
    assert list(read_tests(path)) == [
        Row("cuda: it runs[cnn]", "passed", "1.2 s"),
        Row("cuda: it fails", "failed", "assert 1 == 2"),
        Row("cuda: it breaks", "failed", "KeyError: 'x'"),
        Row("tensorrt: it skips", "skipped", "libnvinfer.so.10: not found"),
    ]


def test_rows_become_one_table() -> None:
    assert table("H100, driver 1", [Row("a", "passed"), Row("b", "failed", "x | y\nz")]).splitlines() == [
        "| H100, driver 1 | result | |",
        "|---|---|---|",
        "| a | passed |  |",
        "| b | failed | x \\| y z |",
    ]


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")  # so that what it sets is undone
    assert main() == NO_GPU == 2
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("no GPU: this onnxruntime")
