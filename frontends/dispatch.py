"""Find the frontend of a model, and have it converted."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fuseonnx.errors import ExportError, FuseOnnxError, OptionError
from fuseonnx.frontends.conversion import Conversion, first_line
from fuseonnx.frontends.keras import convert_keras, is_keras_model, load_keras
from fuseonnx.frontends.kinds import kind_of
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow import (
    convert_graph_def,
    convert_saved_model,
    convert_tf_function,
    convert_tflite,
    is_tf_function,
)
from fuseonnx.frontends.torch import convert_torch, is_torch_model, load_torch
from fuseonnx.importing import working_folder

OnProgress = Callable[[str], None]
Converter = Callable[[Path, ExportOptions, OnProgress], Conversion]


def converter_of(model: Any) -> Converter | None:
    """Return what turns `model`, a path or an object, into ONNX; None if it is ONNX or no frontend's."""
    if isinstance(model, str | Path):
        return _of_path(Path(model))
    if is_keras_model(model):
        return partial(convert_keras, model)
    if is_torch_model(model):
        return partial(convert_torch, model)
    if is_tf_function(model):
        return partial(convert_tf_function, model)
    return None


def convert(
    converter: Converter, name: str, folder: Path, options: ExportOptions, on_progress: OnProgress
) -> Conversion:
    """Convert the model called `name`.

    Raises:
        ExportError, OptionError: one line that begins with `name`.
    """
    with _about(name):
        return converter(folder, options, on_progress)


def _of_path(path: Path) -> Converter | None:
    match kind_of(path):
        case "onnx":
            return None
        case "factory":
            return partial(_convert_made, str(path))
        case "saved_model":
            return partial(convert_saved_model, path if path.is_dir() else path.parent)
        case "graph_def":
            return partial(_convert_file, convert_graph_def, path)
        case "tflite":
            return partial(_convert_file, convert_tflite, path)
        case "keras":
            return partial(_convert_loaded, load_keras, convert_keras, path)
        case "torch":
            return partial(_convert_loaded, load_torch, convert_torch, path)


def _convert_file(
    convert_it: Callable[..., Conversion], file: Path, folder: Path, options: ExportOptions, show: OnProgress
) -> Conversion:
    _require_file(file)
    return convert_it(file, folder, options, show)


def _convert_loaded(
    load: Callable[[Path, ExportOptions], Any],
    convert_it: Callable[..., Conversion],
    file: Path,
    folder: Path,
    options: ExportOptions,
    show: OnProgress,
) -> Conversion:
    _require_file(file)
    show("load")
    return convert_it(load(file, options), folder, options, show)


def _require_file(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            if not stream.read(1):
                raise ExportError("the file is empty; export or download the model again")
    except OSError as error:
        raise ExportError(f"cannot be read: {error.strerror}") from error


def _convert_made(factory: str, folder: Path, options: ExportOptions, show: OnProgress) -> Conversion:
    """Convert what `package.module:function` returns: a model, or a model and its example inputs."""
    show("load")
    made = _make(factory)
    if isinstance(made, tuple) and len(made) == 2 and converter_of(made[0]):
        model, inputs = made
        options = options if options.inputs is not None else replace(options, inputs=inputs)
    else:
        model = made
    converter = None if isinstance(model, str | Path) else converter_of(model)
    if converter is None:
        raise ExportError(f"gives a {type(model).__name__}; let it return a Keras or PyTorch model")
    return converter(folder, options, show)


def _make(factory: str) -> Any:
    module_name, _, attribute = factory.partition(":")
    try:
        with working_folder():
            module = importlib.import_module(module_name)
            made = getattr(module, attribute)
            return made if converter_of(made) else made()
    except ModuleNotFoundError as error:
        raise ExportError(f"no module '{error.name}'; run it where the module can be imported") from error
    except AttributeError as error:
        if hasattr(sys.modules.get(module_name), attribute):
            raise
        raise ExportError(f"the module has no '{attribute}'") from error


@contextlib.contextmanager
def _about(name: str) -> Iterator[None]:
    """Let every error begin with the name of the model."""
    try:
        yield
    except (ExportError, OptionError) as error:
        message = str(error)
        raise type(error)(message if message.startswith(name) else f"{name}: {message}") from error
    except (FuseOnnxError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ExportError(f"{name}: {type(error).__name__}: {first_line(error)}") from error
