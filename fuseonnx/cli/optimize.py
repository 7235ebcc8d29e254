"""`fuseonnx optimize`."""

# ruff: noqa: B006 (the defaults of options are never changed)

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuseonnx.cli.console import FAILED, one_line_errors, print_error, print_sections, progress
from fuseonnx.cli.options import (
    AllowFallbackOption,
    BatchOption,
    DebugOption,
    DynamicOption,
    ExampleOption,
    ExporterOption,
    ExternalDataOption,
    InputNamesOption,
    InputShapeOption,
    JsonOption,
    OpsetOption,
    OutputNamesOption,
    ProviderOption,
    ProviderOptionOption,
    SamplesOption,
    SignatureOption,
    ThreadsOption,
    TrustOption,
)
from fuseonnx.targets import PROVIDERS, Target

if TYPE_CHECKING:
    from fuseonnx.cli.batch import Outcome, Settings
    from fuseonnx.cli.jobs import Job
    from fuseonnx.report import Report

ROLLED_BACK = 1


def optimize(  # noqa: PLR0913, PLR0917
    inputs: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Models, or folders of them.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Result: a file, or a folder for several. [default: MODEL.opt.onnx]"
        ),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Overwrite the models.")] = False,
    only: Annotated[list[str], typer.Option(metavar="RULE", help="Apply only this rule. Repeatable.")] = [],
    skip: Annotated[list[str], typer.Option(metavar="RULE", help="Do not apply this rule. Repeatable.")] = [],
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the answers with the original's.")
    ] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Do not race the result against the original.")
    ] = False,
    target: Annotated[
        Target,
        typer.Option(
            help="What the result is for; cpu and cuda: by what is measured to be faster here, and with "
            "operators that only onnxruntime knows."
        ),
    ] = "portable",
    provider: ProviderOption = "",
    provider_option: ProviderOptionOption = [],
    threads: ThreadsOption = 0,
    allow_fallback: AllowFallbackOption = False,
    input_shape: InputShapeOption = [],
    fix_shape: Annotated[
        list[str],
        typer.Option(metavar="NAME=1,3,224,224", help="Freeze the shape of an input. Repeatable."),
    ] = [],
    samples: SamplesOption = None,
    external_data: ExternalDataOption = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Models to optimize at a time.")
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a rewrite was rolled back.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each rewrite how often it kept out, and why.")
    ] = False,
    example: ExampleOption = [],
    batch: BatchOption = None,
    dynamic: DynamicOption = [],
    opset: OpsetOption = None,
    input_names: InputNamesOption = "",
    output_names: OutputNamesOption = "",
    signature: SignatureOption = None,
    exporter: ExporterOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make models faster without changing their answers.

    Every result is compared with its original on onnxruntime before it is written; a rewrite that changed the
    answers is rolled back and named, and rules that made it slower are left out. Folders are searched for
    *.onnx, earlier results (*.opt.onnx) left out.
    Keras, TensorFlow and PyTorch models are exported first: see `fuseonnx export`.

    Exit code: 0 if all went well, 1 with --strict if something was rolled back, 2 if a model failed.
    """
    from fuseonnx.cli.batch import Settings
    from fuseonnx.cli.exports import export_keywords
    from fuseonnx.cli.jobs import is_batch, plan_jobs
    from fuseonnx.cli.providers import backend_of
    from fuseonnx.cli.shapes import parse_shapes

    with one_line_errors(str(inputs[0]), debug=debug):
        settings = Settings(
            only=tuple(only),
            skip=tuple(skip),
            verify=not no_verify,
            measure=not no_measure,
            target=target,
            backend=backend_of(provider or PROVIDERS[target], provider_option, threads, allow_fallback),
            input_shapes=parse_shapes(input_shape, "--input-shape"),
            fix_shapes=parse_shapes(fix_shape, "--fix-shape"),
            samples=samples,
            external_data=external_data,
            in_place=in_place,
            export=export_keywords(
                example=example,
                batch=batch,
                dynamic=dynamic,
                opset=opset,
                input_names=input_names,
                output_names=output_names,
                signature=signature,
                exporter=exporter,
                trust=trust,
            ),
        )
        planned = plan_jobs(inputs, output, in_place=in_place)
        style = _Style(explain, as_json, strict)
        if is_batch(inputs):
            raise typer.Exit(_several(planned, settings, style, jobs))
        raise typer.Exit(_single(planned[0], settings, style))


@dataclass(frozen=True)
class _Style:
    """How results are shown, and what they mean for the exit code."""

    explain: bool
    as_json: bool
    strict: bool


def _single(job: Job, settings: Settings, style: _Style) -> int:
    from fuseonnx.cli.batch import optimize_one
    from fuseonnx.markdown import heading, sections

    with progress(str(job.source)) as show:
        report = optimize_one(job, settings, show)
    if style.as_json:
        typer.echo(report.to_json())
    else:
        print_sections(heading(report), sections(report, explain=style.explain))
    return _exit_code(report, strict=style.strict)


def _several(jobs: list[Job], settings: Settings, style: _Style, processes: int) -> int:
    from fuseonnx.cli.batch import optimize_all

    outcomes = optimize_all(jobs, settings, processes)
    results: list[dict[str, Any]] = []
    codes = []
    for number in range(1, len(jobs) + 1):
        with progress(f"model {number} of {len(jobs)}"):
            outcome = next(outcomes)
        _print_outcome(outcome, style)
        results.append(_as_json(outcome))
        codes.append(_exit_code(outcome.report, strict=style.strict))
    if style.as_json:
        typer.echo(json.dumps(results, indent=2))
    return max(codes)


def _print_outcome(outcome: Outcome, style: _Style) -> None:
    from fuseonnx.markdown import explanation, heading, summary

    report = outcome.report
    if report is None:
        print_error(outcome.error)
    elif not style.as_json:
        reasons = [explanation(report)] if style.explain else []
        print_sections(f"{heading(report)}: {summary(report)}", reasons)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    if outcome.report is None:
        return {"source": str(outcome.job.source), "error": outcome.error}
    return outcome.report.to_dict()


def _exit_code(report: Report | None, *, strict: bool) -> int:
    if report is None:
        return FAILED
    return ROLLED_BACK if strict and report.rolled_back else 0
