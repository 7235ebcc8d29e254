"""From what PyTorch's exporters make to the file: names, dimensions, and whether it answers at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from fuseonnx.errors import BackendError
from fuseonnx.frontends.conversion import MAX_IR_VERSION
from fuseonnx.frontends.torch.call import to_numpy
from fuseonnx.frontends.torch.dims import Axes
from fuseonnx.frontends.torch.export import ANOTHER

if TYPE_CHECKING:
    import torch

Runner = Callable[[Sequence["torch.Tensor"]], list[Any]]
"""Runs a model on flat tensors; gives numpy arrays."""

_ONE_FILE_LIMIT = 2**31 - 1 - 2**24  # protobuf's limit, less some room for the graph
_FAR = 0.05
"""An answer farther off than this part of the largest one is no rounding error, in 16 bits either."""


def clean(model: ir.Model) -> None:
    """Remove what tells of the user's disk (stack traces), and the name of our wrapper around the module."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    named: list[Any] = [model, *graphs, *model.graph.initializers.values()]
    for graph in graphs:
        named.extend(graph.inputs)
        for node in ir.traversal.RecursiveGraphIterator(graph):
            named += [node, *node.outputs]
            node.name = re.sub(r"^/model/", "/", node.name or "")
    for each in named:
        each.metadata_props.clear()
        each.doc_string = None
    _strip_wrapper(model.graph)
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)


def _strip_wrapper(graph: ir.Graph) -> None:
    taken = {value.name for node in graph.all_nodes() for value in node.outputs} | set(graph.initializers)
    taken |= {value.name for value in graph.inputs}
    for value in list(graph.initializers.values()):
        name = (value.name or "").removeprefix("model.")
        if name not in taken:
            taken.add(name)
            value.name = name


def save(model: ir.Model, path: Path) -> None:
    """Write a model; weights over 2 GiB lie beside it."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    ir.save(model, path, external_data=f"{path.name}.data" if size > _ONE_FILE_LIMIT else None)


def label_inputs(graph: ir.Graph, axes: Axes) -> list[tuple[int, int]]:
    """Give dynamic dimensions of the inputs their symbols; return (input, axis) of those that were fixed."""
    fixed = []
    renamed: dict[str | None, str] = {}
    for index, (value, symbols) in enumerate(zip(graph.inputs, axes, strict=True)):
        dims = list(value.shape or ())
        for axis, symbol in symbols.items():
            dim = dims[axis]
            if isinstance(dim, int):
                fixed.append((index, axis))
            else:
                renamed.setdefault(dim.value, symbol)
                dims[axis] = ir.SymbolicDim(symbol)
        if symbols:
            value.shape = ir.Shape(dims)
    for value in (value for node in graph.all_nodes() for value in node.outputs):
        if value.shape is not None:
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) else renamed.get(dim.value, dim) for dim in value.shape]
            )
    return fixed


def label_outputs(graph: ir.Graph, sizes: Sequence[dict[str, int]], shapes: Sequence[Sequence[Any]]) -> None:
    """Give the outputs the dimensions seen with the examples and with those of other sizes.

    A dimension that changed gets the symbol which had both sizes, or none. A traced model names them after
    nodes, or takes those of the example for fixed.
    """
    before, after = sizes
    symbols = {(before[symbol], after[symbol]): symbol for symbol in reversed(before)}
    for value, old, new in zip(graph.outputs, *shapes, strict=True):
        value.shape = ir.Shape(
            [
                ours if ours == theirs else symbols.get((ours, theirs))
                for ours, theirs in zip(old, new, strict=True)
            ]
        )


def without_effect(graph: ir.Graph) -> list[str]:
    """Return the inputs that nothing depends on."""
    return [value.name or "" for value in graph.inputs if not value.uses() and value not in graph.outputs]


def misfit(path: Path, model: Runner, trials: Mapping[str, Sequence[torch.Tensor]]) -> str | None:
    """Return why a file is not what the model is, if onnxruntime cannot run it or is far off.

    That decides between exporters; how close the answers are is for the parity check.
    """
    from fuseonnx.runtime.session import open_session, run

    try:
        session = open_session(path)
        names = [value.name for value in session.get_inputs()]
        outputs = session.get_outputs()
        for trial, tensors in trials.items():
            feeds = {name: to_numpy(tensor) for name, tensor in zip(names, tensors, strict=True)}
            for output, theirs, ours in zip(outputs, model(tensors), run(session, feeds), strict=True):
                name = output.name
                if (axis := _wrongly_declared(output.shape, theirs.shape)) is not None:
                    return f"axis {axis} of output '{name}' is declared as {output.shape[axis]} for {trial}"
                if ours.shape != theirs.shape:
                    return f"output '{name}' has shape {ours.shape}, in PyTorch {theirs.shape}, for {trial}"
                if _is_far(theirs, ours):
                    return f"output '{name}' {ANOTHER} for {trial}"
    except BackendError as error:
        message = str(error).removeprefix(f"{path}: ")
        if message.startswith("onnxruntime"):
            return message
        node = re.search(r"while running (\w+) node", message)
        return f"onnxruntime fails for {trial}: {f'in a {node[1]} node' if node else message[:150]}"
    return None


def _wrongly_declared(declared: Sequence[Any], shape: Sequence[int]) -> int | None:
    """Return the first axis whose declared size, if it is a number, is not that of an answer.

    The dynamo exporter writes the example's length for what an LSTM or GRU returns; whether it refuses a
    dynamic one instead depends on what was exported before.
    """
    pairs = enumerate(zip(declared, shape, strict=False))
    return next((axis for axis, (dim, size) in pairs if isinstance(dim, int) and dim != size), None)


def _is_far(expected: np.ndarray, found: np.ndarray) -> bool:
    """Whether a twentieth of the elements or more is far off."""
    if expected.dtype.kind not in "fV":
        return False
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=0.0)
    off = ~(np.abs(found - expected) <= _FAR * scale + 1e-6)
    return bool(off[finite].size) and bool(off[finite].mean() >= _FAR)
