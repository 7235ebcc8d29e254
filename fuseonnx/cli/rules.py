"""`fuseonnx rules` and `fuseonnx explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseonnx.cli.console import one_line_errors, print_sections


def rules() -> None:
    """List the rewrites, in the order in which they run."""
    with one_line_errors("rules", debug=False):
        from fuseonnx.markdown import Section
        from fuseonnx.passes import catalogue

        print_sections(
            "Rewrites, in the order in which they run",
            [
                Section(
                    stage.name,
                    ("rule", "what it does"),
                    tuple((step.name, _first_paragraph(step.doc)) for step in stage.steps),
                    "ll",
                )
                for stage in catalogue()
            ],
        )


def explain(rule: Annotated[str, typer.Argument(metavar="RULE", help="Name of a rewrite.")]) -> None:
    """Show what a rewrite does, and when it keeps out."""
    with one_line_errors(rule, debug=False):
        from fuseonnx.errors import OptionError
        from fuseonnx.passes import all_steps

        docs = {name: step.doc for name, step in all_steps().items()}
        if rule not in docs:
            raise OptionError(f"unknown rule '{rule}'; {_closest(rule, list(docs))}")
        typer.echo(f"{rule}\n\n{docs[rule]}")


def _first_paragraph(doc: str) -> str:
    return " ".join(doc.partition("\n\n")[0].split())


def _closest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3)
    return f"the closest are {', '.join(close)}" if close else "`fuseonnx rules` lists them"
