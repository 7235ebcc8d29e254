"""What pyproject.toml, README.md, CHANGELOG.md and .ci/run say of each other is true."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import fuseonnx

ROOT = Path(__file__).parents[1]
SET_UP_AND_MAIN_JOB = 'pip install ".[cpu]" && fuseonnx optimize examples/digits.onnx'
SET_UP_AND_TESTS = 'pip install -e ".[test]" && pytest'


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def test_every_package_is_listed(pyproject: dict[str, Any]) -> None:
    """An unlisted one would be missing from the wheel without a word."""
    walk = os.walk(ROOT / "fuseonnx", followlinks=True)
    found = {
        ".".join(Path(folder).relative_to(ROOT).parts) for folder, _, files in walk if "__init__.py" in files
    }
    assert found >= {"fuseonnx.core", "fuseonnx.passes", "fuseonnx.frontends"}
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(found)


@pytest.mark.parametrize("name", ["passes", "frontends"])
def test_top_level_folders_are_linked_and_mapped(name: str, pyproject: dict[str, Any]) -> None:
    link = ROOT / "fuseonnx" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert pyproject["tool"]["setuptools"]["package-dir"][f"fuseonnx.{name}"] == name


def test_versions_agree(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["version"] == fuseonnx.__version__
    assert f"## {fuseonnx.__version__}" in read("CHANGELOG.md")


@pytest.mark.parametrize("command", [SET_UP_AND_MAIN_JOB, SET_UP_AND_TESTS])
def test_readme_has_each_command_on_one_line(command: str) -> None:
    lines = [line for line in read("README.md").splitlines() if line.startswith(command)]
    assert [line.partition("#")[0].strip() for line in lines] == [command]


@pytest.mark.parametrize("command", [SET_UP_AND_MAIN_JOB, SET_UP_AND_TESTS])
def test_ci_runs_what_the_readme_says(command: str) -> None:
    starts = re.findall(r"readme_line '(.+)'", read(".ci/run"))
    assert sum(command.startswith(start) for start in starts) == 1


def test_changelog_gives_a_reason_for_every_dependency(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    requirements = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        requirements += extra
    names = {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements} - {"fuseonnx"}
    changelog = read("CHANGELOG.md")
    assert [name for name in sorted(names) if f"`{name}`" not in changelog] == []
