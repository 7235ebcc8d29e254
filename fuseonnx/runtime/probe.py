"""Whether an execution provider starts at all on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from onnx import TensorProto, helper

from fuseonnx.errors import BackendError
from fuseonnx.runtime.providers import CPU_PROVIDER, Backend, Provider
from fuseonnx.runtime.session import open_session, require_onnxruntime


def require_provider(backend: Backend) -> None:
    """Raise BackendError, with the cure, if the provider cannot run a model of one node."""
    require_onnxruntime()
    if backend.provider.name == CPU_PROVIDER.name or backend.allow_fallback:
        return
    device = {key: value for key, value in backend.provider.options.items() if key == "device_id"}
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.onnx")
        path.write_bytes(model.SerializeToString())
        try:
            open_session(path, replace(backend, provider=Provider(backend.provider.name, device)))
        except BackendError as error:
            raise BackendError(str(error).removeprefix(f"{path}: ")) from None
