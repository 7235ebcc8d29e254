from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "second_provider.py"
DRIVER_FILES = ("libvk_swiftshader.so", "vk_swiftshader_icd.json", "libvulkan.so.1")


class Machine:
    """Stands for pip, apt-get and dpkg-deb; `failing` is the step that fails, `package` what is unpacked."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.failing = ""
        self.package: tuple[str, ...] = DRIVER_FILES

    def run(self, command: list[str], cwd: Path | None, **_: Any) -> subprocess.CompletedProcess[str]:
        step = next(word for word in command if word in ("install", "update", "download", "--extract"))
        self.commands.append(step)
        if step == self.failing:
            return subprocess.CompletedProcess(command, 100, "", "warning\nE: out of reach\n")
        if step == "install":
            Path(command[command.index("--target") + 1]).mkdir()
        elif step == "download":
            assert cwd is not None
            (cwd / "chromium-common.deb").touch()
        elif step == "--extract":
            folder = Path(command[-1], "usr/lib/chromium")
            folder.mkdir(parents=True)
            for name in self.package:
                (folder / name).touch()
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def machine(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(tool.subprocess, "run", machine.run)
    return machine


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool with an empty cache."""
    spec = importlib.util.spec_from_file_location("second_provider", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "cache" / "plugin")
    return module


def test_fetches_once(tool: ModuleType, machine: Machine) -> None:
    tool.fetch()
    assert {path.name for path in (tool.FOLDER / "vulkan").iterdir()} == set(DRIVER_FILES)
    assert machine.commands == ["install", "update", "download", "--extract"]
    tool.fetch()
    assert len(machine.commands) == 4


@pytest.mark.parametrize("step", ["install", "update", "download", "--extract"])
def test_a_step_that_fails_is_said_in_one_line(tool: ModuleType, machine: Machine, step: str) -> None:
    machine.failing = step
    with pytest.raises(tool.SetupError, match=r"^cannot .*: E: out of reach$"):
        tool.fetch()
    assert list(tool.FOLDER.parent.iterdir()) == []
    machine.failing = ""
    tool.fetch()
    assert tool.FOLDER.is_dir()


def test_a_package_without_the_driver(tool: ModuleType, machine: Machine) -> None:
    machine.package = DRIVER_FILES[:1]
    with pytest.raises(tool.SetupError, match=r"chromium-common\.deb holds no vk_swiftshader_icd\.json"):
        tool.fetch()


def test_a_machine_without_apt(tool: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[0] == "apt-get":
            raise FileNotFoundError(command[0])
        return machine.run(command, **options)

    monkeypatch.setattr(tool.subprocess, "run", run)
    with pytest.raises(tool.SetupError, match="there is no apt-get here"):
        tool.fetch()


def test_ends_with_the_reason(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> None:
        raise tool.SetupError("no network")

    monkeypatch.setattr(tool, "start", start)
    with pytest.raises(SystemExit, match=r"^error: no network$"):
        tool.main()
    assert capsys.readouterr().out == ""
