"""What the original answers to test inputs, and with how much noise."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.noise import Expected, Run, count_as_noise, measure_noise
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.samples import Samples, load_samples
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.signature import Signature
from fuseonnx.runtime.sizes import InputSpec, input_specs
from fuseonnx.runtime.state import rollout
from fuseonnx.runtime.uses import Uses, machine_epsilon
from fuseonnx.runtime.values import Array, Rounding, is_float, leaves, mismatch

if TYPE_CHECKING:
    import onnxruntime

Attempt: TypeAlias = Callable[[Feeds], Sequence[Any]]
"""Runs some model; raises BackendError for inputs that it refuses."""

_SECONDS = 3.0
_FEWEST_RUNS = 4
_MOST_BYTES = 256 << 20
"""Runs are added until the original took this long or its outputs this much, but at least the fewest."""


@dataclass(frozen=True)
class Reference:
    """All that is needed to judge a candidate."""

    signature: Signature
    runs: list[Run]
    rounding: Rounding
    notes: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Why the original refused inputs of valid sizes."""


def build_reference(
    original: Path,
    graph_of: onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]],
    samples: Samples | None,
    seed: int,
    backend: Backend,
    attempt: Attempt | None = None,
    examples: Feeds | None = None,
) -> Reference | str:
    """Run the original on samples and generated inputs and measure its noise.

    What counts are its answers on the CPU; `backend`, where candidates run, adds to the noise. `attempt`
    decides which input sizes are valid; by default the original itself. `examples` are run where there are
    no samples, and no generated input is valid. Returns one line instead when that
    is impossible: onnxruntime is missing or cannot load it, no input is accepted, every output is random.
    Raises OptionError when shapes or samples do not fit the model.
    """
    uses = Uses(graph_of)
    notes: list[str] = []
    try:
        specs = input_specs(graph_of, uses, shapes)
        given = load_samples(samples, specs, notes) if samples else []
        cpu = Backend(threads=backend.threads)
        attempt = attempt or partial(run, open_session(original, cpu))
        generated = _generate(graph_of, shapes, seed, attempt, notes)
        if examples and not (given or generated):
            given = [("example", examples)]
        session = open_session(original, cpu)
        runs, refused = _answer(session, given, generated, notes)
        runs += rollout(session, graph_of, specs, runs[0], notes) if runs else []
    except BackendError as error:
        return str(error)
    if not runs:
        return f"{original}: no generated input is accepted: give --input-shape or --inputs; {notes[-1]}"
    signature = Signature.of(session)
    random = _mark_random(session, runs) if uses.unseeded_random else []
    if random:
        notes.append(f"not compared, random ({', '.join(uses.unseeded_random)}): {', '.join(random)}")
    if len(random) == len(signature.outputs):
        return (
            f"{original}: every output is random ({', '.join(uses.unseeded_random)}): nothing can be"
            " compared; give these operators a seed"
        )
    del session
    rounding = Rounding(
        max(uses.precision, _precision(backend)), sum(node.op_type != "Constant" for node in uses.nodes)
    )
    measure_noise(original, runs, rounding, uses.has_steps, backend, notes)
    notes += _single_sizes(specs, runs)
    return Reference(signature, runs, rounding, tuple(notes), tuple(refused))


def _precision(backend: Backend) -> float:
    """Return the machine epsilon of the float type to which a provider was asked to round, else 0."""
    halves = {"trt_fp16_enable": np.dtype(np.float16), "trt_bf16_enable": np.dtype(ml_dtypes.bfloat16)}
    asked = [
        dtype for key, dtype in halves.items() if backend.provider.options.get(key, "0") in {"1", "True"}
    ]
    return max(map(machine_epsilon, asked), default=0.0)


def answered_by(reference: Reference, frameworks: Sequence[Attempt]) -> Reference | str:
    """Return the reference with the answers of another model, or why that refuses every run.

    The first of `frameworks` is what counts; by how much the others differ from it is noise.
    """
    runs: list[Run] = []
    refused: list[str] = []
    for known in reference.runs:
        try:
            values, *others = [framework(known.feeds) for framework in frameworks]
        except BackendError as error:
            refused.append(f"the framework refuses run {known.label!r}: {error}")
            continue
        if len(values) != len(known.outputs):
            return f"the framework gives {len(values)} outputs, the export {len(known.outputs)}"
        outputs = [_answered(*each) for each in zip(known.outputs, values, strict=True)]
        for other in others:
            for expected, value in zip(outputs, other, strict=True):
                count_as_noise(expected, value, reference.rounding)
        runs.append(Run(known.label, known.feeds, outputs))
    return replace(reference, runs=runs, notes=(*reference.notes, *refused)) if runs else refused[0]


def _answered(expected: Expected, value: Any) -> Expected:
    """Return an output with another value, and noise of its own."""
    answered = copy.copy(expected)
    answered.leaves, answered.noise, answered.stable = leaves(value), [*expected.noise], [*expected.stable]
    return answered


def _generate(
    graph_of: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    seed: int,
    attempt: Attempt,
    notes: list[str],
) -> list[tuple[str, Feeds]]:
    """Return generated inputs of valid sizes."""
    refused: list[str] = []

    def accepts(feeds: Feeds) -> bool:
        try:
            attempt(feeds)
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
) -> tuple[list[Run], list[str]]:
    """Run the original, at least four times and then while it is quick and its outputs are small.

    Returns its answers, and why it refused the inputs that it refused.
    """
    runs: list[Run] = []
    refused: list[str] = []
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
            refused.append(f"onnxruntime refuses run {label!r}: {error}")
            continue
        size += sum(leaf.nbytes for output in outputs for leaf in output.leaves)
        runs.append(Run(label, feeds, outputs))
    notes += refused
    return runs, refused


def _mark_random(session: onnxruntime.InferenceSession, runs: list[Run]) -> list[str]:
    """Mark and name the outputs that differ when one session runs again: its generators have moved on.

    In all runs, as a few random bits may well come out alike.
    """
    names = [declared.name for declared in session.get_outputs()]
    random: set[int] = set()
    for known in runs:
        for index, value in enumerate(run(session, known.feeds)):
            if not identical(known.outputs[index].leaves, leaves(value)):
                random.add(index)
    for known in runs:
        for index in random:
            known.outputs[index].random = True
    return [names[index] for index in sorted(random)]


def identical(first: Sequence[Array], second: Sequence[Array]) -> bool:
    """Return whether two outputs are equal bit by bit, words in an array of strings as such."""
    return not mismatch(first, second) and all(
        a.tobytes() == b.tobytes() if is_float(a.dtype) else bool((a == b).all())
        for a, b in zip(first, second, strict=True)
    )


def _single_sizes(specs: Sequence[InputSpec], runs: Sequence[Run]) -> list[str]:
    """Return a note for every dynamic dimension that had the same size in all runs."""
    notes = []
    for spec in specs:
        for axis, dim in enumerate(spec.dims if spec.kind == "tensor" else ()):
            sizes = {known.feeds[spec.name].shape[axis] for known in runs}
            if isinstance(dim, str) and dim not in spec.dictated and len(sizes) == 1:
                notes.append(f"dimension {axis} of input {spec.name!r} ({dim}) was always {sizes.pop()}")
    return notes
