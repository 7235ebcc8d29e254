"""Where what the tools measure goes: to standard output and, if that is asked for, into a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BENCHMARKS = DOCS / "benchmarks.md"


def publish(lines: Iterable[str], page: Path, *, write: bool, markers: tuple[str, str] | None = None) -> None:
    """Print lines, which may end in line breaks of their own; with `write`, they become the page.

    Between `markers`, they become that part of it, at its end if the page does not have the markers yet.
    """
    text = "".join(f"{line}\n" for line in lines)
    print(text, end="")
    if write:
        whole = _with_part(page.read_text(encoding="utf-8"), markers, text) if markers else text
        page.write_text(whole, encoding="utf-8")


def _with_part(page: str, markers: tuple[str, str], part: str) -> str:
    start, end = markers
    before, _, rest = page.partition(start)
    after = rest.partition(end)[2] or "\n"
    between = part.strip("\n")
    return f"{before.rstrip()}\n\n{start}\n{between}\n{end}{after}"
