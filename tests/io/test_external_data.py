"""External data: read from beside the model and from nowhere else, written beside the artifact."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

import fuseonnx
from fuseonnx.errors import ModelLoadError
from fuseonnx.io import save
from fuseonnx.io.load import load
from tests.helpers import run_reference
from tests.io.models import add_model, every_place, every_place_feeds, weight
from tests.io.test_round_trip import copy_file

X = np.random.default_rng(3).normal(size=(40, 40)).astype(np.float32)
DATA = "weights.bin"


def _write(folder: Path, location: str = DATA, name: str = "model.onnx") -> Path:
    """y = x + w, with w in `location`, behind 100 bytes that are not its own."""
    model = add_model(weight("w", 40, 40), ["n", 40])
    tensor = model.graph.initializer[0]
    folder.mkdir(exist_ok=True)
    data = folder / location
    data.write_bytes(bytes(100) + tensor.raw_data)
    entries = {
        "location": location,
        "offset": "100",
        "length": str(len(tensor.raw_data)),
        "checksum": "0" * 40,
    }
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def _answer(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["y"], {"x": X})[0]
    return result


EXPECTED = X + numpy_helper.to_array(weight("w", 40, 40))


def _external_locations(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def test_external_in_external_out(tmp_path: Path) -> None:
    source, target = _write(tmp_path), tmp_path / "copy.onnx"
    before = (tmp_path / DATA).read_bytes()
    copy_file(source, target)
    assert _external_locations(target) == {"copy.onnx.data"}
    assert (tmp_path / DATA).read_bytes() == before
    (tmp_path / DATA).unlink()
    np.testing.assert_array_equal(_answer(target), EXPECTED)


def test_external_data_on_request(tmp_path: Path) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    model = every_place()
    source.write_bytes(model.SerializeToString())
    copy_file(source, target, external_data=True)
    assert _external_locations(target) == {"target.onnx.data"}
    bare = onnx.load(target, load_external_data=False)
    for tensor in bare.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert int(entries["offset"]) % 4096 == 0
        assert int(entries["length"]) == 6400
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for flag in (True, False):
        feeds = every_place_feeds(flag)
        np.testing.assert_array_equal(session.run(["y"], feeds)[0], run_reference(model, feeds)["y"])


def test_a_model_over_the_limit_gets_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    source.write_bytes(add_model(weight("w", 40, 40), ["n", 40]).SerializeToString())
    length = source.stat().st_size
    copy_file(source, target)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source.onnx", "target.onnx"]
    monkeypatch.setattr(save, "_PROTOBUF_LIMIT", length - 100)
    copy_file(source, target)
    assert _external_locations(target) == {"target.onnx.data"}
    np.testing.assert_array_equal(_answer(target), EXPECTED)


@pytest.mark.parametrize("location", ["model.onnx.data", "./model.onnx.data", "sub/../model.onnx.data"])
def test_in_place_keeps_the_source_data_until_the_end(tmp_path: Path, location: str) -> None:
    (tmp_path / "sub").mkdir()
    source = _write(tmp_path, location)
    before = (tmp_path / "model.onnx.data").read_bytes()
    copy_file(source, source)
    assert (tmp_path / "model.onnx.data").read_bytes() == before
    assert _external_locations(source) == {"model.onnx.1.data"}
    np.testing.assert_array_equal(_answer(source), EXPECTED)
    copy_file(source, source)
    assert _external_locations(source) == {"model.onnx.data"}
    np.testing.assert_array_equal(_answer(source), EXPECTED)


def test_optimize_in_place_with_external_data(tmp_path: Path) -> None:
    source = _write(tmp_path, "model.onnx.data")
    result = fuseonnx.optimize(source, in_place=True)
    assert result.report.verification.status == "passed"
    np.testing.assert_array_equal(_answer(source), EXPECTED)


def test_source_data_named_as_the_artifacts_would_be(tmp_path: Path) -> None:
    source = _write(tmp_path, "copy.onnx.data")
    before = (tmp_path / "copy.onnx.data").read_bytes()
    copy_file(source, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx.data").read_bytes() == before
    np.testing.assert_array_equal(_answer(tmp_path / "copy.onnx"), EXPECTED)
    np.testing.assert_array_equal(_answer(source), EXPECTED)


def test_data_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    source = _write(tmp_path, "sub/weights.bin")
    copy_file(source, tmp_path / "copy.onnx")
    np.testing.assert_array_equal(_answer(tmp_path / "copy.onnx"), EXPECTED)


def test_a_relative_path_loads_and_survives_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("model.onnx"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    value = loaded.model.graph.initializers["w"].const_value
    assert value is not None
    np.testing.assert_array_equal(value.numpy(), numpy_helper.to_array(weight("w", 40, 40)))


def test_symlinked_model_with_data_beside_the_link_or_the_file(tmp_path: Path) -> None:
    source = _write(tmp_path / "real")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "model.onnx"
    link.symlink_to(source)
    with pytest.raises(ModelLoadError, match="is missing"):
        load(link)
    (tmp_path / "links" / DATA).symlink_to(tmp_path / "real" / DATA)
    copy_file(link, tmp_path / "copy.onnx")
    np.testing.assert_array_equal(_answer(tmp_path / "copy.onnx"), EXPECTED)


def test_hub_cache_where_model_and_data_are_links_to_blobs(tmp_path: Path) -> None:
    """snapshots/<commit>/model.onnx and its data link into one folder of blobs, as download caches do."""
    source = _write(tmp_path / "plain")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, blob in (("model.onnx", "1" * 64), (DATA, "2" * 64)):
        os.replace(source.parent / name, blobs / blob)  # noqa: PTH105
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    result = fuseonnx.optimize(snapshot / "model.onnx", tmp_path / "out.onnx")
    np.testing.assert_array_equal(_answer(tmp_path / "out.onnx"), EXPECTED)
    assert result.report.verification.status == "passed", result.report.verification.reason
    fuseonnx.optimize(snapshot / "model.onnx", in_place=True, verify=False)
    np.testing.assert_array_equal(_answer(snapshot / "model.onnx"), EXPECTED)
    assert sorted(path.name for path in blobs.iterdir()) == ["1" * 64, "2" * 64]


def _edit_entry(path: Path, key: str, value: str | bytes | None) -> None:
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    for index, entry in enumerate(entries):
        if entry.key == key:
            if value is None:
                del entries[index]
            else:
                entry.value = value
            break
    path.write_bytes(model.SerializeToString())


def test_length_may_be_left_out_when_other_tensors_follow(tmp_path: Path) -> None:
    source = _write(tmp_path)
    with (tmp_path / DATA).open("ab") as file:
        file.write(bytes(5000))
    _edit_entry(source, "length", None)
    copy_file(source, tmp_path / "copy.onnx")
    np.testing.assert_array_equal(_answer(tmp_path / "copy.onnx"), EXPECTED)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("location", "../outside.bin", "outside"),
        ("location", "sub/../../outside.bin", "outside"),
        ("location", "/etc/hostname", "outside"),
        ("location", "link.bin", "outside"),
        ("location", "nothing.bin", "missing"),
        ("location", "sub", "missing"),
        ("location", "", "missing"),
        ("location", "a\0b", ""),
        ("location", "x" * 5000, ""),
        ("location", None, "names no file"),
        ("offset", "101", "truncated"),
        ("offset", "-1", "truncated"),
        ("offset", str(2**70), "truncated"),
        ("offset", "many", ""),
        ("length", "-1", "'w'"),
        ("length", "12", "'w'"),
        ("length", "100000", "'w'"),
        ("length", "many", ""),
    ],
)
def test_bad_references_are_refused_in_one_line(tmp_path: Path, key: str, value: str, words: str) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(10_000))
    folder = tmp_path / "folder"
    source = _write(folder)
    (folder / "sub").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    _edit_entry(source, key, value)
    with pytest.raises(ModelLoadError) as caught:
        load(source)
    assert str(caught.value).startswith(f"{source}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_data_is_refused(tmp_path: Path) -> None:
    source = _write(tmp_path)
    data = (tmp_path / DATA).read_bytes()
    (tmp_path / DATA).write_bytes(data[:-1])
    with pytest.raises(ModelLoadError, match=r"weights\.bin' is truncated"):
        load(source)


def test_references_in_bodies_and_functions_are_checked_too(tmp_path: Path) -> None:
    for place in ("body", "constant", "function"):
        model = every_place()
        tensor = {
            "body": model.graph.node[-1].attribute[0].g.initializer[0],
            "constant": model.graph.node[0].attribute[0].t,
            "function": model.functions[0].node[0].attribute[0].t,
        }[place]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")
        path = tmp_path / f"{place}.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelLoadError, match="outside"):
            load(path)
