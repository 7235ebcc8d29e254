"""Start a new rule: its file, and its tests, which fail until it is written.

    python tools/new_rule.py fuse_something

Writes passes/fuse_something.py and tests/passes/test_fuse_something.py, and says what is left to do.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

RULE = '''\
"""Drop one of two Relu in a row (an example: say here in one sentence what the rule does).

    x ─ Relu ─ Relu   ⇒   x ─ Relu

Then the formula, if there is one, and when the rule keeps out.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def guard(_m: Match) -> str | None:
    """Say what the rule keeps out of: return the reason, or None to go ahead."""
    return "the rule is not written yet"


def replace(m: Match, new: Builder) -> ir.Value:
    """Say what is built; return the value that stands in for the root's output."""
    return new.op("Relu", m["x"])


RULE = Rule("{name}", op("Relu", op("Relu", var("x"))), replace, guard)
'''

TESTS = '''\
"""{name}: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, make_model, rewrite

RULE = "{name}"
FIRES = (helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Relu", ["r"], ["y"], name="last"))


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        # One case for each precondition, which breaks it alone.
        pytest.param(FIRES, "write here the reason that the guard gives", id="one precondition"),
    ],
)
def test_keeps_out(nodes: Sequence[onnx.NodeProto], reason: str) -> None:
    after = rewrite(make_model(nodes, {{"x": ["batch", 4]}}, ["y"]), RULE)
    assert after.fired == {{}}
    assert after.declined[RULE] == {{reason: 1}}


def test_fires() -> None:
    model = make_model(FIRES, {{"x": ["batch", 4]}}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {{RULE: 1}}
    assert after.ops == {{"Relu": 1}}
    assert after.model.graph.node[0].name == "last"
    assert_same_answers(model, after.model)
'''

NEXT = """\
Next:
1. passes/__init__.py: import {name}, and put {name}.RULE into the stage of STAGES where it belongs.
2. Replace the example by the rule, in both files, until pytest tests/passes/test_{name}.py passes.
3. python tools/catalogue.py, so that docs/rules.md lists it.
"""


def scaffold(name: str, root: Path) -> list[Path]:
    """Write the files of rule `name` below `root` and return their paths.

    Raises:
        ValueError: the name is not lower_case words, or is taken; one line.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", name):
        raise ValueError(f"'{name}' names no rule; say what it does to what: fold_batchnorm_into_conv")
    files = {
        root / "passes" / f"{name}.py": RULE,
        root / "tests" / "passes" / f"test_{name}.py": TESTS,
    }
    for path in files:
        if path.exists():
            raise ValueError(f"{path.relative_to(root)} exists already; choose another name")
    for path, text in files.items():
        path.write_text(text.format(name=name), encoding="utf-8")
    return list(files)


def main() -> None:
    """Scaffold the rule that the command line names."""
    parser = argparse.ArgumentParser(description="Start a new rule: its file, and its tests.")
    parser.add_argument("name", help="what it does to what, as in fold_batchnorm_into_conv")
    name = parser.parse_args().name
    try:
        written = scaffold(name, ROOT)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    print(NEXT.format(name=name), end="")


if __name__ == "__main__":
    main()
