"""Decide on onnxruntime whether an artifact gives the original's answers.

What counts is what the original answers with onnxruntime's optimizations off. The artifact has to give that
with them off and at the default level, which is what people run: a rewrite can leave a form that
onnxruntime's own optimizations break. Where they break the original, too, that level is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from fuseonnx.errors import BackendError
from fuseonnx.report import OutputDifference, Verification
from fuseonnx.runtime.noise import Run
from fuseonnx.runtime.providers import CPU, Backend
from fuseonnx.runtime.reference import Attempt, Reference, Signature, answered_by, build_reference
from fuseonnx.runtime.session import open_session, run
from fuseonnx.runtime.values import MULTIPLE, Array, Difference, Rounding, is_float, judge, leaves, mismatch

_FLIPS_BY_DEFAULT = 0.05
"""Fraction of integers and bools that may be decided otherwise at onnxruntime's default level."""


class Verifier:
    """Compares any number of candidates with one original, which is run only once."""

    def __init__(
        self,
        original: Path,
        *,
        graph_of: onnx.ModelProto,
        shapes: Mapping[str, Sequence[int]] | None = None,
        samples: Path | None = None,
        seed: int = 0,
        backend: Backend = CPU,
        frameworks: Sequence[Attempt] = (),
    ) -> None:
        """Take the original's file and, as `graph_of`, its proto: the graph is read, weights may be external.

        `shapes` fixes the shape of inputs by name; `samples` is an `.npz` file or a folder of them, run
        besides the generated inputs; `frameworks` run the model that the original was exported from: the
        first is what counts, by how much the others differ is noise. Nothing is run before the first
        comparison.
        """
        self._frameworks = frameworks
        self._original = original
        self._graph_of = graph_of
        self._shapes = shapes or {}
        self._samples = samples
        self._seed = seed
        self._backend = backend

    def compare(self, candidate: Path) -> Verification:
        """Run `candidate` on all inputs of the original and judge every output.

        The status is `failed` also when the candidate cannot be loaded or run or has another signature, and
        `skipped`, with the reason, when the original itself cannot be run. Raises OptionError when the shapes
        or samples do not fit the original.
        """
        reference = self._reference
        if isinstance(reference, str):
            return Verification("skipped", reason=reference)
        return _compare(reference, candidate, self._backend)

    def compare_with_framework(self, candidate: Path) -> Verification:
        """Run `candidate` on the same inputs and judge it by what the framework answers.

        The noise is the original's, which is the framework's export. The status is `failed` also when the
        original refuses input sizes that the framework takes.
        """
        reference = self._framework_reference
        if isinstance(reference, str):
            return Verification("failed", reason=reference)
        return _compare(reference, candidate, self._backend)

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
        )

    @cached_property
    def _framework_reference(self) -> Reference | str:
        """What the framework answers to the same inputs, or why that cannot be compared."""
        reference = self._reference
        if isinstance(reference, str) or reference.refused:
            return reference if isinstance(reference, str) else reference.refused[0]
        return answered_by(reference, self._frameworks)


def _compare(reference: Reference, candidate: Path, backend: Backend) -> Verification:
    """Judge a candidate with onnxruntime's optimizations off, then at its default level."""
    worst: dict[str, tuple[Difference, str]] = {}
    for level in ("", " at onnxruntime's default level"):
        try:
            session = open_session(candidate, backend, optimized=bool(level))
        except BackendError as error:
            return Verification("failed", reason=f"{error}{level}", notes=reference.notes)
        if reason := reference.signature.difference(Signature.of(session)):
            return Verification("failed", reason=reason, notes=reference.notes)
        for known in reference.runs:
            try:
                values = run(session, known.feeds)
            except BackendError as error:
                reason = f"run {known.label!r}{level}: {error}"
                return Verification("failed", reason=reason, notes=reference.notes)
            for name, difference in _differences(reference, known, values, by_default=bool(level)).items():
                # the default level rounds otherwise: of it, only what is wrong is told
                at_least = worst[name][0].severity if name in worst else -1.0
                if difference.severity > (max(at_least, 1.0) if level else at_least):
                    worst[name] = difference, f"{known.label!r}{level}"
    outputs = tuple(
        _output(name, kind, *worst[name]) for name, kind in reference.signature.outputs if name in worst
    )
    failed = [output for output in outputs if not output.passed]
    return Verification(
        "failed" if failed else "passed",
        runs=len(reference.runs),
        outputs=outputs,
        reason="; ".join(f"{output.name}: {output.reason}" for output in failed),
        notes=reference.notes,
    )


def _differences(
    reference: Reference, known: Run, values: Sequence[Any], *, by_default: bool
) -> dict[str, Difference]:
    """Return the worst difference of each output in one run, `by_default` at onnxruntime's default level."""
    result = {}
    for (name, _), expected, value in zip(reference.signature.outputs, known.outputs, values, strict=True):
        if by_default and expected.wrong_by_default:
            continue
        found = leaves(value)
        reason = mismatch(expected.leaves, found)
        if reason and not expected.shape_varies:
            result[name] = Difference(severity=float("inf"), max_abs=float("inf"), reason=reason)
        elif not reason and not expected.random:
            rounding = reference.rounding
            judged = [
                judge(
                    leaf,
                    other,
                    rounding,
                    expected.scale,
                    _by_default(leaf, noise, rounding) if by_default else noise,
                    stable,
                )
                for leaf, other, noise, stable in zip(
                    expected.leaves, found, expected.noise, expected.stable, strict=True
                )
            ]
            result[name] = max(judged, key=lambda difference: difference.severity, default=Difference())
    return result


def _by_default(leaf: Array, noise: float, rounding: Rounding) -> float:
    """Return the noise of an output at the default level, where only what is broken is to be found.

    That level rounds otherwise, and so does the artifact: both together may move further than either.
    """
    if is_float(leaf.dtype):
        return max(noise, rounding.half_the_digits(leaf.dtype) / MULTIPLE)
    return max(noise, _FLIPS_BY_DEFAULT)


def _output(name: str, kind: str, difference: Difference, label: str) -> OutputDifference:
    return OutputDifference(
        name=name,
        dtype=kind,
        max_abs=difference.max_abs,
        mean_abs=difference.mean_abs,
        relative=difference.relative,
        noise_floor=difference.noise_floor,
        allowed=difference.allowed,
        passed=difference.severity <= 1.0,
        reason=f"{difference.reason} (run {label})" if difference.reason else "",
    )
