"""What a path holds, told from its name and from what lies in a folder; no file is opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fuseonnx.errors import OptionError

Kind = Literal["onnx", "keras", "saved_model", "graph_def", "tflite", "torch", "factory"]

_SUFFIXES: dict[str, Kind] = {
    ".onnx": "onnx",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".pb": "graph_def",
    ".pbtxt": "graph_def",
    ".tflite": "tflite",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".ts": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".safetensors": "torch",
}
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


def kind_of(path: Path) -> Kind:
    """Return what `path` is; a file of any other suffix may be ONNX.

    Raises:
        OptionError: it is a folder, and not a SavedModel; or a file whose suffix says nothing.
    """
    if is_factory(path):
        return "factory"
    if path.is_dir():
        if not is_saved_model(path):
            raise OptionError(f"{path}: is a folder, and not a TensorFlow SavedModel; name a model in it")
        return "saved_model"
    if path.name in _SAVED_MODEL:
        return "saved_model"
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None and path.is_file() and path.suffix:
        raise OptionError(f"{path}: unknown suffix '{path.suffix}'; models are {', '.join(_SUFFIXES)}")
    return kind or "onnx"


def is_saved_model(path: Path) -> bool:
    """Whether a folder is a TensorFlow SavedModel."""
    return any((path / name).is_file() for name in _SAVED_MODEL)


def is_factory(path: Path) -> bool:
    """Whether it is not a path but `package.module:function`."""
    return bool(_FACTORY.fullmatch(str(path))) and not path.exists()


def default_output(source: Path, suffix: str) -> Path:
    """Return where the result of `source` goes by default: beside it, `suffix` in place of its own.

    A SavedModel's result lies beside its folder, a factory's is named after it in the current folder.
    """
    if is_factory(source):
        return Path(str(source).rpartition(":")[2] + suffix)
    if source.name in _SAVED_MODEL:
        source = source.resolve().parent
    return source.with_name(source.name + suffix) if source.is_dir() else source.with_suffix(suffix)
