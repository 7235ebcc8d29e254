"""`place` and `load_session`: decide which device runs which node, write it into the model, and open that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

import fuseonnx
from fuseonnx.analysis import shapes
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import Stage
from fuseonnx.errors import ModelSaveError, OptionError, RewriteError
from fuseonnx.exporting import verifier_of
from fuseonnx.frontends import ModelLike, OnnxModel, Source, default_output, opened
from fuseonnx.io.load import load, read_weightless
from fuseonnx.io.save import no_draft_left, write_draft
from fuseonnx.passes import GPU_STEPS
from fuseonnx.placement.annotate import (
    PROVIDER_KEY,
    SETTINGS,
    STANDARD_SINCE_IR,
    annotate,
    has_standard,
    write_standard,
)
from fuseonnx.placement.assign import Device, decide
from fuseonnx.placement.graph import Graph, read_graph
from fuseonnx.placement.kernels import Kernels
from fuseonnx.placement.notes import notes_on, notes_on_inputs
from fuseonnx.placement.pins import Pin, Rule, pinned
from fuseonnx.placement.report import Placement, layout_of, placed_nodes
from fuseonnx.placement.solve import Cost, place_best
from fuseonnx.runtime.provider_options import CudaOptions
from fuseonnx.runtime.providers import CPU_PROVIDER, Provider, as_backend, make_provider
from fuseonnx.runtime.session import open_session
from fuseonnx.undisturbed import undisturbed

if TYPE_CHECKING:
    import onnxruntime

    from fuseonnx.runtime.provider_options import ProviderOptions


_FOR_THE_GPU = Stage("for the GPU", GPU_STEPS)


@dataclass(frozen=True)
class Placed:
    """What `place` made.

    Attributes:
        model: the annotated model, of the same kind as the one given; None for a file and no output.
        path: the annotated model on disk, or None if there is none.
        report: what runs where, and why.
    """

    model: OnnxModel | None
    path: Path | None
    report: Placement


def place(  # noqa: PLR0913
    model: ModelLike,
    output: str | Path | None = None,
    *,
    provider: str = "cuda",
    rules: Sequence[str | Rule] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    standard: bool = False,
    rewrite: bool = True,
    kernels: Kernels | None = None,
    cost: Cost | None = None,
    on_progress: Callable[[str], None] = lambda _stage: None,
) -> Placed:
    """Tell which device runs which node of a model, and write it into a copy of the model.

    Neither a GPU nor onnxruntime is needed, and the answers of the model do not change: only the metadata of
    nodes does. Where operators without a CUDA kernel were rewritten, what is written is run on the CPU and
    compared with the model first.

    Args:
        model: any model that `optimize` takes; best one that was optimized. Never changed.
        output: where to write the annotated model; by default nowhere, and only the report is made.
        provider: the execution provider on the GPU: `cuda`, or one that `kernels` has a table for.
        rules: where nodes have to run: pins such as `NonMaxSuppression=cpu` and `name:/model/head/*=cuda`, or
            functions from a node to its device. A later one outranks an earlier one.
        input_shapes: input name to shape, for dynamic models; other dynamic dims count as 1, and what depends
            on one that is no batch (axis 0 of an input) stays where onnxruntime puts it.
        standard: also write the fields for several devices that ONNX has from IR version 11 on; a model of an
            earlier one is raised to it.
        rewrite: write operators that have no CUDA kernel as others that have one, where that is exact.
        kernels: which operators the providers have kernels for; by default those of onnxruntime 1.31.
        cost: what work and copies cost; by default on a data-centre GPU.
        on_progress: told the name of each stage as it begins.

    Raises:
        FuseOnnxError: its message is one line that names the model or the option, and the cure.
    """
    full_name, rules = _gpu_provider(provider), [rules] if isinstance(rules, str) else rules
    kernels, cost = kernels or Kernels.load(), cost or Cost()
    wanted = [Pin.parse(rule) if isinstance(rule, str) else rule for rule in rules]
    with opened(model) as source, undisturbed():
        destination = _destination(source, output)
        if standard and destination is None:
            raise OptionError("--standard needs -o OUT.onnx: without it nothing is written")
        on_progress("load")
        loaded = load(source.path)
        graph = _read(loaded.model, input_shapes)
        on_progress("place")
        decisions = decide(graph, kernels, full_name)
        by_itself = layout_of(graph, [decision.device for decision in decisions], cost)
        journal = Journal()
        if rewrite and full_name == CudaOptions.provider:
            pipeline.run(loaded.model, (_FOR_THE_GPU,), journal, analyse=shapes.annotate)
        if journal.applied:
            graph = _read(loaded.model, input_shapes)
            decisions = decide(graph, kernels, full_name)
        fixed = pinned(graph, wanted, source.name)
        devices = place_best(graph, decisions, fixed, cost)
        notes = [
            *notes_on(graph, decisions, devices, fixed, source.name),
            *notes_on_inputs(loaded.model, input_shapes or {}),
        ]
        if destination:
            on_progress("save")
            notes += _write_into(loaded.model, graph, devices, full_name, standard=standard)
            with no_draft_left(destination):
                draft = write_draft(loaded.model, loaded.signature, destination)
                if journal.applied:
                    on_progress("verify")
                    _require_same_answers(source, draft.path, input_shapes or {})
                draft.publish()
        report = Placement(
            model=source.name,
            output=str(output) if output else None,
            provider=full_name,
            fuseonnx_version=fuseonnx.__version__,
            nodes=placed_nodes(graph, decisions, devices, fixed),
            by_itself=by_itself,
            placed=layout_of(graph, devices, cost),
            settings=SETTINGS,
            rewrites=journal.uses(),
            notes=tuple(notes),
        )
        restored = source.restore(destination) if destination else None
        return Placed(restored, Path(output) if output else None, report)


def _read(model: ir.Model, input_shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    for _ in range(2):  # the second time, symbols tell more
        shapes.annotate(model)
    return read_graph(model, input_shapes)


def _require_same_answers(source: Source, draft: Path, input_shapes: Mapping[str, Sequence[int]]) -> None:
    verification = verifier_of(source, input_shapes, None).compare(draft)
    if verification.status == "failed":
        raise RewriteError(
            f"{source.name}: decomposing operators for the GPU changes the answers ({verification.reason}); "
            "leave it out with --no-rewrite"
        )


def load_session(
    path: str | Path,
    provider: str | Provider | ProviderOptions | None = None,
    *,
    provider_options: Mapping[str, object] | None = None,
    threads: int = 0,
    allow_fallback: bool = False,
    optimized: bool = True,
) -> onnxruntime.InferenceSession:
    """Open a model on onnxruntime with the placement that it carries.

    Args:
        path: an ONNX file, best one that `place` wrote; without a placement onnxruntime places the nodes.
        provider: the execution provider, `cuda` or the like; by default the one that it was placed for, and
            the CPU's if it was not.
        provider_options: options of a provider that is given by name.
        threads: threads inside an operator on the CPU; 0 is onnxruntime's own choice.
        allow_fallback: open it on the CPU where the provider is not there, and accept that it leaves nodes to
            the CPU which are not meant to run there.
        optimized: False turns onnxruntime's graph optimizations off.

    Raises:
        OptionError: `path` is no path, but a model in memory.
        ModelLoadError: the file is not an ONNX model.
        BackendError: as `open_session` does.
    """
    if not isinstance(path, str | Path):
        raise OptionError(f"load_session opens a file, and no {type(path).__name__}: save the model to one")
    path = Path(path)
    metadata = {entry.key: entry.value for entry in read_weightless(path).metadata_props}
    backend = as_backend(
        provider or metadata.get(PROVIDER_KEY, CPU_PROVIDER.name),
        provider_options,
        threads=threads,
        allow_fallback=allow_fallback,
    )
    return open_session(path, backend, optimized=optimized)


def _gpu_provider(name: str) -> str:
    try:
        full_name = make_provider(name).name
    except OptionError:
        raise OptionError(f"'{name}' is no execution provider whose kernels are known: give cuda") from None
    if full_name == CPU_PROVIDER.name:
        raise OptionError("to place nodes on two devices, give the provider on the other one, such as cuda")
    return full_name


def _destination(source: Source, output: str | Path | None) -> Path | None:
    """Return where to write: for a model in memory and no output, beside its temporary file."""
    if output is None:
        return None if source.given else default_output(source.path, ".placed.onnx")
    destination = Path(output)
    if source.given and destination.resolve() == source.given.resolve():
        raise ModelSaveError(f"{destination}: would overwrite the model; name another file")
    return destination


def _write_into(
    model: ir.Model, graph: Graph, devices: Sequence[Device], provider: str, *, standard: bool
) -> list[str]:
    """Annotate the model; return what the reader should know about that."""
    notes = []
    if lost := annotate(model, graph, devices, provider):
        whose = "1 node had an annotation of its" if lost == 1 else f"{lost} nodes had annotations of their"
        notes.append(f"{whose} own, which is replaced")
    if standard or has_standard(model):
        if model.ir_version < STANDARD_SINCE_IR:
            raised = f"from {model.ir_version} to {STANDARD_SINCE_IR}"
            notes.append(f"the IR version is raised {raised}, which has the standard fields")
        write_standard(model, graph, devices, provider)
    return notes
