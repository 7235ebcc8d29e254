"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from fuseonnx.cli.bench import bench
from fuseonnx.cli.export import export
from fuseonnx.cli.inspect import inspect
from fuseonnx.cli.optimize import optimize
from fuseonnx.cli.place import place
from fuseonnx.cli.profile import profile
from fuseonnx.cli.rules import explain, rules
from fuseonnx.cli.verify import verify

app = typer.Typer(
    name="fuseonnx",
    help="Make ONNX models faster, and prove that their answers did not change.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in (optimize, export, verify, bench, profile, place, inspect, rules, explain):
    app.command(no_args_is_help=_command is not rules)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from fuseonnx import __version__

        typer.echo(f"fuseonnx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="fuseonnx")
