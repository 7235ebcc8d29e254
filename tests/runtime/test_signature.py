from __future__ import annotations

import pytest

from fuseonnx.runtime.signature import Matching, Port, Signature

FLOAT = "tensor(float)"
X, Z = Port("x", FLOAT, ("n", 3)), Port("z", FLOAT, ("n", 3))
A, B = Port("a", FLOAT, ("n", 3)), Port("b", FLOAT, ("n", 3))
IDS = Port("ids", "tensor(int64)", ("n",))
OURS = Signature((X, Z), (A, B, IDS))


def matched(theirs: Signature) -> Matching:
    found = OURS.match(theirs)
    assert isinstance(found, Matching), found
    return found


def test_the_same_signature_needs_no_words() -> None:
    assert OURS.difference(OURS) == ""
    assert matched(OURS) == Matching({"x": "x", "z": "z"}, [0, 1, 2])


def test_another_order_is_matched_by_name() -> None:
    theirs = Signature((Z, X), (IDS, B, A))
    assert OURS.difference(theirs) == f"inputs are z: {FLOAT}, x: {FLOAT} instead of x: {FLOAT}, z: {FLOAT}"
    found = matched(theirs)
    assert found.values(["ids", "b", "a"]) == ["a", "b", "ids"]
    assert found.feeds({"x": 1, "z": 2}) == {"x": 1, "z": 2}
    assert found.notes == (
        "the inputs are in another order: z, x",
        "the outputs are in another order: ids, b, a",
    )


def test_other_names_are_matched_in_order_beside_those_that_are_known() -> None:
    theirs = Signature((X._replace(name="image"), Z), (B, A._replace(name="scores"), IDS))
    found = matched(theirs)
    assert found.feeds({"x": 1, "z": 2}) == {"image": 1, "z": 2}
    assert found.values(["b", "scores", "ids"]) == ["scores", "b", "ids"]
    assert found.notes[0] == "input 'x' is called 'image'"
    assert found.notes[1].startswith("output 'a' is called 'scores'; the outputs are in another order")


def test_other_dimensions_are_noted() -> None:
    theirs = Signature((X._replace(dims=("batch", 3)), Z), (A, B._replace(dims=(1, None)), IDS))
    assert OURS.difference(theirs) == ""
    assert matched(theirs).notes == (
        "input 'x' is declared [batch, 3] instead of [n, 3]",
        "output 'b' is declared [1, ?] instead of [n, 3]",
    )


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (Signature((X,), OURS.outputs), f"inputs are x: {FLOAT} instead of x: {FLOAT}, z: {FLOAT}"),
        (Signature(OURS.inputs, (A, B, B._replace(name="c"))), "outputs are a"),
        (Signature(OURS.inputs, ()), "outputs are none instead of a"),
    ],
)
def test_other_numbers_or_types_do_not_match(theirs: Signature, reason: str) -> None:
    found = OURS.match(theirs)
    assert isinstance(found, str) and found.startswith(reason)
