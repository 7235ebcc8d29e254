"""Copies of a model that give inner values as outputs, while the weights stay in the file they lie in."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from fuseonnx.io.load import read_weightless
from fuseonnx.io.validate import nbytes, tensors_in_nodes


@contextlib.contextmanager
def revealed(model: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a file like `model` whose outputs are the values called `names`; it exists inside the context.

    The file lies in a hidden folder beside the model, or in the temporary folder where that is not writable.
    """
    proto = read_weightless(model)
    with _folder_near(model) as folder:
        for tensor in proto.graph.initializer:
            _bring_near(tensor, model, folder)
        for tensor in tensors_in_nodes(proto):
            _take_in(tensor, model)
        declared = {info.name: info for info in (*proto.graph.output, *proto.graph.value_info)}
        outputs = [declared.get(name, onnx.ValueInfoProto(name=name)) for name in names]
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)
        path = folder / f"{model.name}.revealed"
        path.write_bytes(proto.SerializeToString())
        yield path


def _bring_near(tensor: onnx.TensorProto, model: Path, folder: Path) -> None:
    """Let the external data of a tensor lie in `folder`, as onnxruntime demands."""
    for entry in tensor.external_data:
        if entry.key == "location":
            file = model.parent / entry.value
            entry.value = model.name if Path(entry.value) == model.resolve() else entry.value
            near = folder / entry.value
            if not near.exists():
                near.parent.mkdir(parents=True, exist_ok=True)
                _link(file, near)


def _take_in(tensor: onnx.TensorProto, model: Path) -> None:
    """Put the data of a tensor back: attributes cannot be external, bodies not through a link."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if entries:
        with (model.parent / entries["location"]).open("rb") as file:
            file.seek(int(entries.get("offset", "0")))
            tensor.raw_data = file.read(nbytes(tensor))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _folder_near(model: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=".fuseonnx-", dir=model.parent))
        except OSError:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="fuseonnx-"))
        yield Path(name)
