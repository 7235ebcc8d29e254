"""A backend on the GPU, or the reason why there is none; models to run on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fuseonnx.errors import BackendError
from fuseonnx.runtime.providers import Backend, as_backend
from fuseonnx.runtime.session import open_session
from tests.gpu import models

Save = Callable[[onnx.ModelProto], Path]


@pytest.fixture(scope="session")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """CUDA in full float32."""
    return _or_skip(as_backend("cuda", {"use_tf32": "0"}), tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="session")
def tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """TensorRT with its own defaults."""
    return _or_skip(as_backend("tensorrt"), tmp_path_factory.mktemp("tensorrt"))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a model and return its path."""

    def write(model: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return write


def _or_skip(backend: Backend, folder: Path) -> Backend:
    path = folder / "probe.onnx"
    onnx.save(models.cnn(batch=1), path)
    try:
        open_session(path, backend)
    except BackendError as error:
        pytest.skip(str(error).removeprefix(f"{path}: "))
    return backend
