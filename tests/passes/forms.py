"""Shared by the tests of the forms of a target, which `optimize` keeps only where they are faster."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from fuseonnx.analysis.shapes import annotate
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass, Rule, Stage
from tests.helpers import Feeds, Rewritten, assert_same_answers


def rewrite_form(model: onnx.ModelProto, *forms: Rule | GraphPass) -> Rewritten:
    """Apply forms to a model, without measuring what they bring."""
    changed, journal = ir.from_proto(model), Journal()
    pipeline.run(changed, (Stage("forms", forms),), journal, analyse=annotate)
    uses = journal.uses()
    after = ir.to_proto(changed)
    onnx.checker.check_model(after)
    return Rewritten(
        after,
        {use.name: use.fired for use in uses if use.fired},
        {use.name: use.declined for use in uses},
    )


def assert_changes(
    model: onnx.ModelProto, form: Rule | GraphPass, times: int = 1, feeds: Feeds | None = None
) -> Rewritten:
    """Assert that a form fires, once and for all, and that the answers stay."""
    after = rewrite_form(model, form)
    assert after.fired == {form.name: times}
    assert_same_answers(model, after.model, feeds)
    assert rewrite_form(after.model, form).fired == {}
    return after


def assert_stays(model: onnx.ModelProto, form: Rule | GraphPass, reason: str) -> None:
    """Assert that a form keeps out for a reason; an empty one is none that is reported."""
    after = rewrite_form(model, form)
    assert not after.fired
    assert set(after.declined.get(form.name, {})) == ({reason} if reason else set())
