"""`bench`: how fast models are, on the same inputs and in the same minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.frontends import ModelLike, Source, opened
from fuseonnx.io.load import read_weightless
from fuseonnx.runtime.batches import batch_inputs, rebatched, usual_inputs
from fuseonnx.runtime.benchmark import SECONDS, Benchmark, benchmark, described
from fuseonnx.runtime.binding import with_cuda_graph
from fuseonnx.runtime.provider_options import ProviderOptions
from fuseonnx.runtime.providers import Backend, Provider, as_backend, for_equivalence
from fuseonnx.runtime.recording import require_same_inputs
from fuseonnx.runtime.samples import first_sample
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.sizes import input_specs
from fuseonnx.runtime.uses import Uses


def bench(  # noqa: PLR0913
    models: ModelLike | Sequence[ModelLike],
    *,
    provider: str | Provider | ProviderOptions = "cpu",
    provider_options: Mapping[str, object] | None = None,
    threads: int = 0,
    allow_fallback: bool = False,
    batches: Sequence[int] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: str | Path | None = None,
    seconds: float = SECONDS,
    cuda_graph: bool = False,
    on_progress: Callable[[str], None] = lambda _stage: None,
) -> Benchmark:
    """Race models of any kind that `optimize` takes, at onnxruntime's default optimization level.

    Each round opens all models anew, warms them up and runs them in turn, forwards and backwards; a model is
    called faster or slower than the first only when the 95 % confidence interval of the rounds' ratios says
    so. On CUDA float32 is not rounded to TF32, unless the provider's option `use_tf32` says otherwise.

    Args:
        models: one, or several with the same inputs; the first is what the others are compared with.
        provider: `cpu`, `cuda`, `tensorrt`, a name of onnxruntime's own, or one with its options.
        provider_options: options of a provider that is given by name.
        threads: threads inside an operator on the CPU; 0 is onnxruntime's own choice.
        allow_fallback: accept that nodes run on the CPU that the provider does not take.
        batches: sizes of axis 0, where that is dynamic; by default one size, that of the inputs.
        input_shapes: input name to shape, for dynamic models.
        samples: an `.npz` file with the inputs, or a folder of them, of which the first is taken; by default
            the inputs are made up, the same each time.
        seconds: how long to race, for each model and batch size; less where the result is clear before.
        cuda_graph: record the runs as CUDA graphs.
        on_progress: told what is being done.

    Raises:
        FuseOnnxError: its message is one line that names the model and the cure.
    """
    backend = as_backend(provider, provider_options, threads=threads, allow_fallback=allow_fallback)
    backend = _comparable(backend, cuda_graph=cuda_graph)
    if not seconds > 0 or any(batch < 1 for batch in batches):
        raise OptionError("seconds and batch sizes must be more than 0")
    several = models if isinstance(models, list | tuple) else [models]
    if not several:
        raise OptionError("give at least one model")
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(opened(model)) for model in several]
        on_progress("find inputs")
        notes: list[str] = []
        inputs = _inputs(sources, backend, list(dict.fromkeys(batches)), input_shapes or {}, samples, notes)
        return benchmark(
            _named(sources), inputs, backend, seconds=seconds, notes=notes, on_progress=on_progress
        )


def _comparable(backend: Backend, *, cuda_graph: bool) -> Backend:
    provider = for_equivalence(backend.provider)
    if cuda_graph:
        provider = with_cuda_graph(provider)
    return Backend(provider, backend.threads, backend.allow_fallback)


def _named(sources: Sequence[Source]) -> dict[str, Path]:
    """Return the shortest names that tell the models apart: of files, else paths, else with a number."""
    for names in (
        [Path(source.name).name for source in sources],
        [source.name for source in sources],
    ):
        if len(set(names)) == len(names):
            return dict(zip(names, (source.path for source in sources), strict=True))
    return {f"{Path(source.name).name} #{number}": source.path for number, source in enumerate(sources, 1)}


def _inputs(
    sources: Sequence[Source],
    backend: Backend,
    batches: Sequence[int],
    shapes: Mapping[str, Sequence[int]],
    samples: str | Path | None,
    notes: list[str],
) -> list[tuple[int | None, Feeds]]:
    """Return batch size and inputs of each race; add to `notes` what was made up or left out."""
    graph = read_weightless(sources[0].path)
    uses = Uses(graph)
    specs = input_specs(graph, uses, shapes)
    attempt = _attempt(sources, backend)
    if samples:
        label, feeds = first_sample(Path(samples), specs)
        if reason := attempt(feeds):
            raise BackendError(f"{label}: does not fit: {reason}")
    else:
        feeds = usual_inputs(sources[0].name, graph, shapes, attempt)
        notes += [
            f"input {spec.name!r} is dynamic: {described(feeds[spec.name])} was chosen;"
            " give --input-shape for another size"
            for spec in specs
            if any(isinstance(dim, str) for dim in spec.dims[bool(batches) :])
        ]
    names, size = batch_inputs(input_specs(graph, uses, {}), feeds)
    if batches and not names:
        notes.append(f"--batch: no input of {Path(sources[0].name).name} has a dynamic axis 0: one size only")
    if not batches or not names:
        return [(size, feeds)]
    return _batched(feeds, names, batches, attempt, notes)


def _batched(
    feeds: Feeds,
    names: Sequence[str],
    batches: Sequence[int],
    attempt: Callable[[Feeds], str],
    notes: list[str],
) -> list[tuple[int | None, Feeds]]:
    """Return the inputs at each batch size that all models accept; add to `notes` which do not."""
    result: list[tuple[int | None, Feeds]] = []
    for batch in batches:
        candidate = rebatched(feeds, names, batch)
        if reason := attempt(candidate):
            notes.append(f"batch {batch} is left out: {reason}")
        else:
            result.append((batch, candidate))
    if not result:
        raise BackendError(notes[-1])
    return result


def _attempt(sources: Sequence[Source], backend: Backend) -> Callable[[Feeds], str]:
    """Return what says why some inputs are refused, or nothing.

    Raises OptionError if the models have not the same inputs.
    """
    sessions = [open_session(source.path, backend, optimized=True) for source in sources]
    require_same_inputs([source.name for source in sources], sessions)

    def attempt(feeds: Feeds) -> str:
        for source, session in zip(sources, sessions, strict=True):
            try:
                run(session, feeds)
            except BackendError as error:
                return f"{source.name}: {error}"
        return ""

    return attempt
