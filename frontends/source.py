"""Open a model of any kind as an ONNX file.

A path stays where it is. A model in memory is written to a temporary folder once, so that everything after
works from disk, and the artifact is read back as the same kind. The caller's object is never changed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import onnx
import onnx_ir as ir

from fuseonnx.errors import FuseOnnxError, ModelLoadError
from fuseonnx.frontends.graphsurgeon import from_surgeon, is_surgeon_graph, to_surgeon
from fuseonnx.io.load import signature_of
from fuseonnx.io.save import write_draft
from fuseonnx.io.validate import tensors

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

ModelLike: TypeAlias = Union[str, Path, bytes, onnx.ModelProto, ir.Model, "gs.Graph"]

_ONE_FILE_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Source:
    """A model as an ONNX file.

    Attributes:
        path: the file.
        name: what messages and reports call the model.
        on_disk: whether the caller gave a path.
        restore: turns the path of an artifact into the kind of model that the caller gave.
    """

    path: Path
    name: str
    on_disk: bool
    restore: Callable[[Path], ModelLike]


@contextlib.contextmanager
def opened(model: ModelLike) -> Iterator[Source]:
    """Yield `model` as an ONNX file, which exists for as long as the context does.

    Raises:
        ModelLoadError: the object is no model, or does not fit into one ONNX file.
    """
    if isinstance(model, str | Path):
        yield Source(Path(model), str(model), True, lambda path: path)
        return
    with tempfile.TemporaryDirectory(prefix="fuseonnx-") as folder:
        path, name = Path(folder) / "model.onnx", f"<{type(model).__name__}>"
        try:
            yield Source(path, name, False, _spill(model, path))
        except FuseOnnxError as error:
            raise type(error)(str(error).replace(str(path), name)) from error


def _spill(model: object, path: Path) -> Callable[[Path], ModelLike]:
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
        f"<{type(model).__name__}>: not a model; give a path, bytes, onnx.ModelProto, onnx_ir.Model or "
        "onnx_graphsurgeon.Graph"
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
