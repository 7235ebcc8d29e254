"""`verify`: whether two models give the same answers, how far apart they are, and where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack

import numpy as np

from fuseonnx.clock import Clock
from fuseonnx.exporting import verifier_of
from fuseonnx.frontends import ExportKeywords, ModelLike, opened
from fuseonnx.frontends.graphsurgeon import as_step
from fuseonnx.io.load import read_weightless
from fuseonnx.report import Document, Verification
from fuseonnx.runtime.accuracy import Accuracy, Array, load_labels
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.divergence import Divergence
from fuseonnx.runtime.providers import Backend, Provider, as_backend
from fuseonnx.runtime.samples import Given, Samples
from fuseonnx.runtime.session import open_session
from fuseonnx.tracing import Trace, trace

if TYPE_CHECKING:
    from fuseonnx.api import ExtraRule
    from fuseonnx.runtime.provider_options import ProviderOptions


GivenSamples: TypeAlias = str | Path | Iterable[Given] | Callable[[], Iterable[Given]]
GivenLabels: TypeAlias = str | Path | Array | Sequence[int]


@dataclass(frozen=True)
class Comparison(Document):
    """What `verify` found.

    Attributes:
        original: the model that counts.
        candidate: the model that was compared with it.
        against: what gave the answers that count: onnxruntime, or a framework with its version.
        provider: onnxruntime's name of the execution provider that was asked for.
        assignment: where the candidate's nodes run, in words.
        verification: whether the answers are the same, and output by output how far they are apart.
        accuracy: of both models on the labelled samples, if labels were given.
        divergence: the first tensor in which they part, if that was asked for and they do.
        trace: the rule that did it.
        seconds: stage name to wall-clock seconds.
    """

    original: str
    candidate: str
    against: str
    provider: str
    assignment: str
    verification: Verification
    accuracy: Accuracy | None
    divergence: Divergence | None
    trace: Trace | None
    seconds: dict[str, float]

    @property
    def same(self) -> bool:
        """Whether both models give the same answers."""
        return self.verification.status == "passed"


def verify(  # noqa: PLR0913
    original: ModelLike,
    candidate: ModelLike,
    *,
    samples: GivenSamples | None = None,
    labels: GivenLabels | None = None,
    labels_output: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    provider: str | Provider | ProviderOptions = "cpu",
    provider_options: Mapping[str, object] | None = None,
    threads: int = 0,
    allow_fallback: bool = False,
    strict: bool = False,
    bisect: bool = False,
    extra_rules: Sequence[ExtraRule] = (),
    on_progress: Callable[[str], None] = lambda _stage: None,
    **export_options: Unpack[ExportKeywords],
) -> Comparison:
    """Compare the answers of two models on onnxruntime, within the rounding noise of the original.

    Args:
        original: whatever `optimize` takes; the answers of a framework's model are the framework's own.
        candidate: an ONNX model, or what `export` makes one of.
        samples: real inputs to compare on as well: an `.npz` file, a folder of them, or mappings from input
            name to array, each of which may hold the class of each row under `label` or `labels` or be one
            of a pair (inputs, labels); or a function that yields such.
        labels: class numbers of all samples' rows, in order, or an `.npy` or `.npz` file with them: asks for
            the accuracy of both models. Labels in the samples ask for it, too.
        labels_output: the output with the scores; by default the first float output of rank 2.
        input_shapes: input name to the shape to test with, for dynamic models.
        provider: the execution provider for the candidate, see `optimize`. The original runs on the CPU.
        provider_options: options of a provider that is given by name.
        threads: threads inside an operator on the CPU; 0 is onnxruntime's own choice.
        allow_fallback: accept that nodes run on the CPU that the provider does not take.
        strict: take other names, or another order, of inputs and outputs for a difference.
        bisect: where the answers differ, find the first tensor that does, and the rule that did it.
        extra_rules: rules of your own with which the candidate was made.
        on_progress: told the name of each stage as it begins.
        **export_options: how to export a model that is not ONNX: see `ExportOptions`.

    Raises:
        FuseOnnxError: the models cannot be compared; its message is one line with the cure.
    """
    clock = Clock(on_progress)
    backend = as_backend(provider, provider_options, threads=threads, allow_fallback=allow_fallback)
    known_labels = None if labels is None else _labels(labels)
    with opened(original, export_options, clock) as source, opened(candidate, None, clock) as other:
        clock("verify")
        given = None if samples is None else _samples(samples)
        verifier = verifier_of(source, input_shapes or {}, given, backend)
        assignment = _placed(other.path, backend)
        compare = verifier.compare_with_framework if source.conversion else verifier.compare
        verification = compare(other.path, renamed=not strict)
        accuracy = None
        if labels is not None or labels_output or verifier.has_labels:
            clock("accuracy")
            accuracy = verifier.accuracy(other.path, known_labels, labels_output)
        divergence = guilty = None
        if bisect and verification.status == "failed":
            clock("bisect")
            divergence = verifier.divergence(other.path, verification)
            guilty = trace(source.path, other.path, verifier, tuple(map(as_step, extra_rules)))
        clock.stop()
        return Comparison(
            original=source.name,
            candidate=other.name,
            against=source.conversion.framework if source.conversion else "onnxruntime",
            provider=backend.provider.name,
            assignment=assignment,
            verification=verification,
            accuracy=accuracy,
            divergence=divergence,
            trace=guilty,
            seconds=clock.seconds,
        )


def _placed(model: Path, backend: Backend) -> str:
    """Return where nodes run; raise FuseOnnxError for what cannot be loaded: that is no difference."""
    read_weightless(model)
    return assignment_of(open_session(model, backend)).summary()


def _samples(given: GivenSamples) -> Samples:
    if isinstance(given, str | Path):
        return Path(given)
    return given if callable(given) or isinstance(given, Mapping) else list(given)


def _labels(given: GivenLabels) -> Array:
    return load_labels(Path(given)) if isinstance(given, str | Path) else np.asarray(given).reshape(-1)
