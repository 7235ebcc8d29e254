"""A second execution provider that runs without a GPU, or the reason why there is none."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from fuseonnx.runtime.assignment import RECORD

TOOL = Path(__file__).parents[2] / "tools" / "second_provider.py"
SETTINGS = "session.layer_assignment_settings"


@dataclass(frozen=True)
class Opened:
    """A session on the two providers.

    Attributes:
        providers: node name to onnxruntime's name of the provider that runs it, bodies included.
        copies: how many Memcpy nodes onnxruntime inserted into the main graph for a value, by the value's
            name and the device that it goes to, `cpu` or `gpu`.
    """

    session: Any
    providers: Mapping[str, str]
    copies: Mapping[tuple[str, str], int]


class SecondProvider:
    """The provider that stands for a GPU; the settings' device `gpu` means it."""

    def __init__(self, name: str, devices: list[Any], folder: Path) -> None:
        self.name = name
        self._devices = devices
        self._folder = folder

    def open(self, model: onnx.ModelProto, settings: str) -> Opened:
        """Open `model` on this provider and the CPU, with no graph optimization."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry(RECORD, "1")
        options.add_session_config_entry(SETTINGS, settings)
        options.optimized_model_filepath = str(self._folder / "placed.onnx")
        options.add_provider_for_devices(self._devices, {"preferredLayout": "NCHW"})
        session = ort.InferenceSession(model.SerializeToString(), options, enable_fallback=0)
        providers = {
            node.name: subgraph.ep_name
            for subgraph in session.get_provider_graph_assignment_info()
            for node in subgraph.get_nodes()
        }
        placed = onnx.load(options.optimized_model_filepath)
        return Opened(session, providers, Counter(_copies(placed)))


def _copies(placed: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for node in placed.graph.node:
        if node.op_type == "MemcpyFromHost":
            yield node.input[0], "gpu"
        if node.op_type == "MemcpyToHost":
            yield node.output[0], "cpu"


@pytest.fixture(scope="session")
def second_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondProvider]:
    """The second provider of tools/second_provider.py, in this process."""
    tool = _tool()
    try:
        devices, kept = tool.start()
    except tool.SetupError as error:
        pytest.skip(f"no second provider: {error}")
    yield SecondProvider(tool.PROVIDER, devices, tmp_path_factory.mktemp("second_provider"))
    del kept


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
