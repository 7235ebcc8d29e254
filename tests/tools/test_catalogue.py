"""docs/rules.md is up to date, and nothing in passes/ is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

from tools.catalogue import CATALOGUE, page

PASSES = Path(__file__).parents[2] / "passes"


def test_is_up_to_date() -> None:
    assert CATALOGUE.read_text(encoding="utf-8") == page(), "run: python tools/catalogue.py"


def test_every_file_of_passes_is_listed() -> None:
    files = {path.stem for path in PASSES.glob("[!_]*.py")}
    headings = re.findall(r"^### `(\w+)`$", CATALOGUE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(files), "import it in passes/__init__.py and put it into a stage"
