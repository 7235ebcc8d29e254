"""The cheapest way to cut a graph in two.

Source: Edmonds & Karp 1972, "Theoretical improvements in algorithmic efficiency for network flow problems":
as long as there is a path with capacity left from the source to the sink, shortest first, fill it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable

SOURCE, SINK = "source", "sink"
UNBOUNDED = 1 << 62


class Network:
    """A directed graph with capacities, between `SOURCE` and `SINK`."""

    def __init__(self) -> None:
        self._left: dict[Hashable, dict[Hashable, int]] = defaultdict(dict)

    def join(self, start: Hashable, end: Hashable, capacity: int) -> None:
        """Add an edge that costs `capacity` if `start` is on the source's side and `end` on the sink's."""
        self._left[start][end] = self._left[start].get(end, 0) + capacity
        self._left[end].setdefault(start, 0)

    def source_side(self) -> set[Hashable]:
        """Return the smallest source's side of all the cheapest cuts. Call it once."""
        while True:
            parents = self._reach()
            if SINK not in parents:
                return set(parents)
            path: list[tuple[Hashable, Hashable]] = []
            node: Hashable = SINK
            while node != SOURCE:
                path.append((parents[node], node))
                node = parents[node]
            amount = min(self._left[start][end] for start, end in path)
            for start, end in path:
                self._left[start][end] -= amount
                self._left[end][start] += amount

    def _reach(self) -> dict[Hashable, Hashable]:
        parents: dict[Hashable, Hashable] = {SOURCE: SOURCE}
        queue = deque[Hashable]([SOURCE])
        while queue and SINK not in parents:
            node = queue.popleft()
            for other, left in self._left[node].items():
                if left and other not in parents:
                    parents[other] = node
                    queue.append(other)
        return parents
