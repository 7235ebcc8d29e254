"""`fuseonnx rules` and `fuseonnx explain`."""

from __future__ import annotations

from typing import Any

from fuseonnx.passes import STAGES


def test_rules_lists_every_rewrite(run_cli: Any) -> None:
    result = run_cli("rules")
    assert result.exit_code == 0
    for stage in STAGES:
        for step in stage.steps:
            (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [step.name]]
            assert line.split()[1:] == step.doc.partition("\n\n")[0].split()


def test_explain_prints_the_docstring(run_cli: Any) -> None:
    (step, *_) = STAGES[1].steps
    result = run_cli("explain", step.name)
    assert result.exit_code == 0
    assert result.stdout == f"{step.name}\n\n{step.doc}\n"


def test_explain_names_the_closest(run_cli: Any) -> None:
    result = run_cli("explain", "fold_batchnorm_in_conv")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "fold_batchnorm_into_conv" in result.stderr


def test_explain_of_nonsense_points_to_the_list(run_cli: Any) -> None:
    result = run_cli("explain", "zzzzzz")
    assert result.exit_code == 2
    assert result.stderr == "error: unknown rule 'zzzzzz'; `fuseonnx rules` lists them\n"
