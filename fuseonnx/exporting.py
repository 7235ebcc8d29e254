"""`export`: from a framework's model to an ONNX file that answers as the framework does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import onnx

from fuseonnx.analysis.shapes import annotate
from fuseonnx.clock import Clock
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import Stage
from fuseonnx.errors import BackendError, ExportError, OptionError
from fuseonnx.frontends import Answers, Conversion, ExportKeywords, ModelLike, Source, default_output, opened
from fuseonnx.io.load import load, read_weightless
from fuseonnx.io.save import no_draft_left, write_draft
from fuseonnx.passes import keep_pad_before_max_pool
from fuseonnx.report import SWITCHED_OFF, Export, Verification
from fuseonnx.runtime.probe import require_provider
from fuseonnx.runtime.providers import CPU, Backend
from fuseonnx.runtime.reference import Attempt
from fuseonnx.runtime.samples import Samples
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.verify import Verifier

_FOR_ONNXRUNTIME = Stage("export", (keep_pad_before_max_pool.RULE,))
"""What keeps onnxruntime's default level from changing the answers of a plain export."""


@dataclass(frozen=True)
class Exported:
    """What `export` made: the ONNX file, and how."""

    path: Path
    report: Export


def export(
    model: ModelLike,
    output: str | Path | None = None,
    *,
    verify: bool = True,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: str | Path | None = None,
    external_data: bool = False,
    on_progress: Callable[[str], None] = lambda _stage: None,
    **options: Unpack[ExportKeywords],
) -> Exported:
    """Turn a framework's model into an ONNX file, prove on onnxruntime that it answers alike, and save it.

    Args:
        model: a Keras model, `torch.nn.Module`, `torch.export.ExportedProgram`, TorchScript module or
            `tf.function`; or a path: `.keras`, `.h5`, a SavedModel folder, a frozen `.pb`, `.tflite`, `.pt2`,
            TorchScript, or `package.module:function`, which returns a model or (model, example inputs).
            Exported in inference mode, and left in the mode in which it was.
        output: the ONNX file; by default `model.onnx` beside `model.keras`.
        verify: compare the ONNX model with the framework.
        input_shapes: input name to the shape to compare with, for dynamic models.
        samples: an `.npz` file, or a folder of them, with real inputs to compare on as well.
        external_data: store the weights beside the file, in `<output>.data`.
        on_progress: told the name of each stage as it begins.
        **options: see `ExportOptions`.

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    clock = Clock(on_progress)
    with opened(model, options, clock) as source:
        destination = _destination(source, output)
        verifier = verifier_of(source, input_shapes or {}, samples) if verify else None
        report = describe_export(source, verifier, clock)
        if report is None:
            raise OptionError(f"{source.name}: is ONNX already; 'fuseonnx optimize' takes it as it is")
        clock("save")
        loaded = load(source.path)
        pipeline.run(loaded.model, [_FOR_ONNXRUNTIME], Journal(), analyse=annotate)
        with no_draft_left(destination):
            draft = write_draft(loaded.model, loaded.signature, destination, external_data=external_data)
            if verifier:
                clock("compare what was saved")
                _require_parity(source, verifier.compare_with_framework(draft.path))
            draft.publish()
        clock.stop()
        return Exported(destination, replace(report, output=str(destination), seconds=clock.seconds))


def verifier_of(
    source: Source,
    shapes: Mapping[str, Sequence[int]],
    samples: str | Samples | None,
    backend: Backend = CPU,
) -> Verifier:
    """Return what compares models on `backend` with `source`, and with the framework that it comes from.

    Raises:
        BackendError: onnxruntime is not installed, or does not have the provider.
    """
    require_provider(backend)
    return Verifier(
        source.path,
        graph_of=read_weightless(source.path),
        shapes=shapes,
        samples=Path(samples) if isinstance(samples, str) else samples,
        backend=backend,
        frameworks=_attempts(source.conversion) if source.conversion else (),
        examples=source.conversion.examples if source.conversion else None,
    )


def describe_export(source: Source, verifier: Verifier | None, clock: Clock) -> Export | None:
    """Return how `source` was exported, after comparing it with its framework; None if it was ONNX already.

    Raises:
        ExportError: its answers are not those of the framework.
    """
    conversion = source.conversion
    if conversion is None:
        return None
    parity = SWITCHED_OFF
    if verifier:
        clock(f"compare with {conversion.framework}")
        parity = verifier.compare_with_framework(source.path)
        _require_parity(source, parity)
    clock.stop()
    return Export(
        source=source.name,
        output=None,
        framework=conversion.framework,
        exporter=conversion.exporter,
        opset=_opset(read_weightless(source.path)),
        parity=parity,
        seconds=dict(clock.seconds),
        notes=conversion.notes,
    )


def _destination(source: Source, output: str | Path | None) -> Path:
    if output is not None:
        return Path(output)
    if source.given is None:
        raise OptionError(f"{source.name}: name the file to write: export(model, 'model.onnx')")
    return default_output(source.given, ".onnx")


def _attempts(conversion: Conversion) -> list[Attempt]:
    """Return what runs the framework's model, and says with BackendError that it refuses some inputs."""

    def run(answers: Answers, feeds: Feeds) -> Sequence[Any]:
        try:
            return answers(feeds)
        except Exception as error:  # frameworks have no common base class
            raise BackendError(f"{type(error).__name__}: {str(error).strip()}"[:300]) from error

    ways = (conversion.answers, conversion.other_answers)
    return [partial(run, answers) for answers in ways if answers]


def _opset(model: onnx.ModelProto) -> int:
    version: int = next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"})
    return version


def _require_parity(source: Source, parity: Verification) -> None:
    conversion = source.conversion
    if parity.status == "failed" and conversion is not None:
        raise ExportError(
            f"{source.name}: {conversion.exporter} made a model that does not answer as "
            f"{conversion.framework} does: {parity.reason}; --no-verify keeps it all the same"
        )
