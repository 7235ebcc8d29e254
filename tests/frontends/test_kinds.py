"""What a path is, and where its result goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseonnx.errors import OptionError
from fuseonnx.frontends.kinds import default_output, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m.onnx", "onnx"),
        ("m.keras", "keras"),
        ("m.h5", "keras"),
        ("M.H5", "keras"),
        ("m.pb", "graph_def"),
        ("m.tflite", "tflite"),
        ("m.pt2", "torch"),
        ("m.pt", "torch"),
        ("m.ts", "torch"),
        ("m.safetensors", "torch"),
        ("folder/saved_model.pb", "saved_model"),
        ("package.module:make", "factory"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert kind_of(tmp_path) == "saved_model"
    assert default_output(tmp_path, ".onnx") == tmp_path.with_name(tmp_path.name + ".onnx")
    assert default_output(tmp_path / "saved_model.pb", ".onnx") == tmp_path.with_name(tmp_path.name + ".onnx")


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"is a folder, and not a TensorFlow SavedModel"):
        kind_of(tmp_path)


def test_an_unknown_suffix_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.joblib"
    file.write_bytes(b"x")
    with pytest.raises(OptionError, match=r"model\.joblib: unknown suffix '\.joblib'; models are \.onnx"):
        kind_of(file)


def test_a_file_whose_name_looks_like_a_factory_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").write_bytes(b"x")
    assert kind_of(Path("a:b")) == "onnx"


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("models/m.keras", "models/m.opt.onnx"),
        ("m.v2.pt", "m.v2.opt.onnx"),
        ("pkg.nets:tiny", "tiny.opt.onnx"),
    ],
)
def test_the_result_lies_beside(source: str, result: str) -> None:
    assert default_output(Path(source), ".opt.onnx") == Path(result)
