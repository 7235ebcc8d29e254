from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuseonnx.errors import OptionError
from fuseonnx.runtime.accuracy import Tally, load_labels, measure_accuracy, scores_output
from fuseonnx.runtime.samples import Sample
from fuseonnx.runtime.signature import Port

Array = np.ndarray[Any, np.dtype[Any]]
OUTPUTS = [
    Port("boxes", "tensor(float)", ("n", 7, 4)),
    Port("ids", "tensor(int64)", ("n", 1)),
    Port("logits", "tensor(float)", ("n", 9)),
    Port("features", "tensor(float)", ("n", 32)),
]


def top(scores: Array, labels: Array, k: int) -> float:
    """Count by hand: a label is right if fewer than k scores are higher."""
    return float(np.mean([(row > row[label]).sum() < k for row, label in zip(scores, labels, strict=True)]))


def test_accuracies_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 200, 9)).astype(np.float32)
    labels = np.where(rng.random(200) < 0.5, before.argmax(1), rng.integers(0, 9, 200))
    tally = Tally("logits")
    for rows in (slice(0, 70), slice(70, 71), slice(71, 200)):
        tally.add(before[rows], after[rows], labels[rows])
    found = tally.result()
    assert (found.output, found.rows) == ("logits", 200)
    assert found.top1_before == top(before, labels, 1) > 0.5
    assert found.top1_after == top(after, labels, 1) < 0.2
    assert found.top5_before == top(before, labels, 5)
    assert found.top5_after == top(after, labels, 5)
    assert found.agreement == np.mean(before.argmax(1) == after.argmax(1))


def test_of_equal_scores_the_first_counts_as_argmax_has_it() -> None:
    scores = np.zeros((3, 4), np.float32)
    tally = Tally("y")
    tally.add(scores, scores, np.array([0, 1, 2]))
    assert tally.result().top1_before == np.mean(scores.argmax(1) == [0, 1, 2])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 3, 4)), [0, 1], "is not .rows, classes."),
        (np.zeros((2, 1)), [0, 0], "is not .rows, classes."),
        (np.zeros((2, 3)), [0], "1 labels of int64 for 2 rows"),
        (np.zeros((2, 3)), [0.0, 1.0], "labels of float64"),
        (np.zeros((2, 3)), [1, 3], "the labels are 1 to 3, the classes 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(scores: Array, labels: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Tally("y").add(scores, scores, np.array(labels))


def test_the_scores_are_the_first_float_output_of_rank_2_or_the_one_named() -> None:
    assert scores_output(OUTPUTS, None) == 2
    assert scores_output(OUTPUTS, "features") == 3
    with pytest.raises(OptionError, match="no float output is called 'ids'"):
        scores_output(OUTPUTS, "ids")
    with pytest.raises(OptionError, match="no float output is of rank 2"):
        scores_output(OUTPUTS[:2], None)


def test_labels_come_with_the_samples_or_for_all_of_them() -> None:
    rng = np.random.default_rng(1)
    scores = [rng.normal(size=(rows, 9)).astype(np.float32) for rows in (3, 5)]
    labels = rng.integers(0, 9, 8)

    def model(feeds: Any) -> list[Any]:
        return [None, None, feeds["x"], None]

    split = [Sample("a", {"x": scores[0]}, labels[:3]), Sample("b", {"x": scores[1]}, labels[3:])]
    bare = [Sample(each.label, each.feeds) for each in split]
    found = measure_accuracy(model, model, split, None, OUTPUTS, None)
    assert found == measure_accuracy(model, model, bare, labels, OUTPUTS, None)
    assert found.top5_after == top(np.concatenate(scores), labels, 5)
    with pytest.raises(OptionError, match="a: has no labels"):
        measure_accuracy(model, model, bare, None, OUTPUTS, None)
    with pytest.raises(OptionError, match=r"^b: 4 labels of int64 for 5 rows"):
        measure_accuracy(model, model, bare, labels[:7], OUTPUTS, None)
    with pytest.raises(OptionError, match="9 labels for 8 rows"):
        measure_accuracy(model, model, bare, np.append(labels, 0), OUTPUTS, None)


def test_labels_are_read_from_npy_and_npz(tmp_path: Path) -> None:
    labels = np.array([[3], [1], [2]])
    np.save(tmp_path / "a.npy", labels)
    np.savez(tmp_path / "one.npz", anything=labels)
    np.savez(tmp_path / "named.npz", image=np.ones(3), label=labels)
    np.savez(tmp_path / "which.npz", image=np.ones(3), other=labels)
    for name in ("a.npy", "one.npz", "named.npz"):
        assert load_labels(tmp_path / name).tolist() == [3, 1, 2]
    with pytest.raises(OptionError, match="call the labels 'labels'"):
        load_labels(tmp_path / "which.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("broken.npz", "empty.npy", "missing.npy"):
        with pytest.raises(OptionError, match=rf"{name}: not a readable"):
            load_labels(tmp_path / name)
