"""`optimize`: from a trained model to a verified artifact and a report."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import fuseonnx
from fuseonnx.analysis.shapes import annotate
from fuseonnx.attempt import Attempt, Recipe, about, cook_unverified, cook_verified
from fuseonnx.clock import Clock
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass, Rule, Stage, Step
from fuseonnx.errors import ModelSaveError, OptionError
from fuseonnx.exporting import describe_export, verifier_of
from fuseonnx.frontends import ExportKeywords, ModelLike, OnnxModel, Source, default_output, opened
from fuseonnx.frontends.graphsurgeon import as_step
from fuseonnx.io.load import load
from fuseonnx.io.save import no_draft_left
from fuseonnx.passes import FORMS, STAGES, all_steps
from fuseonnx.passes.fold_constants import RULE as FOLD_CONSTANTS
from fuseonnx.report import Report, RuleUse
from fuseonnx.runtime.carried import carries_placement
from fuseonnx.runtime.provider_options import ProviderOptions
from fuseonnx.runtime.providers import Provider, as_backend
from fuseonnx.speed import Measured, measure_and_choose, not_measured
from fuseonnx.targets import PROVIDERS, Target
from fuseonnx.undisturbed import undisturbed

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    ExtraRule = Rule | GraphPass | Callable[[gs.Graph], gs.Graph | None]

_CONTRIB = "com.microsoft"
_STALE = "the placement that it carries was made for other nodes: place it again with 'fuseonnx place'"


@dataclass(frozen=True)
class Result:
    """What `optimize` made.

    Attributes:
        model: the optimized model, of the same kind as the one given (a path for a path), or an
            `onnx.ModelProto` for a framework's model.
        path: the artifact on disk, or None if a model in memory was given and no output.
        report: what was done to it.
    """

    model: OnnxModel
    path: Path | None
    report: Report


def optimize(  # noqa: PLR0913
    model: ModelLike,
    output: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    verify: bool = True,
    measure: bool = True,
    target: Target = "portable",
    provider: str | Provider | ProviderOptions | None = None,
    provider_options: Mapping[str, object] | None = None,
    threads: int = 0,
    allow_fallback: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    fix_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: str | Path | None = None,
    external_data: bool = False,
    in_place: bool = False,
    extra_rules: Sequence[ExtraRule] = (),
    on_progress: Callable[[str], None] = lambda _stage: None,
    **export_options: Unpack[ExportKeywords],
) -> Result:
    """Rewrite a model, prove on onnxruntime that its answers did not change, and save it.

    Args:
        model: an ONNX model: a path, the bytes of a file, `onnx.ModelProto`, `onnx_ir.Model` or
            `onnx_graphsurgeon.Graph`; or whatever `export` takes, which is exported first. Never changed.
        output: where to write the artifact; by default `model.opt.onnx` beside `model.onnx`, nowhere for a
            model in memory.
        only: names of the rules to run; by default all.
        skip: names of rules not to run.
        verify: compare the artifact with the original, and roll back what changes the answers.
        measure: race the artifact against the original, and leave out what makes it slower. Not without
            `verify`.
        target: what the artifact is for: `portable` holds standard operators alone; for `cpu` and `cuda`,
            which may hold some that only onnxruntime knows, and `tensorrt`, more rules are tried, and each
            is kept if the artifact is measured to be faster with it.
        provider: the execution provider on which to verify and measure: `cpu`, `cuda`, `tensorrt`, a name
            of onnxruntime's own, or one with its options; by default that of the target.
        provider_options: options of a provider that is given by name.
        threads: threads inside an operator on the CPU; 0 is onnxruntime's own choice.
        allow_fallback: accept that nodes run on the CPU that the provider does not take.
        input_shapes: input name to the shape to test with, for dynamic models.
        fix_shapes: input name to the shape that it has from now on.
        samples: an `.npz` file, or a folder of them, with real inputs to compare on as well.
        external_data: store the weights beside the artifact, in `<artifact>.data`.
        in_place: write the artifact over the model.
        extra_rules: rules and passes of your own, or functions on an `onnx_graphsurgeon.Graph`.
        on_progress: told the name of each stage as it begins.
        **export_options: how to export a model that is not ONNX: see `ExportOptions`.

    Returns:
        The model, its path and the report.

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    clock = Clock(on_progress)
    stages = _select(only, skip, extra_rules)
    forms = _forms(target, only, skip, measure=verify and measure)
    wanted = provider or PROVIDERS[target]
    backend = as_backend(wanted, provider_options, threads=threads, allow_fallback=allow_fallback)
    with opened(model, export_options, clock) as source, undisturbed():
        destination = _destination(source, output, in_place)
        recipe = Recipe(source.path, destination, stages, fix_shapes or {}, external_data)
        shapes = {**(input_shapes or {}), **recipe.fix_shapes}
        verifier = verifier_of(source, shapes, samples, backend) if verify else None
        exported = describe_export(source, verifier, clock)
        with no_draft_left(destination):
            made = cook_verified(recipe, verifier, clock) if verifier else cook_unverified(recipe, clock)
            _require_standard_operators(source, target, made.attempt)
            measured = not_measured(made, "measuring was switched off")
            if verifier and measure:
                measured = measure_and_choose(recipe, forms, verifier, made, backend, clock)
            draft = measured.made.attempt.draft
            parity = verifier.compare_with_framework(draft.path) if verifier and exported else None
            clock("save")
            draft.publish()
        clock.stop()
        path = destination if source.given or output is not None else None
        report = _report(source, path, measured, clock)
        report = replace(report, export=exported, parity=parity, target=target)
        return Result(source.restore(destination), path, report)


def plan(model: ModelLike, *, only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[RuleUse, ...]:
    """Return what `optimize` would rewrite, without writing or running anything.

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    journal = Journal()
    with opened(model) as source, undisturbed(), about(source.path):
        pipeline.run(load(source.path).model, _select(only, skip, ()), journal, analyse=annotate)
    return journal.uses()


def _select(only: Sequence[str], skip: Sequence[str], extra_rules: Sequence[ExtraRule]) -> tuple[Stage, ...]:
    known = all_steps()
    for name in (*only, *skip):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "'fuseonnx rules' lists them"
            raise OptionError(f"no rule is called '{name}'; {hint}")
    wanted = (set(only) or set(known)) - set(skip)
    extra = tuple(map(as_step, extra_rules))
    _check_names(known, [rule.name for rule in extra])
    chosen = [Stage(stage.name, _wanted(stage.steps, wanted)) for stage in STAGES]
    return tuple(stage for stage in (Stage("extra", extra), *chosen) if stage.steps)


def _forms(target: Target, only: Sequence[str], skip: Sequence[str], *, measure: bool) -> tuple[Step, ...]:
    if target not in FORMS:
        raise OptionError(f"no target is called '{target}'; there are {', '.join(FORMS)}")
    if FORMS[target] and not measure:
        raise OptionError(f"target {target} chooses by measuring: leave out --no-measure and --no-verify")
    return _wanted(FORMS[target], (set(only) or set(all_steps())) - set(skip))


def _require_standard_operators(source: Source, target: Target, attempt: Attempt) -> None:
    """Refuse what rules of the user's own put into an artifact that is to run anywhere."""
    foreign = {name for name in attempt.after.ops.keys() - attempt.before.ops if name.startswith(_CONTRIB)}
    if foreign and target in {"portable", "tensorrt"}:
        raise OptionError(
            f"{source.name}: an extra rule writes {', '.join(sorted(foreign))}, which only onnxruntime "
            "knows; use target cpu or cuda"
        )


def _check_names(known: Container[str], extra: Sequence[str]) -> None:
    for name in extra:
        if name in known or extra.count(name) > 1:
            raise OptionError(
                f"an extra rule is called '{name}', as another one is; give it a name of its own"
            )


def _wanted(steps: Sequence[Step], names: set[str]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.name in names)


def _destination(source: Source, output: str | Path | None, in_place: bool) -> Path:
    """Return where the artifact goes: for a model in memory and no output, beside its temporary file."""
    if in_place and (output is not None or source.path != source.given):
        raise OptionError("in place means over the model's own ONNX file: give its path, and no output")
    if output is not None:
        destination = Path(output)
        if source.given and destination.resolve() == source.given.resolve():
            raise ModelSaveError(f"{destination}: would overwrite the model; use --in-place if that is meant")
        return destination
    return source.path if in_place else default_output(source.given or source.path, ".opt.onnx")


def _report(source: Source, path: Path | None, measured: Measured, clock: Clock) -> Report:
    attempt = measured.made.attempt
    return Report(
        source=source.name,
        output=str(path) if path else None,
        fuseonnx_version=fuseonnx.__version__,
        source_sha256=attempt.sha256,
        before=attempt.before,
        after=attempt.after,
        rules=attempt.journal.uses(),
        skipped_folds=attempt.journal.skipped_folds(FOLD_CONSTANTS.name),
        rolled_back=measured.made.rolled_back,
        verification=measured.made.verification,
        seconds=clock.seconds,
        speed=measured.speed,
        choices=measured.choices,
        undone=measured.undone,
        notes=(_STALE,) if attempt.journal.applied and carries_placement(source.path) else (),
    )
