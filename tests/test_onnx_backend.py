"""The models of the ONNX backend suite give the right answers after every rule, with and without constants.

Each case runs as it is, and with its inputs turned into initializers, so that constant folding and the rules
on weights have something to do; then the outputs are compared on onnxruntime. Cases that onnxruntime cannot
run are compared on onnx.reference where that can run them. The suite's downloads are left out; the networks
with made-up weights that onnx holds for them are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import onnxruntime
import pytest

import fuseonnx
from tests.helpers import ONNXRUNTIME
from tests.onnx_backend import (
    Case,
    all_cases,
    difference,
    run_onnxruntime,
    run_reference,
    with_constants,
    with_extremes,
)
from tests.onnx_backend_exceptions import FAILS_ON_ONNXRUNTIME, LISTED_FOR, LOCALE_DEPENDENT

PARTS = 5
EXCEPTIONS = LOCALE_DEPENDENT.union(*FAILS_ON_ONNXRUNTIME.values())


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    onnxruntime.set_default_logger_severity(4)
    return all_cases()


def as_it_is(case: Case) -> Case:
    return case


def all_constant(case: Case) -> Case | None:
    return with_constants(case, but_first=False)


def all_but_first_constant(case: Case) -> Case | None:
    return with_constants(case, but_first=True)


def all_constant_extremes(case: Case) -> Case | None:
    extreme = None if is_exception(case) else with_extremes(case)
    return extreme and with_constants(extreme, but_first=False)


def is_exception(case: Case) -> bool:
    return case.too_new or case.name in EXCEPTIONS


def test_the_suite_is_complete(cases: list[Case]) -> None:
    assert len(cases) >= 2000
    names = {case.name for case in cases}
    assert len(names) == len(cases)
    assert not EXCEPTIONS - names, "these cases are gone: take them off the list"


def test_onnxruntime_runs_all_but_the_exceptions(cases: list[Case]) -> None:
    fails = {case.name for case in cases if reason(run_onnxruntime, case) is not None}
    expected = {case.name for case in cases if is_exception(case)}
    assert not fails - expected, "onnxruntime fails on these: put them on the list with the reason"
    if ONNXRUNTIME == LISTED_FOR:  # later ones run more
        assert not expected - fails - LOCALE_DEPENDENT, "onnxruntime runs these: take them off the list"


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("form", "folded_at_least"),
    [(as_it_is, 0), (all_constant, 0.6), (all_but_first_constant, 0), (all_constant_extremes, 0.5)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_answers_and_signature(
    cases: list[Case], form: Callable[[Case], Case | None], folded_at_least: float, part: int
) -> None:
    failures, folded, count = [], 0, 0
    for original in cases[part::PARTS]:
        case = form(original)
        if case is None:
            continue
        result = fuseonnx.optimize(case.model, verify=False)
        assert isinstance(result.model, onnx.ModelProto)
        wrong = change_of_signature(case.model, result.model) or wrong_answer(case, result.model)
        if wrong is not None:
            failures.append(f"{case.name}: {wrong}")
        count += 1
        folded += any(use.name == "fold_constants" and use.fired for use in result.report.rules)
    assert not failures, "\n".join(failures)
    assert folded >= folded_at_least * count


def change_of_signature(before: onnx.ModelProto, after: onnx.ModelProto) -> str | None:
    """Return what of the names, types, dims and versions differs, or that the model has become invalid."""
    if before.ir_version != after.ir_version:
        return f"IR version {after.ir_version} instead of {before.ir_version}"
    if {entry.domain: entry.version for entry in before.opset_import} != {
        entry.domain: entry.version for entry in after.opset_import
    }:
        return "the opsets differ"
    if inputs_of(before) != inputs_of(after):
        return "the inputs differ"
    if list(before.graph.output) != list(after.graph.output):
        return "the outputs differ"
    onnx.checker.check_model(after)
    return None


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs, without the initializers that must be listed among them before IR version 4."""
    weights = {tensor.name for tensor in model.graph.initializer} if model.ir_version < 4 else set()
    return [info for info in model.graph.input if info.name not in weights]


def wrong_answer(case: Case, optimized: onnx.ModelProto) -> str | None:
    if not is_exception(case):
        return reason(run_onnxruntime, case, optimized)
    if reason(run_reference, case) is not None:
        return None
    return reason(run_reference, case, optimized)


def reason(
    run: Callable[..., Sequence[object]], case: Case, model: onnx.ModelProto | None = None
) -> str | None:
    """Return why a model fails on a case, or None; by default the model of the case."""
    try:
        return difference(case, run(model or case.model, case.feeds))
    except Exception as error:  # onnxruntime and onnx.reference raise anything
        return (str(error) or repr(error)).splitlines()[0][:300]
