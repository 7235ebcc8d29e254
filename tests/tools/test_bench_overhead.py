"""The overhead benchmark: its table from fixed figures, and that all ways to call a network agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools import bench_overhead
from tools.bench_overhead import Timing, table


def test_the_table_scales_to_ten_thousand_predictions() -> None:
    measured = {"dense": [Timing("predict", 50_000.0, 40), Timing("onnxruntime", 12.5, 9000)]}
    assert list(table(measured))[2:] == [
        "| dense | predict | 50,000.0 | 500.00 | 4,000.0 | 40 |",
        "| dense | onnxruntime | 12.5 | 0.12 | 1.0 | 9,000 |",
    ]


@pytest.mark.parametrize("network", bench_overhead.NETWORKS)
def test_all_calls_of_a_framework_give_the_same_answer(network: str, tmp_path: Path) -> None:
    calls = bench_overhead.calls_of(network, tmp_path)
    answers = {way: np.ravel(np.asarray(call())) for way, call in calls.items()}
    for framework, ways in (("Keras", 5), ("PyTorch", 4)):
        own = [answer for way, answer in answers.items() if framework in way]
        assert len(own) == ways
        for answer in own:
            np.testing.assert_allclose(answer, own[0], atol=1e-5)
            np.testing.assert_allclose(answer.sum(), 1.0, rtol=1e-5)
