"""pad_channels on random nets: the answers stay, and no Conv that it may pad is left as it was."""

from __future__ import annotations

import random

import onnx
import pytest

from tests.helpers import rewrite
from tests.passes.channels import RULE, Net, assert_same_everywhere

SEEDS = 60
UNARY = ("Relu", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh", "Softplus", "Elu", "Identity", "Softmax")


class RandomNet(Net):
    """A dozen layers, each of which reads one or two of the values so far."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._random = random.Random(seed)
        self._channels: dict[str, int] = {}
        self._layers = (
            *(self._dense, self._dense, self._separable, self._separable, self._unary, self._unary),
            *(self._arithmetic, self._batch_norm, self._sum, self._concat, self._pool, self._squeeze),
        )
        self._dense("x", 3)
        for _ in range(12):
            source = self._random.choice(list(self._channels)[-4:])
            self._random.choice(self._layers)(source, self._channels[source])

    def outputs(self) -> list[str]:
        """The last value, what nobody reads, and at times another one."""
        read = {name for each in self.nodes for name in each.input}
        ends = [name for name in self._channels if name not in read]
        more = self._random.sample(sorted(self._channels), self._random.randrange(2))
        return sorted({*ends, *more})

    def _new(self, channels: int) -> str:
        name = f"v{len(self._channels)}"
        self._channels[name] = channels
        return name

    def _dense(self, source: str, channels: int) -> None:
        outputs = self._random.choice((3, 4, 10, 11, 12, 18, 20, 21))
        kernel, bias = self._random.choice((1, 3)), self._random.random() < 0.5
        self.conv(source, self._new(outputs), outputs, channels, kernel=kernel, bias=bias)

    def _separable(self, source: str, channels: int) -> None:
        target = self._new(channels)
        self.depthwise(source, target, channels)
        self._dense(target, channels)

    def _unary(self, source: str, channels: int) -> None:
        op_type = self._random.choice(UNARY)
        axis = {"axis": 1} if op_type == "Softmax" else {}
        self.add(op_type, source, self._new(channels), **axis)

    def _arithmetic(self, source: str, channels: int) -> None:
        target = self._new(channels)
        shape = self._random.choice([(), (channels, 1, 1), (1, channels, 1, 1), (8, 8), (1, 1, 1)])
        operands = [source, self.const(f"{target}_k", *shape)]
        op_type = self._random.choice(("Add", "Sub", "Mul", "Div"))
        if op_type != "Div":
            self._random.shuffle(operands)
        self.add(op_type, " ".join(operands), target)

    def _batch_norm(self, source: str, channels: int) -> None:
        self.batch_norm(source, self._new(channels), channels)

    def _sum(self, source: str, channels: int) -> None:
        other = self._random.choice([name for name, each in self._channels.items() if each == channels])
        self.add("Add", f"{source} {other}", self._new(channels))

    def _concat(self, source: str, channels: int) -> None:
        other = self._random.choice(list(self._channels))
        self.add("Concat", f"{other} {source}", self._new(channels + self._channels[other]), axis=1)

    def _pool(self, source: str, channels: int) -> None:
        op_type = self._random.choice(("MaxPool", "AveragePool"))
        self.add(op_type, source, self._new(channels), kernel_shape=[3, 3], pads=[1] * 4)

    def _squeeze(self, source: str, channels: int) -> None:
        target = self._new(channels)
        self.add("GlobalAveragePool", source, f"{target}_g")
        self.conv(f"{target}_g", f"{target}_h", 3, channels, kernel=1)
        self.conv(f"{target}_h", f"{target}_i", channels, 3, kernel=1)
        self.add("Sigmoid", f"{target}_i", f"{target}_s")
        self.add("Mul", f"{source} {target}_s", target)


def random_model(seed: int) -> onnx.ModelProto:
    net = RandomNet(seed)
    return net.model(dims=("n", 3, 8, 8), outputs=net.outputs())


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_answers_stay_and_what_is_padded_is_at_rest(first: int) -> None:
    fired = 0
    for seed in range(first, first + 20):
        model = random_model(seed)
        after = rewrite(model, RULE)
        if after.fired:
            fired += 1
            assert_same_everywhere(model, after.model)
            onnx.shape_inference.infer_shapes(after.model, check_type=True, strict_mode=True)
            assert rewrite(after.model, RULE).fired == {}, seed
    assert fired >= 5
