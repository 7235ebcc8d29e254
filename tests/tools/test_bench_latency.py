"""The latency benchmark: its tables from fixed figures, its judgement of files, a sweep of failing tools."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import make_model, node
from tools import bench_latency, bench_latency_race
from tools.bench_latency_table import Entry, Left, Result, page, summary, table

FUSEONNX, CPU = "fuseonnx", "fuseonnx --target cpu"


def entry(ratio: float, load_ratio: float = 1.0) -> Entry:
    return Entry("", ratio, ratio - 0.01, ratio + 0.01, 10 * ratio, load_ratio, 5 * load_ratio)


def result(name: str, ours: float, cpu: float, peer: float, **changes: Any) -> Result:
    found = Result(
        name=name,
        input="image 1×224×224×3",
        original=entry(1.0),
        entries={FUSEONNX: entry(ours, 0.5), CPU: entry(cpu), "onnxsim": entry(peer)},
        left={
            "original": Left(0.5, 0.3, 12, ["Conv 50%", "Mul 9%"]),
            FUSEONNX: Left(0.7, 0.2, 2, ["Conv 70%"]),
        },
        rounds=41,
        setup="Some CPU, 2 cores",
        day="2026-11-22",
    )
    return dataclasses.replace(found, **changes)


def last_cells(found: Result) -> list[str]:
    return [cell.strip() for cell in list(table([found]))[-1].split("|")[-4:-1]]


@pytest.mark.parametrize(
    ("name", "ours", "cpu", "peer", "expected"),
    [
        ("densenet121", 0.86, 0.95, 0.99, ["onnxsim 0.99", "≤ 0.86", "yes"]),
        ("densenet121", 0.87, 0.86, 0.80, ["onnxsim 0.80", "≤ 0.86", "with --target cpu"]),
        ("densenet121", 0.87, 0.87, 0.99, ["onnxsim 0.99", "≤ 0.86", "**no**"]),
        ("bert_6", 0.98, 0.99, 0.99, ["onnxsim 0.99", "< 0.99, best peer", "yes"]),
        ("bert_6", 0.99, 0.99, 0.99, ["onnxsim 0.99", "< 0.99, best peer", "**no**"]),
        ("torch.vit", 0.99, 0.99, 0.99, ["onnxsim 0.99", "", ""]),
    ],
)
def test_a_target_is_met_or_not(name: str, ours: float, cpu: float, peer: float, expected: list[str]) -> None:
    assert last_cells(result(name, ours, cpu, peer)) == expected


def test_a_failed_file_is_no_peer_and_meets_nothing() -> None:
    bad = Entry(failure="wrong: output 0 is 1.0e+00 off | far")
    entries = {FUSEONNX: bad, CPU: bad, "onnxsim": entry(0.99), "onnxslim": bad}
    rows = list(table([result("densenet121", 1, 1, 1, entries=entries)]))
    assert rows[0].startswith("| model | input | original, ms | fuseonnx | fuseonnx --target cpu | onnxsim |")
    assert rows[-1] == (
        "| densenet121 | image 1×224×224×3 | 10 "
        + 2 * "| failed: wrong: output 0 is 1.0e+00 off \\| far "
        + "| 0.99 (0.98–1.00) | failed: wrong: output 0 is 1.0e+00 off \\| far "
        + "| onnxsim 0.99 | ≤ 0.86 | **no** |"
    )


def test_the_summary_means_over_the_files_that_are_right() -> None:
    alone = {FUSEONNX: entry(0.8), CPU: entry(0.8), "onnxsim": Entry(failure="it crashed")}
    rows = summary(
        [result("a", 0.9, 1.02, 1.0), result("b", 0.4, 1.0, 0.81), result("c", 1, 1, 1, entries=alone)]
    )
    assert list(rows)[2:] == [
        # 0.9 · 0.4 · 0.8 = 0.288, whose cube root is 0.660; loads 0.5 · 0.5 · 1
        "| fuseonnx | 3 | 0 | 0.660 (≤ 0.90: yes) | a 0.90 (0.89–0.91) (≤ 1.01: yes) | 0.630 (≤ 0.80: yes) |",
        "| fuseonnx --target cpu | 3 | 0 | 0.934 (≤ 0.90: **no**) | a 1.02 (1.01–1.03) (≤ 1.01: **no**) "
        "| 1.000 (≤ 0.80: **no**) |",
        "| onnxsim | 2 | 1 | 0.900 | a 1.00 (0.99–1.01) | 1.000 |",
    ]


def test_the_page_has_every_part_and_says_what_failed() -> None:
    failed = Result("nasnet_mobile", failure="stopped after 900 s")
    lines = list(
        page([result("densenet121", 0.9, 0.8, 1), result("torch.vit", 0.9, 0.8, 1, left={}), failed])
    )
    assert [line for line in lines if line.startswith("### ")] == [
        "### Models with a target",
        "### All others",
        "### What is left",
    ]
    assert sum("→ 70%" in line for line in lines) == 1
    assert "| densenet121 | 50% → 70% | 30% → 20% | 12 → 2 | Conv 70% |" in lines
    assert lines[-1] == "- nasnet_mobile failed: stopped after 900 s"


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    saved = result("densenet121", 0.9, 0.8, 1)
    saved.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == saved


def test_answers_are_judged_by_shape_and_by_distance() -> None:
    right = [np.array([1.0, -4.0], np.float32)]
    assert bench_latency_race.distances(right, [np.array([1.0, -3.0], np.float32)]) == [0.25]
    assert bench_latency_race.wrong(right, [np.array([1.0, -3.9], np.float32)], [0.03]) == ""
    assert "2.5e-01 off" in bench_latency_race.wrong(right, [np.array([1.0, -3.0], np.float32)], [0.03])
    assert "nan off" in bench_latency_race.wrong(right, [np.array([1.0, np.nan], np.float32)], [0.03])
    assert "shapes" in bench_latency_race.wrong(right, [np.array([[1.0, -4.0]], np.float32)], [0.03])
    assert "dtypes" in bench_latency_race.wrong(right, [np.array([1.0, -4.0])], [0.03])


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """An original, a copy, and files that are of no use."""
    for name, op in (("original", "Abs"), ("copy", "Abs"), ("other", "Neg"), ("unknown", "Abs")):
        onnx.save(make_model([node(op, "x", "y")], {"x": ["n", 3]}, ["y"]), tmp_path / f"{name}.onnx")
    unknown = onnx.load(tmp_path / "unknown.onnx")
    unknown.graph.node[0].op_type = "Abbs"
    onnx.save(unknown, tmp_path / "unknown.onnx")
    return {path.stem: str(path) for path in tmp_path.glob("*.onnx")}


def test_files_of_no_use_are_told_and_the_others_raced(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bench_latency_race, "inputs_of", lambda name, _: {"x": np.array([[1, -2, 3]], np.float32)}
    )
    original = models.pop("original")
    saved = tmp_path / "result.json"
    bench_latency_race.race_all(saved, 0.02, "densenet121", original, models)
    found = Result.load(saved)
    assert found.input == "x 1×3"
    assert found.entries["other"].failure == "wrong: output 0 is 2.0e+00 off, relative to its magnitude"
    assert "Abbs" in found.entries["unknown"].failure
    copy = found.entries["copy"]
    assert copy.low <= copy.ratio <= copy.high
    assert found.original.ratio == 1.0
    assert found.rounds >= bench_latency_race.MIN_ROUNDS
    assert list(found.left) == ["original"]


def test_a_sweep_goes_on_after_a_failure_and_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_latency, "RESULTS", tmp_path)
    asked: list[str] = []

    def measure(name: str, seconds: float, timeout: float) -> Result:
        asked.append(name)
        if name == "bert_6":
            raise RuntimeError("it crashed")
        return result(name, 0.9, 0.9, 1)

    monkeypatch.setattr(bench_latency, "measure", measure)
    options = argparse.Namespace(names=[], again=False, seconds=1.0, timeout=9.0)
    bench_latency.sweep(["torch.vit", "bert_6", "densenet121"], options)
    bench_latency.sweep(["torch.vit", "bert_6", "densenet121"], options)
    assert asked == ["torch.vit", "bert_6", "densenet121", "bert_6"]
    assert "[2/3] bert_6: it crashed" in capsys.readouterr().err
    assert [found.name for found in bench_latency.results()] == ["densenet121", "bert_6", "torch.vit"]
