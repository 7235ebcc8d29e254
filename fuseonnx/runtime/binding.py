"""One run of a model as a call to be timed: on the CPU as everybody writes it, on a GPU with I/O binding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.provider_options import CudaOptions, TensorrtOptions
from fuseonnx.runtime.providers import Backend, Provider, make_provider
from fuseonnx.runtime.race import Call
from fuseonnx.runtime.session import Feeds, run

if TYPE_CHECKING:
    import onnxruntime

_GRAPH_OPTION = {
    CudaOptions.provider: "enable_cuda_graph",
    TensorrtOptions.provider: "trt_cuda_graph_enable",
}
"""The providers whose values live on a CUDA device, and the option that records CUDA graphs."""

_GRAPH_ID = "gpu_graph_id"
_NOT_RECORDED = "-1"
_RUNS_TO_RECORD = 3


def with_cuda_graph(provider: Provider) -> Provider:
    """Return `provider` set to record CUDA graphs.

    Raises OptionError for one that has none.
    """
    if provider.name not in _GRAPH_OPTION:
        raise OptionError(f"--cuda-graph: {provider.name} has no CUDA graphs; give --provider cuda")
    return make_provider(provider.name, {**provider.options, _GRAPH_OPTION[provider.name]: "1"})


def is_bound(backend: Backend) -> bool:
    """Return whether inputs and outputs stay on the device between runs."""
    return backend.provider.name in _GRAPH_OPTION


def call_of(session: onnxruntime.InferenceSession, feeds: Feeds, backend: Backend) -> Call:
    """Return a call that runs an open model once on `feeds` and waits until it is done.

    Its first call may take longer than the others. On CUDA and TensorRT, unless all fell back to the CPU,
    neither inputs nor outputs are copied from or to the device; elsewhere numpy arrays go in and come out.
    """
    if is_bound(backend) and backend.provider.name in session.get_providers():
        return Bound(session, feeds, "cuda", int(backend.provider.options.get("device_id", "0")))
    if all(hasattr(value, "dtype") and value.dtype.kind != "V" for value in feeds.values()):
        inputs = dict(feeds)
        return lambda: session.run(None, inputs)
    return lambda: run(session, feeds)


class Bound:
    """Runs a model on inputs that lie on a device, into outputs that stay there."""

    def __init__(
        self, session: onnxruntime.InferenceSession, feeds: Feeds, device: str, device_id: int = 0
    ) -> None:
        self._session = session
        self._feeds: Mapping[str, Any] = feeds
        self._device = device
        self._device_id = device_id
        self._binding: Any = None

    def __call__(self) -> None:
        """Run once and wait for the device; the first call prepares and warms up."""
        if self._binding is None:
            self._prepare()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def outputs(self) -> list[Any]:
        """Return what the last run computed, as numpy arrays on the host."""
        return [value.numpy() for value in self._binding.get_outputs()]

    def _prepare(self) -> None:
        """Bind inputs and outputs to memory that stays where it is, as a CUDA graph needs it."""
        import onnxruntime as ort

        binding = self._session.io_binding()
        values = []  # held until bound for good: the binding itself does not keep them
        for name, array in self._feeds.items():
            if not hasattr(array, "dtype") or array.dtype.kind in "OUSV":
                raise BackendError(f"input {name!r} cannot be put on the device: it is no array of numbers")
            values.append(ort.OrtValue.ortvalue_from_numpy(array, self._device, self._device_id))
            binding.bind_ortvalue_input(name, values[-1])
        names = [value.name for value in self._session.get_outputs()]
        for name in names:
            binding.bind_output(name, self._device, self._device_id)
        finds_shapes = ort.RunOptions()
        finds_shapes.add_run_config_entry(_GRAPH_ID, _NOT_RECORDED)
        self._session.run_with_iobinding(binding, finds_shapes)
        for name, value in zip(names, binding.get_outputs(), strict=True):
            values.append(value)
            binding.bind_ortvalue_output(name, value)
        self._values, self._binding = values, binding
        for _ in range(_RUNS_TO_RECORD):
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
