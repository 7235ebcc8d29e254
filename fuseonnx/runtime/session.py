"""Open models on onnxruntime and run them, with every failure said in one line."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from fuseonnx.errors import BackendError
from fuseonnx.runtime.assignment import (
    ASKED,
    MISSING,
    PLACED,
    PLACEMENT,
    PLACEMENT_NOTE,
    RECORD,
    assignment_of,
    operators_of,
)
from fuseonnx.runtime.carried import Carried, carried_placement
from fuseonnx.runtime.missing import ProviderMissing, plugin_devices, prepare, silent_loading, why_not_loaded
from fuseonnx.runtime.provider_options import CudaOptions, TensorrtOptions
from fuseonnx.runtime.providers import CPU, CPU_PROVIDER, Backend, Provider

if TYPE_CHECKING:
    import onnxruntime

Feeds = Mapping[str, Any]
"""Input name to numpy array, or to a list of arrays for a sequence input."""

_FATAL = 4
_LONGEST = 300
"""Letters of a reason."""
_NOTHING = Carried()
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SIGNATURE = (
    r"[\w:<>*&~, ]*\w\((?:[^()]|\([^()]*\))*\)(?: const)?(?:::<lambda\([^()]*\)>)?(?: \[with [^]]*\])?"
)
_SOURCE = re.compile(rf"/\S+\.\w+:\d+ {_SIGNATURE} |\S+\.(?:cc|cpp|cuh?|h|hpp):\d+ [\w:]+ ")
"""A place in onnxruntime's source: a whole path with the function's signature, or a file with its name."""
_AROUND = re.compile(r"^.* Status Message: (?=Non-zero status code returned while running )")
"""What is said of the nodes around the one that failed: an If or a Loop."""
_UNKNOWN_TO_NUMPY: dict[str, Any] = {
    "tensor(bfloat16)": ml_dtypes.bfloat16,
    "tensor(float8e4m3fn)": ml_dtypes.float8_e4m3fn,
    "tensor(float8e4m3fnuz)": ml_dtypes.float8_e4m3fnuz,
    "tensor(float8e5m2)": ml_dtypes.float8_e5m2,
    "tensor(float8e5m2fnuz)": ml_dtypes.float8_e5m2fnuz,
}


def require_onnxruntime() -> None:
    """Raise BackendError, with the way to install it, if onnxruntime is missing."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise BackendError("onnxruntime is not installed: pip install 'fuseonnx[cpu]'") from None


def open_session(
    model: Path,
    backend: Backend = CPU,
    *,
    optimized: bool = False,
    profile_to: Path | None = None,
    save_optimized: Path | None = None,
) -> onnxruntime.InferenceSession:
    """Open `model` where `backend` says, and nowhere else.

    On a provider other than the CPU's, nodes run where the placement that the model carries says, if it has
    one (see `fuseonnx.place`).

    Args:
        model: an ONNX file.
        backend: provider, threads, and whether nodes may run on the CPU instead. What TensorRT cannot run
            goes to CUDA.
        optimized: False turns all of onnxruntime's graph optimizations off, True all on.
        profile_to: how the name of onnxruntime's profile starts; the session's end_profiling() writes it.
        save_optimized: where to write the graph that onnxruntime made of the model.

    Raises:
        BackendError: onnxruntime is missing or cannot load the model, or refuses the placement that it
            carries; or, unless `backend` allows a fall-back, the provider is not there or leaves nodes to the
            CPU that are not meant to run there.
    """
    require_onnxruntime()

    def options(carried: Carried = _NOTHING, missing: str = "") -> onnxruntime.SessionOptions:
        result = _session_options(model, backend, carried, optimized=optimized, missing=missing)
        if profile_to is not None:
            result.enable_profiling = True
            result.profile_file_prefix = str(profile_to)
        if save_optimized is not None:
            result.optimized_model_filepath = str(save_optimized)
        return result

    if backend.provider.name == CPU_PROVIDER.name:
        return _create(model, options(), [CPU_PROVIDER])
    carried = carried_placement(model, backend.provider.name)
    try:
        session = _create_elsewhere(model, options(carried), backend.provider)
    except ProviderMissing as missing:
        if carried.settings and _starts(model, backend):
            raise _wrong_placement(model, str(missing)) from None
        if not backend.allow_fallback:
            raise BackendError(f"{model}: {missing}") from None
        return _create(model, options(missing=str(missing)), [CPU_PROVIDER])
    if not backend.allow_fallback:
        _refuse_fallen(model, session)
    return session


def _session_options(
    model: Path, backend: Backend, carried: Carried, *, optimized: bool, missing: str = ""
) -> onnxruntime.SessionOptions:
    """Return options that hold the placement `carried`; raise BackendError if that is too long for one."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = backend.threads
    options.add_session_config_entry(RECORD, "1")
    options.add_session_config_entry(ASKED, backend.provider.name)
    options.add_session_config_entry(MISSING, missing)
    options.add_session_config_entry(PLACED, str(model) if carried.settings else "")
    options.add_session_config_entry(PLACEMENT_NOTE, carried.note)
    if carried.settings:
        try:
            options.add_session_config_entry(PLACEMENT, carried.settings)
        except RuntimeError as error:
            raise _wrong_placement(model, _reason(error)) from None
    return options


def _wrong_placement(model: Path, reason: str) -> BackendError:
    return BackendError(
        f"{model}: the placement that it carries is refused: {reason}; write it anew with 'fuseonnx place'"
    )


def _starts(model: Path, backend: Backend) -> bool:
    """Whether `model` opens on the provider without the placement that it carries."""
    try:
        options = _session_options(model, backend, _NOTHING, optimized=False)
        _create_elsewhere(model, options, backend.provider)
    except ProviderMissing:
        return False
    return True


def _create(
    model: Path, options: onnxruntime.SessionOptions, providers: Sequence[Provider]
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    chain = [(provider.name, dict(provider.options)) for provider in providers]
    place = "" if providers[0] == CPU_PROVIDER else f" on {providers[0].name}"
    try:
        if devices := plugin_devices(providers[0].name):
            options.add_provider_for_devices(devices, dict(providers[0].options))
            return ort.InferenceSession(str(model), options, enable_fallback=0)
        return ort.InferenceSession(str(model), options, providers=chain, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise BackendError(f"{model}: onnxruntime cannot load it{place}: {_reason(error)}") from None


def _create_elsewhere(
    model: Path, options: onnxruntime.SessionOptions, provider: Provider
) -> onnxruntime.InferenceSession:
    """Open `model` on a provider other than the CPU's; raise ProviderMissing where that does not start."""
    chain = [provider]
    if provider.name == TensorrtOptions.provider:
        chain.append(Provider(CudaOptions.provider, {"device_id": provider.options.get("device_id", "0")}))
    prepare(provider.name)
    try:
        with silent_loading():
            session = _create(model, options, chain)
    except BackendError as error:
        reason = why_not_loaded(provider.name) or str(error).removeprefix(f"{model}: ")
        raise ProviderMissing(reason) from None
    if provider.name not in session.get_providers():
        raise ProviderMissing(why_not_loaded(provider.name) or f"{provider.name} found no device to run on")
    return session


def _refuse_fallen(model: Path, session: onnxruntime.InferenceSession) -> None:
    """Raise BackendError if nodes were left to the CPU."""
    assignment = assignment_of(session)
    if assignment.fallen:
        raise BackendError(
            f"{model}: {len(assignment.fallen)} of {len(assignment.nodes)} nodes cannot run on"
            f" {assignment.asked} and fall back to the CPU: {operators_of(assignment.fallen)};"
            " accept that with --allow-fallback (allow_fallback=True)"
        )


def run(session: onnxruntime.InferenceSession, feeds: Feeds) -> list[Any]:
    """Run `session` once and return its outputs in graph order.

    Tensors come back as numpy arrays (bfloat16 and float8 as ml_dtypes), sequences as lists, maps as dicts.
    Raises BackendError when onnxruntime fails, with its own reason.
    """
    types = {value.type for value in [*session.get_inputs(), *session.get_outputs()]}
    try:
        if types & _UNKNOWN_TO_NUMPY.keys():
            return _run_with_ort_values(session, feeds)
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # see open_session
        raise BackendError(_reason(error)) from None


def replay(
    model: Path, inputs: Iterable[Feeds], backend: Backend = CPU, *, optimized: bool = False
) -> Iterator[list[Any]]:
    """Yield the outputs for each of `inputs`, all run in order in one fresh session.

    A fresh session restarts the random generators of seeded operators, so that two replays of the same
    inputs agree. Raises BackendError as `open_session` and `run` do.
    """
    session = open_session(model, backend, optimized=optimized)
    for feeds in inputs:
        yield run(session, feeds)


def _run_with_ort_values(session: onnxruntime.InferenceSession, feeds: Feeds) -> list[Any]:
    """Run with the float types that numpy does not have: their bits travel as integers of the same width."""
    import onnxruntime as ort
    from onnx import helper

    values = {}
    for name, array in feeds.items():
        if array.dtype.kind == "V":
            bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
            onnx_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            values[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx_type)
        else:
            values[name] = ort.OrtValue.ortvalue_from_numpy(array)
    return [_to_numpy(value) for value in session.run_with_ort_values(None, values)]


def _to_numpy(value: Any) -> Any:
    dtype = _UNKNOWN_TO_NUMPY.get(value.data_type())
    if dtype is None:
        return value.numpy()
    count = value.tensor_size_in_bytes()
    return np.frombuffer(ctypes.string_at(value.data_ptr(), count), dtype).reshape(value.shape())


def _reason(error: Exception) -> str:
    """Return onnxruntime's reason on one line that is not too long: no code, no place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = " ".join(lines if lines[0].rstrip().endswith((":", "indices")) else lines[:1])
    line = _AROUND.sub("", _CODE.sub("", _SOURCE.sub("", line))).partition(" ; GPU=")[0]
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
