"""Read the user's own inputs: one `.npz` file, or one mapping, is one run; its keys are input names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile
from zlib import error as ZlibError  # noqa: N812

import numpy as np

from fuseonnx.errors import OptionError
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.sizes import InputSpec

Array = np.ndarray[Any, np.dtype[Any]]
Given: TypeAlias = Mapping[str, Any] | tuple[Mapping[str, Any], Any]
"""Input name to array, with the labels under `label` or `labels`; or (inputs, labels)."""
Samples: TypeAlias = Path | Iterable[Given] | Callable[[], Iterable[Given]]
"""An `.npz` file, a folder of them, or what gives samples, each time that it is asked."""

MOST_SAMPLES = 32
"""Only the first samples are compared, those of a folder in the order of their names."""

LABELS = ("label", "labels")

UNREADABLE = (OSError, ValueError, EOFError, BadZipFile, ZlibError)
"""What numpy raises for a file that is missing, damaged or something else."""


@dataclass(frozen=True)
class Sample:
    """The inputs of one run, and the class of each row if it is known."""

    label: str
    feeds: Feeds
    labels: Array | None = None


def load_samples(samples: Samples, specs: Sequence[InputSpec], notes: list[str]) -> list[tuple[str, Feeds]]:
    """Return (label, feeds) of the first 32 samples, see `read_samples`; note whether there are more."""
    several = read_samples(samples, specs)
    found = [(sample.label, sample.feeds) for sample in islice(several, MOST_SAMPLES)]
    if next(several, None):
        notes.append(f"of the samples only the first {MOST_SAMPLES} were compared")
    return found


def first_sample(samples: Samples, specs: Sequence[InputSpec]) -> tuple[str, Feeds]:
    """Return (label, feeds) of the first sample, see `read_samples`."""
    sample = next(read_samples(samples, specs))
    return sample.label, sample.feeds


def read_samples(samples: Samples, specs: Sequence[InputSpec]) -> Iterator[Sample]:
    """Yield the samples one by one, labels apart.

    Arrays are fed as they are, cast to the input's dtype where numpy calls that safe or of the same kind.
    Where the model takes only so many rows at a time and a sample has a multiple of them, it is cut.
    Raises OptionError when there is no sample, or one that does not hold exactly the model's inputs.
    """
    names = {spec.name for spec in specs}
    empty = True
    for label, given in _each(samples):
        empty = False
        arrays, labels = given if isinstance(given, tuple) else (given, None)
        arrays = dict(arrays)
        for key in LABELS:
            if key in arrays and key not in names:
                labels = arrays.pop(key)
        feeds = _fitted(label, arrays, specs)
        yield from _cut(Sample(label, feeds, None if labels is None else np.asarray(labels)), specs)
    if empty:
        raise OptionError("there are no samples; give at least one")


def _each(samples: Samples) -> Iterator[tuple[str, Given]]:
    if isinstance(samples, Path):
        files = sorted(samples.glob("*.npz")) if samples.is_dir() else [samples]
        if not files:
            raise OptionError(f"{samples}: the folder has no .npz file")
        yield from ((file.name, _load(file)) for file in files)
        return
    several = samples() if callable(samples) else samples
    if isinstance(several, Mapping):
        raise OptionError("the samples are one mapping of inputs; give a list of them, [samples]")
    for number, given in enumerate(several):
        inputs = given[0] if isinstance(given, tuple) and len(given) == 2 else given
        if not isinstance(inputs, Mapping):
            raise OptionError(f"sample {number}: give a mapping of inputs, or (inputs, labels)")
        yield f"sample {number}", given


def _load(file: Path) -> dict[str, Array]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise OptionError(f"{file}: holds an array without a name; write numpy.savez(file, input=array)")
        with loaded as archive:
            return dict(archive)
    except UNREADABLE as error:
        raise OptionError(f"{file}: not a readable .npz file: {why_unreadable(error)}") from None


def why_unreadable(error: Exception) -> str:
    """Return what is wrong with a file that numpy cannot read; numpy's own words tell to trust pickles."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "write it with numpy.savez or numpy.save, arrays of numbers or strings only"


def _fitted(label: str, given: Mapping[str, Any], specs: Sequence[InputSpec]) -> Feeds:
    dtypes = {spec.name: spec.dtype for spec in specs if spec.kind == "tensor"}
    if given.keys() != {spec.name for spec in specs}:
        expected = sorted(spec.name for spec in specs)
        raise OptionError(f"{label}: holds {sorted(given)}, the model's inputs are {expected}")
    try:
        arrays = {name: np.asarray(value) if name in dtypes else value for name, value in given.items()}
    except ValueError as error:  # lists of different lengths
        raise OptionError(f"{label}: not every value is an array: {error}") from None
    for name, dtype in dtypes.items():
        if not np.can_cast(arrays[name].dtype, dtype, "same_kind"):
            raise OptionError(f"{label}: {name!r} is {arrays[name].dtype}, the model takes {dtype}")
        arrays[name] = arrays[name].astype(dtype)
    return arrays


def _cut(sample: Sample, specs: Sequence[InputSpec]) -> Iterator[Sample]:
    """Yield a sample in pieces of the model's fixed batch size, or whole if it has none or does not fit."""
    batches = {spec.dims[0] if spec.dims and spec.kind == "tensor" else None for spec in specs}
    batch = batches.pop() if len(batches) == 1 else None
    rows = {len(value) if np.ndim(value) else 0 for value in sample.feeds.values()}
    count = rows.pop() if len(rows) == 1 else 0
    if not isinstance(batch, int) or batch < 1 or count <= batch or count % batch:
        yield sample
        return
    for start in range(0, count, batch):
        rows_of = slice(start, start + batch)
        labels = sample.labels[rows_of] if sample.labels is not None else None
        feeds = {name: value[rows_of] for name, value in sample.feeds.items()}
        yield Sample(f"{sample.label}[{start}:{start + batch}]", feeds, labels)
