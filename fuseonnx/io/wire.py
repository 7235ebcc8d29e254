"""The protobuf wire format of ONNX, walked without decoding it.

`lift` copies a model's bytes without its large tensor payloads, leaving in their place the external
reference that says where each one is (file, offset, length). `splice` does the opposite. Neither ever
holds a payload: a 300 MB model is lifted by reading a few hundred kilobytes.

Field numbers are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar, overload

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor"},
    "Function": {7: "Node"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph"},
}
_METADATA = 14  # of a model
_DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 2, 9, 13, 14  # of a tensor
_PACKED_LITTLE_ENDIAN = {1: 4, 11: 10}  # FLOAT in float_data and DOUBLE in double_data have raw_data's bytes
_MIN_LIFTED_BYTES = 4096


class WireError(ValueError):
    """The bytes are not a whole protobuf message."""


class FileBytes:
    """The bytes of an open file, read through a small window.

    A memory map would count every page near one that is read into the process's peak memory.
    """

    _WINDOW = 1 << 14

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size
        self._start = 0
        self._window = b""

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            return os.pread(self._descriptor, key.stop - key.start, key.start)
        if not 0 <= key - self._start < len(self._window):
            self._start = key
            self._window = os.pread(self._descriptor, self._WINDOW, key)
        return self._window[key - self._start]


Buffer = bytes | FileBytes

P = TypeVar("P")


@dataclass
class Rope(Generic[P]):
    """A byte string in pieces: literal bytes, and payloads that are written by whoever owns them."""

    length: int = 0
    parts: list[bytes | P] = field(default_factory=list)

    def add(self, literal: bytes) -> None:
        """Append literal bytes."""
        self.parts.append(literal)
        self.length += len(literal)

    def add_payload(self, payload: P, length: int) -> None:
        """Append a payload of `length` bytes."""
        self.parts.append(payload)
        self.length += length

    def extend(self, other: Rope[P]) -> None:
        """Append another rope."""
        self.parts.extend(other.parts)
        self.length += other.length


class _Field(NamedTuple):
    number: int
    wire_type: int
    start: int  # of the tag
    value: int  # where the value begins
    end: int
    varint: int  # the value itself, if it is one


def lift(model: Buffer, location: str) -> bytes:
    """Return the ModelProto bytes of `model` with every payload of 4 KiB or more made external.

    Args:
        model: the bytes of a ModelProto; a file is read only where it is not payload.
        location: the `location` entry that the external references get.

    Raises:
        WireError: the bytes end inside a field, or are not protobuf.
    """
    return _lift_message(model, 0, len(model), "Model", location)


def metadata(model: Buffer) -> dict[str, str]:
    """Return the metadata_props of a ModelProto; of a file nothing else is read but where fields begin.

    Raises:
        WireError: as `lift` does, or the metadata is no text.
    """
    found = {}
    for item in _fields(model, 0, len(model)):
        if item.number == _METADATA and item.wire_type == _BYTES:
            parts = _fields(model, item.value, item.end)
            entry = {part.number: model[part.value : part.end] for part in parts}
            try:
                found[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            except UnicodeDecodeError:
                raise WireError(f"the metadata at byte {item.start} is no text") from None
    return found


def splice(model: bytes, marker: bytes, payload_of: Callable[[str], tuple[P, int]]) -> Rope[P]:
    """Put payloads back into the external tensors of `model` whose location starts with `marker`.

    Args:
        model: the bytes of a ModelProto.
        marker: the first bytes of the locations to resolve.
        payload_of: location to the payload and its length in bytes.
    """
    marks: list[int] = []
    at = model.find(marker)
    while at >= 0:
        marks.append(at)
        at = model.find(marker, at + 1)
    return _splice_message(model, 0, len(model), "Model", marks, payload_of)


def _lift_message(buffer: Buffer, start: int, end: int, kind: str, location: str) -> bytes:
    if kind == "Tensor":
        return _lift_tensor(buffer, start, end, location)
    children = _CHILDREN[kind]
    out: list[bytes] = []
    copied = start
    for item in _fields(buffer, start, end):
        child = children.get(item.number)
        if child is None or item.wire_type != _BYTES or item.end - item.value < _MIN_LIFTED_BYTES:
            continue
        body = _lift_message(buffer, item.value, item.end, child, location)
        out += buffer[copied : item.start], _tag(item.number, _BYTES), _varint(len(body)), body
        copied = item.end
    out.append(buffer[copied:end])
    return b"".join(out)


def _lift_tensor(buffer: Buffer, start: int, end: int, location: str) -> bytes:
    fields = list(_fields(buffer, start, end))
    data_type = next((item.varint for item in fields if item.number == _DATA_TYPE), 0)
    holders = {_RAW_DATA, _PACKED_LITTLE_ENDIAN.get(data_type)}
    payloads = [item for item in fields if item.number in holders and item.wire_type == _BYTES]
    if len(payloads) != 1 or payloads[0].end - payloads[0].value < _MIN_LIFTED_BYTES:
        return buffer[start:end]
    (payload,) = payloads
    return b"".join(
        (
            buffer[start : payload.start],
            buffer[payload.end : end],
            _external_entry("location", location),
            _external_entry("offset", str(payload.value)),
            _external_entry("length", str(payload.end - payload.value)),
            _tag(_DATA_LOCATION, _VARINT) + _varint(1),
        )
    )


def _external_entry(key: str, value: str) -> bytes:
    entry = b"".join(
        _tag(number, _BYTES) + _varint(len(text)) + text
        for number, text in ((1, key.encode()), (2, value.encode()))
    )
    return _tag(_EXTERNAL_DATA, _BYTES) + _varint(len(entry)) + entry


def _splice_message(
    buffer: bytes,
    start: int,
    end: int,
    kind: str,
    marks: list[int],
    payload_of: Callable[[str], tuple[P, int]],
) -> Rope[P]:
    if kind == "Tensor":
        return _splice_tensor(buffer, start, end, payload_of)
    children = _CHILDREN[kind]
    out: Rope[P] = Rope()
    copied = start
    for item in _fields(buffer, start, end):
        child = children.get(item.number)
        if child is None or item.wire_type != _BYTES or not _any_between(marks, item.value, item.end):
            continue
        out.add(buffer[copied : item.start])
        body = _splice_message(buffer, item.value, item.end, child, marks, payload_of)
        out.add(_tag(item.number, _BYTES) + _varint(body.length))
        out.extend(body)
        copied = item.end
    out.add(buffer[copied:end])
    return out


def _splice_tensor(
    buffer: bytes, start: int, end: int, payload_of: Callable[[str], tuple[P, int]]
) -> Rope[P]:
    out: Rope[P] = Rope()
    location = ""
    for item in _fields(buffer, start, end):
        if item.number == _EXTERNAL_DATA:
            key, value = (buffer[entry.value : entry.end] for entry in _fields(buffer, item.value, item.end))
            if key == b"location":
                location = value.decode()
        elif item.number != _DATA_LOCATION:
            out.add(buffer[item.start : item.end])
    if not location:  # the marker is in a text of the tensor
        return out
    payload, length = payload_of(location)
    out.add(_tag(_RAW_DATA, _BYTES) + _varint(length))
    out.add_payload(payload, length)
    return out


def _any_between(marks: list[int], start: int, end: int) -> bool:
    index = bisect_left(marks, start)
    return index < len(marks) and marks[index] < end


def _fields(buffer: Buffer, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message in buffer[start:end].

    Raises:
        WireError: a field runs past `end`, or has a wire type that proto3 does not know.
    """
    position = start
    while position < end:
        field_start = position
        key, position = _read_varint(buffer, position, end)
        number, wire_type = key >> 3, key & 7
        value = 0
        if wire_type == _VARINT:
            value_start = position
            value, position = _read_varint(buffer, position, end)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire_type)
            if wire_type == _BYTES:
                length, position = _read_varint(buffer, position, end)
            if length is None or number == 0:
                raise WireError(f"no protobuf field at byte {field_start}")
            value_start = position
            position += length
        if position > end:
            raise WireError(f"the field at byte {field_start} ends at byte {position}, past the end at {end}")
        yield _Field(number, wire_type, field_start, value_start, position, value)


def _read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= end or shift > 63:
            raise WireError(f"the number at byte {position} is cut short")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
