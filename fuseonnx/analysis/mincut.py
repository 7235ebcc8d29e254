"""The cheapest way to cut a graph in two.

Source: Dinic 1970, "Algorithm for solution of a problem of maximum flow in a network with power estimation":
as long as the sink can be reached, fill the shortest paths to it, all of them at once.
"""

from __future__ import annotations

from collections.abc import Hashable

SOURCE, SINK = "source", "sink"
UNBOUNDED = 1 << 62

_SOURCE, _SINK = 0, 1


class Network:
    """A directed graph with capacities, between `SOURCE` and `SINK`.

    Edge `i` and edge `i ^ 1` join the same two nodes in opposite directions.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {SOURCE: _SOURCE, SINK: _SINK}
        self._edges: list[list[int]] = [[], []]
        self._ends: list[int] = []
        self._left: list[int] = []

    def join(self, start: Hashable, end: Hashable, capacity: int, back: int = 0) -> None:
        """Add an edge that costs `capacity` if `start` is on the source's side and `end` on the sink's.

        It costs `back` if they are the other way round.
        """
        first, second = self._number(start), self._number(end)
        self._edges[first].append(len(self._ends))
        self._edges[second].append(len(self._ends) + 1)
        self._ends += (second, first)
        self._left += (capacity, back)

    def source_side(self) -> set[Hashable]:
        """Return the smallest source's side of all the cheapest cuts. Call it once."""
        while (levels := self._levels())[_SINK] >= 0:
            self._fill(levels)
        return {name for name, number in self._numbers.items() if levels[number] >= 0}

    def _number(self, name: Hashable) -> int:
        number = self._numbers.setdefault(name, len(self._edges))
        if number == len(self._edges):
            self._edges.append([])
        return number

    def _levels(self) -> list[int]:
        """Return how far from the source every node is, -1 for those out of reach or beyond the sink."""
        edges, ends, left = self._edges, self._ends, self._left
        levels = [-1] * len(edges)
        levels[_SOURCE] = distance = 0
        frontier = [_SOURCE]
        while frontier and levels[_SINK] < 0:
            distance += 1
            reached = []
            for node in frontier:
                for edge in edges[node]:
                    end = ends[edge]
                    if levels[end] < 0 and left[edge]:
                        levels[end] = distance
                        reached.append(end)
            frontier = reached
        return levels

    def _fill(self, levels: list[int]) -> None:
        """Send along paths that lead one level further with every edge what they can take."""
        edges, ends, left = self._edges, self._ends, self._left
        untried = [list(each) for each in edges]
        path: list[int] = []
        node = _SOURCE
        while True:
            if node == _SINK:
                amount = min(left[edge] for edge in path)
                for edge in path:
                    left[edge] -= amount
                    left[edge ^ 1] += amount
                full = next(index for index, edge in enumerate(path) if not left[edge])
                node = ends[path[full] ^ 1]
                del path[full:]
            elif untried[node]:
                edge = untried[node][-1]
                end = ends[edge]
                if left[edge] and levels[end] == levels[node] + 1:
                    path.append(edge)
                    node = end
                else:
                    untried[node].pop()
            elif path:
                node = ends[path.pop() ^ 1]
                untried[node].pop()
            else:
                return
