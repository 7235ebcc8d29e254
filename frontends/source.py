"""Open a model of any kind as an ONNX file.

An ONNX file stays where it is. A model of a framework is converted in a temporary folder, an ONNX model in
memory is written to one, so that everything after works from disk; the artifact is read back as the same
kind, or as `onnx.ModelProto` where the framework has none. The caller's object is never changed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import onnx
import onnx_ir as ir

from fuseonnx.errors import FuseOnnxError, ModelLoadError, OptionError
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.dispatch import OnProgress, convert, converter_of
from fuseonnx.frontends.graphsurgeon import from_surgeon, is_surgeon_graph, to_surgeon
from fuseonnx.frontends.options import ExportKeywords, ExportOptions
from fuseonnx.io.load import signature_of
from fuseonnx.io.save import write_draft
from fuseonnx.io.validate import tensors

if TYPE_CHECKING:
    import keras
    import onnx_graphsurgeon as gs
    import torch

OnnxModel: TypeAlias = Union[str, Path, bytes, onnx.ModelProto, ir.Model, "gs.Graph"]
ModelLike: TypeAlias = Union[
    OnnxModel, "keras.Model", "torch.nn.Module", "torch.export.ExportedProgram", Callable[..., Any]
]

_ONE_FILE_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Source:
    """A model as an ONNX file.

    Attributes:
        path: the file.
        name: what messages and reports call the model.
        given: the path that the caller gave, if it was one.
        restore: turns the path of an artifact into the kind of model that the caller gave.
        conversion: how the file was made, if the model was not ONNX.
        seconds: how long that took.
    """

    path: Path
    name: str
    given: Path | None
    restore: Callable[[Path], OnnxModel]
    conversion: Conversion | None = None
    seconds: float = 0.0


@contextlib.contextmanager
def opened(
    model: ModelLike,
    export_options: ExportKeywords | None = None,
    on_progress: OnProgress = lambda _stage: None,
) -> Iterator[Source]:
    """Yield `model` as an ONNX file, which exists for as long as the context does.

    `export_options` are only for a model that is not ONNX yet.

    Raises:
        ModelLoadError: the object is no model, or does not fit into one ONNX file.
        ExportError: it cannot be converted to ONNX.
        OptionError: the options do not fit the model.
    """
    given = Path(model) if isinstance(model, str | Path) else None
    name = str(model) if given else f"<{type(model).__name__}>"
    converter = converter_of(model)
    if converter is None and export_options:
        raise OptionError(f"{name}: is ONNX already; the options of an export do not apply")
    if given and converter is None:
        yield Source(given, name, given, lambda path: path)
        return
    with tempfile.TemporaryDirectory(prefix="fuseonnx-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            if converter is None:
                yield Source(path, name, None, _spill(model, path))
                return
            started = time.perf_counter()
            options = ExportOptions(**(export_options or {}))
            conversion = convert(converter, name, Path(folder), options, on_progress)
            restore = (lambda artifact: artifact) if given else onnx.load
            seconds = time.perf_counter() - started
            yield Source(conversion.path, name, given, restore, conversion, seconds)
        except FuseOnnxError as error:
            raise type(error)(str(error).replace(str(path), name)) from error


def _spill(model: object, path: Path) -> Callable[[Path], OnnxModel]:
    """Write a model in memory to `path`; return what reads an artifact back as the same kind."""
    if isinstance(model, bytes):
        path.write_bytes(model)
        return Path.read_bytes
    if isinstance(model, onnx.ModelProto):
        _write_proto(model, path)
        return onnx.load
    if isinstance(model, ir.Model):
        write_draft(model, signature_of(model), path).publish()
        return lambda artifact: ir.from_proto(onnx.load(artifact))
    if is_surgeon_graph(model):
        _write_proto(from_surgeon(model), path)
        return lambda artifact: to_surgeon(onnx.load(artifact))
    raise ModelLoadError(
        f"<{type(model).__name__}>: not a model; give a path, bytes, onnx.ModelProto, onnx_ir.Model, "
        "onnx_graphsurgeon.Graph, or a Keras, TensorFlow or PyTorch model"
    )


def _write_proto(model: onnx.ModelProto, path: Path) -> None:
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(model)):
        raise ModelLoadError(
            "<ModelProto>: its weights are in external files; give the path of the model instead"
        )
    if model.ByteSize() > _ONE_FILE_LIMIT:
        onnx.save_model(_copy(model), path, save_as_external_data=True, location="model.onnx.data")
    else:
        path.write_bytes(model.SerializeToString())


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, because saving with external data takes the data out of the object."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
