"""How far a model's answers move when it is only evaluated in another valid way."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fuseonnx.errors import BackendError
from fuseonnx.runtime.providers import CPU_PROVIDER, Backend
from fuseonnx.runtime.session import Feeds, replay
from fuseonnx.runtime.values import (
    MULTIPLE,
    Array,
    Rounding,
    is_float,
    largest,
    leaves,
    mismatch,
    units_moved,
)


@dataclass
class Expected:
    """One output in one run: its arrays, and for each its noise and which elements can be compared."""

    leaves: list[Array]
    noise: list[float] = field(init=False)
    stable: list[Array] = field(init=False)
    scale: float = 0.0
    """Largest magnitude of this output in any run."""
    random: bool = False
    """Whether it differs from run to run: then only dtypes and shapes are compared."""
    wrong_by_default: bool = False
    """Whether onnxruntime's default level changes it by more than noise: then that level is not compared."""
    shape_varies: bool = False
    """Whether rounding alone changes the shape, as it can behind a threshold: then nothing is compared."""

    def __post_init__(self) -> None:
        self.noise = [0.0] * len(self.leaves)
        self.stable = [np.array(True)] * len(self.leaves)


@dataclass(frozen=True)
class Run:
    """One set of inputs and what the original answers."""

    label: str
    feeds: Feeds
    outputs: list[Expected]


def measure_noise(
    original: Path, runs: list[Run], rounding: Rounding, has_steps: bool, backend: Backend, notes: list[str]
) -> None:
    """Fill in the noise of all runs: inputs moved by one ulp, then onnxruntime's optimizations.

    On a `backend` other than the CPU the original runs there, too. `has_steps` says that rounding can make
    the model jump, `notes` gets what the reader should know.
    """
    for outputs in zip(*(known.outputs for known in runs), strict=True):
        scale = max(largest(output.leaves) for output in outputs)
        for output in outputs:
            output.scale = scale
    cpu = Backend(threads=backend.threads)
    feeds = [known.feeds for known in runs]
    jittered = replay(original, map(jitter, feeds), cpu)
    optimized = replay(original, feeds, cpu, optimized=True)
    try:
        for known, values in zip(runs, jittered, strict=True):
            for expected, value in zip(known.outputs, values, strict=True):
                count_as_noise(expected, value, rounding)
        for known, values in zip(runs, optimized, strict=True):
            for expected, value in zip(known.outputs, values, strict=True):
                if not move(expected, leaves(value), rounding, any_size=has_steps):
                    expected.wrong_by_default = True
                    notes.append(f"run {known.label!r}: onnxruntime's own optimizations change the answer")
        if backend.provider.name != CPU_PROVIDER.name:
            _count_provider(original, runs, rounding, has_steps, backend, notes)
    except BackendError as error:
        notes.append(f"noise is measured in part only: {error}")
        for expected in (output for known in runs for output in known.outputs):
            expected.wrong_by_default = True
    for outputs in zip(*(known.outputs for known in runs), strict=True):
        _pool(outputs, has_steps)


def _count_provider(
    original: Path, runs: list[Run], rounding: Rounding, has_steps: bool, backend: Backend, notes: list[str]
) -> None:
    """Count as noise what the original answers on another provider, as far as that is rounding."""
    elsewhere = replay(original, [known.feeds for known in runs], backend, optimized=True)
    for known, values in zip(runs, elsewhere, strict=True):
        for expected, value in zip(known.outputs, values, strict=True):
            if not move(expected, leaves(value), rounding, any_size=has_steps):
                notes.append(f"run {known.label!r}: {backend.provider.name} itself changes the answer")


def count_as_noise(expected: Expected, value: Any, rounding: Rounding) -> None:
    """Count another valid evaluation of an output as noise, however far off it is."""
    move(expected, leaves(value), rounding, any_size=True)


def move(expected: Expected, found: list[Array], rounding: Rounding, *, any_size: bool) -> bool:
    """Count a re-evaluation of an output as noise; return False, and do not, when it is too far off for that.

    Unless `any_size` is noise, it has to be near the noise known so far or keep half of the digits.
    """
    if expected.random:
        return True
    if mismatch(expected.leaves, found):
        expected.shape_varies |= any_size
        return any_size
    credible = True
    for index, (leaf, other) in enumerate(zip(expected.leaves, found, strict=True)):
        moved, same = units_moved(leaf, other, rounding, expected.scale)
        known = expected.noise[index]
        limit = max(MULTIPLE * known, rounding.half_the_digits(leaf.dtype)) if is_float(leaf.dtype) else known
        if any_size or moved <= limit:
            expected.noise[index] = max(known, moved)
            expected.stable[index] = expected.stable[index] & same
        else:
            credible = False
    return credible


def _pool(outputs: Sequence[Expected], has_steps: bool) -> None:
    """Raise the noise of one output to what is usual over its runs: one run may be quiet by chance.

    Usual is the median, or the maximum in a model with steps, where a jump is rare and large.
    """
    for floats in (True, False):
        places = [
            (output, index)
            for output in outputs
            for index, leaf in enumerate(output.leaves)
            if is_float(leaf.dtype) is floats and leaf.size
        ]
        noise = [output.noise[index] for output, index in places]
        if not noise or not (floats or has_steps):
            continue
        usual = max(noise) if has_steps else statistics.median(noise)
        for output, index in places:
            output.noise[index] = max(output.noise[index], usual)


def jitter(feeds: Feeds) -> Feeds:
    """Return the feeds with every float but zero moved by one ulp up or down at random."""
    rng = np.random.default_rng(0)

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(element) for element in value]
        if not is_float(value.dtype):
            return value
        towards = rng.choice(np.array([-np.inf, np.inf]), value.shape).astype(value.dtype)
        return np.where(value == 0, value, np.nextafter(value, towards))

    return {name: moved(value) for name, value in feeds.items()}
