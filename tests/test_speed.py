"""Never slower, and really faster: what is slow goes by name, what is fast comes, and noise does neither."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fuseonnx
from fuseonnx import Builder, Match, Rule, op, stopwatch, var
from fuseonnx.core.rule import Step
from fuseonnx.errors import BackendError, OptionError
from fuseonnx.passes import FORMS
from fuseonnx.report import Timing
from fuseonnx.runtime.noise import Run
from fuseonnx.stopwatch import Stopwatch, verdict_of, worth_timing
from tests.helpers import assert_same_answers, make_model, node

pytestmark = pytest.mark.usefixtures("measuring")

KINDS = ("Relu", "Abs", "Neg", "Floor", "Ceil", "Sign", "Exp")
ONLY = ["eliminate_identity"]
SLOW, FAST = 1.5, 0.5


def _model(kinds: tuple[str, ...] = KINDS, size: int = 3) -> onnx.ModelProto:
    """Identity, then one node of each kind, all of x, and their sum."""
    nodes = [node("Identity", "x", "i")]
    nodes += [node(kind, "i", f"v{number}") for number, kind in enumerate(kinds)]
    nodes.append(node("Sum", " ".join(f"v{number}" for number in range(len(kinds))), "y"))
    return make_model(nodes, {"x": [2, size]}, ["y"])


def _twice(kind: str) -> Rule:
    """Turn a node into Max of it and of another of the same kind; the answers stay as they are."""

    def replace(m: Match, new: Builder) -> Any:
        return new.op("Max", new.op(kind, m["x"]), new.op(kind, m["x"]))

    def guard(m: Match) -> str | None:
        users = [user.op_type for user in m.root.outputs[0].consumers()]
        return "" if "Max" in users else None

    return Rule(f"twice_{kind.lower()}", op(kind, var("x")), replace, guard)


def _optimize(
    model: onnx.ModelProto, *extra: Rule, **options: Any
) -> tuple[onnx.ModelProto, fuseonnx.Report]:
    result = fuseonnx.optimize(model, extra_rules=extra, **{"only": ONLY, **options})
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.verification.status == "passed"
    assert_same_answers(model, result.model)
    return result.model, result.report


def _ops(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


Cost = Callable[[onnx.ModelProto], float]


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cost], list[tuple[float, int]]]:
    """`costs(of)` lets races end as `of(model)` says; returns the list of (ratio, again) of the races."""

    def install(of: Cost) -> list[tuple[float, int]]:
        races = []

        def race(_self: Stopwatch, first: Path, second: Path, again: int) -> tuple[Timing, ...]:
            before, after = of(onnx.load(first)), of(onnx.load(second))
            ratio = after / before
            races.append((ratio, again))
            return (Timing("normal", before, after, ratio, ratio * 0.998, ratio * 1.002, 9),)

        monkeypatch.setattr(Stopwatch, "__call__", race)
        return races

    return install


def _doubled(*slow: str) -> Cost:
    """Cost of a model in which the doubling of these kinds costs, and that of others does not."""
    return lambda model: 1 + sum((_ops(model).count(kind) == 2) for kind in slow)


@pytest.mark.parametrize(
    "slow",
    [
        ("Relu",),
        ("Exp",),
        ("Floor",),
        ("Relu", "Exp"),
        ("Abs", "Neg"),
        ("Relu", "Floor", "Sign"),
        KINDS[:-1],
    ],
    ids=" ".join,
)
def test_exactly_the_slow_rules_are_undone(slow: tuple[str, ...], costs: Any) -> None:
    costs(_doubled(*slow))
    model, report = _optimize(_model(), *map(_twice, KINDS))
    assert {each.rule for each in report.undone} == {f"twice_{kind.lower()}" for kind in slow}
    assert {(each.sites, each.ratio) for each in report.undone} == {(1, 1.0 + len(slow))}
    assert {kind for kind in KINDS if _ops(model).count(kind) == 2} == set(KINDS) - set(slow)
    assert "Identity" not in _ops(model)
    assert report.speed is not None and report.speed.verdict == "no difference"
    assert json.loads(report.to_json())["undone"][0]["rule"] == report.undone[0].rule


def test_when_every_rule_is_slow_the_graph_stays_as_it_is(costs: Any, tmp_path: Path) -> None:
    costs(lambda model: 1.0 if "Identity" in _ops(model) else SLOW)
    source = tmp_path / "model.onnx"
    onnx.save(_model(), source)
    report = fuseonnx.optimize(source, only=ONLY).report
    assert _ops(onnx.load(tmp_path / "model.opt.onnx")) == _ops(_model())
    assert [(each.rule, each.ratio) for each in report.undone] == [("eliminate_identity", SLOW)]
    assert report.speed is not None
    assert (report.speed.verdict, report.speed.reason) == ("not measured", "every rule was undone")
    assert report.before.ops == report.after.ops
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.opt.onnx"]


def test_a_slow_moment_undoes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first race says slower, and so does the next; the third, which has to confirm it, does not."""

    def race(_self: Stopwatch, _first: Path, _second: Path, again: int) -> tuple[Timing, ...]:
        ratio = SLOW if again < 2 else 1.005
        return (Timing("normal", 1.0, ratio, ratio, ratio - 0.002, ratio + 0.002, 9),)

    monkeypatch.setattr(Stopwatch, "__call__", race)
    model, report = _optimize(_model())
    assert report.undone == () and "Identity" not in _ops(model)
    assert report.speed is not None and report.speed.verdict == "no difference"


def test_what_is_faster_is_raced_once(costs: Any) -> None:
    races = costs(lambda model: len(_ops(model)))
    _, report = _optimize(_model())
    assert report.speed is not None
    assert races == [(8 / 9, 0)]
    assert (report.speed.verdict, report.speed.provider) == ("faster", "CPUExecutionProvider")
    assert "## Speed: 0.89 (0.89 to 0.89) of the original's latency: faster" in report.to_markdown()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"only": ["merge_pads"]}, "no rule fired"),
        ({"measure": False}, "measuring was switched off"),
    ],
)
def test_what_is_not_measured_says_why(options: dict[str, Any], reason: str, costs: Any) -> None:
    races = costs(lambda _model: SLOW)
    _, report = _optimize(_model(), **options)
    assert report.speed is not None
    assert (report.speed.verdict, report.speed.reason) == ("not measured", reason)
    assert races == []
    assert f"Speed: not measured: {reason}" in report.to_markdown()


def test_an_original_that_cannot_be_raced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> tuple[Timing, ...]:
        raise BackendError("model.onnx: onnxruntime cannot load it: no kernel")

    monkeypatch.setattr(Stopwatch, "__call__", fail)
    _, report = _optimize(_model())
    assert report.speed is not None
    assert (report.speed.verdict, report.undone) == ("not measured", ())
    assert "no kernel" in report.speed.reason


def _with_forms(monkeypatch: pytest.MonkeyPatch, *forms: Step) -> dict[str, Any]:
    monkeypatch.setitem(FORMS, "cpu", forms)
    return {"target": "cpu", "only": [*ONLY, *(form.name for form in forms)]}


def test_each_form_is_kept_if_it_is_faster_than_the_best_so_far(
    costs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second form is slower, the third never fires, the fourth is faster on top of the first alone."""
    forms = [_twice(kind) for kind in ("Relu", "Neg", "Tanh", "Exp")]
    options = _with_forms(monkeypatch, *forms)

    def of(model: onnx.ModelProto) -> float:
        relu, neg, exp = (_ops(model).count(kind) == 2 for kind in ("Relu", "Neg", "Exp"))
        return (FAST if relu else 1.0) * (SLOW if neg else 1.0) * (FAST if exp and relu and not neg else 1.0)

    costs(of)
    source = tmp_path / "model.onnx"
    onnx.save(_model(), source)
    report = fuseonnx.optimize(source, **options).report
    found = [(each.rule, each.sites, each.kept, each.timings[0].ratio) for each in report.choices]
    assert found == [
        ("twice_relu", 1, True, FAST),
        ("twice_neg", 1, False, SLOW),
        ("twice_exp", 1, True, FAST),
    ]
    assert report.undone == () and report.target == "cpu"
    assert report.speed is not None and report.speed.timings[0].ratio == FAST * FAST
    made = onnx.load(tmp_path / "model.opt.onnx")
    assert {kind for kind in KINDS if _ops(made).count(kind) == 2} == {"Relu", "Exp"}
    assert_same_answers(_model(), made)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.opt.onnx"]
    assert "## Tried for target cpu" in report.to_markdown()


def test_a_form_with_wrong_answers_is_dropped(costs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Rule("wrong", op("Relu", var("x")), lambda m, new: new.op("Abs", m["x"]))
    races = costs(lambda model: FAST if "Relu" not in _ops(model) else 1.0)
    model, report = _optimize(_model(("Relu", "Neg")), **_with_forms(monkeypatch, wrong))
    (choice,) = report.choices
    assert (choice.rule, choice.kept, choice.timings) == ("wrong", False, ())
    assert choice.reason and "Relu" in _ops(model)
    assert [ratio for ratio, _ in races] == [1.0]


def test_a_form_that_makes_the_whole_slower_is_undone(costs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It won its own race; against the original, the artifact loses with it."""
    options = _with_forms(monkeypatch, _twice("Relu"))

    def of(model: onnx.ModelProto) -> float:
        if "Identity" in _ops(model):
            return 1.0
        return 1.2 if _ops(model).count("Relu") == 2 else SLOW

    costs(of)
    model, report = _optimize(_model(), **options)
    assert {each.rule for each in report.undone} == {"eliminate_identity"}
    assert _ops(model).count("Relu") == 2 and "Identity" in _ops(model)


CONTRIB = Rule(
    "to_fused_matmul",
    op("MatMul", var("x"), var("w")),
    lambda m, new: new.op("FusedMatMul", m["x"], m["w"], domain="com.microsoft"),
)


def _matmul_model() -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    nodes = [node("Identity", "x", "i"), node("MatMul", "i w", "p"), node("Relu", "p", "y")]
    return make_model(nodes, {"x": ["batch", 4]}, ["y"], {"w": weight})


def test_operators_of_onnxruntime_for_a_target_of_its_own(
    costs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs(lambda model: FAST if "FusedMatMul" in _ops(model) else 1.0)
    model, report = _optimize(_matmul_model(), **_with_forms(monkeypatch, CONTRIB))
    assert _ops(model) == ["FusedMatMul", "Relu"]
    assert {each.domain: each.version for each in model.opset_import} == {"": 17, "com.microsoft": 1}
    assert [(each.rule, each.kept) for each in report.choices] == [("to_fused_matmul", True)]
    again, second = _optimize(model, **_with_forms(monkeypatch, CONTRIB))
    assert second.choices == () and again == model


def test_operators_of_onnxruntime_in_a_body(costs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    costs(lambda model: FAST if "com.microsoft" in {each.domain for each in model.opset_import} else 1.0)
    names = [("then_branch", "Relu"), ("else_branch", "Neg")]
    shape = [onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["batch", 4])]
    bodies = {
        name: onnx.helper.make_graph([node("MatMul", "x w", "p"), node(kind, "p", "b")], name, [], shape)
        for name, kind in names
    }
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Cast", "m", "flag", to=onnx.TensorProto.BOOL),
        node("If", "flag", "y", **bodies),
    ]
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    source = make_model(nodes, {"x": ["batch", 4]}, ["y"], {"w": weight})
    model, report = _optimize(source, **_with_forms(monkeypatch, CONTRIB))
    assert [(each.sites, each.kept) for each in report.choices] == [(2, True)]
    assert {each.domain: each.version for each in model.opset_import} == {"": 17, "com.microsoft": 1}


def test_portable_artifacts_hold_standard_operators_alone(tmp_path: Path) -> None:
    assert FORMS["portable"] == FORMS["tensorrt"] == ()
    source = tmp_path / "model.onnx"
    onnx.save(_matmul_model(), source)
    with pytest.raises(OptionError, match=r"com\.microsoft::FusedMatMul.*use target cpu or cuda"):
        fuseonnx.optimize(source, extra_rules=[CONTRIB])
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    model, _ = _optimize(_matmul_model(), CONTRIB, target="cpu")
    assert "FusedMatMul" in _ops(model)
    after, _ = _optimize(model)
    assert "FusedMatMul" in _ops(after)


def test_a_target_that_chooses_must_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    options = _with_forms(monkeypatch, CONTRIB)
    for switched_off in ("measure", "verify"):
        with pytest.raises(OptionError, match="chooses by measuring"):
            fuseonnx.optimize(_matmul_model(), **options | {switched_off: False})
    with pytest.raises(OptionError, match="no target is called 'gpu'"):
        fuseonnx.optimize(_matmul_model(), target="gpu")  # type: ignore[arg-type]


CHAIN = 60


def _chain_of_negs(m: Match, new: Builder) -> Any:
    value = new.op("Max", m["x"], new.op("Neg", m["x"]))
    for _ in range(CHAIN):
        value = new.op("Neg", value)
    return value


def _really(size: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    return make_model(nodes, {"x": [1, size]}, ["y"])


def test_a_rule_that_is_really_slow_is_undone() -> None:
    """No fakes: sixty passes over the data in the place of one."""
    slow = Rule("slow_abs", op("Abs", var("x")), _chain_of_negs)
    source = _really(100_000, node("Abs", "x", "y"))
    model, report = _optimize(source, slow, only=["merge_pads"])
    (undone,) = report.undone
    assert (undone.rule, undone.sites) == ("slow_abs", 1) and undone.ratio > 3
    assert _ops(model) == ["Abs"]


def test_a_form_that_is_really_fast_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Rule("cancel_negs", op("Neg", op("Neg", var("x"))), lambda m, _new: m["x"])
    slow = Rule("slow_abs", op("Abs", var("x")), _chain_of_negs)
    chain = [node("Neg", "x" if not n else f"n{n}", f"n{n + 1}") for n in range(CHAIN)]
    source = _really(100_000, *chain, node("Abs", f"n{CHAIN}", "y"))
    model, report = _optimize(source, **_with_forms(monkeypatch, slow, pair))
    assert [(each.rule, each.kept) for each in report.choices] == [("slow_abs", False), ("cancel_negs", True)]
    assert _ops(model) == ["Abs"] and report.undone == ()
    assert report.speed is not None and report.speed.verdict == "faster"


def _run(label: str, elements: int) -> Run:
    return Run(label, {"x": np.zeros(elements, np.float32)}, [])


@pytest.mark.parametrize(
    ("runs", "chosen"),
    [
        ([("normal", 4), ("normal", 4), ("large", 9)], [0]),
        ([("normal n=1", 1), ("normal n=2", 2), ("large n=2", 2)], [0, 1]),
        ([("normal n=2", 2), ("normal n=1", 1)], [0]),
        ([("a.npz", 1), ("b.npz", 7), ("c.npz", 2), ("normal n=9", 9)], [0, 1]),
        ([("a.npz", 2), ("normal n=9", 9)], [0]),
        ([("normal n=1", 1), ("normal n=2", 2), ("highest n=1", 1)], [2, 0, 1]),
        ([("a.npz", 2), ("normal n=9", 9), ("highest n=9", 9)], [0]),
    ],
)
def test_the_samples_of_the_user_come_first(runs: list[tuple[str, int]], chosen: list[int]) -> None:
    given = [_run(*each) for each in runs]
    assert worth_timing(given) == [given[index] for index in chosen]


def _timing(low: float, ratio: float, high: float) -> Timing:
    return Timing("normal", 1.0, ratio, ratio, low, high, 7)


@pytest.mark.parametrize(
    ("timings", "verdict"),
    [
        ([(0.7, 0.8, 0.9)], "faster"),
        ([(0.7, 0.8, 1.1)], "no difference"),
        ([(0.993, 0.995, 0.997)], "no difference"),
        ([(1.003, 1.005, 1.007)], "no difference"),
        ([(0.9, 1.3, 1.4)], "no difference"),
        ([(1.02, 1.03, 1.04)], "slower"),
        ([(0.4, 0.5, 0.6), (1.02, 1.03, 1.04)], "slower"),
        ([(0.4, 0.5, 0.6), (0.9, 1.0, 1.1)], "faster"),
        ([(0.0, 2.0, float("inf"))], "no difference"),
    ],
)
def test_the_verdict(timings: list[tuple[float, float, float]], verdict: str) -> None:
    assert verdict_of([_timing(*each) for each in timings]) == verdict


def test_one_process_of_a_batch_measures_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a race is on, another process cannot have the lock; afterwards it can."""
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(stopwatch, "lock_file", lock)

    def take() -> None:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def times(*_: Any) -> list[list[float]]:
        with pytest.raises(BlockingIOError):
            take()
        return [[1.0] * 7, [1.0] * 7]

    monkeypatch.setattr(Stopwatch, "_times", times)
    _, report = _optimize(_model())
    assert report.speed is not None and report.speed.verdict == "no difference"
    take()
