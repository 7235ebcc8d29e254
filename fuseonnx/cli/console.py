"""What the commands share on a terminal: tables, progress, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from fuseonnx.errors import FuseOnnxError

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console
    from rich.table import Table

    from fuseonnx.markdown import Section

FAILED = 2
INTERRUPTED = 130
PIPE_CLOSED = 141  # as shells say of a process that SIGPIPE ended
_PIPE_WIDTH = 10_000  # nothing is wrapped, cut or left out where no terminal sets a width
_GAP = 2
_NARROWEST_TEXT = 16
"""Letters of a column of text that can still be read; numbers are never folded."""
_interrupts: list[int] = []
"""An entry for each Ctrl-C since the command began."""


@contextlib.contextmanager
def one_line_errors(subject: str, *, debug: bool) -> Iterator[None]:
    """Turn every exception into one line on stderr and an exit code; with `debug`, let it through.

    Args:
        subject: what an unexpected exception is about: a file, usually.
        debug: whether to let exceptions through.
    """
    with _noting_interrupts():
        try:
            yield
        except typer.Exit:
            raise
        except BrokenPipeError:
            _close_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except (Exception, KeyboardInterrupt) as error:
            if _interrupts or isinstance(error, KeyboardInterrupt):
                print_error("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            if debug:
                raise
            print_error(describe(error, subject))
            raise typer.Exit(FAILED) from None


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[None]:
    """Note each Ctrl-C in `_interrupts`, since a KeyboardInterrupt can get lost.

    One that is raised within an extension module may come out as another exception (a TypeError of numpy's
    `tofile`), and one that is raised within a callback of Python's imports is ignored.
    """
    _interrupts.clear()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _note_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _note_interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    signal.default_int_handler(number, frame)


def _close_stdout() -> None:
    """Let nothing more be written to the pipe that nobody reads, not even when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(message: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"error: {message}", err=True)


def describe(error: Exception, subject: str) -> str:
    """Return an exception as one line; `subject` is what it is about, should it not say so itself."""
    if isinstance(error, FuseOnnxError):
        message = str(error)
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename or subject}: {error.strerror}"
    elif isinstance(error, MemoryError):
        message = f"{subject}: out of memory; use a machine with more of it"
    else:
        message = f"{subject}: unexpected {type(error).__name__}: {error}; run with --debug and report it"
    return " ".join(message.split())


@contextlib.contextmanager
def progress(prefix: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being done, on stderr and only if that is a terminal.

    It raises KeyboardInterrupt if an earlier one got lost: no stage begins after a Ctrl-C.
    """
    console = _console(stderr=True)
    status = console.status(prefix)

    def show(stage: str) -> None:
        if _interrupts:
            raise KeyboardInterrupt
        status.update(f"{prefix}: {stage}")

    with status if console.is_terminal else contextlib.nullcontext():
        yield show


def print_sections(heading: str, sections: Iterable[Section]) -> None:
    """Print titled tables on stdout, their optional columns as far as a terminal has room for them."""
    from rich.text import Text

    console = _console()
    console.print(Text(heading, "bold"))
    for section in sections:
        console.print()
        console.print(Text(section.title, "bold white on red" if section.alarm else "bold cyan"))
        shown = _fitting(section, console.width)
        if section.rows:
            console.print(_table(section, shown))
        for note in section.notes:
            console.print(f"note: {note}")
        if hidden := [name for number, name in enumerate(section.columns) if number not in shown]:
            console.print(f"note: a wider terminal also shows: {', '.join(hidden)}")


def _fitting(section: Section, width: int) -> list[int]:
    """Return the numbers of the columns for which there is room in `width` letters."""
    needed = {}
    for number, cells in enumerate(zip(section.columns, *section.rows, strict=True)):
        longest = max(map(len, cells))
        needed[number] = _GAP + (longest if section.align[number] == "r" else min(longest, _NARROWEST_TEXT))
    for name in section.optional:
        if sum(needed.values()) - _GAP <= width:
            break
        del needed[section.columns.index(name)]
    return list(needed)


def _table(section: Section, shown: Iterable[int]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    table.show_header = any(section.columns)
    for number in shown:
        if section.align[number] == "r":
            table.add_column(section.columns[number], justify="right", no_wrap=True)
        else:
            table.add_column(section.columns[number], overflow="fold")
    for row in section.rows:
        table.add_row(*(row[number] for number in shown))
    return table


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    class OnePipe(Console):
        """Leaves a closed pipe to `one_line_errors`; rich would exit with 1: the models differ."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = (sys.stderr if stderr else sys.stdout) or io.StringIO()  # None, where the shell closed it
    return OnePipe(
        file=stream,
        width=None if stream.isatty() else _PIPE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )
