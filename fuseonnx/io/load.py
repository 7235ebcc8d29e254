"""Load an ONNX file into the IR without reading its weights.

Large weights become external references into the file they lie in; a rule that computes with one maps it
from disk at that moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from fuseonnx.core.graph import (
    DECLARED,
    INITIALIZERS_ARE_INPUTS_BEFORE_IR,
    all_graphs,
    nodes_in,
    top_graphs,
)
from fuseonnx.core.invariants import UNDEFINED
from fuseonnx.errors import ModelLoadError
from fuseonnx.io.validate import check, nbytes, tensors
from fuseonnx.io.wire import FileBytes, WireError, lift

_HASHED_AT_ONCE = 8 << 20


@dataclass(frozen=True)
class Signature:
    """What of a model must come out as it went in, word for word."""

    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[onnx.ValueInfoProto, ...]
    sparse_initializers: tuple[onnx.SparseTensorProto, ...]
    external_files: frozenset[str]
    """Names of the external data files that the model refers to."""


@dataclass(frozen=True)
class Loaded:
    """A model in the IR, its weights still on disk."""

    path: Path
    model: ir.Model
    signature: Signature
    digest: Future[str]

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, which a thread computes from the moment when the model is loaded."""
        return self.digest.result()

    @property
    def file_bytes(self) -> int:
        """Size of the file and of its external data."""
        files = (self.path, *(self.path.parent / name for name in self.signature.external_files))
        return sum(file.stat().st_size for file in files)


def load(path: Path) -> Loaded:
    """Load the ONNX file at `path`.

    Raises:
        ModelLoadError: it is missing, empty, truncated, not ONNX, invalid, newer than the installed onnx,
            or refers to external data that is missing or lies outside its folder.
    """
    proto = read_weightless(path)
    hasher = ThreadPoolExecutor(max_workers=1)
    digest = hasher.submit(_sha256, path)
    hasher.shutdown(wait=False)
    try:
        _keep_sparse_constants(proto.graph)
        check(proto, path)
        external_files = _resolve_external_data(proto, path)
        signature = _take_signature(proto, external_files)
        with _quiet_onnx_ir():
            model = ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, NotImplementedError) as error:
        raise ModelLoadError(f"{path}: not a valid ONNX graph: {_root_cause(error)}") from error
    for graph in all_graphs(model):
        graph.meta[DECLARED] = {value.name: (value.type, value.shape) for value in _values_of(graph)}
    for info in proto.graph.value_info:
        if (weight := model.graph.initializers.get(info.name)) is not None:
            model.graph.meta[DECLARED][info.name] = (weight.type, weight.shape)
    _check_inputs_exist(model, signature, path)
    _sort(model, path)
    return Loaded(path, model, signature, digest)


def signature_of(model: ir.Model) -> Signature:
    """Return the signature of a model that did not come from a file."""
    return Signature(
        tuple(ir.serde.serialize_value(value) for value in model.graph.inputs),
        tuple(ir.serde.serialize_value(value) for value in model.graph.outputs),
        sparse_initializers=(),
        external_files=frozenset(),
    )


def read_weightless(path: Path) -> onnx.ModelProto:
    """Return the model without payloads of 4 KiB or more.

    Such tensors are external, their location the absolute path of the file itself.

    Raises:
        ModelLoadError: the file is missing, empty, truncated or not ONNX.
    """
    absolute = path.resolve()
    try:
        with absolute.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelLoadError(f"{path}: the file is empty; export or download the model again")
            lifted = lift(FileBytes(file.fileno()), str(absolute))
        proto: onnx.ModelProto = onnx.ModelProto.FromString(lifted)
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror}") from error
    except (WireError, DecodeError, RecursionError) as error:
        raise ModelLoadError(
            f"{path}: not an ONNX model, or truncated; export or download it again"
        ) from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise ModelLoadError(f"{path}: not an ONNX model (it holds no graph)")
    return proto


def _sha256(path: Path) -> str:
    """Hash in large pieces: after each of them the thread has to wait for its turn."""
    digest, piece = hashlib.sha256(), bytearray(_HASHED_AT_ONCE)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
    return digest.hexdigest()


def _values_of(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _resolve_external_data(proto: onnx.ModelProto, path: Path) -> frozenset[str]:
    """Make the location of every external tensor absolute, and check that its bytes are there."""
    own = str(path.resolve())
    sizes: dict[str, int] = {own: path.stat().st_size}
    files: dict[str, str] = {own: own}
    for tensor in tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry for entry in tensor.external_data}
        if "location" not in entries:
            raise ModelLoadError(
                f"{path}: tensor '{tensor.name}' is external but names no file; export it again"
            )
        location = entries["location"].value
        if location not in files:
            files[location] = str(_external_file(path, location))
            sizes[location] = os.stat(files[location]).st_size  # noqa: PTH116
        start = int(entries["offset"].value) if "offset" in entries else 0
        length = nbytes(tensor)
        if start < 0 or start + length > sizes[location]:
            raise ModelLoadError(f"{path}: external data file '{location}' is truncated; download it again")
        entries["location"].value = files[location]
    return frozenset(files) - {own}


def _external_file(path: Path, location: str) -> Path:
    folder = path.absolute().parent
    target = Path(os.path.normpath(folder / location))
    real_folders = {folder.resolve(), path.resolve().parent}
    inside = not Path(location).is_absolute() and target.is_relative_to(folder)
    if not inside or not any(target.resolve().is_relative_to(real) for real in real_folders):
        raise ModelLoadError(
            f"{path}: external data '{location}' lies outside the model's folder; move it inside"
        )
    if not os.path.isfile(target):  # noqa: PTH113 (a path too long is no error here)
        raise ModelLoadError(f"{path}: external data file '{location}' is missing; put it beside the model")
    return target.resolve()


def _keep_sparse_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes with a sparse tensor, which the IR cannot hold, into sparse initializers."""
    outputs = {info.name for info in graph.output}
    for node in [node for node in graph.node if node.op_type == "Constant" and not node.domain]:
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and outputs.isdisjoint(node.output):
                attribute.sparse_tensor.values.name = node.output[0]
                graph.sparse_initializer.append(attribute.sparse_tensor)
                graph.node.remove(node)


def _take_signature(proto: onnx.ModelProto, external_files: frozenset[str]) -> Signature:
    """Copy the signature out of `proto`, and remove from it what the IR cannot hold."""
    graph = proto.graph
    if proto.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE_IR:
        constants = {tensor.name for tensor in graph.initializer}
        inputs = [info for info in graph.input if info.name not in constants]
        del graph.input[:]
        graph.input.extend(inputs)
    signature = Signature(
        tuple(_copy(info) for info in graph.input),
        tuple(_copy(info) for info in graph.output),
        tuple(graph.sparse_initializer),
        external_files,
    )
    for info in (*graph.input, *graph.output, *graph.value_info):
        if _holds_map(info.type):
            info.ClearField("type")
    return signature


def _copy(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(info)
    return copy


def _holds_map(type_proto: onnx.TypeProto) -> bool:
    kind = type_proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return _holds_map(getattr(type_proto, kind).elem_type)
    return kind in ("map_type", "opaque_type")


def _check_inputs_exist(model: ir.Model, signature: Signature, path: Path) -> None:
    sparse = {tensor.values.name for tensor in signature.sparse_initializers}
    for top in top_graphs(model):
        for node in nodes_in(top):
            for value in node.inputs:
                if value is None or value.producer() or value.graph is not None:
                    continue
                if value.name not in sparse:
                    raise ModelLoadError(
                        f"{path}: node '{node.name}' reads '{value.name}', which nothing produces"
                    )
                value.meta[UNDEFINED] = True
    for output in (output for graph in all_graphs(model) for output in graph.outputs):
        if not (output.producer() or output.is_graph_input() or output.is_initializer()):
            raise ModelLoadError(f"{path}: nothing produces the graph output '{output.name}'")


def _sort(model: ir.Model, path: Path) -> None:
    for top in top_graphs(model):
        if not _is_sorted(top):
            try:
                top.sort()
            except ValueError as error:
                raise ModelLoadError(f"{path}: the graph has a cycle; export the model again") from error


def _is_sorted(graph: ir.Graph) -> bool:
    seen: set[ir.Node] = set()
    for node in nodes_in(graph):
        # A body comes after its own node, whose inputs came before it.
        seen.add(node)
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and (producer not in seen or producer is node):
                return False
    return True


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _quiet_onnx_ir() -> Iterator[None]:
    """Silence onnx-ir's warnings about invalid graphs: they are raised here as errors instead."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
