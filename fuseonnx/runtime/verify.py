"""Decide on onnxruntime whether an artifact gives the original's answers.

What counts is what the original answers with onnxruntime's optimizations off. The artifact has to give that
with them off and at the default level, which is what people run: a rewrite can leave a form that
onnxruntime's own optimizations break. Where they break the original, too, that level is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import onnx

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.report import OutputDifference, Verification
from fuseonnx.runtime.accuracy import Accuracy, measure_accuracy
from fuseonnx.runtime.divergence import Divergence, Subject, find_divergence
from fuseonnx.runtime.judging import judge_output
from fuseonnx.runtime.metrics import worst_of
from fuseonnx.runtime.noise import Run
from fuseonnx.runtime.providers import CPU, CPU_PROVIDER, Backend, for_equivalence
from fuseonnx.runtime.reference import Attempt, Reference, answered_by, build_reference
from fuseonnx.runtime.samples import Sample, Samples, read_samples
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.signature import Matching, Port, Signature
from fuseonnx.runtime.sizes import input_specs
from fuseonnx.runtime.uses import Uses
from fuseonnx.runtime.values import Array, Difference, leaves


class Verifier:
    """Compares any number of candidates with one original, which is run only once."""

    def __init__(
        self,
        original: Path,
        *,
        graph_of: onnx.ModelProto,
        shapes: Mapping[str, Sequence[int]] | None = None,
        samples: Samples | None = None,
        seed: int = 0,
        backend: Backend = CPU,
        frameworks: Sequence[Attempt] = (),
        examples: Feeds | None = None,
    ) -> None:
        """Take the original's file and, as `graph_of`, its proto: the graph is read, weights may be external.

        `shapes` fixes the shape of inputs by name; `samples` are run besides the generated inputs, see
        `read_samples`; `backend` is where candidates run, the original runs on the CPU; `frameworks` run the
        model that the original was exported from: the first is what counts, by how much the others differ
        is noise; `examples` are run where nothing else is accepted. Nothing is run before the first
        comparison.
        """
        self._samples = samples
        self._frameworks = frameworks
        self._examples = examples
        self._original = original
        self._graph_of = graph_of
        self._shapes = shapes or {}
        self._seed = seed
        self._backend = replace(backend, provider=for_equivalence(backend.provider))

    def compare(self, candidate: Path, *, renamed: bool = False) -> Verification:
        """Run `candidate` on all inputs of the original and judge every output.

        `renamed` accepts other names and another order of inputs and outputs, and notes them. The status is
        `failed` also when the candidate cannot be loaded or run or has another signature, and `skipped`, with
        the reason, when the original itself cannot be run. Raises OptionError when the shapes or samples do
        not fit the original.
        """
        reference = self._reference
        if isinstance(reference, str):
            return Verification("skipped", reason=reference)
        return _compare(reference, candidate, self._backend, renamed=renamed)

    def compare_with_framework(self, candidate: Path, *, renamed: bool = False) -> Verification:
        """Run `candidate` on the same inputs and judge it by what the framework answers.

        `renamed` is as in `compare`. The noise is the original's, which is the framework's export. The status
        is `failed` also when the original refuses input sizes that the framework takes.
        """
        reference = self._framework_reference
        if isinstance(reference, str):
            return Verification("failed", reason=reference)
        return _compare(reference, candidate, self._backend, renamed=renamed)

    @property
    def has_labels(self) -> bool:
        """Whether the samples come with labels; judged by the first."""
        return self._samples is not None and next(self._each_sample(self._samples)).labels is not None

    def accuracy(self, candidate: Path, labels: Array | None, output: str | None) -> Accuracy:
        """Return the accuracy on all samples of the original, and of `candidate` at the default level.

        `labels` and `output` are as in `measure_accuracy`, which see for the errors.
        """
        if self._samples is None:
            raise OptionError("labels belong to samples; give them with --inputs or --inputs-from")
        plain = open_session(self._original, replace(self._backend, provider=CPU_PROVIDER))
        session = open_session(candidate, self._backend, optimized=True)
        signature = Signature.of(plain)
        matching = _match(signature, Signature.of(session), renamed=True)
        if isinstance(matching, str):
            raise OptionError(matching)
        return measure_accuracy(
            self._frameworks[0] if self._frameworks else partial(run, plain),
            lambda feeds: matching.values(run(session, matching.feeds(feeds))),
            self._each_sample(self._samples),
            labels,
            signature.outputs,
            output,
        )

    def divergence(self, candidate: Path, verification: Verification) -> Divergence | None:
        """Return where `candidate`, of which a comparison said `verification`, parts from the original.

        None if no output was found to differ. Raises BackendError as `find_divergence` does.
        """
        reference = self._reference
        failed = {output.name: output.run for output in verification.outputs if not output.passed}
        if isinstance(reference, str) or not failed:
            return None
        label = next(iter(failed.values()))
        feeds = next(known.feeds for known in reference.runs if known.label == label)
        matching = _match(reference.signature, Signature.of(open_session(candidate, self._backend)), True)
        theirs = feeds if isinstance(matching, str) else matching.feeds(feeds)
        models = (Subject(self._original, feeds), Subject(candidate, theirs))
        return find_divergence(*models, failed.keys(), label, reference.rounding, self._backend)

    @property
    def runs(self) -> Sequence[Run]:
        """The inputs on which candidates are compared, samples first; none if the original cannot be run."""
        return () if isinstance(self._reference, str) else self._reference.runs

    def _each_sample(self, samples: Samples) -> Iterator[Sample]:
        return read_samples(samples, input_specs(self._graph_of, Uses(self._graph_of), self._shapes))

    @cached_property
    def _reference(self) -> Reference | str:
        """What the original answers, or why it cannot be asked."""
        return build_reference(
            self._original,
            self._graph_of,
            shapes=self._shapes,
            samples=self._samples,
            seed=self._seed,
            backend=self._backend,
            attempt=self._frameworks[0] if self._frameworks else None,
            examples=self._examples,
        )

    @cached_property
    def _framework_reference(self) -> Reference | str:
        """What the framework answers to the same inputs, or why that cannot be compared."""
        reference = self._reference
        if isinstance(reference, str) or reference.refused:
            return reference if isinstance(reference, str) else reference.refused[0]
        return answered_by(reference, self._frameworks)


_Worst = tuple[Difference, str, str]
"""The worst difference of an output, and in which run and at which level that was."""


def _compare(reference: Reference, candidate: Path, backend: Backend, *, renamed: bool) -> Verification:
    """Judge a candidate with onnxruntime's optimizations off, then at its default level."""
    worst: dict[str, _Worst] = {}
    notes = reference.notes
    for level in ("", " at onnxruntime's default level"):
        try:
            session = open_session(candidate, backend, optimized=bool(level))
        except BackendError as error:
            return Verification("failed", reason=f"{error}{level}", notes=notes)
        matching = _match(reference.signature, Signature.of(session), renamed)
        if isinstance(matching, str):
            return Verification("failed", reason=matching, notes=notes)
        notes = (*matching.notes, *reference.notes)
        for known in reference.runs:
            try:
                values = matching.values(run(session, matching.feeds(known.feeds)))
            except BackendError as error:
                reason = f"run {known.label!r}{level}: {error}"
                return Verification("failed", reason=reason, notes=notes)
            for name, difference in _differences(reference, known, values, by_default=bool(level)).items():
                _keep_worst(worst, name, difference, known.label, level)
    outputs = tuple(
        _output(port, *worst[port.name]) for port in reference.signature.outputs if port.name in worst
    )
    failed = [output for output in outputs if not output.passed]
    return Verification(
        "failed" if failed else "passed",
        runs=len(reference.runs),
        outputs=outputs,
        reason="; ".join(f"{output.name}: {output.reason}" for output in failed),
        notes=notes,
    )


def _match(ours: Signature, theirs: Signature, renamed: bool) -> Matching | str:
    """Return what corresponds to what, or how the signatures differ; `renamed` forgives names and order."""
    reason = "" if renamed else ours.difference(theirs)
    return reason or ours.match(theirs)


def _keep_worst(worst: dict[str, _Worst], name: str, difference: Difference, label: str, level: str) -> None:
    """Keep the worst difference of an output, with the metrics of the worst run.

    The default level rounds otherwise: of it, only what is wrong is told.
    """
    if level and difference.severity <= 1.0:
        return
    if name not in worst:
        worst[name] = difference, label, level
        return
    known, *where = worst[name]
    metrics = worst_of(known.metrics, difference.metrics)
    if difference.severity > known.severity:
        known, where = difference, [label, level]
    worst[name] = replace(known, metrics=metrics), where[0], where[1]


def _differences(
    reference: Reference, known: Run, values: Sequence[Any], *, by_default: bool
) -> dict[str, Difference]:
    """Return the worst difference of each output in one run, `by_default` at onnxruntime's default level."""
    pairs = zip(reference.signature.outputs, known.outputs, values, strict=True)
    judged = {
        port.name: judge_output(expected, leaves(value), reference.rounding, by_default=by_default)
        for port, expected, value in pairs
    }
    return {name: difference for name, difference in judged.items() if difference is not None}


def _multiple(difference: Difference) -> float:
    """Return how many times the noise a difference is: infinite where what is wrong has no noise at all."""
    if difference.noise_floor:
        return difference.max_abs / difference.noise_floor
    return math.inf if difference.severity > 1.0 else 0.0


def _output(port: Port, difference: Difference, label: str, level: str) -> OutputDifference:
    return OutputDifference(
        name=port.name,
        dtype=port.type,
        max_abs=difference.max_abs,
        mean_abs=difference.mean_abs,
        relative=difference.relative,
        noise_floor=difference.noise_floor,
        allowed=difference.allowed,
        passed=difference.severity <= 1.0,
        reason=f"{difference.reason} (run {label!r}{level})" if difference.reason else "",
        run=label,
        multiple=_multiple(difference),
        ulp=difference.ulp,
        **(asdict(difference.metrics) if difference.metrics else {}),
    )
