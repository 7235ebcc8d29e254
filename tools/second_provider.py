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


def register() -> list[Any]:
    """Register the plugin with this process's onnxruntime; return its devices, for add_provider_for_devices.

    Call it once per process. Raises SetupError as `fetch` does, and where the plugin does not start.
    """
    fetch()
    os.environ.update(ENVIRONMENT)
    try:
        import onnxruntime as ort

        from fuseonnx.runtime.missing import silent_loading

        ctypes.CDLL(str(LOADER), mode=ctypes.RTLD_GLOBAL)  # the plugin then finds it by its name
        with silent_loading():
            ort.register_execution_provider_library(PROVIDER, str(LIBRARY))
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise SetupError(f"{PLUGIN} does not start: {_last_line(str(error))}") from None
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise SetupError(f"{PLUGIN} finds no device; the driver is in {LOADER.parent}")
    return devices


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
        register()
    except SetupError as error:
        sys.exit(f"error: {error}")
    print(FOLDER, *(f"{name}={value}" for name, value in ENVIRONMENT.items()), sep="\n")


if __name__ == "__main__":
    main()
