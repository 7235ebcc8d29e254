"""Where what the tools measure goes: a page of its own, or a part of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.pages import publish

MARKERS = ("<!-- a -->", "<!-- /a -->")


def test_lines_are_printed_and_written_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    publish(["# Page\n", "| é |"], path, write=False)
    assert capsys.readouterr().out == "# Page\n\n| é |\n"
    assert not path.exists()
    publish(iter(["# Page\n", "| é |"]), path, write=True)
    assert path.read_text(encoding="utf-8") == capsys.readouterr().out == "# Page\n\n| é |\n"


def test_a_part_between_markers_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Page\n\nA text.\n")
    publish(["one", ""], path, write=False, markers=MARKERS)
    assert path.read_text() == "# Page\n\nA text.\n"
    publish(["one", ""], path, write=True, markers=MARKERS)
    assert path.read_text() == "# Page\n\nA text.\n\n<!-- a -->\none\n<!-- /a -->\n"
    path.write_text(path.read_text() + "\nAn end.\n")
    publish(["two"], path, write=True, markers=MARKERS)
    assert path.read_text() == "# Page\n\nA text.\n\n<!-- a -->\ntwo\n<!-- /a -->\n\nAn end.\n"
