"""Save a model without ever holding its weights: they stream from the file they lie in to the new one.

A model is first written as a draft in a hidden folder beside its destination, where it can be checked, and
then published by renaming: the destination holds the old file or the whole new one, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import proto_bodies_of
from fuseonnx.errors import ModelSaveError
from fuseonnx.io.load import Signature
from fuseonnx.io.proto import SLOT, Tensor, to_proto
from fuseonnx.io.wire import Rope, splice

_PROTOBUF_LIMIT = 2**31 - 1
_PAGE = 4096  # external tensors start on a page, so that onnxruntime can map them


@dataclass(frozen=True)
class Draft:
    """A saved model that is not yet under its own name."""

    destination: Path
    folder: Path

    @property
    def path(self) -> Path:
        """The model file; it can be loaded from here."""
        return self.folder / self.destination.name

    def publish(self) -> None:
        """Move the files to the destination; external data first, the model last.

        Raises:
            ModelSaveError: the files cannot be moved.
        """
        try:
            with _one_line_errors(self.destination):
                for file in sorted(self.folder.iterdir(), key=lambda file: file == self.path):
                    os.replace(file, self.destination.parent / file.name)  # noqa: PTH105
                _fsync_folder(self.destination.parent)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the draft."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_draft(
    model: ir.Model, signature: Signature, destination: Path, *, external_data: bool = False
) -> Draft:
    """Write `model` as a draft of `destination`.

    Args:
        model: the model to write; its weights may lie in other files.
        signature: inputs and outputs to write as they were in the source.
        destination: where the model is to be published.
        external_data: put the weights into `<destination>.data`, but leave those of bodies in the model if it
            stays below protobuf's limit of 2 GiB: onnxruntime refuses a link to the file for them. A model
            over that limit, and one whose source has external data, get this anyway.

    Raises:
        ModelSaveError: the folder is missing or not writable, the disk is full, or a folder has the name.
    """
    if os.path.isdir(destination):  # noqa: PTH112 (a path too long is no error here)
        raise ModelSaveError(f"{destination}: is a folder; name a file with -o")
    draft = Draft(destination, _folder_of(destination))
    with _one_line_errors(destination), no_draft_left(destination):
        _remove_stale_drafts(destination)
        draft.folder.mkdir()
        _write(model, signature, draft, external_data or bool(signature.external_files))
    return draft


@contextlib.contextmanager
def no_draft_left(destination: Path) -> Iterator[None]:
    """Leave nothing of this process's draft of `destination` behind if an error or an interrupt comes."""
    try:
        yield
    except BaseException:
        shutil.rmtree(_folder_of(destination), ignore_errors=True)
        raise


def _folder_of(destination: Path) -> Path:
    return destination.parent / f".{destination.name}.fuseonnx-{os.getpid()}"


def _write(model: ir.Model, signature: Signature, draft: Draft, external_data: bool) -> None:
    proto, payloads = to_proto(model, signature)
    rope = _rope(proto, payloads)
    if external_data or rope.length > _PROTOBUF_LIMIT:
        data = draft.folder / _free_data_name(draft.destination.name, signature.external_files)
        _write_file(data, lambda file: _write_data(proto, payloads, data.name, file))
        if not data.stat().st_size:
            data.unlink()
        rope = _rope(proto, payloads)
    _write_file(draft.path, lambda file: _write_rope(rope, file))


def _rope(proto: onnx.ModelProto, payloads: list[Tensor]) -> Rope[Tensor]:
    def payload_of(location: str) -> tuple[Tensor, int]:
        tensor = payloads[int(location.removeprefix(SLOT))]
        return tensor, tensor.nbytes

    return splice(proto.SerializeToString(), SLOT.encode(), payload_of)


def _write_data(proto: onnx.ModelProto, payloads: list[Tensor], data_name: str, file: BinaryIO) -> None:
    """Write the payloads of initializers to `file`, and refer to them as external data.

    Those of bodies only if the model is too large with them: onnxruntime refuses a link to the file for them.
    """
    for initializers in (proto.graph.initializer, _initializers(proto.graph)):
        for tensor in initializers:
            if tensor.external_data and tensor.external_data[0].value.startswith(SLOT):
                payload = payloads[int(tensor.external_data[0].value.removeprefix(SLOT))]
                file.seek(-file.tell() % _PAGE, os.SEEK_CUR)
                _refer(tensor, location=data_name, offset=file.tell(), length=payload.nbytes)
                _write_payload(payload, file)
        if _rope(proto, payloads).length <= _PROTOBUF_LIMIT:
            break


def _refer(tensor: onnx.TensorProto, **reference: str | int) -> None:
    """Let the data of a tensor lie in a file."""
    del tensor.external_data[:]
    for key, value in reference.items():
        tensor.external_data.add(key=key, value=str(value))


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the initializers of a graph and of the bodies in it."""
    yield from graph.initializer
    for node in graph.node:
        for body in proto_bodies_of(node):
            yield from _initializers(body)


def _free_data_name(model_name: str, taken: frozenset[str]) -> str:
    """Return the name of the data file: never one that the source reads, which must survive a crash."""
    name, number = f"{model_name}.data", 0
    taken = frozenset(map(os.path.normpath, taken))
    while name in taken:
        number += 1
        name = f"{model_name}.{number}.data"
    return name


def _write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _write_rope(rope: Rope[Tensor], file: BinaryIO) -> None:
    for part in rope.parts:
        if isinstance(part, bytes):
            file.write(part)
        else:
            _write_payload(part, file)


def _write_payload(tensor: Tensor, file: BinaryIO) -> None:
    if isinstance(tensor, ir.ExternalTensor | ir.LazyTensor | ir.Tensor):
        tensor.tofile(file)
    else:
        file.write(tensor.tobytes())


def _remove_stale_drafts(destination: Path) -> None:
    for folder in destination.parent.glob(f".{glob.escape(destination.name)}.fuseonnx-*"):
        pid = folder.name.rpartition("-")[2]
        if not pid.isdigit() or not _is_running(int(pid)) or int(pid) == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _one_line_errors(destination: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ModelSaveError(
            f"{destination}: the folder does not exist; create it or choose another -o"
        ) from error
    except OSError as error:
        cures = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}
        cure = cures.get(error.errno or 0, "choose another place with -o")
        raise ModelSaveError(f"{destination}: cannot be written ({error.strerror}); {cure}") from error
