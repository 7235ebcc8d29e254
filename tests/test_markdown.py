"""The Markdown of a report, read back by a Markdown parser."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from fuseonnx.markdown import human_bytes, report_to_markdown, sections, summary
from fuseonnx.report import (
    GraphStats,
    OutputDifference,
    Report,
    RolledBack,
    RuleUse,
    SkippedFold,
    Speed,
    Timing,
    Verification,
)
from fuseonnx.runtime.assignment import AssignedNode, Assignment

AWKWARD = r"/block|1/*conv*_0 <b> [x](y) `z` \w"
"""A value name made of what Markdown gives a meaning to."""

REPORT = Report(
    source="in.onnx",
    output="out.onnx",
    fuseonnx_version="1.2.3",
    source_sha256="0" * 64,
    before=GraphStats(1200, 5000, 20000, {"Conv": 700, "Relu": 500}, 22000),
    after=GraphStats(900, 5000, 20000, {"Conv": 400, "Relu": 499, "Gelu": 1}, 21000),
    rules=(RuleUse("fold_a", 300, {"no weights": 1, "it has other users": 2}), RuleUse("fold_b", 0)),
    skipped_folds=(SkippedFold("n1", "Tile", "too big"), SkippedFold("n2", "Tile", "too big")),
    rolled_back=(RolledBack("fold_c", AWKWARD, "it moved by 3.0"),),
    verification=Verification(
        "passed",
        runs=7,
        outputs=(OutputDifference(AWKWARD, "tensor(float)", 1e-6, 2e-7, 3e-6, 4e-6, 5e-5, True),),
        notes=("random ops were left out",),
    ),
    seconds={"load": 0.25, "verify": 1.0},
)


class _Reader(HTMLParser):
    """Collects the rows of all tables and the other texts."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        elif tag in ("b", "em", "code", "a"):
            raise AssertionError(f"<{tag}> was read out of a name")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data
        elif data.strip():
            self.texts.append(data)


@pytest.fixture
def read_back() -> _Reader:
    reader = _Reader()
    reader.feed(MarkdownIt("commonmark").enable("table").render(report_to_markdown(REPORT)))
    return reader


def test_tables_come_back_cell_by_cell(read_back: _Reader) -> None:
    expected = [
        list(row) for section in sections(REPORT, explain=True) for row in (section.columns, *section.rows)
    ]
    assert read_back.rows == expected


def test_cells(read_back: _Reader) -> None:
    assert ["nodes", "1,200", "900", "-25.0 %"] in read_back.rows
    assert ["parameters", "5,000", "5,000", ""] in read_back.rows
    assert ["Gelu", "0", "1"] in read_back.rows
    assert ["fold_a", "300", "2", "it has other users"] in read_back.rows
    assert ["", "", "1", "no weights"] in read_back.rows
    assert ["fold_b", "0", "", ""] in read_back.rows
    assert ["Tile", "2", "too big", "n1"] in read_back.rows
    assert ["fold_c", AWKWARD, "it moved by 3.0"] in read_back.rows
    assert [AWKWARD, "float", "1.0e-06", "2.0e-07", "3.0e-06", "4.0e-06", "5.0e-05", "ok"] in read_back.rows
    assert ["verify", "1.00"] in read_back.rows


def test_without_an_explanation_reasons_are_only_counted() -> None:
    (rules,) = [section for section in sections(REPORT) if section.title == "Rules"]
    assert rules.rows == (("fold_a", "300", "3"), ("fold_b", "0", ""))


def test_headings_and_notes(read_back: _Reader) -> None:
    assert read_back.texts[:2] == ["in.onnx -> out.onnx", summary(REPORT)]
    assert "random ops were left out" in read_back.texts
    assert "Verification: verified on 7 runs" in read_back.texts


def test_summary() -> None:
    assert summary(REPORT) == (
        "1,200 -> 900 nodes, 22.0 kB -> 21.0 kB, verified on 7 runs, ROLLED BACK 1 (fold_c), 1.2 s"
    )


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "ran", "missing", "note"),
    [
        (CPU, CPU, "", "on CPUExecutionProvider, 1 thread(s); 2 nodes: 2 on CPU"),
        (CUDA, CUDA, "", "asked for CUDAExecutionProvider, 1 thread(s); 2 nodes: 2 on CUDA"),
        (
            CUDA,
            CPU,
            "no driver",
            "asked for CUDAExecutionProvider, 1 thread(s); 2 nodes, all on the CPU instead of"
            " CUDAExecutionProvider: no driver",
        ),
    ],
)
def test_a_measurement_says_where_it_was_taken(asked: str, ran: str, missing: str, note: str) -> None:
    nodes = tuple(AssignedNode(name, "Neg", ran) for name in "ab")
    timing = Timing("normal", 1.0, 0.5, 0.5, 0.4, 0.6, 9, Assignment(asked, nodes, missing).summary())
    report = dataclasses.replace(REPORT, speed=Speed("faster", (timing,), asked, 1))
    (speed,) = [section for section in sections(report) if section.title.startswith("Speed")]
    assert speed.notes == (note,)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (3 * 10**15, "3000.0 TB")],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
