from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuseonnx.errors import OptionError
from fuseonnx.runtime.samples import MOST_SAMPLES, load_samples, read_samples
from fuseonnx.runtime.sizes import InputSpec

X = InputSpec("x", np.dtype(np.float32), ("n", 3), {})
FIXED = InputSpec("x", np.dtype(np.float32), (2, 3), {})


def array(rows: int, start: int = 0) -> np.ndarray[Any, np.dtype[Any]]:
    return np.arange(start, start + rows * 3, dtype=np.float64).reshape(rows, 3)


def test_a_file_and_mappings_and_a_function_give_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=array(2), label=[1, 0])
    given: list[Any] = [
        tmp_path / "a.npz",
        tmp_path,
        [{"x": array(2), "labels": [1, 0]}],
        [({"x": array(2)}, [1, 0])],
        lambda: iter([({"x": array(2)}, np.array([1, 0]))]),
    ]
    for source in given:
        (sample,) = read_samples(source, [X])
        assert sample.feeds["x"].dtype == np.float32
        assert np.array_equal(sample.feeds["x"], array(2))
        assert sample.labels is not None and sample.labels.tolist() == [1, 0]


def test_a_function_is_asked_anew_each_time() -> None:
    def samples() -> Any:
        yield {"x": array(1)}
        yield {"x": array(2)}

    assert [len(list(read_samples(samples, [X]))) for _ in range(2)] == [2, 2]


def test_label_may_be_the_name_of_an_input() -> None:
    label = InputSpec("label", np.dtype(np.int64), ("n",), {})
    (sample,) = read_samples([{"x": array(2), "label": np.array([3, 4])}], [X, label])
    assert sample.labels is None and sample.feeds["label"].tolist() == [3, 4]


def test_samples_are_cut_to_a_fixed_batch_with_their_labels() -> None:
    samples = list(read_samples([({"x": array(6)}, np.arange(6))], [FIXED]))
    assert [sample.label for sample in samples] == [f"sample 0[{i}:{i + 2}]" for i in (0, 2, 4)]
    assert np.array_equal(np.concatenate([sample.feeds["x"] for sample in samples]), array(6))
    assert [sample.labels.tolist() for sample in samples if sample.labels is not None] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]


@pytest.mark.parametrize("rows", [2, 3, 1])
def test_what_fits_or_cannot_be_cut_stays_whole(rows: int) -> None:
    (sample,) = read_samples([{"x": array(rows)}], [FIXED])
    assert sample.feeds["x"].shape == (rows, 3)


def test_only_the_first_samples_are_compared() -> None:
    given = [{"x": array(1, start)} for start in range(MOST_SAMPLES + 5)]
    notes: list[str] = []
    loaded = load_samples(given, [X], notes)
    assert [feeds["x"][0, 0] for _, feeds in loaded] == list(range(MOST_SAMPLES))
    assert notes == ["of the samples only the first 32 were compared"]
    load_samples(given[:MOST_SAMPLES], [X], notes)
    assert len(notes) == 1
    assert len(list(read_samples(given, [X]))) == MOST_SAMPLES + 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no samples"),
        ({"x": array(1)}, r"one mapping of inputs; give a list of them, \[samples\]"),
        (lambda: {"x": array(1)}, r"one mapping of inputs; give a list of them, \[samples\]"),
        ([np.ones(3)], "sample 0: give a mapping of inputs, or"),
        ([{"x": [[1, 2, 3], [4]]}], "sample 0: not every value is an array: "),
        ([{"y": array(1)}], r"sample 0: holds \['y'\], the model's inputs are \['x'\]"),
        ([{"x": np.ones((1, 3), complex)}], "'x' is complex128, the model takes float32"),
    ],
)
def test_what_does_not_fit_is_refused(given: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        list(read_samples(given, [X]))


def test_a_damaged_file_is_named_and_nobody_is_told_to_trust_pickles(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "damaged.npz", x=np.zeros((1000, 3)))
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "damaged.npz").write_bytes(content)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("x = 1")
    np.save(tmp_path / "array.npy", array(2))
    for name, reason in (
        ("damaged.npz", "not a readable .npz file: write it with numpy.savez"),
        ("empty.npz", "not a readable .npz file: write it with numpy.savez"),
        ("text.npz", "not a readable .npz file: write it with numpy.savez"),
        ("missing.npz", "not a readable .npz file: No such file or directory$"),
        ("array.npy", "holds an array without a name; write numpy.savez"),
    ):
        with pytest.raises(OptionError, match=rf"^{tmp_path / name}: {reason}"):
            load_samples(tmp_path / name, [X], [])
