"""Fixtures that the whole suite shares."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseonnx import api, speed
from fuseonnx.runtime import reference

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _unmeasured() -> Iterator[None]:
    """Keep `optimize` from racing its artifacts: half a second each, and a noisy machine has its say."""

    def unmeasured(_recipe: Any, _forms: Any, _verifier: Any, made: Any, *_: Any) -> speed.Measured:
        return speed.not_measured(made, "this is a test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "measure_and_choose", unmeasured)
        yield


@pytest.fixture(scope="session", autouse=True)
def _unhurried() -> Iterator[None]:
    """Let verifications make all of their runs, however long a machine that is held up takes for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_SECONDS", math.inf)
        yield


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `optimize` race its artifacts in this test, as it does by default."""
    monkeypatch.setattr(api, "measure_and_choose", speed.measure_and_choose)


@pytest.fixture(scope="session")
def real_models() -> dict[str, Path]:
    """The trained models of tools/fetch_models.py: name to path."""
    spec = importlib.util.spec_from_file_location("fetch_models", ROOT / "tools" / "fetch_models.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fetch: Callable[[], dict[str, Path]] = module.fetch
    return fetch()
