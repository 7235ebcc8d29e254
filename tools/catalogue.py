"""Write docs/rules.md, the catalogue of all rewrites, from their docstrings.

python tools/catalogue.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fuseonnx.core.rule import Step
from fuseonnx.passes import catalogue

CATALOGUE = Path(__file__).resolve().parents[1] / "docs" / "rules.md"

HEAD = """\
# Rules

Every rewrite, in the order in which they run. The steps of a stage run together until none of them changes
anything, then the next stage begins; the whole is repeated until a round changes nothing. Forms that are
measured are tried one by one after that, for the target that they are for. `--only` and `--skip` take these
names; `fuseonnx explain NAME` prints an entry.

This page is made of the docstrings in `passes/` by `python tools/catalogue.py`.
"""


def page() -> str:
    """Return the catalogue as Markdown."""
    return "\n".join((HEAD, *_entries()))


def _entries() -> Iterator[str]:
    for number, stage in enumerate(catalogue(), start=1):
        yield f"## {number}. {stage.name.capitalize()}\n"
        for step in stage.steps:
            yield _entry(step)


def _entry(step: Step) -> str:
    """Return a heading, the first sentence as prose, and the rest as it stands: it holds drawings."""
    sentence, _, drawing = step.doc.rstrip().partition("\n\n")
    entry = f"### `{step.name}`\n\n{sentence}\n"
    return f"{entry}\n```text\n{drawing}\n```\n" if drawing else entry


if __name__ == "__main__":
    CATALOGUE.write_text(page(), encoding="utf-8")
    print(f"wrote {CATALOGUE}")
