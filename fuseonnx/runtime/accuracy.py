"""Top-1 and top-5 accuracy of a classifier on labelled samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseonnx.errors import OptionError
from fuseonnx.runtime.reference import Attempt
from fuseonnx.runtime.samples import LABELS, UNREADABLE, Sample, why_unreadable
from fuseonnx.runtime.signature import Port

Array = np.ndarray[Any, np.dtype[Any]]

_FLOATS = {"tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)"}


@dataclass(frozen=True)
class Accuracy:
    """Fraction of labelled rows whose class is the highest score, and among the five highest.

    `agreement` is the fraction of rows for which both models give the highest score to the same class.
    """

    output: str
    rows: int
    top1_before: float
    top1_after: float
    top5_before: float
    top5_after: float
    agreement: float


class Tally:
    """Counts right answers of two models, batch by batch."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._rows = 0
        self._right = np.zeros((2, 2), np.int64)  # before and after; top-1 and top-5
        self._agreeing = 0

    def add(self, before: Array, after: Array, labels: Array) -> None:
        """Count a batch: scores of both models [rows, classes], and the class of each row.

        Raises:
            OptionError: there are not as many labels as rows, or one is not a class.
        """
        if before.ndim != 2 or before.shape[1] < 2:
            raise OptionError(f"output {self._output!r} of shape {list(before.shape)} is not [rows, classes]")
        classes = before.shape[1]
        if labels.dtype.kind not in "iu" or labels.size != len(before):
            raise OptionError(
                f"{labels.size} labels of {labels.dtype} for {len(before)} rows; give one class number a row"
            )
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
            raise OptionError(
                f"the labels are {labels.min()} to {labels.max()}, the classes 0 to {classes - 1};"
                " give class numbers from 0 on"
            )
        ranked = [np.argsort(-scores.astype(np.float64), axis=1, kind="stable") for scores in (before, after)]
        found = [ranking[:, :5] == labels.reshape(-1, 1) for ranking in ranked]
        self._right += [[int(hits[:, 0].sum()), int(hits.sum())] for hits in found]
        self._agreeing += int((ranked[0][:, 0] == ranked[1][:, 0]).sum())
        self._rows += len(labels)

    def result(self) -> Accuracy:
        """Return the accuracies over all batches."""
        (top1_before, top5_before), (top1_after, top5_after) = (self._right / self._rows).tolist()
        return Accuracy(
            self._output,
            self._rows,
            top1_before,
            top1_after,
            top5_before,
            top5_after,
            self._agreeing / self._rows,
        )


def scores_output(outputs: Sequence[Port], wanted: str | None) -> int:
    """Return the position of the output with the scores: `wanted`, or the first float output of rank 2.

    Raises:
        OptionError: there is none.
    """
    if wanted is None:
        fitting = [i for i, port in enumerate(outputs) if port.type in _FLOATS and len(port.dims) in {0, 2}]
    else:
        fitting = [i for i, port in enumerate(outputs) if port.name == wanted and port.type in _FLOATS]
    if not fitting:
        listed = ", ".join(f"{port.name}: {port.type}" for port in outputs)
        what = f"called {wanted!r}" if wanted else "of rank 2"
        raise OptionError(f"no float output is {what} to compare labels with; the outputs are {listed}")
    return fitting[0]


def measure_accuracy(
    before: Attempt,
    after: Attempt,
    samples: Iterable[Sample],
    labels: Array | None,
    outputs: Sequence[Port],
    wanted: str | None,
) -> Accuracy:
    """Run two models on labelled samples, and count how often each is right.

    Args:
        before: runs the original.
        after: runs the candidate, which gives the original's outputs in the original's order.
        samples: inputs, with their labels unless `labels` holds those of all samples, in order.
        labels: class numbers, or None.
        outputs: the outputs of both.
        wanted: name of the output with the scores, None for the first float output of rank 2.

    Raises:
        OptionError: labels are missing, or do not fit.
        BackendError: a model refuses a sample.
    """
    position = scores_output(outputs, wanted)
    tally = Tally(outputs[position].name)
    start = 0
    for sample in samples:
        scores = np.asarray(before(sample.feeds)[position])
        rows = len(scores) if scores.ndim else 0
        known = sample.labels if labels is None else labels[start : start + rows]
        if known is None:
            raise OptionError(f"{sample.label}: has no labels; give all samples some, or --labels")
        start += rows
        try:
            tally.add(scores, np.asarray(after(sample.feeds)[position]), known)
        except OptionError as error:
            raise OptionError(f"{sample.label}: {error}") from None
    if labels is not None and start != len(labels):
        raise OptionError(f"{len(labels)} labels for {start} rows of samples; give one class number a row")
    return tally.result()


def load_labels(path: Path) -> Array:
    """Read class numbers from an `.npy` file, or an `.npz` file with one array or one called `labels`.

    Raises:
        OptionError: the file cannot be read, or holds something else.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded.reshape(-1)
        with loaded as archive:
            named = [name for name in LABELS if name in archive] or list(archive)
            if len(named) != 1:
                raise OptionError(f"{path}: holds {sorted(archive)}; call the labels 'labels'")
            return np.asarray(archive[named[0]]).reshape(-1)
    except UNREADABLE as error:
        raise OptionError(f"{path}: not a readable .npy or .npz file: {why_unreadable(error)}") from None
