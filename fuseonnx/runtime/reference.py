"""What the original answers, and how far it moves when it is only evaluated in another valid way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.samples import load_samples
from fuseonnx.runtime.session import Feeds, open_session, replay, run
from fuseonnx.runtime.sizes import InputSpec, input_specs
from fuseonnx.runtime.uses import Uses
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

if TYPE_CHECKING:
    import onnxruntime

_SECONDS = 3.0
_FEWEST_RUNS = 4
_MOST_BYTES = 256 << 20
"""Runs are added until the original took this long or its outputs this much, but at least the fewest."""


@dataclass(frozen=True)
class Signature:
    """Names and onnxruntime types, such as `tensor(float)`, of a model's inputs and outputs, in order."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession) -> Signature:
        """Return the signature of an open model."""
        return cls(
            tuple((value.name, value.type) for value in session.get_inputs()),
            tuple((value.name, value.type) for value in session.get_outputs()),
        )

    def difference(self, other: Signature) -> str:
        """Return how `other` deviates, or an empty string."""
        for what in ("inputs", "outputs"):
            expected, found = getattr(self, what), getattr(other, what)
            if expected != found:
                return f"{what} are {_listed(found)} instead of {_listed(expected)}"
        return ""


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


@dataclass(frozen=True)
class Reference:
    """All that is needed to judge a candidate."""

    signature: Signature
    runs: list[Run]
    rounding: Rounding
    notes: tuple[str, ...]


def build_reference(
    original: Path,
    graph_of: onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]],
    samples: Path | None,
    seed: int,
    threads: int,
) -> Reference | str:
    """Run the original on samples and generated inputs and measure its noise.

    Returns one line instead when that is impossible: onnxruntime is missing or cannot load it, no input is
    accepted, every output is random. Raises OptionError when shapes or samples do not fit the model.
    """
    uses = Uses(graph_of)
    notes: list[str] = []
    try:
        specs = input_specs(graph_of, uses, shapes)
        given = load_samples(samples, specs) if samples else []
        generated = _generate(original, graph_of, shapes, seed, threads, notes)
        session = open_session(original, threads=threads)
        runs = _answer(session, given, generated, notes)
    except BackendError as error:
        return str(error)
    if not runs:
        return f"{original}: no generated input is accepted: give --input-shape or --samples; {notes[-1]}"
    signature = Signature.of(session)
    if uses.unseeded_random:
        _mark_random(session, runs)
    random = [
        name for (name, _), output in zip(signature.outputs, runs[0].outputs, strict=True) if output.random
    ]
    if random:
        notes.append(f"not compared, random ({', '.join(uses.unseeded_random)}): {', '.join(random)}")
    if len(random) == len(signature.outputs):
        return notes[-1]
    del session
    rounding = Rounding(uses.precision, sum(node.op_type != "Constant" for node in uses.nodes))
    _measure_noise(original, runs, rounding, uses.has_steps, threads, notes)
    notes += _single_sizes(specs, runs)
    return Reference(signature, runs, rounding, tuple(notes))


def _generate(
    original: Path,
    graph_of: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    seed: int,
    threads: int,
    notes: list[str],
) -> list[tuple[str, Feeds]]:
    """Return generated inputs whose sizes the original accepts."""
    session = open_session(original, threads=threads)
    refused: list[str] = []

    def accepts(feeds: Feeds) -> bool:
        try:
            run(session, feeds)
        except BackendError as error:
            refused.append(str(error))
            return False
        return True

    generated = list(make_inputs(graph_of, shapes=shapes, seed=seed, accepts=accepts))
    if refused:
        notes.append(f"{len(refused)} input sizes were refused by the original, at first: {refused[0][:160]}")
    return generated


def _answer(
    session: onnxruntime.InferenceSession,
    given: list[tuple[str, Feeds]],
    generated: list[tuple[str, Feeds]],
    notes: list[str],
) -> list[Run]:
    """Run the original, at least four times and then while it is quick and its outputs are small."""
    runs: list[Run] = []
    started, size = time.monotonic(), 0
    for number, (label, feeds) in enumerate([*given, *generated]):
        if len(runs) >= _FEWEST_RUNS and (time.monotonic() - started > _SECONDS or size > _MOST_BYTES):
            notes.append(f"a large model: {len(runs)} of {len(given) + len(generated)} runs were made")
            break
        try:
            outputs = [Expected(leaves(value)) for value in run(session, feeds)]
        except BackendError as error:
            if number < len(given):
                raise OptionError(f"{label}: the original does not run on this sample: {error}") from None
            notes.append(f"run {label!r} was refused by the original: {error}")
            continue
        size += sum(leaf.nbytes for output in outputs for leaf in output.leaves)
        runs.append(Run(label, feeds, outputs))
    return runs


def _mark_random(session: onnxruntime.InferenceSession, runs: list[Run]) -> None:
    """Mark the outputs that differ when the same session runs again: its generators have moved on."""
    again = run(session, runs[0].feeds)
    for outputs, value in zip(zip(*(known.outputs for known in runs), strict=True), again, strict=True):
        first, found = outputs[0].leaves, leaves(value)
        if mismatch(first, found) or not all(map(_identical, first, found)):
            for output in outputs:
                output.random = True


def _identical(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes() if is_float(a.dtype) else bool((a == b).all())


def _measure_noise(
    original: Path, runs: list[Run], rounding: Rounding, has_steps: bool, threads: int, notes: list[str]
) -> None:
    """Fill in the noise of all runs: inputs moved by one ulp, then onnxruntime's optimizations."""
    for outputs in zip(*(known.outputs for known in runs), strict=True):
        scale = max(largest(output.leaves) for output in outputs)
        for output in outputs:
            output.scale = scale
    jittered = replay(original, [_jitter(known.feeds) for known in runs], threads=threads)
    optimized = replay(original, [known.feeds for known in runs], optimized=True, threads=threads)
    try:
        for known, values in zip(runs, jittered, strict=True):
            for expected, value in zip(known.outputs, values, strict=True):
                _move(expected, leaves(value), rounding, any_size=True)
        for known, values in zip(runs, optimized, strict=True):
            for expected, value in zip(known.outputs, values, strict=True):
                if not _move(expected, leaves(value), rounding, any_size=has_steps):
                    notes.append(f"run {known.label!r}: onnxruntime's own optimizations change the answer")
    except BackendError as error:
        notes.append(f"noise is measured in part only: {error}")
    for outputs in zip(*(known.outputs for known in runs), strict=True):
        _pool(outputs, has_steps)


def _move(expected: Expected, found: list[Array], rounding: Rounding, *, any_size: bool) -> bool:
    """Count one re-evaluation of an output as noise; return False when it is too far off to be noise.

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


def _jitter(feeds: Feeds) -> Feeds:
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


def _single_sizes(specs: Sequence[InputSpec], runs: Sequence[Run]) -> list[str]:
    """Return a note for every dynamic dimension that had the same size in all runs."""
    notes = []
    for spec in specs:
        for axis, dim in enumerate(spec.dims if spec.kind == "tensor" else ()):
            sizes = {known.feeds[spec.name].shape[axis] for known in runs}
            if isinstance(dim, str) and dim not in spec.dictated and len(sizes) == 1:
                notes.append(f"dimension {axis} of input {spec.name!r} ({dim}) was always {sizes.pop()}")
    return notes


def _listed(values: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in values) or "none"
