"""Fixtures that the whole suite shares."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_models() -> dict[str, Path]:
    """The trained models of tools/fetch_models.py: name to path."""
    spec = importlib.util.spec_from_file_location("fetch_models", ROOT / "tools" / "fetch_models.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fetch: Callable[[], dict[str, Path]] = module.fetch
    return fetch()
