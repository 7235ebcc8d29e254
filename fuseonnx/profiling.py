"""`profile` and `compare_profiles`: where the time of a model goes, and how that of two differs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import onnx

from fuseonnx.errors import BackendError, ModelSaveError, OptionError
from fuseonnx.frontends import ModelLike, Source, opened
from fuseonnx.io.load import read_weightless
from fuseonnx.runtime.batches import usual_inputs
from fuseonnx.runtime.profile import Profile, ProfileDiff, diff_of, profile_of
from fuseonnx.runtime.provider_options import ProviderOptions
from fuseonnx.runtime.providers import Backend, Provider, as_backend
from fuseonnx.runtime.recording import record
from fuseonnx.runtime.samples import first_sample
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.sizes import input_specs
from fuseonnx.runtime.trace import Trace, write_trace
from fuseonnx.runtime.uses import Uses

RUNS = 20


class ProfileKeywords(TypedDict, total=False):
    """How to profile.

    Attributes:
        runs: runs to record, after a few that only warm up, and to time without the profiler; 20 by default.
        input_shapes: input name to shape, for dynamic models.
        samples: an `.npz` file with the inputs, or a folder of them, of which the first is taken; by default
            the inputs are made up.
        trace: where to keep the trace, which chrome://tracing and Perfetto open; by default nowhere. Two
            models are two processes in it, on one time axis.
        provider: `cpu`, which it is by default, `cuda`, `tensorrt`, a name of onnxruntime's own, or one with
            its options.
        provider_options: options of a provider that is given by name.
        threads: threads inside an operator on the CPU; 0, the default, is onnxruntime's own choice.
        allow_fallback: accept that nodes run on the CPU that the provider does not take.
        optimized: False turns onnxruntime's graph optimizations off.
        on_progress: told what is being done.
    """

    runs: int
    input_shapes: Mapping[str, Sequence[int]]
    samples: str | Path | None
    trace: str | Path | None
    provider: str | Provider | ProviderOptions
    provider_options: Mapping[str, object] | None
    threads: int
    allow_fallback: bool
    optimized: bool
    on_progress: Callable[[str], None]


def profile(model: ModelLike, **options: Unpack[ProfileKeywords]) -> Profile:
    """Run a model, of any kind that `optimize` takes, under onnxruntime's profiler: where does its time go?

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    return _profiles([model], **options)[0]


def compare_profiles(before: ModelLike, after: ModelLike, **options: Unpack[ProfileKeywords]) -> ProfileDiff:
    """Profile two models of the same inputs, which run in turn: a drift of the machine hits both alike.

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    return diff_of(*_profiles([before, after], **options))


def _profiles(  # noqa: PLR0913
    models: Sequence[ModelLike],
    *,
    runs: int = RUNS,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: str | Path | None = None,
    trace: str | Path | None = None,
    provider: str | Provider | ProviderOptions = "cpu",
    provider_options: Mapping[str, object] | None = None,
    threads: int = 0,
    allow_fallback: bool = False,
    optimized: bool = True,
    on_progress: Callable[[str], None] = lambda _stage: None,
) -> list[Profile]:
    if runs < 1:
        raise OptionError(f"{runs} runs: one is the least")
    backend = as_backend(provider, provider_options, threads=threads, allow_fallback=allow_fallback)
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(opened(model)) for model in models]
        keep = Path(trace) if trace else None
        if keep:
            _check_target(keep, sources)
        graph, *_ = [read_weightless(source.path) for source in sources]  # all can be read before one is run
        on_progress("find inputs")
        feeds, notes = _feeds(sources[0], graph, input_shapes or {}, samples, backend, optimized)
        recordings = record(
            [(source.name, source.path) for source in sources],
            feeds,
            backend,
            runs=runs,
            optimized=optimized,
            on_progress=on_progress,
        )
        if keep:
            on_progress(f"write {keep}")
            _keep(keep, [each.trace for each in recordings])
        return [
            profile_of(each, feeds, backend, runs=runs, optimized=optimized, notes=notes)
            for each in recordings
        ]


def _check_target(trace: Path, sources: Sequence[Source]) -> None:
    """Raise OptionError where a trace cannot be, before anything is run."""
    if trace.is_dir():
        raise OptionError(f"{trace}: is a folder; name a file for the trace")
    if not trace.parent.is_dir():
        raise OptionError(f"{trace}: there is no folder {trace.parent}; create it first")
    if trace.resolve() in {source.path.resolve() for source in sources}:
        raise OptionError(f"{trace}: is the model; name another file for the trace")


def _keep(path: Path, traces: Sequence[Trace]) -> None:
    try:
        write_trace(path, traces)
    except OSError as error:
        raise ModelSaveError(f"{path}: cannot be written: {error.strerror}; name another file") from None


def _feeds(
    source: Source,
    graph: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    samples: str | Path | None,
    backend: Backend,
    optimized: bool,
) -> tuple[Feeds, list[str]]:
    """Return the first sample, or inputs that the model accepts; and a note if their sizes are a guess."""
    specs = input_specs(graph, Uses(graph), shapes)
    if samples:
        return first_sample(Path(samples), specs)[1], []
    session = open_session(source.path, backend, optimized=optimized)

    def attempt(feeds: Feeds) -> str:
        try:
            run(session, feeds)
        except BackendError as error:
            return str(error)
        return ""

    feeds = usual_inputs(source.name, graph, shapes, attempt)
    guessed = [spec.name for spec in specs if any(isinstance(dim, str) for dim in spec.dims)]
    note = f"sizes that the model leaves open are a guess ({', '.join(guessed)}): --input-shape gives others"
    return feeds, [note] if guessed else []
