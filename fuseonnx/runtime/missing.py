"""Why an execution provider is not there, in one line with its cure."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import importlib
import io
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from fuseonnx.runtime.provider_options import CudaOptions, TensorrtOptions

_LIBRARIES = {CudaOptions.provider: "cuda", TensorrtOptions.provider: "tensorrt"}
_SUFFIX = "ExecutionProvider"
_WARNING, _FATAL = 2, 4
_CURES = {
    "libcuda.so": "install the NVIDIA driver; without a GPU run on cpu",
    "nvcuda": "install the NVIDIA driver; without a GPU run on cpu",
    "nvinfer": "install the TensorRT of that version, such as pip install 'tensorrt-cu13==10.*'",
    "nvonnxparser": "install the TensorRT of that version, such as pip install 'tensorrt-cu13==10.*'",
    "": "pip install 'onnxruntime-gpu[cuda,cudnn]', or put CUDA and cuDNN on the library path",
}
"""Part of the name of a library to what brings it."""


class ProviderMissing(Exception):
    """A provider is not there: the message says why, and the cure."""


def prepare(provider: str) -> None:
    """Load the libraries of CUDA, cuDNN and TensorRT that come as pip packages, for the providers of theirs.

    Raises ProviderMissing if this onnxruntime was not built with `provider` and no plugin registered it.
    """
    import onnxruntime as ort

    if provider not in ort.get_available_providers() and not plugin_devices(provider):
        raise ProviderMissing(_why_unregistered(provider))
    if provider in _LIBRARIES:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()
    if provider == TensorrtOptions.provider:
        with contextlib.suppress(ImportError, OSError, RuntimeError):
            importlib.import_module("tensorrt")  # the pip package loads its libraries


def plugin_devices(provider: str) -> list[Any]:
    """Return the devices of a provider that a plugin library registered: it cannot be asked for by name."""
    import onnxruntime as ort

    devices = (device for device in ort.get_ep_devices() if device.ep_name == provider)
    return [device for device in devices if "library_path" in device.ep_metadata]


@contextlib.contextmanager
def silent_loading() -> Iterator[None]:
    """Keep onnxruntime's process-wide logger, which tells of libraries that it cannot load, from stderr."""
    import onnxruntime as ort

    ort.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _why_unregistered(provider: str) -> str:
    import onnxruntime as ort

    if provider in _LIBRARIES:
        if len(_installed("onnxruntime", "onnxruntime-gpu")) == 2:
            return (
                "onnxruntime and onnxruntime-gpu are both installed and hide each other:"
                " pip uninstall onnxruntime onnxruntime-gpu, then pip install 'fuseonnx[gpu]'"
            )
        return (
            f"this onnxruntime ({ort.__version__}) has no {provider}: pip uninstall onnxruntime, then"
            " pip install 'fuseonnx[gpu]'; the two must not both be installed"
        )
    known = ort.get_all_providers()
    if provider in known:
        return (
            f"this onnxruntime ({ort.__version__}) has no {provider}: install the build of it that has, or"
            " register its plugin library with onnxruntime first"
        )
    short = [name.removesuffix(_SUFFIX) for name in known]
    close = difflib.get_close_matches(provider.removesuffix(_SUFFIX), short, 1, 0.7)
    hint = (
        f"did you mean {close[0]}{_SUFFIX}?"
        if close
        else "register its plugin library with onnxruntime first"
    )
    return f"onnxruntime knows no {provider}; {hint}"


def why_not_loaded(provider: str) -> str:
    """Return which library keeps `provider` from loading, as the system's loader says, and the cure.

    The answer is empty where the provider's own library loads, or is not one that onnxruntime ships.
    """
    reason = _loader_message(_LIBRARIES[provider]) if provider in _LIBRARIES else ""
    if not reason:
        return ""
    cure = next(cure for part, cure in _CURES.items() if part in reason)
    return f"{provider} cannot start ({reason}): {cure}"


def _installed(*packages: str) -> list[str]:
    def found() -> Iterator[str]:
        for package in packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                metadata.version(package)
                yield package

    return list(found())


def _loader_message(library: str) -> str:
    """Return what the loader says of a provider's library, or nothing where it loads."""
    import onnxruntime as ort

    folder = Path(ort.__file__).parent / "capi"
    pattern = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else "libonnxruntime_providers_{}.so"
    try:
        for name in ("shared", library):
            ctypes.CDLL(str(folder / pattern.format(name)), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error).splitlines()[0]
    return ""
