"""wire: what is lifted out of a file comes back the same, and no bytes can crash it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.errors import ModelLoadError
from fuseonnx.io.load import load
from fuseonnx.io.wire import FileBytes, WireError, lift, metadata, splice
from tests.io.models import add_model, every_place, float_data, info, model_of, weight

HERE = "slot:here"


def _round_trip(data: bytes) -> tuple[onnx.ModelProto, bytes]:
    """Lift, then splice each payload back from where its reference says it was."""
    lifted = lift(data, HERE)
    proto = onnx.ModelProto.FromString(lifted)
    for number, tensor in enumerate(_external(proto)):
        tensor.external_data[0].value = f"slot:{number}"
    spans = [
        {entry.key: int(entry.value) for entry in tensor.external_data[1:]}
        for tensor in _external(onnx.ModelProto.FromString(lifted))
    ]

    def payload_of(location: str) -> tuple[bytes, int]:
        span = spans[int(location.removeprefix("slot:"))]
        payload = data[span["offset"] : span["offset"] + span["length"]]
        return payload, len(payload)

    rope = splice(proto.SerializeToString(), b"slot:", payload_of)
    whole = b"".join(rope.parts)
    assert rope.length == len(whole)
    return proto, whole


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor of a message, whichever field it is in."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for each in value if descriptor.is_repeated else [value]:
                yield from _tensors(each)


def _external(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in _tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]


def _raw(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every float_data as raw_data, in the field order that splice gives."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy):
        if len(tensor.float_data) >= 1024:
            tensor.raw_data = np.array(tensor.float_data, "<f4").tobytes()
            del tensor.float_data[:]
    return copy


def test_round_trip_of_every_place() -> None:
    model = every_place()
    lifted, whole = _round_trip(model.SerializeToString())
    assert len(_external(lifted)) == 6
    assert lifted.ByteSize() < 4096
    assert onnx.ModelProto.FromString(whole) == _raw(model)


def test_round_trip_of_real_models(real_models: dict[str, Path]) -> None:
    for path in real_models.values():
        data = path.read_bytes()
        lifted, whole = _round_trip(data)
        assert _external(lifted), path
        found = onnx.ModelProto.FromString(whole)
        assert _raw(found) == _raw(onnx.ModelProto.FromString(data)), path


def test_double_data_is_lifted_and_int32_data_is_not() -> None:
    doubles = helper.make_tensor("d", TensorProto.DOUBLE, [600], [0.5] * 600)
    integers = helper.make_tensor("i", TensorProto.INT32, [6000], [7] * 6000)
    nodes = [helper.make_node("Identity", [name], [f"{name}_y"]) for name in "di"]
    outputs = [info("d_y", [600], TensorProto.DOUBLE), info("i_y", [6000], TensorProto.INT32)]
    model = model_of(helper.make_graph(nodes, "g", [], outputs, [doubles, integers]))
    lifted, whole = _round_trip(model.SerializeToString())
    assert [tensor.name for tensor in _external(lifted)] == ["d"]
    found = onnx.ModelProto.FromString(whole)
    assert numpy_helper.to_array(found.graph.initializer[0]).tolist() == [0.5] * 600
    assert found.graph.initializer[1] == integers


def test_payloads_below_4_kib_stay() -> None:
    model = add_model(weight("w", 1023), [1023])
    assert lift(model.SerializeToString(), HERE) == model.SerializeToString()


def test_float_data_that_is_not_packed_stays() -> None:
    """proto2 writers may write one field per element; that is valid protobuf."""
    tensor = b"\x08" + _varint(2000) + b"\x10\x01" + b"\x25\x00\x00\x80\x3f" * 2000 + b"\x42\x01w"
    model = add_model(weight("w", 1), [2000])
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + b"\x2a" + _varint(len(tensor)) + tensor
    model.ClearField("graph")
    data = model.SerializeToString() + b"\x3a" + _varint(len(graph)) + graph
    assert lift(data, HERE) == data
    assert onnx.ModelProto.FromString(data).graph.initializer[0].float_data[:] == [1.0] * 2000


def test_marker_in_a_text_is_left_alone() -> None:
    model = add_model(weight("w", 3), [3])
    model.graph.node[0].doc_string = "slot:1"
    model.graph.initializer[0].doc_string = "slot:2"
    data = model.SerializeToString()

    def payload_of(location: str) -> tuple[bytes, int]:
        raise AssertionError(location)

    assert b"".join(splice(data, b"slot:", payload_of).parts) == data


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _load_or_refuse(data: bytes, path: Path) -> bool:
    """Load damaged bytes; anything but ModelLoadError is a bug. Return whether they loaded."""
    path.write_bytes(data)
    try:
        load(path)
    except ModelLoadError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return False
    return True


def test_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    data = every_place().SerializeToString()
    assert _load_or_refuse(data, tmp_path / "whole.onnx")
    cuts = [*range(0, 400, 3), *range(400, len(data) - 400, 211), *range(len(data) - 400, len(data), 3)]
    loaded = [cut for cut in cuts if _load_or_refuse(data[:cut], tmp_path / "cut.onnx")]
    # A cut between two top-level fields leaves valid protobuf, but never one with the functions it calls.
    assert loaded == []


def test_damaged_bytes_are_refused_or_load(tmp_path: Path) -> None:
    chance = random.Random(7)
    data = lift(every_place().SerializeToString(), HERE)
    outcomes = set()
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        outcomes.add(_load_or_refuse(bytes(damaged), tmp_path / "damaged.onnx"))
    assert False in outcomes


def test_flipped_bytes_of_a_small_model(tmp_path: Path) -> None:
    chance = random.Random(8)
    data = add_model(weight("w", 3), ["n", 3]).SerializeToString()
    outcomes = set()
    for position in range(len(data)):
        for _ in range(8):
            damaged = bytearray(data)
            damaged[position] = chance.randrange(256)
            outcomes.add(_load_or_refuse(bytes(damaged), tmp_path / "damaged.onnx"))
    assert outcomes == {True, False}


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    chance = random.Random(9)
    for _ in range(300):
        data = chance.randbytes(chance.choice((1, 5, 50, 5000)))
        assert not _load_or_refuse(data, tmp_path / "noise.onnx")


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a" + b"\xff" * 9 + b"\x01",
        b"\x3a" + b"\xff" * 20,
        b"\xff" * 11,
        b"\x3a\x80\x80\x80\x80\x10",
        b"\x3b\x3c",
        b"\x02\x00",
        b"\x00\x00",
    ],
    ids=["2^64 length", "endless length", "endless tag", "4 GiB", "group", "field 0", "zeros"],
)
def test_hostile_numbers_are_refused(data: bytes, tmp_path: Path) -> None:
    head = add_model(weight("w", 3), [3])
    head.ClearField("graph")
    for prefix in (b"", head.SerializeToString()):
        with pytest.raises((WireError, DecodeError)):
            onnx.ModelProto.FromString(lift(prefix + data, HERE))
        assert not _load_or_refuse(prefix + data, tmp_path / "hostile.onnx")


def test_bodies_nested_too_deep_are_refused(tmp_path: Path) -> None:
    """Each level is a Graph in an Attribute in a Node, padded so that the walk goes into it."""
    body = float_data("w", 2000).SerializeToString()
    body = b"\x2a" + _varint(len(body)) + body
    for _ in range(3000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # Attribute.g, Node.attribute, Graph.node
            body = tag + _varint(len(body)) + body
    assert not _load_or_refuse(b"\x08\x0a\x3a" + _varint(len(body)) + body, tmp_path / "deep.onnx")


def test_metadata_is_what_onnx_reads(tmp_path: Path) -> None:
    model = add_model(weight("w", 30_000), [30_000])
    for key, value in (("author", "Ä"), ("", "nameless"), ("empty", "")):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "m.onnx")
    with (tmp_path / "m.onnx").open("rb") as file:
        assert metadata(FileBytes(file.fileno())) == {"author": "Ä", "": "nameless", "empty": ""}
    model.ClearField("metadata_props")
    assert metadata(model.SerializeToString()) == {}


@pytest.mark.parametrize("entry", [b"\x0a\x01\xff", b"\x0a\x09a"], ids=["no text", "cut short"])
def test_damaged_metadata_is_refused(entry: bytes) -> None:
    with pytest.raises(WireError):
        metadata(b"\x72" + _varint(len(entry)) + entry)


def test_file_bytes_reads_like_bytes(tmp_path: Path) -> None:
    data = random.Random(10).randbytes(50_000)
    path = tmp_path / "bytes"
    path.write_bytes(data)
    with path.open("rb") as file:
        window = FileBytes(file.fileno())
        assert len(window) == len(data)
        assert [window[at] for at in (0, 49_999, 16_384, 16_383, 5)] == [
            data[at] for at in (0, 49_999, 16_384, 16_383, 5)
        ]
        assert window[100:40_000] == data[100:40_000]
