"""The zoo: its tables from fixed results, its sweep when models fail, and one model from end to end."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tools import zoo
from tools.zoo_subject import Difference, Result, difference, time_interleaved
from tools.zoo_table import page, section

GOOD = Result(
    framework="keras",
    name="MobileNet",
    input="224×224×3",
    layers=91,
    parameters=4_253_864,
    nodes=(90, 58),
    weights=(4_226_010, 4_221_036),
    file_bytes=(17_000_000, 16_900_000),
    images=4,
    threads=2,
    passes=4,
    seconds={"predict": 0.2, "compiled": 0.08, "onnx": 0.06, "optimized": 0.04},
    convert_seconds=5.81,
    optimize_seconds=2.72,
    logits=Difference(max_abs=1.2e-4, mean_abs=2.6e-5, relative=3.3e-6, magnitude=36.0),
    final=Difference(max_abs=1.4e-5, mean_abs=1.8e-8, relative=2.3e-5, magnitude=0.6),
    exported_logits=Difference(max_abs=1.1e-4, mean_abs=2.5e-5, relative=3.1e-6, magnitude=36.0),
    exporter="tf2onnx 1.17.0",
    parity="passed",
    verification="passed",
    notes=("batch is dynamic",),
    setup="Some CPU, 2 cores, Linux; Python 3.11.7",
    day="2026-11-22",
)
WRONG = dataclasses.replace(
    GOOD,
    name="NASNetMobile",
    seconds={"predict": 2.0, "compiled": 0.16, "onnx": 0.02, "optimized": 0.02},
    logits=Difference(max_abs=0.3, mean_abs=6.1e-2, relative=8.6e-3, magnitude=35.0),
    rolled_back=("fuse_relu at y: y | differs",),
    notes=(),
    day="2026-11-23",
)
FAILED = Result("keras", "VGG16", failure="stopped after 3 s")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "CACHE", tmp_path)
    return tmp_path


def options(*names: str, again: bool = False) -> argparse.Namespace:
    return argparse.Namespace(
        framework="keras", names=list(names), images=1, rounds=1, threads=1, timeout=3.0, again=again
    )


def test_the_tables_say_what_was_measured() -> None:
    lines = list(section("keras", [GOOD, WRONG, FAILED]))
    assert lines[:2] == [
        "Machine: Some CPU, 2 cores, Linux; Python 3.11.7.",
        "2 threads for each variant, 4 inputs one at a time, the fastest of 4 passes; "
        "2026-11-22 to 2026-11-23.",
    ]
    assert lines[3] == (
        "1 of 3 models exported, optimized and right, 1 rewrites rolled back; geometric mean of the speed-up "
        "of the optimized file over tf.function 4.00×, over the exported file 1.22×."
    )
    assert (
        "| MobileNet | 224×224×3 | 91 | 90 → 58 | 4,226,010 → 4,221,036 | 200 | 80 | 60 | 40 | "
        "2.00× (1.50×) | 5.8 | 2.7 |"
    ) in lines
    assert (
        "| MobileNet | tf2onnx 1.17.0 | passed | passed | 0 | 1.1e-04 (3.1e-06) | 1.2e-04 (3.3e-06) | "
        "2.6e-05 | 1.4e-05 (2.3e-05) | 1.8e-08 |"
    ) in lines
    assert (
        "| NASNetMobile | tf2onnx 1.17.0 | passed | passed | fuse_relu at y: y \\| differs | "
        "1.1e-04 (3.1e-06) | **3.0e-01 (8.6e-03)** | 6.1e-02 | 1.4e-05 (2.3e-05) | 1.8e-08 |"
    ) in lines
    assert "- batch is dynamic (MobileNet)" in lines
    assert lines[-1] == "| VGG16 | stopped after 3 s |"


def test_a_page_has_a_section_for_each_framework_that_was_measured() -> None:
    torch = dataclasses.replace(GOOD, framework="torch", name="vit", day="2026-11-24")
    titles = [line for line in page([GOOD, torch]).splitlines() if line.startswith("## ")]
    assert titles == ["## Keras", "## PyTorch"]
    assert "## PyTorch" not in page([GOOD])
    assert "torch.inference_mode" in "\n".join(section("torch", [torch]))


def test_results_measured_otherwise_are_told_apart() -> None:
    other = dataclasses.replace(WRONG, threads=1)
    lines = "\n".join(section("keras", [GOOD, other]))
    assert "Machine: Some CPU, 2 cores, Linux; Python 3.11.7. (MobileNet)\n2 threads" in lines
    assert "Machine: Some CPU, 2 cores, Linux; Python 3.11.7. (NASNetMobile)\nOne thread" in lines


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    GOOD.save(tmp_path / "keras" / "MobileNet.json")
    loaded = Result.load(tmp_path / "keras" / "MobileNet.json")
    assert list(section("keras", [loaded])) == list(section("keras", [GOOD]))
    FAILED.save(tmp_path / "VGG16.json")
    assert Result.load(tmp_path / "VGG16.json").failure == FAILED.failure


def test_rounds_go_forwards_and_backwards() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds, passes = time_interleaved(calls, rounds=3)
    assert order[:12] == [*"abccbaabccba"]
    assert passes >= 6 and len(order) == 3 * passes
    assert seconds.keys() == {"a", "b", "c"}


def test_the_difference_is_over_all_batches() -> None:
    expected = [[np.array([1.0, -8.0])], [np.array([2.0, 4.0])]]
    found = [[np.array([1.0, -8.0])], [np.array([2.0, 3.0])]]
    assert difference(expected, found, 0) == Difference(1.0, 0.25, 0.125, 8.0)


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.array([1.0])])
def test_no_difference_of_what_cannot_be_compared(bad: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    with pytest.raises(RuntimeError, match="output 0"):
        difference([[np.array([1.0, 2.0])]], [[bad]], 0)


def test_a_sweep_goes_on_after_a_crash_and_measures_it_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def child(command: list[str], timeout: float) -> tuple[str, float]:
        name = command[command.index("keras") + 1]
        asked.append(name)
        if name == "VGG16":
            raise RuntimeError(f"stopped after {timeout:.0f} s")
        dataclasses.replace(GOOD, name=name).save(zoo.cached("keras", name))
        return "", 0.0

    monkeypatch.setattr(zoo, "run_child", child)
    monkeypatch.setattr(zoo, "names_of", lambda framework: ["MobileNet", "VGG16", "Xception"])
    zoo.sweep(options())
    assert [(result.name, result.failure) for result in zoo.results_of("keras")] == [
        ("MobileNet", ""),
        ("VGG16", "stopped after 3 s"),
        ("Xception", ""),
    ]
    zoo.sweep(options())
    zoo.sweep(options("MobileNet"))
    assert asked == ["MobileNet", "VGG16", "Xception", "VGG16", "MobileNet"]
    zoo.sweep(options(again=True))
    assert asked[5:] == ["MobileNet", "VGG16", "Xception"]


def test_a_model_that_raises_is_a_row(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.zoo_torch_subject.subject", lambda *arguments: 1 / 0)
    zoo.run_one("torch", "gru", images=1, rounds=1, threads=1)
    (result,) = zoo.results_of("torch")
    assert result.failure == "ZeroDivisionError: division by zero"


def test_one_model_from_end_to_end(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.run_one("torch", "lstm", images=2, rounds=1, threads=1)
    saved = cache / "zoo.md"
    monkeypatch.setattr("sys.argv", ["zoo", "torch", "--table", "--save", str(saved)])
    zoo.main()
    assert "| lstm | sequence 9×12 |" in capsys.readouterr().out
    assert "| lstm | sequence 9×12 |" in saved.read_text()
    (row,) = json.loads(saved.with_suffix(".json").read_text())
    assert row["failure"] == "" and row["parity"] == row["verification"] == "passed"
    assert row["nodes"][1] < row["nodes"][0]
    assert row["images"] == 2 and row["threads"] == 1
    assert all(row["seconds"][variant] > 0 for variant in ("predict", "compiled", "onnx", "optimized"))
    assert 0 <= row["logits"]["relative"] < 1e-5 and row["logits"]["magnitude"] > 0.01
