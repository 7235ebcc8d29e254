"""What a benchmark says of given times; no test here depends on how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from fuseonnx.errors import BackendError
from fuseonnx.runtime import benchmark as module
from fuseonnx.runtime.benchmark import Benchmark, benchmark
from fuseonnx.runtime.memory import Memory
from fuseonnx.runtime.providers import CPU, Backend
from fuseonnx.runtime.race import Call, Heats

Build = Callable[..., Path]

FEEDS = {"x": np.ones((4, 3), np.float32)}


@pytest.fixture
def relu(build: Build) -> Path:
    return build(
        [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )


@pytest.fixture
def as_measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Heats], None]:
    """`as_measured(heats)`: every race finds these times, after it has run what it was given once."""
    monkeypatch.setattr(module, "measure_memory", lambda *_: Memory(100, 200, 300))

    def fix(found: Heats) -> None:
        def race(openers: Sequence[Callable[[], Call]], **_: Any) -> Heats:
            for opener in openers:
                opener()()
            return found

        monkeypatch.setattr(module, "heats", race)

    return fix


def _heats(*entrants: Sequence[float], reopened: bool = True) -> Heats:
    """Ten heats, in each of which an entrant has these runs; loading takes as many seconds as runs ms."""
    return Heats(
        [[1000 * runs[0]] * 10 for runs in entrants], [[list(runs)] * 10 for runs in entrants], reopened
    )


def _benchmark(relu: Path, names: str = "ab", batch: int | None = 4) -> Benchmark:
    return benchmark(dict.fromkeys(names, relu), [(batch, FEEDS)], CPU)


def test_latency_is_of_single_runs(relu: Path, as_measured: Callable[[Heats], None]) -> None:
    runs = [number / 1000 for number in range(1, 102)]
    as_measured(_heats(runs, runs))
    latency = _benchmark(relu).points[0].latencies[0]
    assert latency.runs == 1010
    assert (latency.p50, latency.p90, latency.p99) == pytest.approx((0.051, 0.091, 0.1), abs=1e-3)
    assert latency.mean == pytest.approx(0.051)
    assert len(latency.percentiles) == 101
    assert (latency.percentiles[0], latency.percentiles[100]) == (0.001, 0.101)
    assert latency.throughput == pytest.approx(4 / 0.051)


def test_all_are_compared_with_the_first(relu: Path, as_measured: Callable[[Heats], None]) -> None:
    as_measured(_heats([0.002], [0.001], [0.003], [0.002]))
    found = _benchmark(relu, "abcd")
    ratios = [latency.ratio for latency in found.points[0].latencies]
    assert ratios[0] is None
    assert [(each.median, each.verdict) for each in ratios if each] == [
        (0.5, "faster"),
        (1.5, "slower"),
        (1.0, "no difference"),
    ]
    loading = [entrant.load_ratio.median for entrant in found.models if entrant.load_ratio]
    assert loading == [0.5, 1.5, 1.0]
    assert [entrant.load_seconds for entrant in found.models] == [2.0, 1.0, 3.0, 2.0]


def test_without_a_batch_throughput_counts_runs(relu: Path, as_measured: Callable[[Heats], None]) -> None:
    as_measured(_heats([0.01], [0.01]))
    assert _benchmark(relu, batch=None).points[0].latencies[0].throughput == pytest.approx(100)


def test_sessions_opened_once_are_told(relu: Path, as_measured: Callable[[Heats], None]) -> None:
    as_measured(_heats([0.01], [0.01]))
    assert not _benchmark(relu).notes
    as_measured(_heats([0.01], [0.01], reopened=False))
    assert "opened only once" in _benchmark(relu).notes[0]


def test_json_holds_what_the_tables_show(relu: Path, as_measured: Callable[[Heats], None]) -> None:
    as_measured(_heats([0.002], [0.001]))
    document = json.loads(_benchmark(relu).to_json())
    assert document["points"][0]["inputs"] == {"x": "float32[4,3]"}
    assert document["points"][0]["latencies"][1]["ratio"] == {
        "median": 0.5,
        "low": 0.5,
        "high": 0.5,
        "rounds": 10,
        "verdict": "faster",
    }
    assert document["provider"] == "CPUExecutionProvider"
    assert document["models"][0]["assignment"] == "1 node: 1 on CPU"


def test_a_real_race(relu: Path) -> None:
    found = benchmark({"a": relu, "b": relu}, [(4, FEEDS)], Backend(threads=1), seconds=0.01)
    for latency in found.points[0].latencies:
        assert 0 < latency.percentiles[0] <= latency.p50 <= latency.p99 <= latency.percentiles[100]
        assert latency.runs >= 7
    ratio = found.points[0].latencies[1].ratio
    assert ratio is not None
    assert ratio.low <= ratio.median <= ratio.high
    assert all(entrant.load_seconds > 0 for entrant in found.models)
    assert all(entrant.memory and entrant.memory.added > 0 for entrant in found.models)


def test_a_model_that_does_not_run_is_named(relu: Path) -> None:
    with pytest.raises(BackendError, match=r"original\.onnx") as raised:
        benchmark({"a": relu}, [(1, {"x": np.ones((1, 7), np.float32)})], CPU, seconds=0.01)
    assert "\n" not in str(raised.value)
