"""What the commands share on a terminal: tables, progress, and errors in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from fuseonnx.errors import FuseOnnxError

if TYPE_CHECKING:
    from rich.console import Console

    from fuseonnx.markdown import Section

FAILED = 2
INTERRUPTED = 130
_PIPE_WIDTH = 10_000  # nothing is wrapped or cut where no terminal sets a width


@contextlib.contextmanager
def one_line_errors(subject: str, *, debug: bool) -> Iterator[None]:
    """Turn every exception into one line on stderr and an exit code; with `debug`, let it through.

    Args:
        subject: what an unexpected exception is about: a file, usually.
        debug: whether to let exceptions through.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_error("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if debug:
            raise
        print_error(describe(error, subject))
        raise typer.Exit(FAILED) from None


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
    """Yield a function that shows what is being done, on stderr and only if that is a terminal."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda _stage: None
        return
    with console.status(prefix) as status:
        yield lambda stage: status.update(f"{prefix}: {stage}")


def print_sections(heading: str, sections: Iterable[Section]) -> None:
    """Print titled tables on stdout."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(Text(heading, "bold"))
    for section in sections:
        console.print()
        console.print(Text(section.title, "bold white on red" if section.alarm else "bold cyan"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.show_header = any(section.columns)
        for name, letter in zip(section.columns, section.align, strict=True):
            table.add_column(name, justify="right" if letter == "r" else "left", overflow="fold")
        for row in section.rows:
            table.add_row(*row)
        if section.rows:
            console.print(table)
        for note in section.notes:
            console.print(f"note: {note}")


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        width=None if stream.isatty() else _PIPE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )
