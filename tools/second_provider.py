"""Set up a second execution provider that runs without a GPU, and check that it starts.

    python tools/second_provider.py

It is onnxruntime's WebGPU plugin over SwiftShader, a Vulkan driver that computes on the CPU. The plugin comes
from pip and the driver out of a Debian package, without root; both are kept in `.cache/second-provider/` and
nothing is installed. Printed are that folder and the environment in which the plugin finds the driver.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROVIDER = "WebGpuExecutionProvider"
PLUGIN = "onnxruntime-ep-webgpu==0.4.0"
DRIVER = "chromium-common"
FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "second-provider" / PLUGIN
LIBRARY = FOLDER / "onnxruntime_ep_webgpu" / "libonnxruntime_providers_webgpu.so"
LOADER = FOLDER / "vulkan" / "libvulkan.so.1"
ENVIRONMENT = {
    "VK_ICD_FILENAMES": str(FOLDER / "vulkan" / "vk_swiftshader_icd.json"),
    "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
}
_WARNING, _ERROR = 2, 3


class SetupError(Exception):
    """The second provider cannot be had or does not start here; the message says why."""


def fetch() -> None:
    """Download the plugin and the driver into FOLDER if it is not there.

    Raises SetupError without network, or where there is no Debian package of the driver.
    """
    if not FOLDER.is_dir():
        FOLDER.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER.parent, prefix=".partial-") as partial:
            made = Path(partial) / "made"
            _install_plugin(made)
            _install_driver(made / "vulkan", Path(partial) / "apt")
            try:
                made.rename(FOLDER)
            except OSError:
                if not FOLDER.is_dir():  # otherwise another process was faster
                    raise


def start() -> tuple[list[Any], Any]:
    """Return the provider's devices, for add_provider_for_devices, and a session that has run on them.

    While that session is kept, others start and end at once: the driver's device and its compiled kernels go
    with the provider's last session. Call it once per process.

    Raises SetupError as `fetch` does, and where the provider does not start.
    """
    fetch()
    os.environ.update(ENVIRONMENT)
    try:
        ctypes.CDLL(str(LOADER), mode=ctypes.RTLD_GLOBAL)  # the plugin then finds it by its name
        devices = _register()
        return devices, _run_once(devices)
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise SetupError(f"{PLUGIN} does not start: {_last_line(str(error))}") from None


def _register() -> list[Any]:
    import onnxruntime as ort

    ort.set_default_logger_severity(_ERROR)  # the plugin warns that its device is a CPU
    try:
        ort.register_execution_provider_library(PROVIDER, str(LIBRARY))
    finally:
        ort.set_default_logger_severity(_WARNING)
    return [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]


def _run_once(devices: list[Any]) -> Any:
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper

    value, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = _ERROR
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(devices, {})
    session = ort.InferenceSession(model.SerializeToString(), options, enable_fallback=0)
    found = session.run(None, {"x": np.array([1, -2], np.float32)})[0].tolist()
    if found != [-1, 2]:
        raise SetupError(f"it computes -[1, -2] as {found}")
    return session


def _install_plugin(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--only-binary=:all:", "--target", str(folder), PLUGIN], f"cannot install {PLUGIN}")


def _install_driver(folder: Path, scratch: Path) -> None:
    """Unpack the driver and the Vulkan loader; apt reads a fresh index, kept apart from the system's."""
    lists, cache, root = (scratch / name for name in ("lists", "cache", "root"))
    for path in (lists / "partial", cache / "archives" / "partial"):
        path.mkdir(parents=True)
    apt = ["apt-get", "--quiet", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "APT::Sandbox::User="]
    problem = f"cannot download Debian's {DRIVER}"
    _run([*apt, "update"], problem)
    _run([*apt, "download", DRIVER], problem, scratch)
    packages = list(scratch.glob("*.deb"))
    if not packages:
        raise SetupError(f"{problem}: apt-get left no file")
    _run(["dpkg-deb", "--extract", str(packages[0]), str(root)], f"cannot unpack {packages[0].name}")
    folder.mkdir()
    for name in ("libvk_swiftshader.so", "vk_swiftshader_icd.json", LOADER.name):
        found = root / "usr" / "lib" / "chromium" / name
        if not found.is_file():
            raise SetupError(f"{packages[0].name} holds no {name}")
        shutil.copy(found, folder)


def _run(command: Sequence[str], problem: str, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError(f"{problem}: there is no {command[0]} here") from None
    if done.returncode != 0:
        raise SetupError(f"{problem}: {_last_line(done.stderr) or f'exit status {done.returncode}'}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def main() -> None:
    """Set the provider up, start it, and print where it is and what it needs."""
    try:
        start()
    except SetupError as error:
        sys.exit(f"error: {error}")
    print(FOLDER, *(f"{name}={value}" for name, value in ENVIRONMENT.items()), sep="\n")


if __name__ == "__main__":
    main()
