"""pins: what a rule applies to, and what is no rule."""

from __future__ import annotations

import pytest

from fuseonnx.errors import OptionError
from fuseonnx.placement.graph import Graph, Node
from fuseonnx.placement.pins import Pin, Rule, pinned

GRAPH = Graph(
    tuple(
        Node(index, name, op_type, domain, 17, ("x",), ("y",), ("float32",), ("float32",))
        for index, (name, op_type, domain) in enumerate(
            [
                ("/model/head/Relu", "Relu", ""),
                ("/model/head/nms", "NonMaxSuppression", ""),
                ("/model/back/Relu", "Relu", ""),
                ("a[0]", "Gelu", "com.microsoft"),
                ("", "Gelu", ""),
            ]
        )
    ),
    {},
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["NonMaxSuppression=cpu"], {1: "cpu"}),
        (["name:/model/head/*=cuda"], {0: "gpu", 1: "gpu"}),
        (["name:/model/head/*=gpu", "NonMaxSuppression=cpu"], {0: "gpu", 1: "cpu"}),
        (["NonMaxSuppression=cpu", "name:/model/head/*=gpu"], {0: "gpu", 1: "gpu"}),
        (["Relu=cpu"], {0: "cpu", 2: "cpu"}),
        (["Gelu=cpu"], {4: "cpu"}),
        (["com.microsoft::*=cpu"], {3: "cpu"}),
        (["name:a[0]=cpu"], {3: "cpu"}),
        (["*=cpu"], dict.fromkeys(range(5), "cpu")),
        (["ai.onnx::Gelu=CPU"], {4: "cpu"}),
        (["name:y=GPU"], {4: "gpu"}),
        ([], {}),
    ],
)
def test_what_a_pin_applies_to(texts: list[str], expected: dict[int, str]) -> None:
    assert pinned(GRAPH, [Pin.parse(text) for text in texts], "m.onnx") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("NonMaxSuppression", "write OPERATOR=DEVICE"),
        ("=cpu", "write OPERATOR=DEVICE"),
        ("name:=cpu", "write OPERATOR=DEVICE"),
        ("Relu=tpu", "no device is called 'tpu'; give cpu, gpu, cuda"),
        ("Relu=", "no device is called ''"),
    ],
)
def test_what_is_no_pin(text: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        Pin.parse(text)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("relu=cpu", "write Relu"),
        ("com.microsoft::GELU=cpu", "write com.microsoft::Gelu"),
        ("name:head=cpu", "give one of its operators, or name:PATTERN"),
        ("/model/head/nms=cpu", "give one of its operators, or name:PATTERN"),
    ],
)
def test_a_pin_that_matches_nothing_is_an_error(text: str, cure: str) -> None:
    with pytest.raises(OptionError, match=rf"m\.onnx: --pin '.*' matches no node: {cure}$"):
        pinned(GRAPH, [Pin.parse(text)], "m.onnx")


def test_the_cure_names_the_domain() -> None:
    contrib = Graph(GRAPH.nodes[3:4], {})
    with pytest.raises(OptionError, match=r"matches no node: write com\.microsoft::Gelu$"):
        pinned(contrib, [Pin.parse("Gelu=cpu")], "m.onnx")


def test_functions_are_rules_and_later_ones_outrank() -> None:
    def back_to_cpu(node: Node) -> str | None:
        return "cpu" if "/back/" in node.name else None

    rules: list[Rule] = [Pin.parse("Relu=cuda"), back_to_cpu]
    assert pinned(GRAPH, rules, "m.onnx") == {0: "gpu", 2: "cpu"}


def test_a_function_that_returns_no_device_is_an_error() -> None:
    with pytest.raises(OptionError, match="puts node '/model/head/Relu' on 'left', which is no device"):
        pinned(GRAPH, [lambda _node: "left"], "m.onnx")
