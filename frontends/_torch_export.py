"""PyTorch's two exporters, dynamo and TorchScript, behind one signature, and their reasons in one line."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends._torch_dims import Axes
from fuseonnx.frontends.conversion import MAX_IR_VERSION

if TYPE_CHECKING:
    import torch

DYNAMO_OPSET = 21
TORCHSCRIPT_OPSET = 20  # the last that this exporter writes
_ONE_FILE_LIMIT = 2**31 - 1 - 2**24  # protobuf's limit, less some room for the graph


class ExporterFailed(Exception):
    """One exporter's reason, in one line."""


def export_dynamo(
    model: torch.nn.Module | torch.export.ExportedProgram,
    tensors: Sequence[torch.Tensor],
    axes: Axes,
    opset: int,
) -> ir.Model:
    """Export with torch.export.

    Raises:
        ExporterFailed: PyTorch cannot.
    """
    import torch

    is_program = isinstance(model, torch.export.ExportedProgram)
    try:
        with silent():
            program = torch.onnx.export(
                model,
                () if is_program else tuple(tensors),
                dynamic_shapes=None if is_program or not any(axes) else (tuple(axes),),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ExporterFailed(_reason(error)) from error
    assert program is not None
    written = program.model.opset_imports.get("", opset)
    if written != opset:
        raise ExporterFailed(f"the model cannot be written in opset {opset}, only in {written}")
    return program.model


def export_torchscript(
    model: torch.nn.Module, tensors: Sequence[torch.Tensor], axes: Axes, opset: int, folder: Path
) -> tuple[ir.Model, list[str]]:
    """Export by tracing; parts that are TorchScript already keep their control flow.

    Returns:
        The model, whose weights may lie in `folder`, and what was fixed to the values of the example.

    Raises:
        ExporterFailed: PyTorch cannot.
    """
    import torch

    names = [f"input_{index}" for index in range(len(tensors))]
    path = Path(tempfile.mkdtemp(dir=folder)) / "traced.onnx"
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operators have no ONNX counterpart
    try:
        with silent() as caught:
            torch.onnx.export(
                model,
                tuple(tensors),
                path,
                input_names=names,
                dynamic_axes={name: symbols for name, symbols in zip(names, axes, strict=True) if symbols},
                opset_version=opset,
                dynamo=False,
            )
    except Exception as error:
        raise ExporterFailed(_reason(error)) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return ir.load(path), _baked_in(caught)


@contextlib.contextmanager
def silent() -> Iterator[list[warnings.WarningMessage]]:
    """Run PyTorch's exporters, which also print, without a sound; yield the warnings."""
    with quiet() as caught, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield caught


def clean(model: ir.Model) -> None:
    """Remove what tells of the user's disk (stack traces), and the name of our wrapper around the module."""
    graphs: list[Any] = [model, model.graph, *model.functions.values()]
    for graph in graphs[1:]:
        graphs += graph.inputs
        for node in ir.traversal.RecursiveGraphIterator(graph):
            graphs += [node, *node.outputs]
    for each in [*graphs, *model.graph.initializers.values()]:
        each.metadata_props.clear()
        each.doc_string = None
    _strip_wrapper(model.graph)
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)


def save(model: ir.Model, path: Path) -> None:
    """Write a model; weights over 2 GiB lie beside it."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    ir.save(model, path, external_data=f"{path.name}.data" if size > _ONE_FILE_LIMIT else None)


def _strip_wrapper(graph: ir.Graph) -> None:
    taken = {value.name for node in graph.all_nodes() for value in node.outputs} | set(graph.initializers)
    taken |= {value.name for value in graph.inputs}
    for value in list(graph.initializers.values()):
        name = (value.name or "").removeprefix("model.")
        if name not in taken:
            taken.add(name)
            value.name = name
    for node in graph.all_nodes():
        node.name = re.sub(r"^/model/", "/", node.name) if node.name else node.name


def _baked_in(caught: list[warnings.WarningMessage]) -> list[str]:
    import torch

    places = [
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if issubclass(warning.category, torch.jit.TracerWarning)
    ]
    return list(dict.fromkeys(places))


def _reason(error: BaseException) -> str:
    """Say in one line why PyTorch could not export: the operator, or the line of the model's source."""
    chain = [error]
    while (below := chain[-1].__cause__) is not None:
        chain.append(below)
    text = "\n".join(str(each) for each in reversed(chain))
    if match := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return f"operator {match[1]} has no ONNX translation{_layer(chain)}"
    if match := re.search(r"Exporting the operator '([\w:]+)' to ONNX opset version \d+ is not supported", text):
        return f"operator {match[1]} has no ONNX translation"
    if match := re.search(r"(tracing inferred a static shape of \d+) for dimension inputs\['\w+'\]\[(\d+)\]"
                          r"\.shape\[(\d+)\]", text):
        return f"{match[1]} for axis {match[3]} of input {match[2]}"
    if re.search(r"data-dependent|Dynamic control flow|dynamic control flow", text):
        return f"control flow or a shape depends on values{_source(text)}"
    line = next((line.strip() for line in str(chain[-1]).splitlines() if line.strip()), type(error).__name__)
    return f"{type(chain[-1]).__name__}: {line[:300]}{_source(text)}"


def _source(text: str) -> str:
    """Return the last line of Python that an error of torch.export quotes."""
    places = re.findall(r'File "([^"]+)", line (\d+), in [^\n]+\n\s+([^\n]+)', text)
    if not places:
        return ""
    file, line, code = places[-1]
    return f" ({Path(file).name}:{line}: {code.strip()})"


def _layer(chain: list[BaseException]) -> str:
    """Return the layer of the node that the exporter was at, found in the frames of its error."""
    for error in chain:
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            node = trace.tb_frame.f_locals.get("node")
            stack = getattr(node, "meta", {}).get("nn_module_stack")
            if stack:
                path, kind = list(stack.values())[-1]
                kind = kind if isinstance(kind, str) else kind.__name__
                layer = re.sub(r"^(L__self__\.?)?model\.?", "", path)
                return f" (layer '{layer}', a {kind.rpartition('.')[2]})" if layer else ""
            trace = trace.tb_next
    return ""
