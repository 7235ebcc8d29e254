"""mincut: the cheapest cut, against all cuts of small networks."""

from __future__ import annotations

import itertools
import random

import pytest

from fuseonnx.analysis.mincut import SINK, SOURCE, UNBOUNDED, Network

NODES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("seed", range(60))
def test_finds_the_smallest_of_the_cheapest_cuts(seed: int) -> None:
    rng = random.Random(seed)
    ends = [SOURCE, *NODES, SINK]
    edges = []
    for _ in range(rng.randrange(4, 16)):
        start, end = rng.sample(ends, 2)
        edges.append((start, end, rng.choice([0, 1, 1, 2, 3, 5])))
    network = Network()
    for start, end, capacity in edges:
        network.join(start, end, capacity)

    costs = {}
    for count in range(len(NODES) + 1):
        for chosen in itertools.combinations(NODES, count):
            side = {SOURCE, *chosen}
            costs[chosen] = sum(cost for start, end, cost in edges if start in side and end not in side)
    cheapest = [set(chosen) for chosen, cost in costs.items() if cost == min(costs.values())]
    assert network.source_side() == {SOURCE, *set.intersection(*cheapest)}


def test_a_tie_leaves_all_at_the_sink() -> None:
    network = Network()
    network.join(SOURCE, "a", 3)
    network.join("a", SINK, 3)
    assert network.source_side() == {SOURCE}


def test_what_is_bound_stays_together() -> None:
    network = Network()
    network.join(SOURCE, "a", 5)
    network.join("a", "b", UNBOUNDED)
    network.join("b", SINK, 4)
    assert network.source_side() == {SOURCE, "a", "b"}
