"""Tables on terminals of any width: numbers stay whole, text is folded, optional columns make room."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import sys

import pytest
import typer

from fuseonnx.cli.console import one_line_errors, print_sections, progress
from fuseonnx.markdown import Section

NUMBERS = ("1,234.5", "0.00 / 55", "0.914 to 1.037")
NAME = "/encoder/layers.11/attention/self/query/MatMul_output_0"
TABLE = Section(
    "Table",
    ("name", "ms", "pair", "95 % interval", "verdict"),
    ((NAME, *NUMBERS, "no difference"),),
    "lrrrl",
    optional=("pair", "ms"),
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(section: Section, width: int | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that are printed, without colours; `width` is None where there is no terminal."""
    stream = io.StringIO() if width is None else _Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width or 80))
    print_sections("heading", [section])
    monkeypatch.undo()
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


@pytest.mark.parametrize("width", range(60, 101, 4))
def test_numbers_are_whole_and_text_is_folded(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(TABLE, width, monkeypatch)
    assert max(map(len, lines)) <= width
    head = next(number for number, line in enumerate(lines) if line.startswith("name"))
    named = [
        number
        for number, column in zip(NUMBERS, ("ms", "pair", "interval"), strict=True)
        if column in lines[head].split()
    ]
    assert NUMBERS[2] in named
    assert all(number in lines[head + 1] for number in named)
    assert (
        "".join(line.split()[0] for line in lines[head + 1 :] if line.startswith(tuple(NAME)))[: len(NAME)]
        == NAME
    )


def test_optional_columns_make_room_in_turn_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {
        width: {name for name in TABLE.columns if name in shown(TABLE, width, monkeypatch)[3]}
        for width in (55, 56, 66, 67)
    }
    assert columns[67] == set(TABLE.columns)
    assert columns[66] == columns[56] == set(TABLE.columns) - {"pair"}
    assert columns[55] == set(TABLE.columns) - {"pair", "ms"}
    assert shown(TABLE, 55, monkeypatch)[-1] == "note: a wider terminal also shows: ms, pair"


def test_a_pipe_shows_everything_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, head, row = shown(TABLE, None, monkeypatch)
    assert head.split("  ")[0] == "name"
    assert all(cell in row for cell in TABLE.rows[0])


@pytest.mark.usefixtures("interrupts")
def test_interrupt_that_an_extension_module_turned_into_another_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended, one_line_errors("model.onnx", debug=False):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("expected str, bytes or os.PathLike object") from None
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_no_stage_begins_after_an_interrupt_that_was_swallowed() -> None:
    with pytest.raises(typer.Exit) as ended, one_line_errors("model.onnx", debug=False):
        with progress("optimize") as show:
            show("verify")
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            show("measure")
        pytest.fail("went on")
    assert ended.value.exit_code == 130


@pytest.mark.usefixtures("interrupts")
def test_ignored_interrupts_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with one_line_errors("model.onnx", debug=False):
        signal.raise_signal(signal.SIGINT)
