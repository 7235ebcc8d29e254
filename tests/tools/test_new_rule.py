"""The scaffold is clean, fails as long as the rule is not written, and overwrites nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.new_rule import scaffold

ROOT = Path(__file__).parents[2]
NAME = "fuse_this_into_that"
GUARD = 'return "the rule is not written yet"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a contributor has, with a rule just scaffolded and put into a stage."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("fuseonnx", "passes", "frontends"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    (copy / "tests" / "passes").mkdir(parents=True)
    for name in ("pyproject.toml", "tests/helpers.py"):
        shutil.copyfile(ROOT / name, copy / name)
    scaffold(NAME, copy)
    stages = copy / "passes" / "__init__.py"
    text = stages.read_text(encoding="utf-8")
    text = text.replace("fold_constants,\n", f"fold_constants,\n    {NAME},\n", 1)
    text = text.replace("fold_constants.RULE,\n", f"fold_constants.RULE,\n            {NAME}.RULE,\n", 1)
    stages.write_text(text, encoding="utf-8")
    return copy


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this Python in the copy, without the options that this run of pytest was given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    full = [sys.executable, "-m", *command]
    return subprocess.run(full, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def written(checkout: Path) -> list[str]:
    return [str(path.relative_to(checkout)) for path in checkout.rglob(f"*{NAME}.py")]


def test_passes_ruff_and_mypy(checkout: Path) -> None:
    files = [path for path in written(checkout) if not path.startswith("fuseonnx")]
    assert sorted(files) == [f"passes/{NAME}.py", f"tests/passes/test_{NAME}.py"]
    for command in (("ruff", "check", *files), ("ruff", "format", "--check", *files)):
        done = run(checkout, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(checkout, "mypy", "--follow-imports=silent", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tests_fail_until_the_rule_is_written(checkout: Path) -> None:
    tests = ("pytest", "-q", f"tests/passes/test_{NAME}.py")
    done = run(checkout, *tests)
    assert "2 failed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    rule = checkout / "passes" / f"{NAME}.py"
    text = rule.read_text(encoding="utf-8")
    assert GUARD in text
    rule.write_text(text.replace(GUARD, "return None"), encoding="utf-8")
    done = run(checkout, *tests)
    assert "1 failed, 1 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr


def test_overwrites_nothing(checkout: Path) -> None:
    before = {path: (checkout / path).read_bytes() for path in written(checkout)}
    with pytest.raises(ValueError, match=f"passes/{NAME}.py exists already"):
        scaffold(NAME, checkout)
    assert {path: (checkout / path).read_bytes() for path in written(checkout)} == before


@pytest.mark.parametrize("name", ["Fuse", "fuse", "fuse-this", "fuse_", "../fuse_this", "fuse_this.py", ""])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no rule"):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
